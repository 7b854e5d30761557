"""Do the intervals and tests of rlm_eval.analysis.stats hold what they promise? By simulation.

    python tests/benchmarks/coverage.py [--reps 2000] [--out FILE.md]

Prints the tables as Markdown, writes them to --out too (the published ones are in
results/published/benchmarks/statistics.md), and exits with 1 when a limit is broken (coverage
under 93 %, type-I error over 6 %). About 25 minutes on one core at 2000 repetitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlm_eval.analysis import stats

CONTEXTS = (4, 8, 16, 30, 60)
CHANCES, RARE, RARER = (0.5, 0.9), (0.1, 0.25), (0.03, 0.05)
LEAST_COVERAGE, MOST_TYPE_I = 0.93, 0.06
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Questions per context (0: 1 to 10, at random) and how alike answers in one context are
    (intra-class correlation)."""

    questions: int
    icc: float

    def __str__(self) -> str:
        return f"{self.questions or '1–10'} per context, ICC {self.icc:g}"


SHAPES = (Shape(1, 0), Shape(5, 0), Shape(5, 0.1), Shape(5, 0.3), Shape(25, 0.3), Shape(0, 0.3))


def contexts_of(rng: np.random.Generator, groups: int, shape: Shape) -> NDArray[np.int64]:
    sizes = np.full(groups, shape.questions) if shape.questions else rng.integers(1, 11, groups)
    return np.repeat(np.arange(groups), sizes)


def answers(
    rng: np.random.Generator, context: NDArray[np.int64], icc: float, chance: float
) -> Floats:
    """Right or wrong with mean ``chance``; contexts' own chances are beta distributed."""
    groups = int(context.max()) + 1
    own = np.full(groups, chance)
    if icc:
        size = (1 - icc) / icc
        own = rng.beta(chance * size, (1 - chance) * size, groups)
    return (rng.random(len(context)) < own[context]).astype(float)


def two_arms(
    rng: np.random.Generator, context: NDArray[np.int64], icc: float, chances: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Two arms on the same questions: half of each answer's luck is shared, the context's part
    of it (``icc``) again half shared and half the arm's own."""
    groups = int(context.max()) + 1
    shared = np.sqrt(icc / 2) * rng.normal(size=groups)[context]
    shared = shared + np.sqrt((1 - icc) / 2) * rng.normal(size=len(context))

    def arm(chance: float) -> Floats:
        own = np.sqrt(icc / 2) * rng.normal(size=groups)[context]
        luck = shared + own + np.sqrt((1 - icc) / 2) * rng.normal(size=len(context))
        return (luck < stats.special.ndtri(chance)).astype(float)

    return arm(chances[0]), arm(chances[1])


Trial = Callable[[np.random.Generator, int, Shape, float], bool]


def wilson_covers(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    context = contexts_of(rng, groups, shape)
    found = stats.proportion(answers(rng, context, shape.icc, chance), context.tolist())
    return found.low <= chance <= found.high


def graded(rng: np.random.Generator, right: Floats, most: int) -> Floats:
    """Right answers score 1, a miss by k of a count 0.75^k (OOLONG), k from 1 to ``most``."""
    return np.where(right == 1, 1.0, 0.75 ** rng.integers(1, most + 1, len(right)))


def mean_miss(most: int) -> float:
    return float(np.mean(0.75 ** np.arange(1, most + 1)))


def graded_covers(
    rng: np.random.Generator, groups: int, shape: Shape, chance: float, most: int = 7
) -> bool:
    context = contexts_of(rng, groups, shape)
    scores = graded(rng, answers(rng, context, shape.icc, chance), most)
    truth = chance + (1 - chance) * mean_miss(most)
    found = stats.proportion(scores, context.tolist())
    return found.low <= truth <= found.high


def bootstrap_covers(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    context = contexts_of(rng, groups, shape)
    right = answers(rng, context, shape.icc, chance)
    sums, sizes = np.bincount(context, weights=right), np.bincount(context)
    picks = rng.multinomial(groups, np.full(groups, 1 / groups), size=500)
    low, high = np.quantile((picks @ sums) / (picks @ sizes), [0.025, 0.975])
    return bool(low <= chance <= high)


def difference_covers(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    """True difference of 10 points, around ``chance`` for the worse arm less 5."""
    context = contexts_of(rng, groups, shape)
    one, two = two_arms(rng, context, shape.icc, (chance + 0.05, chance - 0.05))
    found = stats.difference_interval(stats.spread(one - two, context.tolist()))
    return found.low <= 0.1 <= found.high


def graded_difference_covers(
    rng: np.random.Generator, groups: int, shape: Shape, chance: float, most: int
) -> bool:
    """Right 5 points in a hundred more often than ``chance``, misses as in :func:`graded`."""
    context = contexts_of(rng, groups, shape)
    one, two = two_arms(rng, context, shape.icc, (chance + 0.05, chance))
    differences = graded(rng, one, most) - graded(rng, two, most)
    found = stats.difference_interval(stats.spread(differences, context.tolist()))
    return found.low <= 0.05 * (1 - mean_miss(most)) <= found.high


def lone_difference_covers(
    rng: np.random.Generator, groups: int, shape: Shape, chance: float
) -> bool:
    """One arm is right with ``chance``, the other never."""
    context = contexts_of(rng, groups, shape)
    right = answers(rng, context, shape.icc, chance)
    found = stats.difference_interval(stats.spread(right, context.tolist()))
    return found.low <= chance <= found.high


def skill_covers(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    """The constant is right on 3 of 10 questions, independently."""
    context = contexts_of(rng, groups, shape)
    constant = (rng.random(len(context)) < 0.3).astype(float)
    found = stats.skill(answers(rng, context, shape.icc, chance), constant, context.tolist())
    return found.low <= (chance - 0.3) / 0.7 <= found.high


def sign_flip_rejects(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    context = contexts_of(rng, groups, shape)
    one, two = two_arms(rng, context, shape.icc, (chance, chance))
    return stats.paired(one - two, context.tolist()).p <= stats.ALPHA


def mcnemar_rejects(rng: np.random.Generator, groups: int, shape: Shape, chance: float) -> bool:
    context = contexts_of(rng, groups, shape)
    one, two = two_arms(rng, context, shape.icc, (chance, chance))
    return stats.mcnemar_p(int((one > two).sum()), int((one < two).sum())) <= stats.ALPHA


@dataclass(frozen=True)
class Table:
    """``limit`` is a least coverage or a most type-I error; None: shown for contrast."""

    title: str
    trial: Trial
    limit: float | None
    chances: tuple[float, ...] = CHANCES
    groups: tuple[int, ...] = CONTEXTS


TABLES = (
    Table("Coverage: `proportion`, right/wrong", wilson_covers, LEAST_COVERAGE),
    Table("Coverage: `proportion`, graded scores", graded_covers, LEAST_COVERAGE),
    Table("Coverage: `difference_interval`, true +10 points", difference_covers, LEAST_COVERAGE),
    Table("Coverage: `skill`", skill_covers, LEAST_COVERAGE),
    Table("Type-I error: `paired` (sign-flip of contexts; McNemar at 1 per context)",
          sign_flip_rejects, MOST_TYPE_I),
    Table("For contrast, not used: coverage of the percentile cluster bootstrap",
          bootstrap_covers, None, groups=(30, 60)),
    Table("For contrast, not used: type-I error of McNemar per question", mcnemar_rejects, None),
    Table("Coverage: `proportion`, right/wrong, seldom right", wilson_covers, LEAST_COVERAGE, RARE),
    *(Table(f"Coverage: `proportion`, graded, seldom right and else off by 1 to {most}",
            partial(graded_covers, most=most), LEAST_COVERAGE, RARE) for most in (40, 100)),
    *(Table(f"Coverage: `difference_interval`, graded, p against p + 5 points, off by 1 to {most}",
            partial(graded_difference_covers, most=most), LEAST_COVERAGE, RARE)
      for most in (40, 100)),
    Table("Coverage: `difference_interval`, right with p against never right",
          lone_difference_covers, LEAST_COVERAGE, RARE),
    Table("For contrast, rarer than the limits are for: coverage of `proportion`, right/wrong",
          wilson_covers, None, RARER),
    Table("For contrast, rarer than the limits are for: coverage of `proportion`, graded, off by"
          " 1 to 40", partial(graded_covers, most=40), None, RARER),
)  # fmt: skip


def simulate(table: Table, reps: int, seed: int) -> tuple[list[str], bool]:
    heads = [f"p={p:g}, {g}" for p in table.chances for g in table.groups]
    lines = [f"\n## {table.title}\n", "| contexts | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    limit, held = table.limit, True
    for row, shape in enumerate(SHAPES):
        cells = []
        places = ((p, g) for p in table.chances for g in table.groups)
        for column, (chance, g) in enumerate(places):
            rng = np.random.default_rng([seed, row, column])
            share = float(np.mean([table.trial(rng, g, shape, chance) for _ in range(reps)]))
            broken = limit is not None and (share > limit if limit < 0.5 else share < limit)
            held = held and not broken
            cells.append(f"**{100 * share:.1f}**" if broken else f"{100 * share:.1f}")
        lines.append(f"| {shape} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines, held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    error = 100 * np.sqrt(0.95 * 0.05 / options.reps)
    lines = [
        "# Simulation of the statistics",
        "",
        f"`python tests/benchmarks/coverage.py --reps {options.reps}`: per cent of"
        f" {options.reps} simulated experiments, seeded; standard error about {error:.1f}.",
        f"Limits: coverage ≥ {100 * LEAST_COVERAGE:.0f} %, type-I error ≤"
        f" {100 * MOST_TYPE_I:.0f} %; a bold figure breaks its limit. Right/wrong answers are"
        " beta-binomial with the stated intra-class correlation (ICC) and chance p.",
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
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
