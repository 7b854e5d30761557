"""The two tables of a run, derived from its journal: results.parquet and calls.parquet.

Cost, tokens and call counts of a result are sums over its calls, never counters of their own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.evidence import recall
from rlm_eval.journal import attempt_id, read_events
from rlm_eval.records import SCORED

if TYPE_CHECKING:
    import pandas as pd

RESULT_COLUMNS: Mapping[str, str] = {
    "run_id": "string",
    "result_key": "string",
    "task": "string",
    "question_group": "string",
    "knobs": "string",
    "method": "string",
    "prompt": "string",
    "protocol": "string",
    "model": "string",
    "sub_model": "string",
    "scripted": "bool",
    "sample_id": "string",
    "context_id": "string",
    "repeat": "int64",
    "target_tokens": "int64",
    "length_tokens": "int64",
    "truncated_tokens": "int64",
    "outcome": "string",
    "score": "float64",
    "score_lenient": "float64",
    "score_exact": "float64",
    "constant_score": "float64",
    "skill": "float64",
    "correct": "boolean",
    "answer": "string",
    "gold": "string",
    "question": "string",
    "iterations": "int64",
    "calls": "int64",
    "subcalls": "int64",
    "depth_reached": "int64",
    "last_subcall_used": "boolean",
    "code_errors": "int64",
    "context_chars_read_by_lm": "int64",
    "evidence_recall": "float64",
    "prompt_tokens": "int64",
    "cached_tokens": "int64",
    "completion_tokens": "int64",
    "cost_usd": "float64",
    "judge_cost_usd": "float64",
    "wall_s": "float64",
    "lm_s": "float64",
    "sandbox_s": "float64",
    "sandbox_level": "string",
    "error": "string",
    "schema_version": "int64",
}
CALL_COLUMNS: Mapping[str, str] = {
    "call_id": "string",
    "parent_call_id": "string",
    "result_key": "string",
    "restart": "int64",
    "role": "string",
    "depth": "int64",
    "model": "string",
    "endpoint": "string",
    "prompt_sha256": "string",
    "prompt_tokens": "int64",
    "cached_tokens": "int64",
    "completion_tokens": "int64",
    "reasoning_tokens": "int64",
    "cost_usd": "float64",
    "latency_s": "float64",
    "attempt": "int64",
    "cached_response": "bool",
    "from_repl": "bool",
    "finish_reason": "string",
    "usage_estimated": "bool",
    "started_at": "float64",
    "error": "string",
}


def tables(run_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, calls) of a run, from its journal."""
    return tables_of(read_events(run_dir, types=("result", "call")))


def tables_of(events: Iterable[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, calls) of ``result`` and ``call`` events. A result that was asked again counts by
    its last answer and that restart's calls; ``calls`` has those of every restart."""
    import pandas as pd

    results: dict[str, Mapping[str, Any]] = {}
    attempts: dict[tuple[str, int], Mapping[str, Any]] = {}
    for event in events:
        if event["type"] == "result":
            results[event["key"]] = event
        else:
            call = {**event, "error": _storable(event["error"])}
            attempts.setdefault(attempt_id(event), call)
    calls = list(attempts.values())
    sums = _sums(calls)
    rows = [_result_row(e, sums.get((e["key"], e["restart"]), _Sums())) for e in results.values()]
    result_frame = pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).astype(dict(RESULT_COLUMNS))
    call_frame = pd.DataFrame(calls, columns=list(CALL_COLUMNS)).astype(dict(CALL_COLUMNS))
    order = ["target_tokens", "context_id", "method", "sample_id", "repeat", "result_key"]
    return result_frame.sort_values(order, ignore_index=True), call_frame


def export(run_dir: Path) -> None:
    """Write both tables into the run's folder."""
    for name, frame in zip(("results", "calls"), tables(run_dir), strict=True):
        write_table(frame, run_dir / name)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write ``path``.parquet and ``path``.csv, each beside its goal and then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        frame.to_parquet(temporary, index=False)
        temporary.replace(path.with_name(f"{path.name}.parquet"))
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
        temporary.replace(path.with_name(f"{path.name}.csv"))
    finally:
        temporary.unlink(missing_ok=True)


class _Sums:
    """What the calls of one restart of a result add up to. One unpriced call leaves the whole
    cost unknown. A judge's calls are no part of the method's: only what they cost is kept."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.subcall_ids: set[str] = set()
        self.depth = 0
        self.prompt = self.cached = self.completion = 0
        self.cost: float | None = 0.0
        self.judge_cost: float | None = 0.0
        self.lm_s = 0.0

    def add(self, call: Mapping[str, Any]) -> None:
        price = call["cost_usd"]
        if call["role"] == "judge":
            self.judge_cost = _plus(self.judge_cost, price)
            return
        self.cost = _plus(self.cost, price)
        self.ids.add(call["call_id"])
        if call["from_repl"]:
            self.subcall_ids.add(call["call_id"])
        self.depth = max(self.depth, call["depth"])
        self.prompt += call["prompt_tokens"]
        self.cached += call["cached_tokens"]
        self.completion += call["completion_tokens"]
        self.lm_s += call["latency_s"]


def _plus(sum_so_far: float | None, price: float | None) -> float | None:
    return None if sum_so_far is None or price is None else sum_so_far + price


def _sums(calls: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], _Sums]:
    out: dict[tuple[str, int], _Sums] = {}
    for call in calls:
        out.setdefault((call["result_key"], call["restart"]), _Sums()).add(call)
    return out


def _result_row(event: Mapping[str, Any], sums: _Sums) -> dict[str, Any]:
    sample, answer, score = event["sample"], event["answer"], event["score"]
    scored = answer["outcome"] in SCORED and score is not None
    constant = event["constant_score"]
    value = score["value"] if scored else None
    known = value is not None and constant is not None and constant < 1
    return {
        "run_id": event["run_id"],
        "result_key": event["key"],
        "task": sample["task"],
        "question_group": sample["question_group"],
        "knobs": json.dumps(sample["knobs"], sort_keys=True),
        "method": event["method"],
        "prompt": event["prompt"],
        "protocol": answer["protocol"],
        "model": event["model"],
        "sub_model": event["sub_model"],
        "scripted": event["scripted"],
        "sample_id": sample["id"],
        "context_id": sample["context_id"],
        "repeat": event["repeat"],
        "target_tokens": sample["target_tokens"],
        "length_tokens": sample["length_tokens"],
        "truncated_tokens": answer["truncated_tokens"],
        "outcome": answer["outcome"],
        "score": value,
        "score_lenient": score["lenient"] if scored else None,
        "score_exact": score.get("exact") if scored else None,
        "constant_score": constant,
        "skill": (value - constant) / (1 - constant) if known else None,
        "correct": score["correct"] if scored else None,
        "answer": answer["text"] and _storable(answer["text"]),
        "gold": _storable(json.dumps(sample["gold"], ensure_ascii=False)),
        "question": _storable(sample["question"]),
        "iterations": answer["iterations"],
        "calls": len(sums.ids),
        "subcalls": len(sums.subcall_ids),
        "depth_reached": sums.depth,
        "last_subcall_used": answer["last_subcall_used"],
        "code_errors": answer["code_errors"],
        "context_chars_read_by_lm": answer["context_chars_read_by_lm"],
        "evidence_recall": _evidence_recall(sample, answer),
        "prompt_tokens": sums.prompt,
        "cached_tokens": sums.cached,
        "completion_tokens": sums.completion,
        "cost_usd": sums.cost,
        "judge_cost_usd": sums.judge_cost,
        "wall_s": event["wall_s"],
        "lm_s": sums.lm_s,
        "sandbox_s": answer["sandbox_s"],
        "sandbox_level": answer["sandbox_level"],
        "error": _storable(answer["error"]),
        "schema_version": event["schema_version"],
    }


def _evidence_recall(sample: Mapping[str, Any], answer: Mapping[str, Any]) -> float | None:
    """None where the task knows of no evidence or the method does not choose what is read."""
    shown = answer.get("spans_read")
    return None if shown is None else recall(sample.get("evidence", ()), map(tuple, shown))


def _storable(text: str) -> str:
    """``text`` as a table can hold it: half of a surrogate pair, which JSON and Python allow, is
    U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
