"""Simulated results for the analysis tests: random numbers, no model was asked anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlm_eval.analysis.load import Run, combine, complete
from rlm_eval.journal.tables import CALL_COLUMNS, RESULT_COLUMNS
from rlm_eval.records import SCHEMA_VERSION

METHODS = ("direct", "rag_bm25", "summarize_map_reduce", "rlm")
#: Chance of a right answer and tokens read, per method, at the shortest length.
SKILLS = {"direct": 0.6, "rag_bm25": 0.45, "summarize_map_reduce": 0.5, "rlm": 0.7}
SUBCALLS = {"rlm": 6}
NO_CALLS = pd.DataFrame(columns=list(CALL_COLUMNS))


def simulate(
    *,
    contexts: int = 8,
    questions: int = 5,
    lengths: tuple[int, ...] = (2048, 8192),
    methods: tuple[str, ...] = METHODS,
    skills: dict[str, float] | None = None,
    subcalls: dict[str, int] | None = None,
    repeats: int = 1,
    failures: float = 0.05,
    pending: float = 0.0,
    priced: bool = False,
    scripted: bool = False,
    run_id: str = "simulated",
    model: str = "simulated-model",
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, calls) with the columns a run writes. Right answers share a context effect."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    chance = SKILLS | (skills or {})
    means = SUBCALLS if subcalls is None else subcalls
    for step, length in enumerate(lengths):
        for context in range(contexts):
            shift = rng.normal(0, 0.1)
            for question in range(questions):
                ease = rng.normal(0, 0.1)
                for method in methods:
                    drop = 0.03 if method.startswith("rlm") else 0.12
                    p = np.clip(chance[method] - drop * step + shift + ease, 0.02, 0.98)
                    for repeat in range(repeats):
                        key = f"{run_id}-{length}-{context}-{question}-{method}-{repeat}"
                        row = _row(rng, key, p, failures, pending)
                        row |= {
                            "run_id": run_id,
                            "model": model,
                            "sub_model": model,
                            "scripted": scripted,
                            "method": method,
                            "sample_id": f"s{length}-{context}-{question}",
                            "context_id": f"c{length}-{context}",
                            "question_group": "counting" if question % 2 else "user",
                            "knobs": json.dumps({"depth": round(question / max(1, questions), 2)}),
                            "repeat": repeat,
                            "target_tokens": length,
                            "length_tokens": length - 17,
                            "constant_score": float(rng.choice([0.0, 0.3, 1.0])),
                        }
                        subs = int(rng.poisson(means.get(method, 0)))
                        made = _calls(rng, key, subs, length, model, priced)
                        calls += made
                        rows.append(row | _sums(made, priced))
    return pd.DataFrame(rows), pd.DataFrame(calls)


def _row(
    rng: np.random.Generator, key: str, p: float, failures: float, pending: float
) -> dict[str, Any]:
    outcome, luck = "answered", rng.random()
    if luck < pending:
        outcome = "provider_error"
    elif luck < pending + failures:
        outcome = str(rng.choice(["no_answer", "budget_exceeded", "context_overflow"]))
    scored = outcome == "answered"
    correct = bool(rng.random() < p)
    score = 1.0 if correct else float(rng.choice([0.0, 0.75**3]))
    return {
        "result_key": key,
        "task": "aggregation",
        "prompt": "default",
        "protocol": "repl",
        "truncated_tokens": 0,
        "outcome": outcome,
        "score": score if scored else None,
        "score_rule": "strict:number",
        "skill": None,
        "correct": correct if scored else None,
        "answer": ("7" if correct else "4") if scored else None,
        "gold": json.dumps(["7"]),
        "question": f"How many lines of {key} carry the label <b>positive</b>?",
        "iterations": 1,
        "depth_reached": 1,
        "last_subcall_used": None,
        "code_errors": 0,
        "evidence_recall": None,
        "judge_cost_usd": 0.0,
        "lm_s": 1.0,
        "sandbox_s": 0.1,
        "sandbox_level": "none",
        "error": "" if scored else f"{outcome}: simulated",
        "schema_version": SCHEMA_VERSION,
    }


def _calls(
    rng: np.random.Generator, key: str, subs: int, length: int, model: str, priced: bool
) -> list[dict[str, Any]]:
    made = []
    for i in range(1 + subs):
        prompt = int(rng.lognormal(np.log(length / (4 if subs else 1)), 0.4))
        made.append(
            {
                "call_id": f"{key}/{i}",
                "parent_call_id": f"{key}/0" if i else None,
                "result_key": key,
                "role": "sub" if i else "root",
                "depth": 1 if i else 0,
                "model": model,
                "endpoint": "simulated",
                "prompt_sha256": "0" * 64,
                "prompt_tokens": prompt,
                "cached_tokens": prompt // 3,
                "completion_tokens": 20,
                "reasoning_tokens": 0,
                "cost_usd": prompt * 1e-6 if priced else None,
                "latency_s": float(rng.lognormal(0, 0.5)),
                "attempt": 1,
                "cached_response": False,
                "from_repl": bool(i),
                "finish_reason": "stop",
                "usage_estimated": False,
                "started_at": 1_763_800_000.0 + len(made),
                "error": "",
                "thought_chars": 0,
                "written_tokens": 0,
                "reused_tokens": 0,
                "list_usd": prompt * 1e-6 if priced else None,
                "own_usd": prompt * 1e-6 if priced else None,
            }
        )
    return made


def _sums(made: list[dict[str, Any]], priced: bool) -> dict[str, Any]:
    sums = {f: sum(c[f] for c in made) for f in TOKENS}
    sums |= {"calls": len(made), "subcalls": len(made) - 1}
    usd = {f: sum(c[f] for c in made) if priced else None for f in USD}
    return usd | sums | {"wall_s": sum(c["latency_s"] for c in made)}


def write_run(folder: Path, config: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A run directory as the harness leaves it, with a trajectory for every result."""
    results, calls = simulate(**settings)
    results = results[list(RESULT_COLUMNS)].astype(dict(RESULT_COLUMNS))
    calls = calls.assign(restart=1)[list(CALL_COLUMNS)].astype(dict(CALL_COLUMNS))
    (folder / "trajectories").mkdir(parents=True)
    results.to_parquet(folder / "results.parquet")
    calls.to_parquet(folder / "calls.parquet")
    if config is not None:  # JSON is YAML
        (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps({"code_revision": "abc123"}))
    for key in results["result_key"]:
        _trajectory(folder / "trajectories" / f"{key}.jsonl", key)
    return folder


def _trajectory(path: Path, key: str) -> None:
    code, hostile = "print(context[:100])", "<script>window.broken = 1</script>"
    events: list[dict[str, Any]] = [
        {"type": "turn", "depth": 0, "iteration": 1, "call_id": f"{key}/0",
         "reply": f"```repl\n{code}\n```", "prompt_tokens": 12, "completion_tokens": 1},
        {"type": "call", "call_id": f"{key}/1", "parent_call_id": f"{key}/0", "role": "sub",
         "depth": 1, "prompt": hostile, "reply": "<b>7</b>"},
        {"type": "block", "depth": 0, "iteration": 1, "code": code, "output": hostile,
         "output_chars": 34, "error": None, "seconds": 0.01, "callback_seconds": 0.0},
        {"type": "unheard_of", "payload": [1, 2]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(e) + "\n" for e in events))


def handmade(rows: list[dict[str, Any]], config: dict[str, Any] | None = None) -> pd.DataFrame:
    """A frame as ``load_results`` gives it, from rows that say only what matters.

    Every row needs method, sample_id, context_id and either ``correct`` or another outcome.
    """
    filled = []
    for i, row in enumerate(rows):
        base = _row(np.random.default_rng(0), f"key{i}", 0.5, 0.0, 0.0)
        base |= dict.fromkeys(COUNTS, 0) | {"run_id": "handmade", "model": "m", "sub_model": "m"}
        base |= {"scripted": False, "question_group": "g", "knobs": "{}", "repeat": 0}
        base |= {"target_tokens": 1000, "length_tokens": 990, "constant_score": None}
        base |= {"wall_s": 1.0}
        if "correct" in row:
            base |= {"outcome": "answered", "score": float(row["correct"])}
        else:
            base |= {"score": None, "correct": None, "answer": None}
        filled.append(base | dict.fromkeys(USD, row.get("cost_usd")) | row)
    path, calls, config = Path("handmade"), NO_CALLS, config or {}
    results = complete(path, pd.DataFrame(filled), calls, config, {})
    return combine([Run(path, results, calls, config, {})])


TOKENS = (
    *("prompt_tokens", "cached_tokens", "reused_tokens", "completion_tokens", "thought_chars"),
)
COUNTS = (*TOKENS, "calls", "subcalls")
USD = ("cost_usd", "list_usd", "own_usd")
