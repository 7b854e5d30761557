"""Is the RLM worth it? A verdict per RLM arm, task and length, on two axes: score and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isinf, isnan
from typing import Any, Literal, get_args

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.load import MARGIN
from rlm_eval.analysis.paired import TERMS, Comparison, comparisons, questions
from rlm_eval.analysis.text import count, dollars, percent, plural, points
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
DECISIONS: tuple[Decision, ...] = get_args(Decision)
#: From this share of an arm's answers on it is said how they failed.
FAILURES = 0.1


@dataclass(frozen=True)
class Verdict:
    """What the shared samples say about one RLM arm against *every* alternative arm of its root
    model and budget (no control, no router; where budgets are matched, only arms so bound), on
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
    a win costs over a cheaper alternative, or None. ``target_tokens`` is 0 for all lengths
    together. ``notes`` are what a reader must know beside it.
    """

    task: str
    target_tokens: int
    arm: str
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
        price = self.price or self.main
        prices = {
            "price": price.price,
            "price_low": price.price_low,
            "price_high": price.price_high,
        }
        about = {"model": self.model, "budget": self.budget, "scripted": self.scripted}
        priced = prices if self.price else dict.fromkeys(prices)
        return asdict(self.main) | priced | about | {"decision": self.decision, "text": self.text}


def verdicts(results: pd.DataFrame, margin: float = MARGIN) -> list[Verdict]:
    """The verdicts on ``results``, a frame of ``load_results``: by task, then by length, all
    lengths together last. Empty when no RLM arm or no alternative was run. ``margin`` is how much
    lower a score may be, in score (0 to 1), and still be called as good."""
    found = []
    several = results.loc[results["model"] != "", "model"].nunique() > 1
    for (_, model, budget, matched), rows in results.groupby(
        ["task", *TERMS], sort=False, dropna=False
    ):
        caps = f"{budget}, matched" if matched and budget else str(budget)
        kinds = rows.drop_duplicates("arm").set_index("arm")["arm_kind"]
        groups: dict[tuple[str, int], list[Comparison]] = {}
        for whole in (False, True):
            for c in comparisons(rows, questions, all_lengths=whole):
                if kinds[c.arm] == "rlm" and kinds[c.against] == "alternative":
                    groups.setdefault((c.arm, c.target_tokens), []).append(c)
        for (arm, length), against_all in groups.items():
            here = rows if length == 0 else rows[rows["target_tokens"] == length]
            decision, main = decide(against_all, margin)
            wins = [c for c in against_all if c.wins and c.dearer]
            price = max(wins, key=lambda c: c.price, default=None)
            price = price if decision.startswith("better") else None
            arms = [arm, *(c.against for c in against_all)]
            notes = tuple(_notes(here, main, arms, margin))
            scripted = bool(here.loc[here["arm"].isin(arms), "scripted"].any())
            where = _place(main, caps, str(model) if several else "")
            text = f"{where}: {_text(main, decision, price, margin, scripted=scripted)}"
            text = " ".join([text, *notes])
            found.append(
                Verdict(
                    main.task,
                    length,
                    arm,
                    str(model),
                    caps,
                    scripted,
                    decision,
                    main,
                    price,
                    tuple(against_all),
                    notes,
                    text,
                )
            )
    return sorted(found, key=lambda v: (v.task, v.target_tokens or 10**12))


def decide(against_all: Sequence[Comparison], margin: float) -> tuple[Decision, Comparison]:
    """The rules of :class:`Verdict`, and the comparison that decides."""

    def least(found: Sequence[Comparison]) -> Comparison:
        return min(found, key=lambda c: (c.difference, c.cost_against))

    closest = least(against_all)
    if lost := [c for c in against_all if c.loses]:
        return "worse but cheaper" if all(c.cheaper for c in lost) else "worse", least(lost)
    rest = [c for c in against_all if not c.wins]
    if not rest:
        dearer = any(c.dearer for c in against_all)
        return "better but dearer" if dearer else "better", closest
    open_ = [c for c in rest if not (c.low > -margin and (c.cheaper or c.dearer))]
    if not open_:
        dear = [c for c in rest if c.dearer]
        return ("as good but dearer", least(dear)) if dear else ("as good and cheaper", closest)
    scores = {round(x, 12) for c in against_all for x in (c.score, c.score_against)}
    if scores in ({1.0}, {0.0}):
        return "all right" if scores == {1.0} else "none right", closest
    return "undecided", least(open_)


def _place(c: Comparison, budget: str, model: str) -> str:
    length = f"{c.target_tokens:,} tokens" if c.target_tokens else "all lengths"
    return ", ".join(filter(None, (c.task, length, budget, model)))


def money(amount: float, unit: str) -> str:
    """A cost in its unit."""
    return dollars(amount) if unit == "USD" else f"{count(amount)} tokens"


def _text(
    c: Comparison, decision: Decision, price: Comparison | None, margin: float, *, scripted: bool
) -> str:
    size = f"{plural(c.shared_samples, 'question')} in {plural(c.contexts, 'context')}"
    if (c.arm_samples, c.against_samples) != (c.shared_samples, c.shared_samples):
        size += f", the only ones both have of {c.arm_samples} and {c.against_samples}"
    if not isnan(c.low):
        p = "p < 0.001" if c.p < 0.001 else f"p = {c.p:.2g}"
        over = f", {c.p_holm:.2g} after Holm over {c.comparisons}" if c.comparisons > 1 else ""
        size = f"95 % interval {points(c.low)} to {points(c.high)}; {size}; {p} by {c.test}{over}"
    sentences = [
        f"{decision}{' (scripted)' if scripted else ''}.",
        f"{c.arm} scores {points(c.difference)} points against {c.against} ({size}).",
    ]
    if isfinite(c.cost_ratio):
        limits = "" if isnan(c.cost_low) else f" ({c.cost_low:.2g} to {c.cost_high:.2g})"
        what = "price" if c.cost_unit == "USD" else "tokens"
        sentences.append(f"It costs {c.cost_ratio:.2g}× its {what}{limits}.")
    if decision.startswith("as good"):
        sentences.append(f"A loss of {100 * margin:g} points is ruled out.")
    if price:
        sentences.append(_price(price))
    if decision == "undecided":
        sentences.append(needed(c))
    return " ".join(sentences)


def _price(c: Comparison) -> str:
    """λ in words."""
    high = "no limit" if isinf(c.price_high) else money(c.price_high, c.cost_unit)
    return (
        f"One more right answer than {c.against} costs {money(c.price, c.cost_unit)} "
        f"({money(max(0.0, c.price_low), c.cost_unit)} to {high})."
    )


def needed(c: Comparison) -> str:
    """What it would take to decide, if the difference were as seen. No plan is more exact than two
    digits."""
    if c.contexts < stats.MIN_CONTEXTS:
        return f"Under {stats.MIN_CONTEXTS} contexts there is no interval and no verdict."
    if isnan(c.contexts_needed):
        return "No difference was seen, so none says how many contexts would show one."
    per_context = c.shared_samples / c.contexts
    asked = c.contexts_needed * per_context
    plan = [f"{float(f'{number:.2g}'):,.0f}" for number in (c.contexts_needed, asked)]
    size = f"{plan[0]} contexts ({plan[1]} questions"
    if (each := c.cost + c.cost_against) > 0:
        size += f", some {money(float(f'{asked * each:.2g}'), c.cost_unit)} for both"
    return f"If it is as seen, to show it takes about {size})."


def _notes(
    rows: pd.DataFrame, main: Comparison, arms: Sequence[str], margin: float
) -> Iterator[str]:
    """What bears on a verdict about ``arms``, the RLM first. ``rows`` hold the controls too."""
    for arm in arms:
        own = rows[rows["arm"] == arm]
        asked = own[own["asked"]]
        cut = asked[asked["truncated_tokens"] > 0]
        if len(cut):
            kept = 1 - cut["truncated_tokens"].sum() / cut["length_tokens"].sum()
            yield f"{arm}: {len(cut)} of {len(asked)} inputs cut to {percent(kept)} %."
        failed = asked.loc[~asked["outcome"].isin(list(SCORED)), "outcome"].value_counts()
        if len(asked) and (ended := failed.sum()) >= FAILURES * len(asked):
            how = ", ".join(f"{n} {outcome}" for outcome, n in failed.items())
            yield f"{arm}: {ended} of {len(asked)} ended without an answer, scored 0 ({how})."
        matched, cap = bool(own["matched"].any()), own["budget"].iloc[0].split(", ")[0]
        unit, _, most = cap.partition("=")
        if matched and unit == "tokens" and len(asked):
            share = asked["tokens"].mean() / float(most)
            if share < 0.9:
                yield f"{arm} spent {percent(share)} % of its cap."
    yield from _pending(rows, main)
    score = rows.loc[rows["arm"].eq(main.arm) & rows["asked"], "points"].mean()
    samples = rows.drop_duplicates("sample_id")
    levels = {
        "the best constant answer": samples["constant_score"].astype(float).mean(skipna=False)
    }
    controls = rows[(rows["arm_kind"] == "control") & rows["asked"]]
    means = controls.groupby("arm", sort=False)["points"].mean()
    levels |= {str(arm): float(mean) for arm, mean in means.items()}
    for name, level in levels.items():
        if level >= score - margin and level > 0:
            yield f"{name} scores {percent(level)} %, {main.arm} {percent(score)} %."


def _pending(rows: pd.DataFrame, main: Comparison) -> Iterator[str]:
    """The range of the difference, were all unfinished rows of the two arms right or wrong."""
    bounds, count_ = [], {}
    for low, high in ((0.0, 1.0), (1.0, 0.0)):
        means = []
        for arm, filled in ((main.arm, low), (main.against, high)):
            own = rows[rows["arm"] == arm]
            count_[arm] = int((~own["asked"]).sum())
            means.append(own["points"].fillna(filled).mean())
        bounds.append(means[0] - means[1])
    if any(count_.values()):
        left = " and ".join(f"{n} of {arm}" for arm, n in count_.items() if n)
        span = f"{points(bounds[0])} to {points(bounds[1])}"
        yield f"Pending: {left}; by how they end the difference would be {span}."
