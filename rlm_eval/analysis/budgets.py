"""Score against the cap per sample, over runs of several budgets, and what of the cap was spent."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from rlm_eval.analysis import arms, stats
from rlm_eval.analysis.arms import competitors
from rlm_eval.records import content_hash

#: Kinds of caps, and what of an answer is held against each.
SPENT = {"tokens": "tokens", "usd": "cost_usd", "calls": "calls", "seconds": "wall_s"}
CELL = ["task", "target_tokens", "unit"]


def capped(results: pd.DataFrame) -> pd.DataFrame:
    """The answers given under one cap per sample, with its ``unit`` and ``cap``. ``arm`` then
    names a method over all its budgets, spent up to or not; ``results_arm`` is what it was."""
    found = results["budget"].str.extract(r"^(?P<unit>\w+)=(?P<cap>[\d.e+-]+)$")
    frame = results.assign(unit=found["unit"], cap=found["cap"].astype("float64"))
    frame = frame[frame["unit"].isin(list(SPENT))].reset_index(drop=True)
    settings = frame["arm_config"].map(_without_budget)
    ids = settings.map(content_hash)
    frame = frame.assign(arm_config=settings, arm_id=ids, results_arm=frame["arm"])
    return arms.by_method(frame)


def _without_budget(arm_config: str) -> str:
    kept = {
        key: value
        for key, value in arms.flatten(json.loads(arm_config)).items()
        if key != "budget" and key.rpartition(".")[2] != "matched"
    }
    return json.dumps(kept, sort_keys=True)


def budget_table(results: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """One row per task, length, method and cap: the score, and what was spent of the cap.

    ``mean_score`` with limits as in ``summarize``. ``spent`` is the mean per question in the cap's
    ``unit``, ``spent_share`` that over the cap, ``spent_p95`` a quantile, ``over`` how many
    questions spent more than the cap and ``stopped`` how many ended as budget_exceeded. Calls of
    an embedding model are left out: an index serves all questions on a context, and the run pays
    for it. Calls are those sent, each attempt one, as the cap counts them. ``matched``: the method
    was to spend up to the cap. ``constant_score`` is the best constant's mean on the same rows,
    null where it is not known for all. Empty without such runs; other controls take no part.
    """
    frame, rows = _spenders(results, calls), []
    by = [*CELL, "arm", "method", "matched", "cap"]
    for keys, group in frame.groupby(by, sort=False):
        score = stats.proportion(group["points"], group["unit_id"].astype(str).tolist())
        row: dict[str, Any] = dict(zip(by, keys, strict=True))
        row |= {"results_arm": group["results_arm"].iloc[0], "asked": len(group)}
        row["scripted"] = bool(group["scripted"].any())
        row |= score.columns("mean_score", "score")
        row["constant_score"] = group["constant_score"].mean(skipna=False)
        row |= {"spent": group["spent"].mean(), "spent_p95": group["spent"].quantile(0.95)}
        row["spent_share"] = row["spent"] / row["cap"]
        row["over"] = int(group["over"].sum())
        row["stopped"] = int((group["outcome"] == "budget_exceeded").sum())
        rows.append(row)
    return pd.DataFrame(rows)


def overspent(results: pd.DataFrame, calls: pd.DataFrame) -> pd.Series[bool]:
    """Whether each answer is one that :func:`budget_table` counts as ``over``."""
    frame = _spenders(results, calls)
    return results["result_key"].isin(frame.loc[frame["over"], "result_key"])


def _spenders(results: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """The answers under a cap that count, with what each ``spent`` and whether that is ``over``."""
    frame = competitors(capped(results))
    frame = frame[frame["asked"]]
    spent = pd.Series(0.0, frame.index)
    for unit, rows in frame.groupby("unit", sort=False):
        took = rows[SPENT[str(unit)]].astype("float64")
        if unit == "tokens":
            took -= rows["embed_tokens"]
        elif unit != "seconds" and not calls.empty:
            sent = calls[~calls["cached_response"].astype(bool)]
            index = sent["role"] == "embed"
            if unit == "calls":
                counted = sent[~index & (sent["role"] != "judge")].groupby("result_key").size()
                took = rows["result_key"].map(counted).fillna(0.0).astype("float64")
            else:
                embedding = sent[index].groupby("result_key")["cost_usd"].sum()
                took -= rows["result_key"].map(embedding).fillna(0.0).astype("float64")
        spent[rows.index] = took
    return frame.assign(spent=spent, over=spent > frame["cap"] * (1 + 1e-9))
