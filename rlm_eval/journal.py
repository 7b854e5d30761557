"""The append-only record of a run: one whole JSON line per event, flushed before a result counts.

Events: ``session`` (a process begins to write), ``begin`` (a result is started, its restart),
``call`` (one attempt with its reply), ``result``; ``model`` (what is known of a role's model once
it is open). Tables are derived from it; a torn line is no event, now and after more was written.
Known keys are cut out of every line.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from rlm_eval.errors import ConfigError
from rlm_eval.records import SCHEMA_VERSION, Call, Result
from rlm_eval.redaction import Redactor, secrets_of

FILE_NAME = "journal.jsonl"


class Journal:
    """The one writer of a run directory's journal. Safe for threads.

    Opening it takes the run's lock: a second process is refused with the first one's pid.
    ``found`` is the record's size then. Where a line can't be written (a full disk) OSError is
    raised, then and for every line after it. ``redact`` cuts keys out of what is written, by
    default those in the environment.
    """

    def __init__(self, run_dir: Path, redact: Callable[[str], str] | None = None) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / FILE_NAME
        self.redact = redact or Redactor(secrets_of(os.environ))
        self._lock = threading.Lock()
        self._failed: tuple[int | None, str, str] | None = None
        self._owner = _claim(run_dir / "lock")
        self.found = record_size(run_dir)
        self._file = self.path.open("ab", buffering=0)
        if _torn(self.path):
            self._write(_TORN)
        self._append({"type": "session", "started_at": time.time(), "pid": os.getpid()})

    def begin(self, key: str, restart: int) -> None:
        self._append({"type": "begin", "key": key, "restart": restart})

    def call(self, call: Call, reply: str) -> None:
        self._append({"type": "call", **vars(call), "reply": reply})

    def result(self, result: Result) -> None:
        """Write the result and see it on the disk before it counts. Trajectories have files of
        their own."""
        event = asdict(replace(result, answer=replace(result.answer, trajectory=())))
        event["answer"].pop("trajectory")
        self._append({"type": "result", **event}, sync=True)

    def note(self, kind: str, **what: Any) -> None:
        """Write down something that neither costs nor counts."""
        self._append({"type": kind, **what})

    def copy(self, event: Mapping[str, Any]) -> None:
        """Take over an event of another run's journal."""
        self._append(event)

    def _append(self, event: Mapping[str, Any], *, sync: bool = False) -> None:
        line = self.redact(json.dumps({"v": SCHEMA_VERSION, **event}, ensure_ascii=False))
        data = line.encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            if self._failed is not None:
                raise OSError(*self._failed)
            try:
                self._write(data)
                if sync:
                    os.fsync(self._file.fileno())
            except OSError as error:
                # Half a line may stand there now: nothing may be written behind it.
                self._failed = (error.errno, str(error.strerror), str(self.path))
                raise OSError(*self._failed) from error

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

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


def record_size(run_dir: Path) -> int:
    """Bytes of the record in ``run_dir``: the same as long as nobody has written to it."""
    path = run_dir / FILE_NAME
    return path.stat().st_size if path.is_file() else 0


def has_journal(run_dir: Path) -> bool:
    """Whether there is a record in ``run_dir``."""
    return (run_dir / FILE_NAME).is_file()


def read_events(run_dir: Path, types: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The journal's whole events in order, or only those of some ``types`` (much faster than to
    leave the others out afterwards). Torn or damaged lines are left out.

    Raises ConfigError for a journal of another schema than this code's.
    """
    heads = tuple(_head(kind) for kind in types or ())
    for number, line in enumerate(_lines(run_dir), 1):
        if heads and line.startswith(_OURS) and not line.startswith(heads):
            continue
        event = _parsed(line)
        if event is None or (types is not None and event["type"] not in types):
            continue
        if event["v"] != SCHEMA_VERSION:
            raise ConfigError(
                f"line {number} of the journal in {run_dir} has schema {event['v']}, this rlm_eval "
                f"reads {SCHEMA_VERSION}: take the version that wrote it"
            )
        yield event


def _lines(run_dir: Path) -> Iterator[bytes]:
    if has_journal(run_dir):
        with (run_dir / FILE_NAME).open("rb") as file:
            yield from file


def attempt_id(call: Mapping[str, Any]) -> tuple[str, int]:
    """What tells call events apart: the same one may stand in a journal twice when a process was
    killed while it took results over from another run."""
    return call["call_id"], call["attempt"]


def _head(kind: str) -> bytes:
    """How a line of this schema begins; ``_append`` writes version and type first."""
    return json.dumps({"v": SCHEMA_VERSION, "type": kind})[:-1].encode()


#: What makes a torn line whole and no event. Not just a line end: a line that lacks nothing else
#: must not come to life later.
_TORN = b" torn\n"
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
