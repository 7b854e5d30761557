"""The report's answers: the list of them, their long texts and their trajectories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.analysis import trajectory
from rlm_eval.analysis.arms import marks
from rlm_eval.analysis.budgets import overspent
from rlm_eval.analysis.report_files import as_json, plain, put, put_bundles

#: Characters of a text, and of a question, in the list; the whole of a longer one stands in a
#: bundle, and the list's row says in which.
SHORT, QUESTION = 400, 4000
CUT = " … (cut)"
#: What samples.js says of a sample, and of an answer to it; there ``sample`` and ``arm`` are
#: numbers into its lists of samples and arms.
SAMPLE_FIELDS = (
    "sample_id", "task", "target_tokens", "question_group", "context_id", "length_tokens",
    "constant_score", "question", "gold", "knobs",
)  # fmt: skip
ROW_FIELDS = (
    "repeat", "outcome", "points", "right", "answer", "error", "iterations", "subcalls",
    "tokens", "cost_usd", "wall_s", "truncated_tokens", "code_errors", "evidence_recall",
    "over", "result_key",
)  # fmt: skip
CALL_FIELDS = (
    "call_id", "parent_call_id", "role", "depth", "prompt_tokens", "cached_tokens",
    "completion_tokens", "cost_usd", "latency_s", "attempt", "cached_response", "error", "reply",
)  # fmt: skip
Whole = dict[str, dict[str, str]]


def write_samples(results: pd.DataFrame, calls: pd.DataFrame, data: Path) -> None:
    """Write ``samples.js``, the bundles of trajectories, ``t/0.js`` …, and of texts, ``x/0.js`` …
    ``calls`` have their replies."""
    trees = put_bundles(data, "t", _trees(results, calls))
    first = results.drop_duplicates("sample_id")
    gold = first["gold"].map(lambda g: " | ".join(map(str, json.loads(g))))
    samples, whole = _cut(first.assign(gold=gold), SAMPLE_FIELDS, "sample_id")
    over = overspent(results, calls)
    rows, long = _cut(results.assign(over=over.astype(int)), ROW_FIELDS, "result_key")
    texts = _write_texts(results, whole, long, data)
    arms, shown_as = results["arm"].astype(str).unique().tolist(), marks(results)
    places = {sample: i for i, sample in enumerate(first["sample_id"])}
    names = {arm: i for i, arm in enumerate(arms)}
    told = zip(
        results["sample_id"], results["arm"], results["result_key"], trees, rows, strict=True
    )
    listed = {
        "sample_fields": ["texts", *SAMPLE_FIELDS],
        "samples": [
            [texts.get(str(sample)), *row]
            for sample, row in zip(first["sample_id"], samples, strict=True)
        ],
        "arms": [shown_as[arm] for arm in arms],
        "arm_keys": arms,
        "row_fields": ["sample", "arm", "bundle", "texts", *ROW_FIELDS],
        "rows": [
            [places[sample], names[arm], tree, texts.get(str(key)), *row]
            for sample, arm, key, tree, row in told
        ],
        "text_files": 1 + max(texts.values(), default=-1),
    }
    put(data, "samples", as_json(plain(listed)))


def _cut(frame: pd.DataFrame, fields: tuple[str, ...], key: str) -> tuple[list[list[Any]], Whole]:
    """The rows with their texts cut, and what was cut as it was, by ``key`` and field."""
    whole: Whole = {}
    columns = []
    for name in fields:
        most = QUESTION if name == "question" else SHORT
        column = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        for i, value in enumerate(column):
            if isinstance(value, str) and len(value) > most:
                whole.setdefault(str(frame[key].iloc[i]), {})[name] = value
                column[i] = value[:most] + CUT
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)], whole


def _write_texts(results: pd.DataFrame, samples: Whole, rows: Whole, data: Path) -> dict[str, int]:
    """The bundle of each sample's and answer's long texts; those of one sample stand together."""
    keys: list[str] = []
    for sample, answers in results.groupby("sample_id", sort=False)["result_key"]:
        keys += [str(sample), *answers.astype(str)]
    whole = samples | rows
    long = [key for key in keys if key in whole]
    numbers = put_bundles(data, "x", ((key, as_json(whole[key])) for key in long))
    return dict(zip(long, numbers, strict=True))


def _trees(results: pd.DataFrame, calls: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each answer's key, and its trajectory as JSON."""
    groups = _by_result(calls)
    for key, folder in zip(results["result_key"], results["run_dir"], strict=True):
        events = trajectory.read_events(Path(folder) / "trajectories" / f"{key}.jsonl")
        nodes = trajectory.tree(events, groups.get(str(key), []))
        yield str(key), as_json([node.plain() for node in nodes])


def _by_result(calls: pd.DataFrame) -> Mapping[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    if not calls.empty:
        ordered = calls.sort_values("started_at", kind="stable")
        columns = [ordered[f].astype(object).where(ordered[f].notna(), None) for f in CALL_FIELDS]
        for key, *values in zip(ordered["result_key"], *columns, strict=True):
            groups.setdefault(key, []).append(dict(zip(CALL_FIELDS, values, strict=True)))
    return groups
