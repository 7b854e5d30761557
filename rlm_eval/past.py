"""What a run directory already holds: results to keep, episodes begun, money spent."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.journal import FILE_NAME, Journal, read_events
from rlm_eval.ledger import Spend
from rlm_eval.records import OWED


@dataclass(frozen=True)
class Past:
    """``done`` result keys, ``episodes`` begun per key, and what this run itself has ``spent``
    (results taken over from other runs were paid there)."""

    done: frozenset[str]
    episodes: dict[str, int]
    spent: Spend
    seconds: float


def past_of(run_dir: Path) -> Past:
    """Read the journal of ``run_dir``; an empty past when there is none."""
    done: set[str] = set()
    episodes: dict[str, int] = {}
    spent, first, last = Spend(), None, 0.0
    for event in read_events(run_dir):
        kind = event["type"]
        if kind == "begin":
            episodes[event["key"]] = episodes.get(event["key"], 0) + 1
        elif kind == "result" and event["answer"]["outcome"] not in OWED:
            done.add(event["key"])
        elif kind == "call" and "taken_from" not in event:
            spent += _spend(event)
            first = event["started_at"] if first is None else first
            last = max(last, event["started_at"] + event["latency_s"])
    return Past(frozenset(done), episodes, spent, 0.0 if first is None else last - first)


def take_over(
    results_dir: Path, run_dir: Path, wanted: Set[str], past: Past, journal: Journal
) -> int:
    """Copy finished results with wanted keys, and their calls, from the runs beside this one.
    The same key is the same measurement: sample, arm, prompt, models, code. Returns how many."""
    missing = set(wanted) - past.done
    taken = 0
    for path in sorted(results_dir.glob(f"*/{FILE_NAME}")):
        if path.parent == run_dir or not missing:
            continue
        found = past_of(path.parent).done & missing
        if not found:
            continue
        for event in _events_of(path.parent, found):
            journal.copy({**event, "taken_from": path.parent.name})
        missing -= found
        taken += len(found)
    return taken


def _events_of(run_dir: Path, keys: Set[str]) -> list[dict[str, Any]]:
    return [e for e in read_events(run_dir) if (e.get("result_key") or e.get("key")) in keys]


def _spend(event: dict[str, Any]) -> Spend:
    if event["cached_response"]:
        return Spend()
    tokens = event["prompt_tokens"] + event["completion_tokens"]
    return Spend(1, tokens, event["cost_usd"])
