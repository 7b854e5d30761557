"""Is the RLM worth it? A verdict per RLM arm, task and length, on two axes: score and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isinf, isnan
from typing import Any, Literal

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.load import MARGIN, readings
from rlm_eval.analysis.paired import (
    UNITS,
    Comparison,
    comparisons,
    on_terms,
    rlm_questions,
    unit_of,
)
from rlm_eval.analysis.tables import inputs_cut
from rlm_eval.analysis.text import count, digits, dollars, percent, plural, points, times
from rlm_eval.records import SCORED

Decision = Literal[
    "better",
    "as good and cheaper",
    "better but dearer",
    "as good but dearer",
    "worse but cheaper",
    "worse",
    "all right",
    "none right",
    "undecided",
]
#: From this share of an arm's answers on it is said how they failed.
FAILURES = 0.1
#: Under this share of a matched cap it is said how much was spent.
SPENT = 0.9
#: From this flip rate of the judge on, or from one as large as the difference, it is said.
FLIPS = 0.05


@dataclass(frozen=True)
class Verdict:
    """What the shared samples say about one RLM arm against *every* alternative arm of its root
    model and budget (no control; where budgets are matched, no arm that could be and is not), on
    score and on cost (:class:`Comparison`). Score's p *and* its interval must say the same.

    Against one alternative the arm *wins* (p ≤ 0.05 and an interval above 0), *loses* (Holm's p
    over the alternatives ≤ 0.05 and an interval below 0), or is *as good* (the interval lies above
    −``margin``); it is *dearer* or *cheaper* where the interval of the cost ratio leaves out 1 and
    a sign flip of the costs has p ≤ 0.05.

    - *worse*: it loses to some alternative; *worse but cheaper*: it is cheaper than all of those.
    - *better*: it wins against each (an intersection–union test, so each at 5 %) and is dearer
      than none; *better but dearer*: than some, and ``price`` is what one more right answer costs.
    - *as good and cheaper*: each it does not win against it is as good as, and cheaper than.
    - *as good but dearer*: as good as each, dearer than one that is as good as it.
    - *all right*, *none right*: nobody missed a point, or nobody made one.
    - *undecided*: everything else, always so under 4 contexts and in effect under 6, where no sign
      flip can reach 5 %.

    ``main`` is the comparison that decides: of those with the alternatives that made the verdict
    what it is, the one that leaves the arm the smallest difference. ``price`` is the highest that
    a win costs over a cheaper alternative, of those in the unit of ``main`` if any, or None. A
    verdict on all lengths together is given where every alternative was asked at several.
    ``notes``: what else bears on it.
    """

    model: str
    budget: str
    scripted: bool
    decision: Decision
    main: Comparison
    price: Comparison | None
    against_all: tuple[Comparison, ...]
    notes: tuple[str, ...]
    text: str

    @property
    def row(self) -> dict[str, Any]:
        """The verdict as one row of a table: its main comparison and what it says."""
        priced = {n: getattr(self.price, n, None) for n in ("price", "price_low", "price_high")}
        about = {"model": self.model, "budget": self.budget, "scripted": self.scripted}
        return asdict(self.main) | priced | about | {"decision": self.decision, "text": self.text}


def verdicts(results: pd.DataFrame, margin: float = MARGIN) -> list[Verdict]:
    """The verdicts on ``results``, a frame of ``load_results``: by task, then by length, all
    lengths together last. Empty when no RLM arm or no alternative was run. ``margin`` is how much
    lower a score may be, in score (0 to 1), and still be called as good."""
    found = []
    several = results.loc[results["model"] != "", "model"].nunique() > 1
    terms = [(t, *on) for t, own in results.groupby("task", sort=False) for on in on_terms(own)]
    for task, (model, budget, matched), rows in terms:
        caps = f"{budget}, matched" if matched and budget else budget
        made_up = set(rows.loc[rows["scripted"], "arm"])
        compared = comparisons(rows, rlm_questions)
        compared += comparisons(rows, rlm_questions, all_lengths=True)
        groups: dict[tuple[str, int], list[Comparison]] = {}
        for c in compared:
            groups.setdefault((c.arm, c.target_tokens), []).append(c)
        alone = results[(results["task"] == task) & (results["model"] == "")]
        used = pd.concat([rows, alone[alone["arm_kind"] == "control"]])
        for (arm, length), against_all in groups.items():
            alternatives = {c.against for c in compared if c.arm == arm}
            if not length and {c.against for c in against_all} != alternatives:
                continue  # it would leave out an alternative that was asked at one length alone
            cell = used[used["target_tokens"] == length] if length else used
            by_arm = {str(name): own for name, own in cell.groupby("arm")}
            decision, main = decide(against_all, margin)
            wins = [c for c in against_all if c.wins and c.dearer]
            unit = main.cost_unit
            price = max(wins, key=lambda c: (c.cost_unit == unit, c.price), default=None)
            price = price if decision.startswith("better") else None
            arms = [arm, *(c.against for c in against_all)]
            here = cell[cell["arm"].isin([main.arm, main.against])]
            notes = (
                *(note for name in arms for note in _of_arm(name, by_arm[name], matched)),
                *_notes(by_arm, main, margin),
                *_flips(here, main),
                *_other_readings(here, main),
            )
            scripted = not set(arms).isdisjoint(made_up)
            several_lengths = here["target_tokens"].nunique() > 1  # a log's length is unknown, 0
            place = f"{length:,} tokens" if length else "all lengths" if several_lengths else ""
            where = ", ".join(filter(None, (main.task, place, caps, model if several else "")))
            told = f"{decision} (scripted)" if scripted else decision
            spent = here[here["asked"]].groupby(["arm", "sample_id"])[UNITS[main.cost_unit]].sum()
            each = float(spent.groupby("arm").mean().sum())
            said = _text(main, decision, price, margin, unit_of(here), each)
            text = " ".join([f"{where}: {told}.", said, *notes])
            about = (model, caps, scripted, decision)
            found.append(Verdict(*about, main, price, tuple(against_all), notes, text))
    return sorted(found, key=lambda v: (v.main.task, v.main.target_tokens or 10**12))


def decide(against_all: Sequence[Comparison], margin: float) -> tuple[Decision, Comparison]:
    """The rules of :class:`Verdict`, and the comparison that decides."""

    def least(found: Sequence[Comparison]) -> Comparison:
        return min(found, key=lambda c: (c.difference, c.cost_against))

    closest = least(against_all)
    if lost := [c for c in against_all if c.loses]:
        return "worse but cheaper" if all(c.cheaper for c in lost) else "worse", least(lost)
    rest = [c for c in against_all if not c.wins]
    if not rest:
        dearer = [c for c in against_all if c.dearer]
        return ("better but dearer", least(dearer)) if dearer else ("better", closest)
    open_ = [c for c in rest if not (c.low > -margin and (c.cheaper or c.dearer))]
    if not open_:
        dear = [c for c in rest if c.dearer]
        return ("as good but dearer", least(dear)) if dear else ("as good and cheaper", least(rest))
    scores = {round(x, 12) for c in against_all for x in (c.score, c.score_against)}
    if scores in ({1.0}, {0.0}):
        return "all right" if scores == {1.0} else "none right", closest
    return "undecided", least(open_)


def money(amount: float, unit: str) -> str:
    """A cost in its unit."""
    return dollars(amount) if unit == "USD" else f"{count(amount)} tokens"


def _text(
    c: Comparison,
    decision: Decision,
    price: Comparison | None,
    margin: float,
    unit: str,
    each: float,
) -> str:
    within = f"in {plural(c.contexts, 'context')}" if unit == "context" else "each for itself"
    size = f"{plural(c.shared_samples, 'question')} {within}"
    if (c.arm_samples, c.against_samples) != (c.shared_samples, c.shared_samples):
        size += f", the only ones both have of {c.arm_samples} and {c.against_samples}"
    if not isnan(c.low):
        p = "p < 0.001" if c.p < 0.001 else f"p = {_probability(c.p)}"
        holm = f", {_probability(c.p_holm)} after Holm over {c.comparisons}"
        over = holm if c.comparisons > 1 else ""
        size = f"95 % interval {points(c.low)} to {points(c.high)}; {size}; {p} by {c.test}{over}"
    sentences = [f"{c.arm} scores {points(c.difference)} points against {c.against} ({size})."]
    if isfinite(c.cost_ratio):
        limits = "" if isnan(c.cost_low) else f" ({times(c.cost_low)} to {times(c.cost_high)})"
        what = "price" if c.cost_unit == "USD" else "tokens"
        sentences.append(f"It costs {times(c.cost_ratio)}× its {what}{limits}.")
    open_cost = decision == "undecided" and c.low > -margin and not (c.cheaper or c.dearer)
    if decision.startswith("as good") or open_cost:
        sentences.append(f"A loss of {100 * margin:g} points is ruled out.")
    if price:
        sentences.append(_price(price))
    if decision == "undecided":
        sentences.append("Which costs less is open." if open_cost else needed(c, unit, each))
    if unit == "question":
        sentences.append("It is about these contexts alone: each question counts by itself.")
    return " ".join(sentences)


def _probability(p: float) -> str:
    """A p with as many digits, two at least, as say on which side of the threshold it is."""
    told = (digits(p, n) for n in range(2, 17))
    return next(text for text in told if (float(text) <= stats.ALPHA) == (p <= stats.ALPHA))


def _price(c: Comparison) -> str:
    """λ in words."""
    high = "no limit" if isinf(c.price_high) else money(c.price_high, c.cost_unit)
    return (
        f"One more right answer than {c.against} costs {money(c.price, c.cost_unit)} "
        f"({money(max(0.0, c.price_low), c.cost_unit)} to {high})."
    )


def needed(c: Comparison, unit: str, each: float) -> str:
    """What it would take to decide, if the difference were as seen and each question costs as much
    again, in no more than two digits."""
    if c.contexts < stats.MIN_CONTEXTS:
        few = f"Under {stats.MIN_CONTEXTS} {unit}s there is no interval and no verdict"
        alone = "; analysis.unit=question gives one on these contexts alone"
        return f"{few}{alone if c.shared_samples >= stats.MIN_CONTEXTS else ''}."
    if isnan(c.contexts_needed):
        return f"No difference was seen, so none says how many {unit}s would show one."
    asked = c.contexts_needed * c.shared_samples / c.contexts
    plan = [f"{float(f'{number:.2g}'):,.0f}" for number in (c.contexts_needed, asked)]
    what = [f"{plan[0]} contexts"] * (unit == "context") + [f"{plan[1]} questions"]
    if each > 0:
        what.append(f"some {money(float(f'{asked * each:.2g}'), c.cost_unit)} for both")
    more = f" ({', '.join(what[1:])})" if what[1:] else ""
    return f"If it is as seen, to show it takes about {what[0]}{more}."


def _flips(here: pd.DataFrame, main: Comparison) -> Iterator[str]:
    """What a judge's verdicts that differ on one answer could do to the difference between the two
    arms of ``here``, where those are many or the difference is small."""
    judged, split = (here["judge_verdicts"] > 1).sum(), here["judge_dissents"] > 0
    if not split.any() or split.sum() / judged < min(FLIPS, abs(main.difference)):
        return
    yield (
        f"The judge's flip rate is {percent(split.sum() / judged)} %: by how it decides on the"
        f" {split.sum()} of {judged} answers on which its verdicts differ, the difference would be"
        f" {_ends(here, main, split)}."
    )


def _ends(here: pd.DataFrame, main: Comparison, unsure: pd.Series[bool]) -> str:
    """The least and the largest difference that the answers which are ``unsure`` leave open."""
    own = (here["arm"] == main.arm).astype(float)
    ends = (here["points"].mask(unsure, worth) for worth in (1 - own, own))
    low, high = (points(_again(here, main, end).difference) for end in ends)
    return f"{low} to {high}"


def _again(here: pd.DataFrame, main: Comparison, points: pd.Series[float]) -> Comparison:
    """The comparison with other points."""
    pair, whole = (main.arm, main.against), here["target_tokens"].nunique() > 1
    (c,) = comparisons(here.assign(points=points), lambda _: [[pair]], all_lengths=whole)
    return c


def _other_readings(here: pd.DataFrame, main: Comparison) -> Iterator[str]:
    """The other scores (of other rules) of the two arms of ``here`` by which the difference would
    say otherwise: another winner, or one where there is none."""

    def says(c: Comparison) -> int:
        return 1 if c.wins else -1 if c.p <= stats.ALPHA and c.high < 0 else 0

    for name in readings(here):
        scored = here["outcome"].isin(list(SCORED))
        if here.loc[scored, name].isna().any():
            continue
        c = _again(here, main, here[name].where(scored, 0.0).where(here["asked"]))
        if says(c) != says(main):
            span = f"{points(c.low)} to {points(c.high)}"
            rule = name.removeprefix("score_").replace("_", " ")
            yield f"By its other score, {rule}, the difference is {points(c.difference)} ({span})."


def _of_arm(arm: str, own: pd.DataFrame, matched: bool) -> list[str]:
    """What is to be said of an arm's own rows, whatever it is compared with."""
    said, asked = inputs_cut(arm, own), own[own["asked"]]
    failed = asked.loc[~asked["outcome"].isin(list(SCORED)), "outcome"]
    if len(failed) and len(failed) >= FAILURES * len(asked):
        how = ", ".join(f"{n} {outcome}" for outcome, n in failed.value_counts().items())
        ended = f"{len(failed)} of {len(asked)} ended without an answer"
        said.append(f"{arm}: {ended}, scored 0 ({how}).")
    unit, _, cap = str(own["budget"].iloc[0]).split(", ")[0].partition("=")
    if unit == "tokens" and matched:
        spent = float((asked["tokens"] - asked["embed_tokens"]).mean()) / float(cap)
        if spent < SPENT:
            said.append(f"{arm} spent {percent(spent)} % of its cap.")
    return said


def _notes(rows: Mapping[str, pd.DataFrame], main: Comparison, margin: float) -> Iterator[str]:
    """What else bears on a verdict; ``rows`` by arm, those of controls too."""
    pending = {arm: int((~rows[arm]["asked"]).sum()) for arm in (main.arm, main.against)}
    if any(pending.values()):
        listed = " and ".join(f"{n} of {arm}" for arm, n in pending.items() if n)
        here = pd.concat([rows[arm] for arm in pending], ignore_index=True)
        ends = _ends(here.assign(asked=True), main, ~here["asked"])
        yield f"Pending: {listed}; by how they end the difference would be {ends}."
    controls = {arm: own for arm, own in rows.items() if own["arm_kind"].iloc[0] == "control"}
    answered = rows[main.arm][rows[main.arm]["asked"]]
    once = answered.drop_duplicates("sample_id")
    levels = {"the best constant answer": (_level(once, "constant_score"), _level(answered))}
    for arm, own in controls.items():
        same = own[own["asked"] & own["sample_id"].isin(answered["sample_id"])]
        mine = answered[answered["sample_id"].isin(same["sample_id"])]
        levels[arm] = _level(same), _level(mine)
    for name, (level, score) in levels.items():
        if level >= score - margin and level > 0:
            yield f"{name} scores {percent(level)} %, {main.arm} {percent(score)} %."


def _level(rows: pd.DataFrame, column: str = "points") -> float:
    """The mean, each length the same, as in a comparison; nan where one is not known."""
    lengths = rows.groupby("target_tokens")[column].agg(lambda values: values.mean(skipna=False))
    return float(lengths.mean(skipna=False))
