"""Is the RLM worth it? One verdict per task and length, never saying more than the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, isfinite, isnan
from typing import Any, Literal

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.paired import Comparison, comparisons
from rlm_eval.analysis.text import plural, points

Decision = Literal["worth it", "not worth it", "can't tell at this n"]
DECISIONS: tuple[Decision, ...] = ("worth it", "not worth it", "can't tell at this n")
#: A gain smaller than this (in score, 0 to 1) is not worth paying more for.
MATTERS = 0.05
FAMILY = ["task", "model", "budget", "matched"]


@dataclass(frozen=True)
class Verdict(Comparison):
    """What the shared samples say about one RLM arm against the best alternative arm.

    *Best* is the alternative (no control, no router) that leaves the RLM arm the smallest paired
    difference; among equals the one with fewer tokens. Because the best is picked by the same
    data, all alternatives × lengths × RLM arms of one task, root model and budget are one family:
    p values are Holm's over it, intervals in rule 2 Bonferroni's. Methods that spend up to a cap
    (``budget.matched``) are compared with each other only.

    1. *not worth it*: the paired difference is below 0 and its Holm p is at most 0.05.
    2. *not worth it*: the family-wise 95 % interval lies below a gain of 5 points, and the
       RLM arm's mean cost on these samples is higher (USD where both are priced, else tokens).
       So is an arm that is better for certain, but by less than 5 points.
    3. *worth it*: the difference is above 0 and its Holm p is at most 0.05.
    4. *can't tell at this n*: everything else, always so under 4 contexts, and in effect under 6,
       where no sign-flip test can reach 5 %.
    """

    model: str
    budget: str
    scripted: bool
    decision: Decision
    text: str


def verdicts(results: pd.DataFrame) -> list[Verdict]:
    """One verdict per RLM arm, task, root model, length and per-sample budget.

    ``results`` is a frame of ``load_results``. Empty when no RLM arm or no alternative was run.
    """
    found = []
    several = results.loc[results["model"] != "", "model"].nunique() > 1
    for (_, model, budget, matched), rows in results.groupby(FAMILY, sort=False, dropna=False):
        candidates: dict[tuple[str, int], list[Comparison]] = {}
        for c in comparisons(rows, _rlms_and_alternatives):
            candidates.setdefault((c.arm, c.target_tokens), []).append(c)
        tokens = rows.groupby("arm")["tokens"].mean()
        caps = f"{budget}, matched" if matched and budget else str(budget)
        for alternatives in candidates.values():
            best = min(alternatives, key=lambda c: (c.difference, tokens[c.against]))
            scripted = rows.loc[rows["arm"].isin([best.arm, best.against]), "scripted"].any()
            decision = decide(best)
            about: dict[str, Any] = {"model": str(model), "budget": caps, "decision": decision}
            text = f"{_place(best, caps, str(model) if several else '')}: "
            text += _text(best, decision, scripted=bool(scripted))
            found.append(Verdict(**vars(best), **about, scripted=bool(scripted), text=text))
    return sorted(found, key=lambda v: (v.task, v.target_tokens))


def _rlms_and_alternatives(cell: pd.DataFrame) -> Iterable[tuple[str, str]]:
    kinds = cell.drop_duplicates("arm").set_index("arm")["arm_kind"]
    return product(kinds.index[kinds == "rlm"], kinds.index[kinds == "alternative"])


def decide(c: Comparison) -> Decision:
    """The rules of :class:`Verdict`."""
    if c.contexts < stats.MIN_CONTEXTS:
        return "can't tell at this n"
    significant = c.p_holm <= stats.ALPHA
    if significant and c.difference < 0:
        return "not worth it"
    if c.family_high < MATTERS and c.cost_ratio > 1:
        return "not worth it"
    return "worth it" if significant and c.difference > 0 else "can't tell at this n"


def grouped(verdicts: Sequence[Verdict]) -> list[tuple[str, list[Verdict]]]:
    """The verdicts on all RLM arms of one task, length, root model and budget, each group under a
    headline: ``needle, 8,000 tokens. Worth it: rlm_d2. Can't tell at this n: rlm, rlm_d3.``"""
    members: dict[tuple[Any, ...], list[Verdict]] = {}
    for v in verdicts:
        members.setdefault((v.task, v.target_tokens, v.model, v.budget), []).append(v)
    several = len({v.model for v in verdicts}) > 1
    groups = []
    for found in members.values():
        first, scripted = found[0], any(v.scripted for v in found)
        headline = _place(first, first.budget, first.model if several else "")
        headline += " (scripted)." if scripted else "."
        for decision in DECISIONS:
            if arms := [v.arm for v in found if v.decision == decision]:
                headline += f" {decision[0].upper()}{decision[1:]}: {', '.join(arms)}."
        groups.append((headline, found))
    return groups


def _place(c: Comparison, budget: str, model: str) -> str:
    return ", ".join(filter(None, (c.task, f"{c.target_tokens:,} tokens", budget, model)))


def _text(c: Comparison, decision: Decision, *, scripted: bool) -> str:
    verdict = decision if decision.startswith("can't") else f"{c.arm} is {decision}"
    size = f"{plural(c.shared_samples, 'question')} in {plural(c.contexts, 'context')}"
    if (c.arm_samples, c.against_samples) != (c.shared_samples, c.shared_samples):
        size += f", the only ones both have of {c.arm_samples} and {c.against_samples}"
    if not isnan(c.low):
        p = "p < 0.001" if c.p_holm < 0.001 else f"p = {c.p_holm:.2g}"
        over = f", Holm over {c.comparisons} comparisons" if c.comparisons > 1 else ""
        interval = f"95 % interval {points(c.low)} to {points(c.high)}"
        size = f"{interval}; {size}; {p} by {c.test}{over}"
    sentences = [
        f"{verdict}{' (scripted)' if scripted else ''}.",
        f"{c.arm} scores {points(c.difference)} points against {c.against}, the best alternative "
        f"here ({size}).",
    ]
    if isfinite(c.cost_ratio):
        sentences.append(f"It costs {c.cost_ratio:.2g}× the {c.cost_unit}.")
    if decision == "not worth it" and c.difference > 0 and c.p_holm <= stats.ALPHA:
        sentences.append(f"It is better, by less than {100 * MATTERS:.0f} points, at that cost.")
    elif decision == "not worth it" and c.p_holm > stats.ALPHA:
        sentences.append(f"A gain of {100 * MATTERS:.0f} points is ruled out.")
    per_context = c.shared_samples / max(1, c.contexts)
    sentences.append(
        resolution(c.contexts, c.smallest_resolvable, c.contexts_for_5_points, per_context)
    )
    return " ".join(sentences)


def resolution(contexts: int, resolvable: float, needed: float, per_context: float) -> str:
    """What this n can and can't show, in words. A plan is no more exact than two digits."""
    if contexts < stats.MIN_CONTEXTS:
        return f"Under {stats.MIN_CONTEXTS} contexts there is no interval and no verdict."
    if resolvable == inf:
        text = "No difference, however large, can be resolved at this n"
    else:
        size = plural(round(100 * resolvable), "point")
        text = f"The smallest difference this n can resolve is {size}"
    if isnan(needed):
        return f"{text}."
    plan = [f"{float(f'{number:.2g}'):,.0f}" for number in (needed, needed * per_context)]
    size = f"{plan[0]} contexts ({plan[1]} questions)"
    return f"{text}; {100 * MATTERS:.0f} points would need about {size}."
