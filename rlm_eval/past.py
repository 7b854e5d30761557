"""What a run directory already holds: results to keep, restarts begun, money spent."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.journal import Journal, attempt_id, has_journal, read_events
from rlm_eval.ledger import Spend
from rlm_eval.records import PENDING


@dataclass(frozen=True)
class Past:
    """``done`` result keys, ``restarts`` begun per key, what this run itself has ``spent``
    (results taken over from other runs were paid there), and for how many ``seconds`` it was at
    work, from the start of each of its processes to the end of that one's last call."""

    done: frozenset[str]
    restarts: dict[str, int]
    spent: Spend
    seconds: float


def past_of(run_dir: Path) -> Past:
    """Read the journal of ``run_dir``; an empty past when there is none."""
    done: set[str] = set()
    restarts: dict[str, int] = {}
    sessions: list[tuple[float, float]] = []
    paid: set[tuple[str, int]] = set()
    spent = Spend()
    for event in read_events(run_dir):
        kind = event["type"]
        if kind == "session":
            sessions.append((event["started_at"], event["started_at"]))
        elif kind == "begin":
            restarts[event["key"]] = max(restarts.get(event["key"], 0), event["restart"] + 1)
        elif kind == "result" and _is_done(event):
            done.add(event["key"])
        elif kind == "call" and "taken_from" not in event and attempt_id(event) not in paid:
            paid.add(attempt_id(event))
            spent += _spend(event)
            if sessions:
                begun, last = sessions[-1]
                sessions[-1] = begun, max(last, event["started_at"] + event["latency_s"])
    seconds = sum(last - begun for begun, last in sessions)
    return Past(frozenset(done), restarts, spent, seconds)


def _is_done(event: Mapping[str, Any]) -> bool:
    return event["answer"]["outcome"] not in PENDING


def take_over(
    results_dir: Path, run_dir: Path, wanted: Set[str], past: Past, journal: Journal
) -> int:
    """Copy finished results with wanted keys, and their calls, from the runs beside this one.
    Returns how many."""
    beside = _finished_beside(results_dir, run_dir, set(wanted) - past.done)
    for other, found in beside.items():
        for event in _events_of(other, found):
            journal.copy({**event, "taken_from": other.name})
    return sum(map(len, beside.values()))


def left_to_measure(results_dir: Path, run_dir: Path, wanted: Set[str], past: Past) -> set[str]:
    """The wanted keys without a finished result, here and in the runs beside this one."""
    missing = set(wanted) - past.done
    return missing.difference(*_finished_beside(results_dir, run_dir, missing).values())


def _finished_beside(results_dir: Path, run_dir: Path, wanted: Set[str]) -> dict[Path, set[str]]:
    """Which of the ``wanted`` keys other runs have finished results for. The same key is the same
    measurement: sample, arm, prompt, models, code. A key is told of one run only."""
    missing = set(wanted)
    beside: dict[Path, set[str]] = {}
    for other in sorted(filter(has_journal, results_dir.glob("[!.]*"))):
        if other == run_dir or not missing:
            continue
        results = read_events(other, types=("result",))
        found = {e["key"] for e in results if _is_done(e)} & missing
        if found:
            beside[other] = found
            missing -= found
    return beside


def _events_of(run_dir: Path, keys: Set[str]) -> list[dict[str, Any]]:
    return [e for e in read_events(run_dir) if (e.get("result_key") or e.get("key")) in keys]


def _spend(event: dict[str, Any]) -> Spend:
    if event["cached_response"]:
        return Spend()
    tokens = event["prompt_tokens"] + event["completion_tokens"]
    return Spend(1, tokens, event["cost_usd"])
