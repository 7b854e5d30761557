"""What the journals of a results folder hold already: results to keep, money spent."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import read
from rlm_eval.journal.journal import (
    PACKED,
    Journal,
    attempt_id,
    damage,
    has_journal,
    opened,
    read_events,
    stored,
    whole,
)
from rlm_eval.ledger import Spend
from rlm_eval.records import PENDING, union

#: How the folder of a run's shards ends, which lies beside the run's own.
SHARDS = ".shards"
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """``done`` result keys, ``restarts`` begun per key, what this run has ``spent``, and for how
    many ``seconds`` it was at work, in each of its processes from where the models were open to the
    end of that one's last call. What it spent are the calls made in this folder and those of
    results copied from its shards or its whole (``reused_from`` names the run), not what other runs
    paid. ``damage`` is what is to be said of its journal."""

    done: frozenset[str]
    restarts: Mapping[str, int]
    spent: Spend
    seconds: float
    damage: str = ""


def run_name(folder: Path) -> str:
    """The name of the run in ``folder``, or of the run whose shard it is."""
    return folder.parent.stem if folder.parent.suffix == SHARDS else folder.name


def results_folder(run_dir: Path) -> Path:
    """The folder in which the run in ``run_dir``, or the run whose shard it is, lies."""
    return run_dir.parent.parent if run_dir.parent.suffix == SHARDS else run_dir.parent


def past_of(run_dir: Path) -> Past:
    """Read the journal of ``run_dir``; an empty past when there is none."""
    done: set[str] = set()
    restarts: dict[str, int] = {}
    sessions: list[tuple[float, float]] = []
    asked: set[tuple[str, int]] = set()
    spent, own = Spend(), run_name(run_dir)
    bad: list[str] = []
    for event in whole(read_events(run_dir, bad=bad)):
        kind = event["type"]
        if kind == "session":
            sessions.append((event["started_at"], event["started_at"]))
        elif kind == "model" and sessions and "opened_at" in event:
            sessions[-1] = event["opened_at"], event["opened_at"]
        elif kind == "begin":
            restarts[event["key"]] = max(restarts.get(event["key"], 0), event["restart"] + 1)
        elif kind == "result" and _is_done(event):
            done.add(event["key"])
        elif kind == "call":
            if event.get("reused_from", own) != own or attempt_id(event) in asked:
                continue
            asked.add(attempt_id(event))
            if not event["cached_response"]:
                tokens = event["prompt_tokens"] + event["completion_tokens"]
                spent += Spend(1, tokens, event["cost_usd"])
            if sessions:
                begun, last = sessions[-1]
                sessions[-1] = begun, max(last, event["started_at"] + event["latency_s"])
    # Shards that were joined worked side by side: what they have in common counts once.
    seconds = sum(last - begun for begun, last in union(sessions))
    return Past(frozenset(done), restarts, spent, seconds, damage(run_dir, bad))


def finished_beside(run_dir: Path, wanted: Collection[str]) -> dict[str, Path]:
    """The ``wanted`` results that runs beside ``run_dir`` have finished, or shards that were never
    joined, each with the folder that has it. The same key is the same measurement: sample, arm,
    prompt, models, sources. A journal of another schema has nothing to reuse."""
    found: dict[str, Path] = {}
    top = results_folder(run_dir)
    shards = [d for d in top.glob(f"[!.]*{SHARDS}") if not has_journal(d.with_suffix(""))]
    beside = [top, *shards, top / f"{run_name(run_dir)}{SHARDS}"]
    for other in sorted(filter(has_journal, (f for b in beside for f in b.glob("[!.]*")))):
        missing = set(wanted) - found.keys()
        if other != run_dir and missing:
            with contextlib.suppress(ConfigError, PermissionError):
                results = read_events(other, types=("result",))
                done = missing & {event["key"] for event in results if _is_done(event)}
                if done:
                    found |= dict.fromkeys(done & past_of(other).done, other)
    return found


def reuse(
    found: Mapping[str, Path], past: Past, journal: Journal, own: Mapping[str, Event]
) -> None:
    """Copy results of other runs with their calls, as restarts after those that were begun here
    already: a row sums the calls of its last one. ``reused_from`` names the run that paid; ``own``
    has, by key, what this run says of a result itself."""
    for other in dict.fromkeys(found.values()):
        for event in read_events(other, types=("begin", "call", "result")):
            key = event["result_key"] if event["type"] == "call" else event["key"]
            if found.get(key) == other:
                if event["type"] == "result":
                    copy_trajectory(key, other, journal.path.parent)
                    event.update(own.get(key, {}))
                restart = event["restart"] + past.restarts.get(key, 0)
                paid = event.get("reused_from", run_name(other))
                journal.append({**event, "restart": restart, "reused_from": paid})


def copy_trajectory(key: str, source: Path, to: Path) -> None:
    """Copy a result's trajectory from one run's folder to another's, where it has one."""
    copied = _trajectory(to, key)
    if path := stored(_trajectory(source, key)):
        copied.parent.mkdir(exist_ok=True)
        with opened(path) as file, copied.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def read_trajectory(run_dir: Path, key: str) -> list[dict[str, Any]]:
    """The events of a result's trajectory; none where it has none. Raises ConfigError for a file
    that can't be read."""
    path = stored(_trajectory(run_dir, key))
    if path is None:
        return []
    return read(path, lambda p: [json.loads(line) for line in opened(p).read().splitlines()])


def _trajectory(run_dir: Path, key: str) -> Path:
    """Its file. Raises ConfigError where it leads elsewhere: records come from anyone."""
    path = run_dir / "trajectories" / f"{key}.jsonl"
    files = path.parent, path, path.with_name(path.name + PACKED)
    if Path(key).name != key or any(file.is_symlink() for file in files):
        raise ConfigError(f"{path} is a link, or {key!r} is no result's key")
    return path


def _is_done(event: Event) -> bool:
    return event["answer"]["outcome"] not in PENDING
