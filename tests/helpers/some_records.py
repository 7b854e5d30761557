"""Small calls and results for tests of the journal and the tables."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlm_eval.journal.journal import Journal, read_events
from rlm_eval.journal.tables import write_tables
from rlm_eval.records import Answer, Call, Outcome, Result, Sample, Score

SAMPLE = Sample.of(
    task="needle",
    context_id="c0",
    question="which?",
    gold=("seven", "7"),
    scorer="exact",
    question_group="plain",
    target_tokens=1000,
    length_tokens=990,
    knobs={"depth": 0.5, "seed": 3},
)


def some_call(call_id: str = "k1", **changes: Any) -> Call:
    fields: dict[str, Any] = {
        "call_id": call_id,
        "parent_call_id": None,
        "result_key": "r1",
        "restart": 0,
        "role": "root",
        "depth": 0,
        "model": "m",
        "endpoint": "e",
        "prompt_sha256": "0" * 64,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 10,
        "reasoning_tokens": 0,
        "cost_usd": 0.25,
        "latency_s": 2.0,
        "attempt": 1,
        "cached_response": False,
        "from_repl": False,
        "finish_reason": "stop",
        "usage_estimated": False,
        "started_at": 1000.0,
    }
    return Call(**(fields | changes))


def some_result(key: str = "r1", outcome: Outcome = "answered", **changes: Any) -> Result:
    scored = outcome in ("answered", "forced")
    fields: dict[str, Any] = {
        "key": key,
        "restart": 0,
        "run_id": "needle-1",
        "sample": SAMPLE,
        "method": "rlm",
        "prompt": "compact",
        "model": "m",
        "sub_model": "m",
        "scripted": False,
        "repeat": 0,
        "answer": Answer("seven" if scored else None, outcome, trajectory=({"type": "turn"},)),
        "score": Score(0.75, "seven", {"official": 1.0}) if scored else None,
        "constant_score": 0.5,
        "wall_s": 3.0,
    }
    return Result(**(fields | changes))


def written(run_dir: Path) -> list[str]:
    """The types of the events, sessions left out."""
    return [e["type"] for e in read_events(run_dir) if e["type"] != "session"]


def write_one(run_dir: Path, key: str = "r1", outcome: str = "answered", restart: int = 0) -> None:
    with Journal(run_dir) as journal:
        journal.begin(key, restart)
        journal.call(some_call(f"call-{key}-{restart}", result_key=key, restart=restart), "seven")
        journal.result(some_result(key, outcome, restart=restart))  # type: ignore[arg-type]


def synced(changed: pytest.MonkeyPatch) -> list[bytes]:
    """What the files held that are seen on the disk from now on, each as that was asked for."""
    held, fsync = list[bytes](), os.fsync

    def noted(file: int) -> None:
        held.append(os.pread(file, os.fstat(file).st_size, 0))
        fsync(file)

    changed.setattr(os, "fsync", noted)
    return held


def tables(run_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, calls) as the journal in ``run_dir`` gives them; what lies beside it stays."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(read_events(run_dir, ("result", "call")), Path(folder))
        results, calls = (
            pd.read_parquet(Path(folder) / f"{name}.parquet") for name in ("results", "calls")
        )
    return results, calls
