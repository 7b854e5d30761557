"""The append-only record of a run: one JSON line per event, flushed before a result counts.

Events: ``session`` (a process begins to write), ``begin`` (a result is started, its restart),
``call`` (one attempt with its reply), ``result``; ``model`` (what is known of a role's model once
it is open). Tables are derived from it; a torn line is no event, now and after more was written.
What must not be written is cut out here, and nowhere else: keys, and the texts of sealed tasks.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from rlm_eval.errors import ConfigError
from rlm_eval.journal.redaction import Redactor, Seal, sealed_call, sealed_result, secrets_of
from rlm_eval.records import SCHEMA_VERSION, Call, Result

FILE_NAME = "journal.jsonl"


class Journal:
    """The one writer of a run directory's journal and trajectories. Safe for threads.

    Opening it takes the run's lock: a second process is refused with the first one's pid.
    ``found`` is the record's size then. Where a line can't be written (a full disk) OSError is
    raised, then and for every line after it. ``redact`` cuts keys out of what is written, by
    default those in the environment; ``seal`` is how a sealed task's texts are written.
    """

    def __init__(
        self,
        run_dir: Path,
        redact: Callable[[str], str] | None = None,
        seal: Seal | None = None,
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / FILE_NAME
        self.redact = redact or Redactor(secrets_of(os.environ))
        self._seal = seal
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
        if self._seal is not None:
            call, reply = sealed_call(call, reply, self._redacted_seal)
        self._append({"type": "call", **vars(call), "reply": reply})

    def result(self, result: Result) -> Result:
        """Write the trajectory, then the result, and see it on the disk before it counts. Returns
        it as it was written."""
        if self._seal is not None:
            result = sealed_result(result, self._redacted_seal)
        answer = result.answer
        final = {"type": "answer", "text": answer.text, "outcome": answer.outcome}
        lines = (json.dumps(e, ensure_ascii=False) for e in (*answer.trajectory, final))
        folder = self.path.parent / "trajectories"
        folder.mkdir(exist_ok=True)
        write_atomically(
            folder / f"{result.key}.jsonl", self.redact("".join(f"{line}\n" for line in lines))
        )
        event = asdict(replace(result, answer=replace(answer, trajectory=())))
        event["answer"].pop("trajectory")
        self._append({"type": "result", **event}, sync=True)
        return result

    def note(self, kind: str, **what: Any) -> None:
        """Write down something that neither costs nor counts."""
        self._append({"type": kind, **what})

    def copy(self, event: Mapping[str, Any]) -> None:
        """Append an event of another run's journal as it is."""
        self._append(event)

    def _redacted_seal(self, text: str) -> str:
        """No key is found in a sealed text: they are cut out before."""
        assert self._seal is not None
        return self._seal(self.redact(text))

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
                # Half a line may be there now: nothing may be written behind it.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def record_size(run_dir: Path) -> int:
    """Bytes of the record in ``run_dir``: the same as long as nobody has written to it."""
    path = run_dir / FILE_NAME
    return path.stat().st_size if path.is_file() else 0


def has_journal(run_dir: Path) -> bool:
    return (run_dir / FILE_NAME).is_file()


def read_events(run_dir: Path, types: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The journal's complete events in order, or only those of some ``types`` (much faster than to
    leave the others out afterwards). Torn or damaged lines are left out.

    Raises ConfigError for a journal of another schema than this code's.
    """
    if not has_journal(run_dir):
        return
    heads = tuple(_head(kind) for kind in types or ())
    with (run_dir / FILE_NAME).open("rb") as file:
        for number, line in enumerate(file, 1):
            if heads and line.startswith(_OURS) and not line.startswith(heads):
                continue
            event = _parsed(line)
            if event is None or (types is not None and event["type"] not in types):
                continue
            if event["v"] != SCHEMA_VERSION:
                raise ConfigError(
                    f"line {number} of the journal in {run_dir} has schema {event['v']}, this "
                    f"rlm_eval reads {SCHEMA_VERSION}: take the version that wrote it"
                )
            yield event


def attempt_id(call: Mapping[str, Any]) -> tuple[str, int]:
    """What tells call events apart: the same one may be in a journal twice when a process was
    killed while it copied results of another run."""
    return call["call_id"], call["attempt"]


def _head(kind: str) -> bytes:
    """How a line of this schema begins; ``_append`` writes version and type first."""
    return json.dumps({"v": SCHEMA_VERSION, "type": kind})[:-1].encode()


#: What makes a torn line complete and no event. Not just a line end: a line that lacks nothing else
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
    complete = isinstance(event.get("v"), int) and isinstance(event.get("type"), str)
    return event if complete else None


def _torn(path: Path) -> bool:
    size = path.stat().st_size
    if not size:
        return False
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _claim(path: Path) -> BinaryIO:
    """The lock file, held; ConfigError with the pid of the process that holds it already."""
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to; when the block ends, it takes the place of ``path``.

    Whoever reads meanwhile, or after the writer was killed, finds the old file or the new one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
