"""The append-only record of a run: one whole JSON line per event, flushed before a result counts.

Events: ``session`` (a process begins to write), ``begin`` (a result is started, its episode),
``call`` (one attempt with its reply), ``result``. Tables are derived from it; a torn line is no
event, now and after more was written.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from rlm_eval.errors import ConfigError
from rlm_eval.records import SCHEMA_VERSION, Call, Result

FILE_NAME = "journal.jsonl"


class Journal:
    """The one writer of a run directory's journal. Safe for threads.

    Opening it takes the run's lock: a second process is refused with the first one's pid.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / FILE_NAME
        self._lock = threading.Lock()
        self._owner = _claim(run_dir / "lock")
        self._file = self.path.open("ab")
        if _torn(self.path):
            # Not just a line end: a line that lacks nothing else must not come to life later.
            self._file.write(b" torn\n")
        self._append({"type": "session", "started_at": time.time(), "pid": os.getpid()})

    def begin(self, key: str, episode: int) -> None:
        self._append({"type": "begin", "key": key, "episode": episode})

    def call(self, call: Call, reply: str) -> None:
        self._append({"type": "call", **vars(call), "reply": reply})

    def result(self, result: Result) -> None:
        """Write the result and see it on the disk before it counts. Trajectories have files of
        their own."""
        event = asdict(replace(result, answer=replace(result.answer, trajectory=())))
        event["answer"].pop("trajectory")
        self._append({"type": "result", **event}, sync=True)

    def copy(self, event: Mapping[str, Any]) -> None:
        """Take over an event of another run's journal."""
        self._append(event)

    def _append(self, event: Mapping[str, Any], *, sync: bool = False) -> None:
        line = json.dumps({"v": SCHEMA_VERSION, **event}, ensure_ascii=False)
        data = line.encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            self._file.write(data)
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._lock:
            self._file.close()
            self._owner.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_events(run_dir: Path, types: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The journal's whole events in order, or only those of some ``types`` (much faster than to
    leave the others out afterwards). Torn or damaged lines are left out.

    Raises ConfigError for a journal of a newer schema than this code reads.
    """
    heads = tuple(_head(kind) for kind in types or ())
    path = run_dir / FILE_NAME
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if heads and line.startswith(_OURS) and not line.startswith(heads):
                continue
            event = _parsed(line)
            if event is None or (types is not None and event["type"] not in types):
                continue
            if event["v"] > SCHEMA_VERSION:
                raise ConfigError(
                    f"{path}:{number} was written by a newer rlm_eval (schema {event['v']}, this "
                    f"one reads up to {SCHEMA_VERSION}): pip install --upgrade rlm_eval"
                )
            yield event


def attempt_id(call: Mapping[str, Any]) -> tuple[str, int]:
    """What tells call events apart: the same one may stand in a journal twice when a process was
    killed while it took results over from another run."""
    return call["call_id"], call["attempt"]


def _head(kind: str) -> bytes:
    """How a line of this schema begins; ``_append`` writes version and type first."""
    return json.dumps({"v": SCHEMA_VERSION, "type": kind})[:-1].encode()


_OURS = json.dumps({"v": SCHEMA_VERSION, "type": ""})[:-2].encode()


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    whole = isinstance(event.get("v"), int) and isinstance(event.get("type"), str)
    return event if whole else None


def _torn(path: Path) -> bool:
    size = path.stat().st_size
    if not size:
        return False
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _claim(path: Path) -> BinaryIO:
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().decode() or "unknown"
        file.close()
        raise ConfigError(
            f"another process (pid {pid}) is working on {path.parent}: wait for it, or stop it"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    file.flush()
    return file
