"""Runs as logs of inspect_ai, an arm each, and such logs read as runs.

Needs the extra ``inspect``. What inspect has no field for is in a sample's ``metadata`` under the
names of results.parquet, so that an exported arm comes back as it was.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.errors import ConfigError
from rlm_eval.journal.chats import Conversation, conversations
from rlm_eval.journal.environment import read
from rlm_eval.journal.tables import CALL_COLUMNS, RESULT_COLUMNS, frame_of
from rlm_eval.records import NO_GOLD, PENDING, SCHEMA_VERSION, SCORED, Role, content_hash

#: The protocol of a log's rows.
LOG = "inspect_ai"
#: How the files end.
ENDINGS = (".eval", ".json")
#: The columns that a sample's own fields hold.
_FIELDS = {"sample_id", "repeat", "question", "gold", "answer", "score", "wall_s"}
#: Further columns of numbers, of a run that has them: see ``journal/tables.py``.
_READINGS = ("score_", "judge_")
#: Of a call, what is a sum over a log's calls.
_SUMS = (
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "written_tokens"),
    *("cost_usd", "list_usd", "own_usd"),
)
#: What inspect writes for a grade in letters.
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
#: Of a row that is neither right nor wrong.
_NEITHER = {"outcome": "provider_error", "answer": None, "score": None, "correct": None}


def _inspect() -> Any:
    try:
        import inspect_ai.event
        import inspect_ai.log
        import inspect_ai.model
        import inspect_ai.scorer
    except ImportError:
        raise ConfigError('inspect_ai is missing: pip install -e ".[inspect]"') from None
    return inspect_ai


def write_logs(run_dir: Path, out: Path, config: Mapping[str, Any]) -> list[Path]:
    """One ``ARM.eval`` for each arm of a run in the folder ``out``."""
    ai = _inspect()
    results = pd.read_parquet(run_dir / "results.parquet")
    calls = pd.read_parquet(run_dir / "calls.parquet")
    last = calls.groupby("result_key")["restart"].transform("max")
    by_result = dict(list(calls[calls["restart"] == last].groupby("result_key")))
    none = calls.iloc[:0]
    chats: dict[str, list[Conversation]] = defaultdict(list)
    for chat in conversations(run_dir):
        chats[chat.result["key"]].append(chat)
    paths = []
    for method, rows in results.groupby("method", sort=False):
        samples = [
            _sample(ai, row, by_result.get(row["result_key"], none), chats[row["result_key"]])
            for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
        ]
        made = _log(ai.log, str(method), rows, samples, config)
        own = calls[calls["result_key"].isin(rows["result_key"])]
        if len(own):
            begun, ended = own["started_at"].min(), (own["started_at"] + own["latency_s"]).max()
            made.stats = ai.log.EvalStats(started_at=_when(begun), completed_at=_when(ended))
        name = re.sub(r"[^\w .@+-]", "_", str(method)).lstrip(".")
        paths.append(out / f"{name}.eval")
        ai.log.write_eval_log(made, str(paths[-1]))
    return paths


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).isoformat()


def _log(
    log: Any, method: str, rows: pd.DataFrame, samples: Sequence[Any], config: Mapping[str, Any]
) -> Any:
    first = rows.iloc[0]
    points = rows["score"].fillna(0.0)[~rows["outcome"].str.endswith("_error")]
    rule = str(first["score_rule"]).partition(":")[0]
    mean = float(points.mean()) if len(points) else 0.0
    metrics = {"mean": log.EvalMetric(name="mean", value=mean)}
    spec = log.EvalSpec(
        created=datetime.now(UTC).isoformat(),
        run_id=str(first["run_id"]),
        task=str(first["task"]),
        task_args=dict(config.get("task") or {}),
        solver=method,
        solver_args=dict((config.get("method") or {}).get(method) or {}),
        dataset=log.EvalDataset(name=str(first["task"]), samples=rows["sample_id"].nunique()),
        model=str(first["model"]) or "none",
        config=log.EvalConfig(epochs=int(rows["repeat"].max()) + 1),
        metadata={"arm": method, "scripted": bool(rows["scripted"].any())},
    )
    scores = [log.EvalScore(name=rule, scorer=rule, metrics=metrics)]
    scored = int(rows["score"].notna().sum())
    return log.EvalLog(
        status="success",
        eval=spec,
        results=log.EvalResults(total_samples=len(rows), completed_samples=scored, scores=scores),
        samples=list(samples),
    )


def _sample(
    ai: Any, row: Mapping[Any, Any], calls: pd.DataFrame, chats: Sequence[Conversation]
) -> Any:
    rule, score = str(row["score_rule"]).partition(":")[0], ai.scorer.Score
    own = calls[calls["role"] != "judge"]
    usage = {str(name): _usage(ai, group) for name, group in own.groupby("model", sort=False)}
    root = next((chat for chat in chats if chat.role == "root"), None)
    answer = row["answer"] or ""
    asked = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": answer}]
    failed = ai.log.EvalError(message=row["error"] or "", traceback="", traceback_ansi="")
    return ai.log.EvalSample(
        id=row["sample_id"],
        epoch=row["repeat"] + 1,
        input=row["question"],
        target=json.loads(row["gold"]),
        messages=_messages(ai.model, root.messages if root else asked),
        output=ai.model.ModelOutput.from_content(row["model"] or "none", answer),
        scores=None if row["score"] is None else {rule: score(value=row["score"], answer=answer)},
        metadata={k: v for k, v in row.items() if k not in _FIELDS and v is not None}
        | {"embed_models": sorted({*own["model"][own["role"] == "embed"]})},
        events=list(_events(ai, chats)),
        model_usage=usage,
        total_time=row["wall_s"],
        error=failed if row["outcome"].endswith("_error") else None,
    )


def _messages(model: Any, messages: Sequence[Mapping[str, str]]) -> list[Any]:
    kinds = {"system": model.ChatMessageSystem, "assistant": model.ChatMessageAssistant}
    return [kinds.get(m["role"], model.ChatMessageUser)(content=m["content"]) for m in messages]


def _events(ai: Any, chats: Sequence[Conversation]) -> Iterator[Any]:
    """Each reply as a call of a model, conversation by conversation, the root's first."""
    for chat in chats:
        for i, said in enumerate(chat.messages):
            if i < chat.first or said["role"] != "assistant":
                continue
            yield ai.event.ModelEvent(
                model=chat.model or "none",
                role=chat.role,
                input=_messages(ai.model, chat.messages[:i]),
                tools=[],
                tool_choice="none",
                config=ai.model.GenerateConfig(),
                output=ai.model.ModelOutput.from_content(chat.model or "none", said["content"]),
            )


def _usage(ai: Any, calls: pd.DataFrame) -> Any:
    prompt, cached = int(calls["prompt_tokens"].sum()), int(calls["cached_tokens"].sum())
    completion = int(calls["completion_tokens"].sum())
    cost = calls["cost_usd"].sum(skipna=False)
    return ai.model.ModelUsage(
        input_tokens=prompt - cached,
        input_tokens_cache_read=cached,
        output_tokens=completion,
        total_tokens=prompt + completion,
        reasoning_tokens=int(calls["reasoning_tokens"].sum()),
        total_cost=None if pd.isna(cost) else float(cost),
    )


def read_log(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The results and calls of a log, as a run's tables have them, and its configuration as far as
    it says one, with the models that graded where that was not its own alone. A sample's id, where
    it is that of ``rlm-eval export``, pairs it with our arms; a sample that ended in an error, was
    invalidated, or has no score where others have one, is pending. Raises ConfigError for what is
    no log with samples."""
    ai = _inspect()
    found = read(path, lambda p: ai.log.read_eval_log(str(p)))
    if not found.samples:
        raise ConfigError(f"{path} has no samples: a log that is read as an arm needs them")
    spec = found.eval
    arm = str((spec.metadata or {}).get("arm") or spec.solver or spec.task)
    rows, calls = [], []
    for sample in found.samples:
        row, of_sample = _read_sample(sample, arm, spec)
        if sample.invalidation is not None:
            row |= _NEITHER | {"error": "invalidated in the log"}
        rows.append(row)
        calls += of_sample
    rule = next((row["score_rule"] for row in rows if row["score"] is not None), "")
    for row in rows if rule else ():
        if row["score"] is None and row["outcome"] == "answered":
            row |= _NEITHER | {"error": "unscored in the log"}
        if row["outcome"] in PENDING and row["score_rule"] == NO_GOLD:
            row["score_rule"] = rule
    settings = dict(spec.solver_args or {})
    graders = {call["model"] for call in calls if call["role"] == "judge"}
    if graders - {spec.model}:
        settings["judge_model.name"] = ", ".join(sorted(graders))
    config = {"method": {arm: settings}}
    return frame_of(rows, RESULT_COLUMNS), frame_of(calls, CALL_COLUMNS), config


def _read_sample(sample: Any, arm: str, spec: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    known = dict(sample.metadata) if "result_key" in sample.metadata else {}
    key = known.get("result_key") or content_hash([spec.eval_id, str(sample.id), sample.epoch])
    name, score = next(iter((sample.scores or {}).items()), ("", None))
    value = None if score is None else score.value
    unscored = value is None or value != value  # NaN is inspect's own "unscored"
    value = None if unscored else _graded(value, spec.task)
    failed = sample.error is not None
    answer = score.answer if score is not None and score.answer else sample.output.completion
    outcome = known.get("outcome") or ("provider_error" if failed else "answered")
    target = [sample.target] if isinstance(sample.target, str) else list(sample.target)
    graded, used = _by_scorers(sample.events), sample.model_usage
    judge = {model: _call(key, model, usage, "judge") for model, usage in graded.items()}
    roles: dict[str, Role] = dict.fromkeys(known.pop("embed_models", ()), "embed")
    calls = [
        _call(key, model, usage, roles.get(model, "root"))
        for model, usage in used.items()
        if usage != graded.get(model)
    ]
    for call in calls:
        if (its_part := judge.get(call["model"])) is not None:
            for column in _SUMS:
                known_sums = None not in (call[column], its_part[column])
                call[column] = call[column] - its_part[column] if known_sums else None
    length = sample.metadata.get("target_tokens")
    length = length if isinstance(length, int) else 0
    row: dict[str, Any] = {
        **_nothing(RESULT_COLUMNS),
        "run_id": spec.run_id,
        "task": spec.task,
        "knobs": "{}",
        "method": arm,
        "protocol": LOG,
        "model": spec.model,
        "sub_model": spec.model,
        "context_id": str(sample.metadata.get("context_id", sample.id)),
        "target_tokens": length,
        "length_tokens": length,
        "outcome": outcome,
        "score_rule": name or NO_GOLD,
        "calls": len(_model_calls(sample.events, by_scorers=False)) or len(calls),
        "prompt_tokens": sum(call["prompt_tokens"] for call in calls),
        "cached_tokens": sum(call["cached_tokens"] for call in calls),
        "completion_tokens": sum(call["completion_tokens"] for call in calls),
        **dict.fromkeys(("cost_usd", "list_usd", "own_usd"), _cost(calls)),
        "judge_cost_usd": None if known else _cost(judge.values()) if judge else 0.0,
        **dict.fromkeys(("lm_s", "sandbox_s"), 0.0),
        **{k: v for k, v in known.items() if k in RESULT_COLUMNS or k.startswith(_READINGS)},
        "result_key": key,
        "sample_id": str(sample.id),
        "repeat": sample.epoch - 1,
        "score": None if failed else value,
        "correct": None if failed or value is None else value == 1.0,
        "answer": answer if outcome in SCORED else None,
        "gold": json.dumps(target, ensure_ascii=False),
        "question": sample.input if isinstance(sample.input, str) else sample.input[-1].text,
        "wall_s": sample.total_time or 0.0,
        "error": sample.error.message if failed else known.get("error") or "",
        "schema_version": SCHEMA_VERSION,
    }
    return row, [*calls, *judge.values()]


def _model_calls(events: Sequence[Any], *, by_scorers: bool) -> list[Any]:
    """The events of models' calls that scorers made, or else those of all others."""
    spans: dict[str | None, bool] = {}
    for event in events:
        if event.event == "span_begin":
            spans[event.id] = event.type == "scorer" or spans.get(event.parent_id, False)
    asked = [event for event in events if event.event == "model"]
    return [event for event in asked if spans.get(event.span_id, False) is by_scorers]


def _by_scorers(events: Sequence[Any]) -> dict[str, Any]:
    """What scorers' calls took of each model: a log counts them with the solver's."""
    found: dict[str, Any] = {}
    for event in _model_calls(events, by_scorers=True):
        if (usage := event.output.usage) is not None and event.cache != "read":
            found[event.model] = found[event.model] + usage if event.model in found else usage
    return found


def _cost(calls: Iterable[Mapping[str, Any]]) -> float | None:
    costs = [call["cost_usd"] for call in calls]
    return sum(costs) if costs and None not in costs else None


#: What a table's cell holds that nothing is known of, by its type; any other is null.
_NOTHING = {"string": "", "int64": 0, "bool": False}


def _nothing(columns: Mapping[str, str]) -> dict[str, Any]:
    return {name: _NOTHING.get(kind) for name, kind in columns.items()}


def _graded(value: Any, task: str) -> float:
    """A grade between 0 and 1. Raises ConfigError for one that is none."""
    grade = _LETTERS.get(value) if isinstance(value, str) else value
    if not isinstance(grade, int | float) or not 0 <= grade <= 1:
        told = "a log that is read as an arm has one grade between 0 and 1, or C, P, I, N, a sample"
        raise ConfigError(f"the log of {task} has the grade {value!r}: {told}")
    return float(grade)


def _call(key: str, model: str, usage: Any, role: str) -> dict[str, Any]:
    """All calls of a model in one sample, as one: a log sums them up."""
    cached, written = usage.input_tokens_cache_read or 0, usage.input_tokens_cache_write or 0
    return {
        **_nothing(CALL_COLUMNS),
        "call_id": f"{key}-{model}-{role}",
        "parent_call_id": None,
        "result_key": key,
        "role": role,
        "model": model,
        "prompt_tokens": usage.input_tokens + cached + written,
        "cached_tokens": cached,
        "completion_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens or 0,
        "written_tokens": written,
        **dict.fromkeys(("cost_usd", "list_usd", "own_usd"), usage.total_cost),
        "latency_s": 0.0,
        "started_at": None,
        "attempt": 1,
    }
