"""Is the RLM worth it? One verdict per task and length, never saying more than the statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import inf, isfinite, isnan
from typing import Literal

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.paired import CELL, Comparison, comparisons
from rlm_eval.analysis.text import plural, points

Decision = Literal["worth it", "not worth it", "can't tell at this n"]
#: A gain smaller than this (in score, 0 to 1) is not worth paying more for.
MATTERS = 0.05
FAMILY = ["task", "model", "budget", "matched"]


@dataclass(frozen=True)
class Verdict:
    """What the shared samples say about one RLM arm against the best alternative arm.

    *Best* is the alternative (no control, no router) that leaves the RLM arm the smallest paired
    difference; among equals the one with fewer tokens. Because the best is picked by the same
    data, all alternatives × lengths × RLM arms of one task, root model and budget are one family:
    p values are Holm's over it, intervals in rule 2 Bonferroni's. Methods that spend up to a cap
    (``budget.matched``) are compared with each other only.

    1. *not worth it*: the paired difference is below 0 and its Holm p is at most 0.05.
    2. *not worth it*: the family-wise 95 % interval lies wholly below a gain of 5 points, and the
       RLM arm's mean cost on these samples is higher (USD where both are priced, else tokens).
       So is an arm that is better for certain, but by less than 5 points.
    3. *worth it*: the difference is above 0 and its Holm p is at most 0.05.
    4. *can't tell at this n*: everything else, always so under 4 contexts, and in effect under 6,
       where no sign-flip test can reach 5 %.

    ``difference``, ``low``, ``high`` are in score, 0 to 1; ``low`` and ``high`` are the unadjusted
    95 % interval. ``smallest_resolvable`` and ``contexts_for_5_points`` hold for the family.
    """

    task: str
    target_tokens: int
    model: str
    budget: str
    decision: Decision
    arm: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    comparisons: int
    test: str
    questions: int
    contexts: int
    cost_ratio: float
    cost_unit: str
    smallest_resolvable: float
    contexts_for_5_points: float
    scripted: bool
    text: str


def verdicts(results: pd.DataFrame) -> list[Verdict]:
    """One verdict per RLM arm, task, root model, length and per-sample budget.

    ``results`` is a frame of ``load_results``. Empty when no RLM arm or no alternative was run.
    """
    found = []
    several = results.loc[results["model"] != "", "model"].nunique() > 1
    for (_, model, budget, matched), task in results.groupby(FAMILY, sort=False, dropna=False):
        pairs = _comparisons(task)
        adjusted = stats.holm([c.difference.p for c in pairs])
        judged: dict[tuple[str, int], list[tuple[Comparison, float]]] = {}
        for pair, p in zip(pairs, adjusted, strict=True):
            judged.setdefault((pair.arm, pair.target_tokens), []).append((pair, p))
        tokens = task.groupby("arm")["tokens"].mean()
        for candidates in judged.values():
            best, p = min(
                candidates, key=lambda c: (c[0].difference.interval.mean, tokens[c[0].against])
            )
            arms = task[task["arm"].isin([best.arm, best.against])]
            caps = f"{budget}, matched" if matched and budget else str(budget)
            verdict = _judge(best, p, len(pairs), str(model), caps, _scripted(arms))
            where = place(best.task, best.target_tokens, caps, str(model) if several else "")
            found.append(replace(verdict, text=f"{where}: {verdict.text}"))
    return sorted(found, key=lambda v: (v.task, v.target_tokens))


def _scripted(rows: pd.DataFrame) -> bool:
    return bool(rows["scripted"].any())


def _comparisons(task: pd.DataFrame) -> list[Comparison]:
    found: list[Comparison] = []
    for _, cell in task.groupby(CELL, sort=True):
        names = cell[["arm", "arm_kind"]].drop_duplicates()
        rlms = names.loc[names["arm_kind"] == "rlm", "arm"]
        others = names.loc[names["arm_kind"] == "alternative", "arm"]
        found += comparisons(cell, product(rlms, others))
    return found


def _judge(
    c: Comparison, p_holm: float, family: int, model: str, budget: str, scripted: bool
) -> Verdict:
    d = c.difference
    resolvable = stats.smallest_resolvable(d.spread, family)
    needed = stats.contexts_needed(d.spread, family)
    decision = decide(c, p_holm, family)
    return Verdict(
        task=c.task,
        target_tokens=c.target_tokens,
        model=model,
        budget=budget,
        decision=decision,
        arm=c.arm,
        against=c.against,
        difference=d.interval.mean,
        low=d.interval.low,
        high=d.interval.high,
        p=d.p,
        p_holm=p_holm,
        comparisons=family,
        test=d.test,
        questions=c.shared,
        contexts=d.interval.contexts,
        cost_ratio=c.cost_ratio,
        cost_unit=c.cost_unit,
        smallest_resolvable=resolvable,
        contexts_for_5_points=needed,
        scripted=scripted,
        text=_text(c, decision, p_holm, family, scripted, resolvable, needed),
    )


def decide(c: Comparison, p_holm: float, family: int) -> Decision:
    """The rules of :class:`Verdict`."""
    d = c.difference
    if d.interval.contexts < stats.MIN_CONTEXTS:
        return "can't tell at this n"
    told = p_holm <= stats.ALPHA
    if told and d.interval.mean < 0:
        return "not worth it"
    family_wise = stats.difference_interval(d.spread, 1 - stats.ALPHA / family)
    if family_wise.high < MATTERS and c.cost_ratio > 1:
        return "not worth it"
    return "worth it" if told and d.interval.mean > 0 else "can't tell at this n"


def _text(
    c: Comparison,
    decision: Decision,
    p_holm: float,
    family: int,
    scripted: bool,
    resolvable: float,
    needed: float,
) -> str:
    d, i = c.difference, c.difference.interval
    word = {"worth it": f"{c.arm} is worth it", "not worth it": f"{c.arm} is not worth it"}
    sentence = [
        f"{word.get(decision, decision)}{' (scripted)' if scripted else ''}.",
        f"{c.arm} scores {points(i.mean)} points against {c.against}, the best alternative here",
    ]
    interval = "" if isnan(i.low) else f"95 % interval {points(i.low)} to {points(i.high)}; "
    size = f"{plural(c.shared, 'question')} in {plural(i.contexts, 'context')}{_unshared(c)}"
    test = f"; {_p(p_holm)} by {d.test}{_family(family)}" if interval else ""
    sentence.append(f"({interval}{size}{test}).")
    if isfinite(c.cost_ratio):
        sentence.append(f"It costs {c.cost_ratio:.2g}× the {c.cost_unit}.")
    if decision == "not worth it" and i.mean > 0 and p_holm <= stats.ALPHA:
        sentence.append(f"It is better, by less than {100 * MATTERS:.0f} points, at that cost.")
    elif decision == "not worth it" and p_holm > stats.ALPHA:
        sentence.append(f"A gain of {100 * MATTERS:.0f} points is ruled out.")
    sentence.append(resolution(i.contexts, resolvable, needed, c.shared / max(1, i.contexts)))
    return " ".join(sentence)


def place(task: str, target_tokens: int, budget: str, model: str = "") -> str:
    """What a verdict is about, in words; the model where there are several."""
    return ", ".join(filter(None, (task, f"{target_tokens:,} tokens", budget, model)))


def resolution(contexts: int, resolvable: float, needed: float, per_context: float) -> str:
    """What this n can and can't show, in words."""
    if contexts < stats.MIN_CONTEXTS:
        return f"Under {stats.MIN_CONTEXTS} contexts there is no interval and no verdict."
    if resolvable == inf:
        text = "No difference, however large, can be resolved at this n"
    else:
        size = plural(round(100 * resolvable), "point")
        text = f"The smallest difference this n can resolve is {size}"
    if isnan(needed):
        return text + "."
    questions = needed * per_context
    return text + (
        f"; {100 * MATTERS:.0f} points would need about {_round(needed)} contexts"
        f" ({_round(questions)} questions)."
    )


def _round(number: float) -> str:
    """Two significant digits: a plan is no more exact than that."""
    return f"{float(f'{number:.2g}'):,.0f}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def _family(family: int) -> str:
    return f", Holm over {family} comparisons" if family > 1 else ""


def _unshared(c: Comparison) -> str:
    if c.own_samples == (c.shared, c.shared):
        return ""
    return f", the only ones both have of {c.own_samples[0]} and {c.own_samples[1]}"
