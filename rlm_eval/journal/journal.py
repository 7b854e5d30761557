"""The append-only record of a run: one JSON line per event, flushed before a result counts.

Events: ``session`` (a process begins to write), ``begin`` (a result is started, its restart),
``call`` (one attempt with its reply), ``result``; ``model`` (what is known of a role's model once
it is open). Tables are derived from it; a torn line is no event, now and after more was written.
Each line ends with the journal's name and a hash under that: a line that was changed, or is from
another journal, is left out, and :func:`damage` says so.
What must not be written is cut out here, and nowhere else: keys, and the texts of sealed tasks.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import socket
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from rlm_eval.errors import ConfigError
from rlm_eval.journal.redaction import Redactor, Seal, sealed_call, sealed_result, secrets_of
from rlm_eval.records import SCHEMA_VERSION, Call, Result, now

FILE_NAME, LOCK, PACKED = "journal.jsonl", "lock", ".gz"
#: Seconds between two heartbeats, and from the last one until its process counts as dead.
_BEAT_S, _DEAD_S = 10.0, 60.0


class Journal(AbstractContextManager["Journal"]):
    """The one writer of a run directory's journal and trajectories. Safe for threads.

    Opening it takes the run's lock (:func:`claim`); ``found`` is the record's size then. Where a
    line can't be written (a full disk; the folder was deleted or moved: ESTALE) OSError is raised,
    then and for every line after it. ``redact`` cuts keys out of what is written, by default those
    in the environment; ``seal`` is how a sealed task's texts are written.
    """

    def __init__(
        self, run_dir: Path, redact: Callable[[str], str] | None = None, seal: Seal | None = None
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / FILE_NAME
        check_unpacked(run_dir)
        self.redact = redact or Redactor(secrets_of(os.environ))
        self._seal = seal
        self._lock = threading.Lock()
        self._failed: tuple[int | None, str, str] | None = None
        self._attempts: Counter[tuple[str, int]] = Counter()
        if (run_dir / "trajectories").is_symlink():
            raise ConfigError(f"{run_dir / 'trajectories'} is a link, which no run's folder is")
        self._owner = claim(run_dir / LOCK)
        with ExitStack() as failed:  # whoever tries again finds no lock
            failed.callback(self._owner.close)
            self.found = record_size(run_dir)
            names = (name for _, name, _ in _lines(run_dir) if name)
            self._name = next(names, secrets.token_hex(4).encode())
            self._file = failed.enter_context(_appendable(self.path, 0))
            if self.found:
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._write(_TORN)
            self.append({"type": "session", "started_at": now(), "pid": os.getpid()})
            failed.pop_all()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def begin(self, key: str, restart: int) -> None:
        self.append({"type": "begin", "key": key, "restart": restart})

    def call(self, call: Call, reply: str) -> None:
        if self._seal is not None:
            call, reply = sealed_call(call, reply, self._redacted_seal)
        self.append({"type": "call", **vars(call), "reply": reply})

    def result(self, result: Result) -> Result:
        """Write the trajectory, then the result, and see it on the disk; the result as written."""
        if self._seal is not None:
            result = sealed_result(result, self._redacted_seal)
        answer = result.answer
        final = {"type": "answer", "text": answer.text, "outcome": answer.outcome}
        lines = (json.dumps(e, ensure_ascii=False) for e in (*answer.trajectory, final))
        folder = self.path.parent / "trajectories"
        self._write(b"")
        folder.mkdir(exist_ok=True)
        write_atomically(
            folder / f"{result.key}.jsonl", self.redact("".join(f"{line}\n" for line in lines))
        )
        event = asdict(replace(result, answer=replace(answer, trajectory=())))
        event["answer"].pop("trajectory")
        event["attempts"] = self._attempts.pop((result.key, result.restart), 0)
        self.append({"type": "result", **event}, sync=True)
        return result

    def _redacted_seal(self, text: str) -> str:
        """No key is found in a sealed text: they are cut out before."""
        assert self._seal is not None
        return self._seal(self.redact(text))

    def append(self, event: Mapping[str, Any], *, sync: bool = False) -> None:
        """Write an event as it is, and with ``sync`` see it on the disk."""
        line = self.redact(json.dumps({"v": SCHEMA_VERSION, **event}, ensure_ascii=False))
        data = _checked(line.encode("utf-8", "surrogatepass"), self._name)
        with self._lock:
            if self._failed is not None:
                raise OSError(*self._failed)
            try:
                self._write(data)
                if event["type"] == "call":
                    self._attempts[event["result_key"], event["restart"]] += 1
                if sync:
                    os.fsync(self._file.fileno())
            except OSError as error:
                # Half a line may be there now: nothing may be written behind it.
                self._failed = (error.errno, str(error.strerror), str(self.path))
                raise OSError(*self._failed) from error

    def _beat(self) -> None:
        """Say now and then that this process is at work, to those on other machines."""
        while not self._closed.wait(_BEAT_S):
            with suppress(OSError):
                os.utime(self._owner.fileno())

    def _write(self, data: bytes) -> None:
        try:
            gone = not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            gone = True
        if gone:
            raise OSError(errno.ESTALE, "the run's folder was deleted or moved")
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed.set()
            self._heart.join()
            self._file.close()
            self._owner.truncate(0)
            self._owner.close()


def record_size(run_dir: Path) -> int:
    """Bytes of the record in ``run_dir``: the same as long as nobody has written to it."""
    path = stored(run_dir / FILE_NAME)
    if path is None:
        return 0
    return opened(path).seek(0, os.SEEK_END) if path.suffix == PACKED else path.stat().st_size


def has_journal(run_dir: Path) -> bool:
    return stored(run_dir / FILE_NAME) is not None


def stored(path: Path) -> Path | None:
    """A file of a record, or what ``gzip`` made of it for publishing; None where it is neither."""
    both = (path, path.with_name(path.name + PACKED))
    return next((file for file in both if os.path.isfile(file)), None)  # False in a locked folder


def opened(path: Path) -> BinaryIO:
    """A :func:`stored` file, to be read. Raises ConfigError for a packed one that is damaged."""
    if path.suffix != PACKED:
        return path.open("rb")
    try:
        return io.BytesIO(gzip.decompress(path.read_bytes()))
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def check_unpacked(run_dir: Path) -> None:
    """Raises ConfigError for a record that is packed, which is not written to."""
    if has_journal(run_dir) and not (run_dir / FILE_NAME).is_file():
        unpack = f"gunzip -r {shlex.quote(str(run_dir))}"
        raise ConfigError(f"the run in {run_dir} is packed: {unpack} to go on")


def read_events(
    run_dir: Path,
    types: Collection[str] | None = None,
    bad: list[str] | None = None,
    size: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The journal's complete events in order, or only those of some ``types``, within its first
    ``size`` bytes where that is given. Torn or damaged lines, and those of another journal, are
    left out; ``bad`` collects what there is of the latter two, whatever their types.

    Raises ConfigError for a journal of another schema than this code's.
    """
    own = b""  # this journal's name
    # How such lines begin: ``append`` writes version and type first.
    heads = tuple(
        json.dumps({"v": SCHEMA_VERSION, "type": kind})[:-1].encode() for kind in types or ()
    )
    for number, name, line in _lines(run_dir, size):
        version = SCHEMA_VERSION if own else _version(line, name)
        if version not in (None, SCHEMA_VERSION):
            raise ConfigError(
                f"line {number} of the journal in {run_dir} has schema {version}, this rlm_eval "
                f"reads {SCHEMA_VERSION}: take the version that wrote it"
            )
        own = own or name
        if not name or name != own:
            if bad is not None:
                about = re.search(rb'"(?:result_)?key": "(\w+)"', line)
                bad.append(f"{number} (result {about[1].decode()})" if about else str(number))
        elif types is None or line.startswith(heads):
            yield json.loads(line[:-_TAIL].decode("utf-8", "surrogatepass") + "}")


def damage(run_dir: Path, bad: Sequence[str] | None = None) -> str:
    """What is said of the ``bad`` lines of a journal, as :func:`read_events` collects them (else it
    is read); empty where there are none. A line that a killed process tore is no damage."""
    if bad is None:
        list(read_events(run_dir, (), bad := []))
    if not bad:
        return ""
    shown = ", ".join(bad[:_SHOWN]) + (", ..." if len(bad) > _SHOWN else "")
    return (
        f"{run_dir / FILE_NAME}: {len(bad)} damaged or foreign lines are left out ({shown}): "
        "results that they were part of are pending again"
    )


def behind(run_dir: Path, rows: int) -> str:
    """What is said of tables of so many ``rows`` that lack results of the journal, as after a kill;
    empty where they lack none."""
    events = whole(read_events(run_dir)) if has_journal(run_dir) else ()
    there = {event["key"] for event in events if event["type"] == "result"}
    if len(there) <= rows:
        return ""
    told = f"its journal has {len(there)} results, its tables {rows}"
    return f"{run_dir}: {told}: {derived_by(run_dir)}"


def derived_by(run_dir: Path) -> str:
    """What makes a run's tables anew."""
    return f"run its command again, or rlm-eval replay {run_dir} --out {run_dir}"


def whole(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events without each result of whose calls, which come before it, one is lost."""
    attempts: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for event in events:
        if event["type"] == "call":
            its = (event["result_key"], event["restart"])
            attempts.setdefault(its, set()).add(attempt_id(event))
        elif event["type"] == "result":
            known = attempts.pop((event["key"], event["restart"]), set())
            if len(known) < event["attempts"]:
                continue
        yield event


def attempt_id(call: Mapping[str, Any]) -> tuple[str, int]:
    """What tells call events apart: the same one may be in a journal twice when a process was
    killed while it copied results of another run."""
    return call["call_id"], call["attempt"]


#: What makes a torn line complete and no event. Not just a line end: a line that lacks nothing else
#: must not come to life later.
_TORN = b" torn\n"
_SUM = re.compile(rb', "sum": "([0-9a-f]{8})([0-9a-f]{16})"}\n\Z')
_TAIL = len(', "sum": "') + 24 + len('"}\n')
#: Damaged lines that are named.
_SHOWN = 5


def _hash(body: bytes, name: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8, key=name).hexdigest().encode()


def _checked(event: bytes, name: bytes) -> bytes:
    """The line of an event in the journal called ``name`` (8 hex digits)."""
    body = event[:-1]
    return body + b', "sum": "' + name + _hash(body, name) + b'"}\n'


def _lines(run_dir: Path, size: int | None = None) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, name of its journal (empty: it was changed) and bytes of each line but torn ones."""
    path, read = stored(run_dir / FILE_NAME), 0
    if path is None:
        return
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            read += len(line)
            if size is not None and read > size:
                return
            if line.endswith(_TORN) or not line.endswith(b"\n"):
                continue
            found = _SUM.search(line, len(line) - _TAIL) if len(line) > _TAIL else None
            intact = found and _hash(line[:-_TAIL], found[1]) == found[2]
            yield number, found[1] if found and intact else b"", line


def _version(line: bytes, name: bytes) -> int | None:
    """The schema of a line that has no checksum or the right one; None for damage."""
    found = re.match(rb'\{"v": (\d{1,9}), "type": "', line)
    return int(found[1]) if found and (name or not _SUM.search(line)) else None


def claim(path: Path) -> BinaryIO:
    """The lock file, held, with the names of this machine and process in it. Raises ConfigError
    where another process holds it, or where one on another machine, whose lock may not be seen
    here, touched it a short while ago by the clock of the file system that both write to."""
    file = _appendable(path)
    file.seek(0)
    host, _, pid = file.read().decode().partition(" ")
    with tempfile.TemporaryFile(dir=path.parent) as new:
        age = os.fstat(new.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime
    held = pid and host != socket.gethostname() and age < _DEAD_S
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held = True
    if held:
        file.close()
        raise ConfigError(
            f"another process (pid {pid or 'unknown'} on {host}) is working on {path.parent}: wait "
            f"for it, or stop it (from another machine, up to {_DEAD_S:.0f} s after its end)"
        )
    file.truncate(0)
    file.write(f"{socket.gethostname()} {os.getpid()}".encode())
    file.flush()
    return file


def _appendable(path: Path, buffering: int = -1) -> BinaryIO:
    """The file, to read and to append to. Raises ConfigError for a link: the folder may be somebody
    else's, and lead to any file."""
    if path.is_symlink():
        raise ConfigError(f"{path} is a link, which a file of a run must not be")

    def no_link(name: str, flags: int) -> int:  # that it became meanwhile
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    return open(path, "a+b", buffering, opener=no_link)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to; when the block ends, it takes the place of ``path``. Who
    reads meanwhile, or after the writer was killed, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
