"""Do intervals, tests and verdicts hold what they promise? By simulation.

    python tests/benchmarks/coverage.py [--reps 1000] [--out FILE.md]

Prints the tables as Markdown, writes them to --out too (the published ones are in
results/published/benchmarks/statistics.md), and exits with 1 when a limit is broken. The processes
are those that an audit of this harness used, none of them tuned on: each has a truth that is known
by construction. About ten minutes on one core at 1000 repetitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rlm_eval.analysis import stats

CONTEXTS = (6, 8, 12, 20, 50, 100)
Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Draw:
    """One experiment: a value per answer, its context, and the true mean."""

    values: Floats
    contexts: NDArray[np.intp]
    truth: float


def contexts_of(sizes: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.repeat(np.arange(len(sizes)), sizes)


def even(groups: int, questions: int) -> NDArray[np.intp]:
    return contexts_of(np.full(groups, questions))


def heavy(rng: Rng, groups: int) -> NDArray[np.intp]:
    """1 to 60 questions a context, most few."""
    sizes = np.minimum(60, 1 + np.floor(rng.lognormal(0.8, 1.2, groups)))
    return contexts_of(sizes.astype(int))


def right(rng: Rng, contexts: NDArray[np.intp], chance: float, icc: float) -> Floats:
    """Right or wrong; contexts' own chances are beta distributed with this correlation within."""
    size, groups = (1 - icc) / icc, int(contexts.max()) + 1
    own = rng.beta(chance * size, (1 - chance) * size, groups)
    return (rng.random(len(contexts)) < own[contexts]).astype(float)


def two(
    rng: Rng, contexts: NDArray[np.intp], chances: tuple[float, float], icc: float, rho: float = 0.5
) -> Floats:
    """The difference of two right/wrong arms whose luck is shared by half (``rho``)."""
    groups, n = int(contexts.max()) + 1, len(contexts)
    shared = sqrt(icc) * rng.normal(size=groups)[contexts] + sqrt(1 - icc) * rng.normal(size=n)
    arms = []
    for chance in chances:
        own = sqrt(icc) * rng.normal(size=groups)[contexts] + sqrt(1 - icc) * rng.normal(size=n)
        luck = sqrt(rho) * shared + sqrt(1 - rho) * own
        arms.append((luck < special.ndtri(chance)).astype(float))
    return arms[0] - arms[1]


def arms(chance: float, icc: float, questions: int, rho: float = 0.5) -> Process:
    """Two right/wrong arms, the first with ``gain`` more."""

    def draw(rng: Rng, groups: int, gain: float) -> Draw:
        contexts = even(groups, questions)
        return Draw(two(rng, contexts, (chance + gain, chance), icc, rho), contexts, gain)

    return draw


def heavy_arms(rng: Rng, groups: int, gain: float) -> Draw:
    contexts = heavy(rng, groups)
    return Draw(two(rng, contexts, (0.5 + gain, 0.5), 0.5), contexts, gain)


def telling_sizes(rng: Rng, groups: int, gain: float) -> Draw:
    """A gain on contexts of few questions, a loss on those of many."""
    many = rng.random(groups) < 0.3
    contexts = contexts_of(np.where(many, rng.integers(10, 21, groups), rng.integers(1, 6, groups)))
    chance = np.where(many, 0.36 + gain, 0.8 + gain)[contexts]
    first = rng.random(len(contexts)) < chance
    return Draw(first - 1.0 * (rng.random(len(contexts)) < 0.5), contexts, gain)


def rare_losses(share: float, questions: int) -> Process:
    """Small gains mostly, a large loss rarely: equal in the mean."""

    def draw(rng: Rng, groups: int, gain: float) -> Draw:
        lost, contexts = rng.random(groups) < share, even(groups, questions)
        values = np.where(lost, share - 1, share)[contexts] + gain
        return Draw(values, contexts, gain)

    return draw


def near_or_all(rng: Rng, groups: int, gain: float) -> Draw:
    """One arm's counts are off by 1 to 3, the other's right or far off, alike on a context."""
    contexts, mean = even(groups, 3), float(np.mean(0.75 ** np.arange(1, 4)))
    near = 0.75 ** rng.integers(1, 4, len(contexts))
    hit = (rng.random(groups) < mean)[contexts]
    return Draw(1.0 * hit - near + gain, contexts, gain)


def always_or_some(rng: Rng, groups: int, gain: float) -> Draw:
    """One arm always scores .3, the other 1 on 3 of 10 contexts and else 0."""
    values = 1.0 * (rng.random(groups) < 0.3) - 0.3 + gain
    return Draw(values, even(groups, 1), gain)


def half_in_one(rng: Rng, groups: int, gain: float) -> Draw:
    """One context holds half of the questions."""
    sizes = np.full(groups, 2)
    sizes[0] = 2 * (groups - 1)
    contexts = contexts_of(sizes)
    return Draw(two(rng, contexts, (0.5 + gain, 0.5), 0.5), contexts, gain)


Process = Callable[[Rng, int, float], Draw]
PAIRS: Mapping[str, Process] = {
    "right/wrong, 1 a context": arms(0.5, 0.5, 1),
    "right/wrong, 5 a context, ICC .6": arms(0.5, 0.6, 5),
    "right/wrong, 25 a context, ICC .9": arms(0.5, 0.9, 25),
    "right/wrong, 1–60 a context, ICC .5": heavy_arms,
    "gain on small contexts, loss on large": telling_sizes,
    "+.1 on 9 of 10 contexts, −.9 on one": rare_losses(0.1, 1),
    "the same, 5 a context": rare_losses(0.1, 5),
    "+.05 on 19 of 20 contexts, −.95 on one": rare_losses(0.05, 1),
    "always .3 against 1 on 3 of 10": always_or_some,
    "near misses against all or none, 3 a context": near_or_all,
    "one context holds half": half_in_one,
    "near the ceiling, .97 right, 1 a context": arms(0.97, 0.5, 1, 0.3),
}
#: Processes that a gain of 10 points is possible for.
GAINING = [name for name in PAIRS if "ceiling" not in name]


def compared(draw: Draw) -> stats.Difference:
    return stats.paired(draw.values, draw.contexts)


def covers(draw: Draw) -> bool:
    found = compared(draw).interval
    return found.low <= draw.truth <= found.high


def wins(draw: Draw) -> bool:
    found = compared(draw)
    return found.p <= stats.ALPHA and found.interval.low > 0


def single(rng: Rng, groups: int, _: float) -> Draw:
    return Draw(right(rng, (c := even(groups, 5)), 0.7, 0.6), c, 0.7)


def all_or_none(rng: Rng, groups: int, _: float) -> Draw:
    return Draw((rng.random(groups) < 0.7)[(c := even(groups, 5))] * 1.0, c, 0.7)


def heavy_single(rng: Rng, groups: int, _: float) -> Draw:
    return Draw(right(rng, (c := heavy(rng, groups)), 0.7, 0.5), c, 0.7)


def two_kinds(rng: Rng, groups: int, _: float) -> Draw:
    """0, or nearly 1, alike on a context."""
    chance = rng.beta(0.4, 0.4, groups)[(c := even(groups, 5))]
    hit = rng.random(len(c)) < chance
    return Draw(np.where(hit, rng.beta(20, 2, len(c)), 0.0), c, 0.5 * 20 / 22)


def nearly_all(rng: Rng, groups: int, _: float) -> Draw:
    return Draw((rng.random(groups) < 0.98) * 1.0, even(groups, 1), 0.98)


def repeats(rng: Rng, groups: int, _: float) -> Draw:
    """One question a context, three answers to it."""
    return Draw(right(rng, (c := even(groups, 3)), 0.5, 0.625), c, 0.5)


SINGLES: Mapping[str, Process] = {
    "right/wrong, 5 a context, ICC .6": single,
    "all or none of 5 right": all_or_none,
    "right/wrong, 1–60 a context": heavy_single,
    "0 or nearly 1, alike on a context": two_kinds,
    "98 % right, 1 a context": nearly_all,
    "3 repeats of 1 question": repeats,
}


def single_covers(draw: Draw) -> bool:
    found = stats.proportion(draw.values, draw.contexts)
    return found.low <= draw.truth <= found.high


def skill_with(correlation: float) -> Callable[[Rng, int, float], bool]:
    """Whether skill's interval holds; arm right on 6 of 10, constant on 3 of 10, their luck on a
    context so correlated."""

    def trial(rng: Rng, groups: int, _: float) -> bool:
        contexts, n = even(groups, 5), 5 * groups
        one = rng.normal(size=groups)
        other = correlation * one + sqrt(1 - correlation**2) * rng.normal(size=groups)
        y, c = (
            sqrt(0.5) * z[contexts] + sqrt(0.5) * rng.normal(size=n) < special.ndtri(p)
            for z, p in ((one, 0.6), (other, 0.3))
        )
        found = stats.skill(1.0 * y, 1.0 * c, contexts)
        return found.low <= (0.6 - 0.3) / 0.7 <= found.high

    return trial


def costs(spread: float) -> Process:
    """Two arms' log-normal costs per context, equal in the mean; the first's as ``values``."""

    def draw(rng: Rng, groups: int, _: float) -> Draw:
        return Draw(rng.lognormal(-(spread**2) / 2, spread, groups), even(groups, 1), 1.0)

    return draw


def ratio_covers(rng: Rng, groups: int, spread: float) -> bool:
    one, two_ = (costs(spread)(rng, groups, 0.0) for _ in range(2))
    found = stats.ratio(one.values, two_.values, one.contexts)
    return found.low <= 1 <= found.high


def called_dearer(rng: Rng, groups: int, spread: float) -> bool:
    one, two_ = (costs(spread)(rng, groups, 0.0).values for _ in range(2))
    contexts = even(groups, 1)
    dearer = stats.ratio(one, two_, contexts).low > 1
    return dearer and stats.sign_flip_p(one - two_, contexts) <= stats.ALPHA


def price_covers(rng: Rng, groups: int, gain: float) -> bool:
    """One more right answer costs 3 / gain."""
    draw = arms(0.5 - gain / 2, 0.3, 5)(rng, groups, gain)
    extra = rng.lognormal(np.log(3) - 0.125, 0.5, groups)[draw.contexts]
    _, low, high = stats.price_of_a_point(draw.values, extra, draw.contexts)
    return low <= 3 / gain <= high


def beats_all_three(rng: Rng, groups: int, _: float) -> bool:
    """Better than two alternatives by 30 points, equal to the third: not better than all."""
    process = arms(0.4, 0.3, 5)
    return all(wins(process(rng, groups, gain)) for gain in (0.3, 0.3, 0.0))


def any_loss(rng: Rng, groups: int, _: float) -> bool:
    """Equal to four alternatives: some loss after Holm."""
    found = [compared(arms(0.5, 0.3, 5)(rng, groups, 0.0)) for _ in range(4)]
    adjusted = stats.holm([d.p for d in found])
    return any(p <= stats.ALPHA and d.interval.high < 0
               for p, d in zip(adjusted, found, strict=True))  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows by name, each a trial at ``gain``. ``least`` or ``most`` is the limit, in per cent, of
    a cell; ``exceptions`` is how many may miss it, by no more than to ``floor``."""

    title: str
    rows: Mapping[str, Callable[[Rng, int], bool]]
    least: float = 0.0
    most: float = 100.0
    exceptions: int = 0
    floor: float = 0.0


def of(
    processes: Mapping[str, Process], judge: Callable[[Draw], bool], gain: float = 0.0
) -> dict[str, Callable[[Rng, int], bool]]:
    def trial(process: Process) -> Callable[[Rng, int], bool]:
        return lambda rng, groups: judge(process(rng, groups, gain))

    return {name: trial(process) for name, process in processes.items()}


def at(
    trial: Callable[[Rng, int, float], bool], levels: Mapping[str, float]
) -> dict[str, Callable[[Rng, int], bool]]:
    def fixed(level: float) -> Callable[[Rng, int], bool]:
        return lambda rng, groups: trial(rng, groups, level)

    return {name: fixed(level) for name, level in levels.items()}


GAINS = {name: PAIRS[name] for name in GAINING}
SPREADS = {f"log-normal, σ = {s:g}": s for s in (0.3, 1.0, 1.5)}
TABLES = (
    Table("False “wins”: equal true means (p ≤ .05 and an interval above 0)",
          of(PAIRS, wins), most=5.0),
    Table("Coverage of a difference's 95 % interval, true difference 0", of(PAIRS, covers), 93.0,
          exceptions=2, floor=90.0),
    Table("Coverage of a difference's 95 % interval, true difference +10 points",
          of(GAINS, covers, 0.1), 93.0, exceptions=2, floor=90.0),
    Table("False “as good”: truly 5 points worse, the margin (an interval above −5)",
          of(GAINS, lambda draw: compared(draw).interval.low > -0.05, -0.05), most=5.0),
    Table("Power: “wins” at a true gain of 10 points", of(GAINS, wins, 0.1)),
    Table("Power: “wins” at a true gain of 30 points", of(GAINS, wins, 0.3)),
    Table("Verdicts over several alternatives", {
        **at(beats_all_three, {"false “better”: beats two by 30 points, equals the third": 0}),
        **at(any_loss, {"false “worse”: equals four, some loss after Holm": 0}),
    }, most=5.0),
    Table("Coverage of a score's 95 % interval", of(SINGLES, single_covers), 93.0, exceptions=2,
          floor=90.0),
    Table("Coverage of skill's 95 % interval", {
        f"arm and constant correlated by {r:g} on a context": fixed
        for r in (-0.8, -0.4, 0.0, 0.4) for fixed in at(skill_with(r), {"": 0}).values()
    }, 93.0, exceptions=2, floor=90.0),
    Table("Coverage of a cost ratio's 95 % interval, equal true costs",
          at(ratio_covers, {k: s for k, s in SPREADS.items() if s <= 1}), 92.0, exceptions=4,
          floor=87.0),
    Table("For contrast, costs more skewed than the limit is for: coverage of the ratio's interval",
          at(ratio_covers, {k: s for k, s in SPREADS.items() if s > 1})),
    Table("False “dearer”: equal true costs", at(called_dearer, SPREADS), most=5.0),
    Table("Coverage of the price of one more right answer (Fieller)",
          at(price_covers, {"gain of 20 points": 0.2, "gain of 40 points": 0.4}), 93.0,
          exceptions=2, floor=88.0),
)  # fmt: skip


def simulate(table: Table, reps: int, seed: int) -> tuple[list[str], bool]:
    lines = [f"\n## {table.title}\n", "| contexts | " + " | ".join(map(str, CONTEXTS)) + " |"]
    lines.append("|---" + "|---:" * len(CONTEXTS) + "|")
    missed = []
    for row, (name, trial) in enumerate(table.rows.items()):
        cells = []
        for column, groups in enumerate(CONTEXTS):
            rng = np.random.default_rng([seed, row, column])
            share = 100 * float(np.mean([trial(rng, groups) for _ in range(reps)]))
            broken = not table.least <= share <= table.most
            missed += [share] if broken else []
            cells.append(f"**{share:.1f}**" if broken else f"{share:.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    held = len(missed) <= table.exceptions and all(share >= table.floor for share in missed)
    if table.least:
        also = f", but for {table.exceptions} cells ≥ {table.floor:g}" if table.exceptions else ""
        lines.append(f"\nLimit: ≥ {table.least:g}{also}: {'holds' if held else 'does NOT hold'}.")
    elif table.most < 100:
        lines.append(f"\nLimit: ≤ {table.most:g}: {'holds' if held else 'does NOT hold'}.")
    return lines, held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    error = 100 * sqrt(0.05 * 0.95 / options.reps)
    lines = [
        "# Simulation of the statistics",
        "",
        f"`python tests/benchmarks/coverage.py --reps {options.reps}`: per cent of {options.reps}"
        f" simulated experiments, seeded; standard error about {error:.1f} near 5 and 95. A bold"
        " figure is over its limit.",
    ]
    verdict = True
    for seed, table in enumerate(TABLES):
        print(table.title, file=sys.stderr)
        more, held = simulate(table, options.reps, seed)
        lines += more
        verdict = verdict and held
    lines.append(f"\nAll limits {'hold' if verdict else 'do NOT hold'}.")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
