"""A run's methods at work again, answered by its recorded replies: the engine, without a model.

Prompts, REPL, sub-calls, retries, budgets and scoring all happen again; only what a model or its
provider said, and took for it, comes from the journal. With the same sources the tables are the
same in all but times. Results that are owed, and the tries before the last, are left out. A cap on
seconds is not met again: a replay is quicker. Vectors are not recorded: an embedding model on this
machine is asked again. A reply that a key was cut out of is not what the method saw; its result may
come out otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.assemble import Parts, all_work, assemble
from rlm_eval.compose import recorded_tree
from rlm_eval.config import check_config
from rlm_eval.errors import ConfigError
from rlm_eval.journal import Journal, has_journal, read_events
from rlm_eval.ledger import Ledger
from rlm_eval.models.door import ModelDoor, RetryPolicy
from rlm_eval.models.local import LocalModel
from rlm_eval.models.protocol import ChatModel, ModelInfo, Price
from rlm_eval.models.recorded import (
    NotRecordedError,
    RecordedAnswers,
    RecordedModel,
    failures_of,
)
from rlm_eval.records import OWED, Result, Role
from rlm_eval.runner import RunInfo, Runner, Work
from rlm_eval.sealing import seal_of
from rlm_eval.tables import tables

if TYPE_CHECKING:
    import pandas as pd

Event = Mapping[str, Any]
#: Columns that tell of this machine, this moment or the run's folder, not of the engine.
_NOT_COMPARED = frozenset({"run_id", "wall_s", "lm_s", "sandbox_s", "sandbox_level"})
_NOT_COMPARED_CALLS = frozenset({"latency_s", "started_at"})
#: The record says when there was no other attempt.
_AS_RECORDED = RetryPolicy(attempts=1_000_000, base_s=0.0, deadline_s=float("inf"))


@dataclass(frozen=True)
class Redriven:
    """``results`` were driven again; ``different`` has, per result key, what is not as recorded."""

    results: int
    left_out: int
    different: Mapping[str, str]

    @property
    def same(self) -> bool:
        return not self.different


@dataclass(frozen=True)
class Record:
    """What the journal says: the ``results`` that are finished, by key in the order they ended,
    and how many are ``owed``; what each one's last episode was answered; each role's model as it
    was when it was open; token ``counts`` by model and prompt hash."""

    results: Mapping[str, Event]
    owed: int
    answers: Mapping[str, RecordedAnswers]
    models: Mapping[str, Event]
    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, run_dir: Path) -> Record:
        last: dict[str, Event] = {}
        calls: dict[tuple[str, int], list[Event]] = {}
        models: dict[str, Event] = {}
        counts: dict[str, dict[str, int]] = {}
        for event in read_events(run_dir, types=("result", "call", "model", "count")):
            match event["type"]:
                case "result":
                    last[event["key"]] = event
                case "call":
                    calls.setdefault((event["result_key"], event["episode"]), []).append(event)
                case "model":
                    models[event["role"]] = event
                case "count":
                    counts.setdefault(event["model"], {})[event["prompt_sha256"]] = event["tokens"]
        done = {key: e for key, e in last.items() if e["answer"]["outcome"] not in OWED}
        failures = failures_of(event for events in calls.values() for event in events)
        answers = {
            key: RecordedAnswers(calls.get((key, event["episode"]), ()), failures)
            for key, event in done.items()
        }
        return cls(done, len(last) - len(done), answers, models, counts)


class _Quiet:
    """Nobody watches."""

    def finished(self, result: Result) -> None:
        """Nothing is shown before all is compared."""


def redrive(
    run_dir: Path, out: Path, allow_targets: Sequence[str] = (), any_revision: bool = False
) -> Redriven:
    """Drive the run in ``run_dir`` again, with a journal in ``out``, and compare the tables.

    Raises ConfigError where it can't be begun: other sources than recorded (unless
    ``any_revision``), sealed texts, no data for the task, a journal in ``out`` already.
    """
    if has_journal(out):
        raise ConfigError(f"--out={out} holds a journal already: name another folder")
    record = Record.of(run_dir)
    tree = {**recorded_tree(run_dir), "response_cache": None, "allow_targets": [*allow_targets]}
    parts = assemble(check_config(tree), check_models=False)
    try:
        _check(parts, record, run_dir, any_revision)
        if _embedding(parts) and parts.embedder is not None:
            parts.embedder.open()
        todo = _work(parts, record)
        failed = _drive(_without_models(parts, record), record, todo, out)
    finally:
        if parts.embedder is not None:
            parts.embedder.close()
        for arm in parts.arms:
            arm.method.close()
    return Redriven(len(todo), record.owed, _different(run_dir, out, record, failed))


def _check(parts: Parts, record: Record, run_dir: Path, any_revision: bool) -> None:
    revisions = {event["code_revision"] for event in record.results.values()}
    if not revisions:
        raise ConfigError(f"{run_dir} holds no finished result to drive again")
    if revisions != {parts.revision} and not any_revision:
        raise ConfigError(
            f"{run_dir} was made by the sources {', '.join(sorted(revisions))}{_git(run_dir)}, "
            f"these are {parts.revision}: check those out, or add --any-revision"
        )
    if seal_of(parts.task) is not None:
        raise ConfigError(f"the record of {parts.task.name} is sealed: it can't be driven again")
    embedding = _embedding(parts)
    if parts.embedder is not None and embedding:
        if parts.embedder.info.endpoint != "local":
            raise ConfigError(
                f"{', '.join(embedding)}: vectors are not recorded, and {parts.embedder.info.name} "
                "is not on this machine: these arms can't be driven again"
            )
        parts.embedder.check()


def _embedding(parts: Parts) -> list[str]:
    """The arms that ask for vectors."""
    return [arm.name for arm in parts.arms if "embed" in arm.method.roles]


def _git(run_dir: Path) -> str:
    path = run_dir / "environment.json"
    git = json.loads(path.read_text(encoding="utf-8")).get("git") if path.is_file() else None
    return f" (git {git['revision'][:10]}{', changed' if git['dirty'] else ''})" if git else ""


def _work(parts: Parts, record: Record) -> list[Work]:
    """The recorded results as work under their recorded keys, in the order they ended."""
    made = {
        (w.sample.id, w.arm.name, w.repeat): w for w in all_work(parts, list(parts.task.build()))
    }
    out = []
    for key, event in record.results.items():
        work = made.get((event["sample"]["id"], event["method"], event["repeat"]))
        if work is None:
            raise ConfigError(
                f"result {key} is about sample {event['sample']['id']}, which the task does not "
                "build (any more): its data or its sources are others"
            )
        out.append(replace(work, key=key, episode=event["episode"]))
    return out


def _without_models(parts: Parts, record: Record) -> Parts:
    """The parts with what the record knows of each model in its place."""
    models: dict[Role, ChatModel] = {}
    for role, model in parts.models.items():
        info, told = replace(model.info, limits=None), record.models.get(role)
        if told is not None:
            info = _info(told)
        counter = None if isinstance(model, LocalModel) else model
        models[role] = RecordedModel(info, record.counts.get(info.name, {}), counter)
    return replace(parts, models=models)


def _info(told: Event) -> ModelInfo:
    price = None if told["price"] is None else Price(**told["price"])
    return ModelInfo(
        told["name"],
        told["endpoint"],
        told["context_window"],
        price,
        told["simulated"],
        reasoning_tokens=told.get("reasoning_tokens", 0),
    )


def _drive(parts: Parts, record: Record, todo: Sequence[Work], out: Path) -> dict[str, str]:
    """Do the work, one result after the other; what could not even be judged, and why."""
    ledger = Ledger(parts.run_budget)
    sub_name = parts.models.get("sub", parts.root).info.name
    info = RunInfo(
        parts.run_id, out, parts.root.info.name, sub_name, parts.scripted, parts.revision
    )
    failed: dict[str, str] = {}
    with Journal(out) as journal:
        door = ModelDoor(
            parts.models,
            journal.call,
            temperature=parts.config["temperature"],
            retry=_AS_RECORDED,
            embedder=parts.embedder,
            recorded=record.answers.__getitem__,
        )
        for work in todo:
            runner = Runner(info, parts.task, door, ledger, parts.sample_budget, journal, _Quiet())
            try:
                runner.run([work], 1)
            except NotRecordedError as missing:
                failed[work.key] = str(missing)
    return failed


def _different(
    run_dir: Path, out: Path, record: Record, failed: Mapping[str, str]
) -> dict[str, str]:
    """What is not as recorded, per result key."""
    before, after = (_by_key(*tables(folder), record) for folder in (run_dir, out))
    different = dict(failed)
    for key in record.results:
        if key in failed:
            continue
        if key not in after:
            different[key] = "it did not end: a cap of the run was met before"
            continue
        (row, calls), (new_row, new_calls) = before[key], after[key]
        if NotRecordedError.__name__ in new_row["error"]:
            different[key] = new_row["error"]
            continue
        changes = [f"{c} {row[c]!r} → {new_row[c]!r}" for c in row if row[c] != new_row[c]]
        if calls != new_calls:
            changes.append(f"other calls ({len(calls)} → {len(new_calls)})")
        if changes:
            different[key] = ", ".join(changes)
    return different


def _by_key(
    results: pd.DataFrame, calls: pd.DataFrame, record: Record
) -> dict[str, tuple[dict[str, Any], list[tuple[str, ...]]]]:
    """Each result's row, and its last episode's calls, in the columns that are compared."""
    import pandas as pd

    told = calls.drop(columns=list(_NOT_COMPARED_CALLS))
    rows: dict[str, list[tuple[str, ...]]] = {}
    for call in told.astype("string").fillna("").to_dict("records"):
        event = record.results.get(call["result_key"])
        if event is not None and str(event["episode"]) == call["episode"]:
            rows.setdefault(call["result_key"], []).append(tuple(call.values()))
    kept = results.drop(columns=list(_NOT_COMPARED))
    return {
        row["result_key"]: (
            {str(c): None if pd.isna(v) else v for c, v in row.items()},
            sorted(rows.get(row["result_key"], [])),
        )
        for row in kept.to_dict("records")
    }


def print_comparison(done: Redriven) -> None:
    """What is not as recorded, then how many were driven again."""
    for key, what in done.different.items():
        print(f"{key}: {what}")
    same = done.results - len(done.different)
    left_out = f"; {done.left_out} owed ones left out" if done.left_out else ""
    print(f"{same} of {done.results} results are the same in all but times{left_out}")
