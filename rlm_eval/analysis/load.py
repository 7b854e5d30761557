"""Runs read back from disk. Nothing here needs the harness that wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.analysis import arms
from rlm_eval.analysis.find import find_runs
from rlm_eval.analysis.reading import read_json, read_table, read_yaml
from rlm_eval.errors import ConfigError
from rlm_eval.records import PENDING, SCORED, content_hash

#: Columns of the frame that :func:`load_results` returns. The first part is ``results.parquet``
#: (one row per sample × arm × repeat), the part after ``schema_version`` is added on loading.
COLUMNS: dict[str, str] = {
    "run_id": "the run that asked",
    "result_key": "hash of sample, arm, prompt, models and repeat; the key into calls.parquet",
    "task": "task name",
    "question_group": "kind of question within the task",
    "knobs": "JSON: what the sample was made with (depth, hops, seed, …)",
    "method": "name of the arm",
    "prompt": "name of its prompt",
    "protocol": "how the arm spoke with the model",
    "model": "model of the root calls; '' for a method that asks none",
    "sub_model": "model of the sub-calls; '' likewise",
    "scripted": "True: a scripted model took part; not evidence about any language model",
    "sample_id": "hash of the sample's content",
    "context_id": "hash of the long input; samples share it",
    "repeat": "0, 1, … for repeated answers to one sample",
    "target_tokens": "length asked for, in tokens of the task's tokenizer",
    "length_tokens": "length of the context, same tokens",
    "truncated_tokens": "tokens of the context the arm left out",
    "outcome": "answered, forced (both scored), no_answer, budget_exceeded, context_overflow, "
    "invalid_answer, or provider_error and sandbox_error, which are owed",
    "score": "official score in [0, 1]; null unless scored",
    "score_lenient": "score by the stated looser rule; null unless scored",
    "score_exact": "exact match, where the official score is a judge's verdict",
    "constant_score": "what the best constant answer would score on this sample",
    "skill": "(score − constant_score) / (1 − constant_score); null unless scored, or if the "
    "constant is unknown or always right; a group's is that of its means",
    "correct": "official score counts as right; null unless scored",
    "answer": "final answer; null unless scored",
    "gold": "JSON list of reference answers",
    "question": "the question",
    "iterations": "turns of the root model",
    "calls": "requests and cache hits, retries counted once",
    "subcalls": "calls begun from REPL code, cache hits included",
    "depth_reached": "deepest call",
    "last_subcall_used": "the run ended by its protocol after a sub-call; null: no sub-call",
    "code_errors": "code blocks that raised",
    "context_chars_read_by_lm": "characters of the context shown to a model",
    "evidence_recall": "share of the evidence that was shown to a model; empty where the task "
    "knows of none or the method does not choose what is read",
    "prompt_tokens": "sum over calls",
    "cached_tokens": "of these, taken from the server's prompt cache",
    "completion_tokens": "sum over calls",
    "cost_usd": "US dollars; null = unpriced",
    "judge_cost_usd": "US dollars for the judge's calls, which no other column counts; null = "
    "unpriced",
    "wall_s": "seconds from question to answer",
    "lm_s": "seconds waiting for models",
    "sandbox_s": "seconds in model-written code",
    "sandbox_level": "isolation reached",
    "error": "what went wrong",
    "schema_version": "version of this table",
    "asked": "True unless the row is owed",
    "points": "score, with 0 for the arm's own failures; null where owed",
    "right": "correct as 1 or 0, with 0 for the arm's own failures; null where owed",
    "tokens": "prompt_tokens + completion_tokens",
    "run_dir": "folder the row was read from",
    "started_at": "Unix time of the first call; null if none",
    "budget": "caps per sample that were set, as 'tokens=20000'; '' when none",
    "matched": "True: methods were told to spend up to the cap (budget.matched)",
    "code_revision": "hash of the sources that asked; '' when unknown",
    "arm_id": "hash of all that makes an arm what it is",
    "arm_config": "JSON of what arm_id hashes",
    "arm_kind": "rlm, alternative, control or mixed",
    "arm_family": "rlm, direct, retrieval, summaries, code, router, control or other",
    "arm": "method, with the settings that tell it from namesakes of other runs",
}


@dataclass(frozen=True)
class Run:
    """One run directory: its two tables, its resolved config and its environment record."""

    path: Path
    results: pd.DataFrame
    calls: pd.DataFrame
    config: dict[str, Any]
    environment: dict[str, Any]

    @property
    def demonstration(self) -> bool:
        return bool(self.config.get("demonstration", False))


def load_results(source: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """All results of a run directory, a ``results.parquet``, a glob of either, or several of
    these, as one frame.

    Columns: :data:`COLUMNS`, in that order. A result that stands in several runs (same
    ``result_key``) is kept once. Raises ConfigError when nothing matches or a table lacks a column.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    paths = find_runs(*sources)
    if not paths:
        raise ConfigError(
            "no run was named; give the directory that a run printed as its last line"
        )
    return combine([load_run(path) for path in paths])[list(COLUMNS)]


def combine(runs: list[Run]) -> pd.DataFrame:
    """The results of several runs as one frame, arms named apart, controls last. Of one result in
    several runs the first that is not owed counts."""
    frames = [_completed(run) for run in runs]
    results = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    owed = (~results["asked"]).to_numpy().argsort(kind="stable")
    kept = results.iloc[owed].drop_duplicates("result_key").index
    results = results.loc[kept.sort_values()].reset_index(drop=True)
    control = results["arm_kind"] == "control"
    results = results.iloc[control.to_numpy().argsort(kind="stable")].reset_index(drop=True)
    return results.assign(arm=arms.names(results))


def load_run(path: Path) -> Run:
    """One run directory. ``calls``, ``config`` and ``environment`` are empty where not stored."""
    table = path / "results.parquet"
    if not table.is_file():
        raise ConfigError(f"{path} holds no results.parquet; is it a finished run's directory?")
    results = read_table(table)
    required = list(COLUMNS)[: list(COLUMNS).index("schema_version") + 1]
    missing = [c for c in required if c not in results.columns and c not in _SINCE]
    if missing:
        raise ConfigError(f"{table} lacks the column(s) {', '.join(missing)}")
    calls, config, environment = (path / n for n in _COMPANIONS)
    return Run(
        path=path,
        results=_with_newer_columns(results),
        calls=_last_episodes(read_table(calls)) if calls.is_file() else pd.DataFrame(),
        config=read_yaml(config) if config.is_file() else {},
        environment=read_json(environment) if environment.is_file() else {},
    )


#: Columns that older tables lack, and what they hold then: no judge had been paid.
_SINCE = {"skill": None, "evidence_recall": None, "score_exact": None, "judge_cost_usd": 0.0}
_NUMBERS = (
    *("score", "score_lenient", "score_exact", "constant_score", "evidence_recall"),
    *("cost_usd", "judge_cost_usd"),
)
#: The protocol of methods that ask no model.
NO_MODEL = "no model"
_COMPANIONS = ("calls.parquet", "config.yaml", "environment.json")


def _with_newer_columns(results: pd.DataFrame) -> pd.DataFrame:
    missing = {column: value for column, value in _SINCE.items() if column not in results.columns}
    return results.assign(**missing)


def _last_episodes(calls: pd.DataFrame) -> pd.DataFrame:
    """Without the calls of earlier tries at a result, which its row does not count either."""
    if "restart" not in calls.columns:
        return calls
    last = calls.groupby("result_key")["restart"].transform("max")
    return calls[calls["restart"] == last].reset_index(drop=True)


def _completed(run: Run) -> pd.DataFrame:
    frame = _without_model(_in_config_order(run))
    asked = ~frame["outcome"].isin(list(PENDING))
    scored = frame["outcome"].isin(list(SCORED))
    for column in _NUMBERS:
        frame[column] = frame[column].astype("float64")  # a column of nulls only has no type
    correct = frame["correct"].astype("boolean").astype("Float64").astype("float64")
    frame["asked"] = asked
    frame["points"] = frame["score"].where(scored, 0.0).where(asked)
    frame["right"] = correct.where(scored, 0.0).where(asked)
    frame["tokens"] = frame["prompt_tokens"] + frame["completion_tokens"]
    frame["run_dir"] = str(run.path)
    frame["started_at"] = _starts(run, frame["result_key"])
    frame["budget"] = _budget(run.config)
    frame["code_revision"] = _revision(run.environment)
    frame["matched"] = bool((run.config.get("budget") or {}).get("matched", False))
    for column, values in _arm_columns(run, frame).items():
        frame[column] = values
    return frame


def _without_model(frame: pd.DataFrame) -> pd.DataFrame:
    """No model's name, and not ``scripted``, for methods that ask none, whatever the run's is."""
    alone = set(frame.loc[frame["protocol"] == NO_MODEL, "method"])
    rows = frame["method"].isin(alone)
    return frame.assign(
        model=frame["model"].where(~rows, ""),
        sub_model=frame["sub_model"].where(~rows, ""),
        scripted=frame["scripted"].astype(bool) & ~rows,
    )


def _in_config_order(run: Run) -> pd.DataFrame:
    """Rows by arm, in the order of the configuration; arms it doesn't name come last."""
    methods = run.config.get("method")
    places = {str(m): i for i, m in enumerate(methods)} if isinstance(methods, dict) else {}
    place = run.results["method"].map(lambda m: places.get(str(m), len(places)))
    return run.results.iloc[place.to_numpy().argsort(kind="stable")].reset_index(drop=True)


def _starts(run: Run, keys: pd.Series[str]) -> pd.Series[float]:
    if run.calls.empty:
        return pd.Series(float("nan"), index=keys.index)
    return keys.map(run.calls.groupby("result_key")["started_at"].min()).astype("float64")


def _budget(config: dict[str, Any]) -> str:
    caps = (config.get("budget") or {}).get("sample") or {}
    return ", ".join(f"{k}={v}" for k, v in caps.items() if v is not None and not k.startswith("_"))


def _revision(environment: dict[str, Any]) -> str:
    return str(environment.get("code_revision") or "")


def _params(config: dict[str, Any], role: str) -> str:
    model = config.get(role)
    params = model.get("params") if isinstance(model, dict) else None
    return json.dumps(params, sort_keys=True, default=str) if params else ""


def _further_models(run: Run) -> dict[str, dict[str, str]]:
    """Per method, the models it spoke to in roles that no column names, its judge included."""
    found: dict[str, dict[str, str]] = {}
    if run.calls.empty:
        return found
    calls = run.calls[~run.calls["role"].isin(["root", "sub"])]
    methods = run.results.set_index("result_key")["method"]
    spoken = calls.assign(method=calls["result_key"].map(methods))
    for (method, role), models in spoken.groupby(["method", "role"])["model"]:
        names = found.setdefault(str(method), {})
        names[f"{role}_model.name"] = ", ".join(sorted(models.unique()))
        if params := _params(run.config, f"{role}_model"):
            names[f"{role}_model.params"] = params
    return found


def _arm_columns(run: Run, frame: pd.DataFrame) -> dict[str, list[str]]:
    """What an arm is, per row. Without a config, arms of two runs stay apart."""
    methods = run.config.get("method") or {}
    columns: dict[str, list[str]] = {c: [] for c in COLUMNS if c in _OF_ARM}
    shared = {"budget": _budget(run.config), "revision": _revision(run.environment)[:8]}
    shared |= {f"{role}.params": _params(run.config, role) for role in ("model", "sub_model")}
    if not run.config:
        shared["run"] = run.path.name
    further = _further_models(run)
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    # Not the protocol: that is what happened, and one arm may have used several.
    fields = ["method", "prompt", "model", "sub_model"]
    for row in frame[fields].fillna("").astype(str).itertuples(index=False):
        key = tuple(row)
        if key not in seen:
            method, prompt, model, sub_model = key
            settings = methods.get(method) if isinstance(methods, dict) else None
            settings = settings if isinstance(settings, dict) else {}
            arm = {"prompt": prompt, "model": model, "sub_model": sub_model} | shared | settings
            arm |= further.get(method, {})
            what = json.dumps(arm, sort_keys=True, default=str)
            named = method, str(settings.get("_target_", ""))
            seen[key] = content_hash(arm), what, arms.kind(*named), arms.family(*named)
        for column, value in zip(columns, seen[key], strict=True):
            columns[column].append(value)
    return columns


_OF_ARM = frozenset({"arm_id", "arm_config", "arm_kind", "arm_family"})
