"""What each arm scored and spent, per task and length."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import get_args

import pandas as pd

from rlm_eval.analysis import stats
from rlm_eval.analysis.load import readings
from rlm_eval.analysis.paired import CELL
from rlm_eval.analysis.text import Column
from rlm_eval.records import Outcome, content_hash

BEST_CONSTANT = "best_constant"
OUTCOMES: tuple[str, ...] = get_args(Outcome)
#: Means over the questions asked, and which of them get quantiles as well.
MEANS = ("subcalls", "calls", "prompt_tokens", "cached_tokens", "completion_tokens", "wall_s")
QUANTILES = ("subcalls", "tokens", "wall_s", "cost_usd")


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """One row per task, length and arm, and a ``best_constant`` row where constants are known.

    ``results`` is a frame of ``load_results``. Columns: ``n`` distinct samples, ``n_contexts``,
    ``sample_set`` (equal where two arms have answers to the same samples), ``repeats``; ``asked``
    (answers that count) = ``completed`` (scored) + own failures, ``pending`` (provider and sandbox
    errors, left out of everything). ``accuracy`` and ``mean_score`` are over asked, own failures
    0, with cluster-aware 95 % limits ``*_low`` and ``*_high`` (null under 4 contexts);
    ``accuracy_completed`` and ``score_completed`` over completed. ``constant_score`` is the best
    constant's mean on the same rows, ``skill`` with limits follows from both. ``subcalls`` …
    ``cost_usd`` are means per question asked, ``*_p50`` and ``*_p95`` quantiles; cost is null
    when any question is unpriced; ``judge_cost_usd`` is what grading one took, which is no part
    of ``cost_usd``. ``score_rule`` names the rule of ``mean_score``; what others say is in a column
    ``score_NAME`` each (own failures 0, null where no answer has it). ``evidence_recall`` is a mean
    over the answers that have one, else null. ``score_unfiltered`` is the mean score over the
    ``asked_unfiltered`` answers to samples on which no arm of the task and length met a content
    filter; null where none did. ``judged`` answers have several verdicts of a judge, up to
    ``judge_verdicts``, which differ on a share of them, ``judge_flip_rate``. ``outcome_*`` count
    rows. Accuracy, scores, skill and recall are shares (1 = 100 %). Controls come last.
    """
    by = ["task", "target_tokens", "model", "sub_model", "budget", "arm", "method", "arm_kind"]
    rows = []
    met = results[results["outcome"] == "content_filter"]
    filtered = {cell: set(ids) for cell, ids in met.groupby(CELL)["sample_id"]}
    for keys, group in results.groupby(by, sort=False, dropna=False):
        rows.append(dict(zip(by, keys, strict=True)) | _arm_row(group))
        rows[-1] |= _unfiltered(group[group["asked"]], "points", filtered.get(keys[:2]))
    for cell, group in results.groupby(CELL, sort=False):
        samples = group.drop_duplicates("sample_id")
        for row in _constant_row(samples):
            rows.append(row | _unfiltered(samples, "constant_score", filtered.get(cell)))
    table = pd.DataFrame(rows)
    return table.sort_values(["task", "target_tokens"], kind="stable", ignore_index=True)


def with_readings(columns: Sequence[Column], summary: pd.DataFrame) -> list[Column]:
    """A summary's columns with what other rules say after the score and its limits."""
    at = [column.name for column in columns].index("score")
    names = {name: name.removeprefix("score_").replace("_", " ") for name in readings(summary)}
    kind = columns[at - 1].kind
    others = [Column(c, kind, f"{name} %", more=True, if_any=True) for c, name in names.items()]
    return [*columns[: at + 1], *others, *columns[at + 1 :]]


def sample_set(asked: pd.DataFrame) -> str:
    """A short hash of which samples have an answer that counts: equal hash, equal samples."""
    return content_hash(sorted(set(asked["sample_id"].astype(str))))[:8]


#: What the marks of :func:`sets` mean.
NOT_SAME = "Not the same samples in every row: compare paired figures only."


def sets(summary: pd.DataFrame) -> pd.Series[str]:
    """``set 2``, ``set 3``, … for the rows of a task and length whose arms have answers to other
    samples than most there, equal where they have them to the same; empty for the rest."""
    found = dict.fromkeys(summary.index, "")
    for _, cell in summary.groupby(["task", "target_tokens"], sort=False):
        numbers = {name: i + 1 for i, name in enumerate(cell["sample_set"].value_counts().index)}
        found |= {i: f"set {numbers[s]}" for i, s in cell["sample_set"].items() if numbers[s] > 1}
    return pd.Series(found, dtype=object)


def _arm_row(group: pd.DataFrame) -> dict[str, object]:
    asked = group[group["asked"]]
    completed = asked[asked["score"].notna()]
    units = asked["unit_id"].factorize()[0]
    row: dict[str, object] = {
        "scripted": bool(group["scripted"].any()),
        "n": group["sample_id"].nunique(),
        "n_contexts": group["context_id"].nunique(),
        "sample_set": sample_set(asked),
        "repeats": group["repeat"].nunique(),
        "asked": len(asked),
        "completed": len(completed),
        "pending": len(group) - len(asked),
    }
    row |= stats.proportion(asked["right"], units).columns("accuracy")
    row["accuracy_completed"] = completed["right"].mean()
    row |= stats.proportion(asked["points"], units).columns("mean_score", "score")
    row["score_completed"] = completed["score"].mean()
    row["score_rule"] = ", ".join(sorted(set(group["score_rule"].str.partition(":")[0])))
    for name in readings(group):
        known = asked[name].where(asked["score"].notna(), 0.0)
        row[name] = known.mean() if asked[name].notna().any() else nan
    constants = asked["constant_score"]
    row["constant_score"] = constants.mean(skipna=False)
    row |= stats.skill(asked["points"], constants, units).columns("skill")
    row |= {column: asked[column].mean() for column in MEANS}
    row["evidence_recall"] = asked["evidence_recall"].mean()
    priced = len(asked) > 0 and bool(asked["cost_usd"].notna().all())
    row["cost_usd"] = asked["cost_usd"].mean(skipna=False)
    row["judge_cost_usd"] = asked["judge_cost_usd"].sum(min_count=len(asked)) / max(1, len(asked))
    for column in QUANTILES:
        known = asked[column] if column != "cost_usd" or priced else pd.Series(dtype="float64")
        row |= {f"{column}_p50": known.quantile(0.5), f"{column}_p95": known.quantile(0.95)}
    if (verdicts := completed["judge_verdicts"]).notna().any():
        flips = completed.loc[verdicts > 1, "judge_dissents"] > 0
        row |= {"judge_verdicts": verdicts.max(), "judged": len(flips)}
        row["judge_flip_rate"] = flips.mean()
    counts = group["outcome"].value_counts()
    return row | {f"outcome_{name}": int(counts.get(name, 0)) for name in OUTCOMES}


def _unfiltered(asked: pd.DataFrame, column: str, filtered: set[str] | None) -> dict[str, object]:
    """The second number beside the score, of the answers that count; null without a filter."""
    rest = asked[~asked["sample_id"].isin(filtered or ())]
    return {
        "score_unfiltered": rest[column].mean() if filtered else nan,
        "asked_unfiltered": len(rest),
    }


def _constant_row(samples: pd.DataFrame) -> list[dict[str, object]]:
    known = samples[samples["constant_score"].notna()]
    if known.empty:
        return []
    score = stats.proportion(known["constant_score"], known["unit_id"].tolist())
    row = {column: known[column].iloc[0] for column in CELL} | {"arm_kind": "control"}
    row |= dict.fromkeys(("model", "sub_model", "budget"), "")
    row |= dict.fromkeys(("arm", "method"), BEST_CONSTANT)
    row |= dict.fromkeys(("n", "asked", "completed"), len(known)) | {"pending": 0, "repeats": 1}
    row |= score.columns("mean_score", "score")
    row |= dict.fromkeys(("score_completed", "constant_score"), score.mean)
    row |= {"n_contexts": known["context_id"].nunique(), "sample_set": sample_set(known)}
    row["skill"] = 0.0 if score.mean < 1 else nan
    return [row | {"scripted": False, "cost_usd": 0.0}]  # it asks no model
