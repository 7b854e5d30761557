"""Two arms compared on the samples that both were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from math import nan

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.arms import competitors

#: What makes a group of rows comparable: the same question set at the same length.
CELL = ["task", "target_tokens"]
#: Which (arm, against) of a cell's rows are compared.
Pairs = Callable[[pd.DataFrame], Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class Comparison:
    """``arm`` minus ``against`` in points of score (0 to 1), on shared samples.

    Repeats of a sample are averaged first; pending rows take no part; an arm's own failures count
    0. ``low`` and ``high`` are the unadjusted 95 % interval, ``family_high`` is the upper limit of
    Bonferroni's over the ``comparisons`` of the family, ``p_holm`` is Holm's over it.
    ``smallest_resolvable`` and ``contexts_for_5_points`` hold for the family too. ``score`` and
    ``score_against`` are on the ``shared_samples``; ``arm_samples`` and ``against_samples`` are how
    many each has. ``cost_ratio`` is arm over against on the shared samples, in ``cost_unit`` (USD
    where both have a price above 0, else tokens); nan when the other arm used no token either.
    """

    task: str
    target_tokens: int
    arm: str
    against: str
    difference: float
    low: float
    high: float
    family_high: float
    p: float
    p_holm: float
    comparisons: int
    test: str
    effect_size: float
    score: float
    score_against: float
    shared_samples: int
    arm_samples: int
    against_samples: int
    contexts: int
    cost_ratio: float
    cost_unit: str
    smallest_resolvable: float
    contexts_for_5_points: float


def comparisons(rows: pd.DataFrame, pairs: Pairs) -> list[Comparison]:
    """The ``pairs`` of each task and length of ``rows`` that share a sample, as one family."""
    found, differences = [], []
    for (task, _), cell in rows.groupby(CELL, sort=True):
        samples, length = per_sample(cell), int(cell["target_tokens"].iloc[0])
        for arm, against in pairs(cell):
            if arm not in samples or against not in samples:
                continue
            first, second = samples[arm], samples[against]
            both = first.join(second.add_suffix("_against"), how="inner")
            if len(both):
                found.append((str(task), length, arm, against, len(first), len(second), both))
                difference = both["points"] - both["points_against"]
                differences.append(stats.paired(difference, both["context_id"].tolist()))
    adjusted, family = stats.holm([d.p for d in differences]), len(found)
    compared = []
    for (task, length, arm, against, n, n_against, both), d, p_holm in zip(
        found, differences, adjusted, strict=True
    ):
        usd = both[["cost_usd", "cost_usd_against"]]
        priced = bool(usd.notna().all(axis=None)) and float(usd["cost_usd_against"].mean()) > 0
        unit = "cost_usd" if priced else "tokens"
        base = float(both[f"{unit}_against"].mean())
        compared.append(
            Comparison(
                task=task,
                target_tokens=length,
                arm=arm,
                against=against,
                difference=d.interval.mean,
                low=d.interval.low,
                high=d.interval.high,
                family_high=stats.difference_interval(d.spread, 1 - stats.ALPHA / family).high,
                p=d.p,
                p_holm=p_holm,
                comparisons=family,
                test=d.test,
                effect_size=d.effect_size,
                score=float(both["points"].mean()),
                score_against=float(both["points_against"].mean()),
                shared_samples=len(both),
                arm_samples=n,
                against_samples=n_against,
                contexts=d.interval.contexts,
                cost_ratio=float(both[unit].mean()) / base if base > 0 else nan,
                cost_unit="USD" if priced else "tokens",
                smallest_resolvable=stats.smallest_resolvable(d.spread, family),
                contexts_for_5_points=stats.contexts_needed(d.spread, family),
            )
        )
    return compared


def per_sample(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each arm one row per sample: mean points, tokens and cost over its answers that count.
    ``rows`` are of one task and length."""
    asked = rows[rows["asked"]]
    unpriced = asked["cost_usd"].isna()
    answers = asked.assign(unpriced=unpriced).groupby(["arm", "sample_id"], sort=False)
    means = answers.agg(
        context_id=("context_id", "first"),
        points=("points", "mean"),
        tokens=("tokens", "mean"),
        cost_usd=("cost_usd", "mean"),
        unpriced=("unpriced", "any"),
    )
    means["cost_usd"] = means["cost_usd"].mask(means.pop("unpriced"))
    return {str(arm): group.droplevel("arm") for arm, group in means.groupby("arm", sort=False)}


def paired_table(results: pd.DataFrame) -> pd.DataFrame:
    """Every pair of methods per task and length, a row for each :class:`Comparison`, with Holm
    over all pairs of one task. Controls are no methods."""

    def pairs(cell: pd.DataFrame) -> Iterable[tuple[str, str]]:
        return ((b, a) for a, b in combinations(cell["arm"].drop_duplicates(), 2))

    tasks = competitors(results).groupby("task", sort=False)
    return pd.DataFrame([asdict(c) for _, task in tasks for c in comparisons(task, pairs)])
