"""Two arms compared on the samples that both were asked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import nan

import pandas as pd

from rlm_eval.analysis import stats

#: What makes a group of rows comparable: the same question set at the same length.
CELL = ["task", "target_tokens"]


@dataclass(frozen=True)
class Comparison:
    """``arm`` minus ``against`` in points of score (0 to 1), on shared samples.

    Repeats of a sample are averaged first; owed rows take no part; an arm's own failures count 0.
    ``own_samples`` are how many samples each arm has, ``shared`` those both have. ``cost_ratio``
    is arm over against on the shared samples, in ``cost_unit`` (USD where both have a price above
    0, else tokens); nan when the other arm used no token either.
    """

    task: str
    target_tokens: int
    arm: str
    against: str
    shared: int
    own_samples: tuple[int, int]
    score: float
    score_against: float
    difference: stats.Difference
    cost_ratio: float
    cost_unit: str


def per_sample(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per sample of one arm: mean points, tokens and cost over its answers not owed."""
    asked = rows[rows["asked"]]
    means = asked.groupby("sample_id", sort=False).agg(
        context_id=("context_id", "first"),
        points=("points", "mean"),
        tokens=("tokens", "mean"),
        cost_usd=("cost_usd", lambda c: c.mean() if c.notna().all() else nan),
    )
    return means


def compare(rows: pd.DataFrame, arm: str, against: str) -> Comparison | None:
    """``arm`` against ``against`` within one task and length, or None when they share nothing."""
    first, second = (per_sample(rows[rows["arm"] == a]) for a in (arm, against))
    both = first.join(second.add_suffix("_against"), how="inner")
    if both.empty:
        return None
    usd = both[["cost_usd", "cost_usd_against"]]
    priced = bool(usd.notna().all(axis=None)) and float(usd["cost_usd_against"].mean()) > 0
    unit = "cost_usd" if priced else "tokens"
    base = float(both[f"{unit}_against"].mean())
    difference = stats.paired(
        both["points"] - both["points_against"], both["context_id"].astype(str).tolist()
    )
    return Comparison(
        task=str(rows["task"].iloc[0]),
        target_tokens=int(rows["target_tokens"].iloc[0]),
        arm=arm,
        against=against,
        shared=len(both),
        own_samples=(len(first), len(second)),
        score=float(both["points"].mean()),
        score_against=float(both["points_against"].mean()),
        difference=difference,
        cost_ratio=float(both[unit].mean()) / base if base > 0 else nan,
        cost_unit="USD" if priced else "tokens",
    )


def paired_table(results: pd.DataFrame) -> pd.DataFrame:
    """Every pair of arms per task and length, with Holm over all pairs of one task.

    Differences are arm minus against, in points of score (0 to 1).
    """
    rows = []
    for _, task in results.groupby("task", sort=False):
        found = []
        for _, cell in task.groupby("target_tokens", sort=True):
            pairs = combinations(cell["arm"].drop_duplicates(), 2)
            found += [c for a, b in pairs if (c := compare(cell, b, a))]
        adjusted = stats.holm([c.difference.p for c in found])
        rows += [_row(c, p, len(found)) for c, p in zip(found, adjusted, strict=True)]
    return pd.DataFrame(rows)


def _row(c: Comparison, p_holm: float, family: int) -> dict[str, object]:
    d = c.difference
    return {
        "task": c.task,
        "target_tokens": c.target_tokens,
        "arm": c.arm,
        "against": c.against,
        "difference": d.interval.mean,
        "low": d.interval.low,
        "high": d.interval.high,
        "p": d.p,
        "p_holm": p_holm,
        "comparisons": family,
        "test": d.test,
        "effect_size": d.effect_size,
        "shared_samples": c.shared,
        "arm_samples": c.own_samples[0],
        "against_samples": c.own_samples[1],
        "contexts": d.interval.contexts,
        "cost_ratio": c.cost_ratio,
        "cost_unit": c.cost_unit,
        "smallest_resolvable": stats.smallest_resolvable(d.spread, family),
        "contexts_for_5_points": stats.contexts_needed(d.spread, family),
    }
