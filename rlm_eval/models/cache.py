"""Replies kept in one file across runs: a prompt that was asked before is not paid again.

Off unless ``response_cache=PATH`` is given. It answers requests at temperature 0, and sampled ones
where ``cache_samples=true`` says so. A hit is a row of ``calls.parquet`` like any other, with
``cached_response`` and without tokens or cost; so a run with a cache measures other costs than one
without, and whether there is one is part of a run's name and of its results' keys. Where the file
lies is not. Failures are never kept, nor replies that a provider cut off, nor vectors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.models.known import Ask
from rlm_eval.models.memory import Memory
from rlm_eval.models.protocol import Usage
from rlm_eval.models.request import Request
from rlm_eval.models.sender import Completion
from rlm_eval.records import Role

#: How a whole reply ends. A filter's or a failing server's end is neither.
_WHOLE = frozenset({"stop", "length"})
#: Settings of a model that say when and at what price it answers, never what; and what is in the
#: length of the reply that a request allows.
_NOT_SHAPING = frozenset(
    {
        *("price", "limits", "timeout_s", "start_timeout_s", "latency_s", "api_key_env"),
        *("tokenizer", "token_margin", "slots", "pool_windows", "threads", "cache_mb"),
        "reasoning_tokens",
    }
)
_MAGIC = b"SQLite format 3\x00"
_APPLICATION_ID, _VERSION = 0x524C4D63, 1
_BUSY_S = 60.0


def reply_shaping(node: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model's configuration that its replies depend on."""
    return {key: value for key, value in node.items() if key not in _NOT_SHAPING}


def check_cache(path: Path) -> None:
    """Raise ConfigError where ``path`` can't be a cache. Creates nothing."""
    if not path.parent.is_dir():
        raise ConfigError(f"response_cache={path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"response_cache={path}: it can't be written to")
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError(f"response_cache={path} must be a file, or not there yet")
    with path.open("rb") as file:
        header = file.read(72)
    if not header:
        return
    if len(header) < 72 or not header.startswith(_MAGIC):
        raise ConfigError(f"response_cache={path} is no SQLite file: name another")
    version, application = *struct.unpack(">I", header[60:64]), *struct.unpack(">I", header[68:72])
    if (application, version) != (_APPLICATION_ID, _VERSION):
        raise ConfigError(f"response_cache={path} is no cache of this rlm_eval: name another")


class ResponseCache:
    """Safe for threads, and for processes on one machine that share the file (SQLite's write-ahead
    log does not work over a network). Threads that ask the same at once ask once.

    ``shapes`` hashes, per role, all settings of its model that its replies depend on; a role
    without one speaks through ``root``. A reply that ``redact`` would change is not kept. Raises
    ConfigError where the file can't be opened; a failure later is an OSError, which ends the run:
    what was answered is in the journal.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[Role, str],
        *,
        sampling: bool = False,
        redact: Callable[[str], str] = str,
    ) -> None:
        self._path = path
        self._shapes = shapes
        self._sampling = sampling
        self._redact = redact
        self._lock = threading.Lock()
        self._in_flight: Memory[tuple[Completion, bool]] = Memory(keep=False)
        try:
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None
            )
            self._create()
        except sqlite3.Error as error:
            raise ConfigError(f"response_cache={path} can't be opened: {error}") from error

    def _create(self) -> None:
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        execute(f"PRAGMA user_version = {_VERSION}")
        execute(
            "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply BLOB NOT NULL, "
            "finish_reason TEXT NOT NULL, model TEXT NOT NULL, saved_at REAL NOT NULL)"
            " WITHOUT ROWID"
        )
        execute("COMMIT")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")

    def answers(self, repeat: int) -> CachedAnswers:
        """The cache as results of one repeat see it: each repeat asks for itself."""
        return CachedAnswers(self, repeat)

    def key(self, request: Request, repeat: int) -> bytes | None:
        """The hash of all that shapes the reply; None where it may not come from here. Of sampled
        replies, a result's n-th to a prompt is kept beside its others."""
        sampled = request.temperature != 0
        if sampled and not self._sampling:
            return None
        info = request.model.info
        shape = self._shapes.get(request.tags.role) or self._shapes["root"]
        what = [shape, info.name, info.endpoint, request.sha256, request.reply_tokens]
        what += [request.temperature, repeat, request.occurrence if sampled else 0]
        return hashlib.sha256(json.dumps(what).encode()).digest()

    def has(self, key: bytes) -> bool:
        return self._in_flight.has(key) or self._read(key) is not None

    def get(self, key: bytes, model: str, ask: Ask) -> tuple[Completion, bool]:
        """(the answer, whether it was known). A new one is kept with the name of its ``model``."""

        def read_or_ask() -> tuple[Completion, bool]:
            known = self._read(key)
            if known is not None:
                return known, True
            answer = ask()
            self._write(key, model, answer)
            return answer, False

        (answer, known), shared = self._in_flight.get(key, read_or_ask)
        return answer, known or shared

    def _read(self, key: bytes) -> Completion | None:
        with self._lock, self._reported():
            query = "SELECT reply, finish_reason FROM replies WHERE key = ?"
            row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            return None
        return Completion(row[0].decode("utf-8", "surrogatepass"), "", row[1], Usage())

    def _write(self, key: bytes, model: str, answer: Completion) -> None:
        if answer.finish_reason not in _WHOLE or self._redact(answer.text) != answer.text:
            return
        reply = answer.text.encode("utf-8", "surrogatepass")
        row = (key, reply, answer.finish_reason, model, time.time())
        with self._lock, self._reported():
            self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(
                errno.EIO, f"the response cache failed: {error}", str(self._path)
            ) from error

    def close(self) -> None:
        with self._lock, self._reported():
            self._db.close()


@dataclass(frozen=True)
class CachedAnswers:
    """The cache in front of a door: a :class:`rlm_eval.models.known.Known`."""

    cache: ResponseCache
    repeat: int

    def key(self, request: Request) -> bytes | None:
        return self.cache.key(request, self.repeat)

    def has(self, request: Request) -> bool:
        key = self.key(request)
        return key is not None and self.cache.has(key)

    def get(self, request: Request, ask: Ask) -> tuple[Completion, bool]:
        key = self.key(request)
        return (ask(), False) if key is None else self.cache.get(key, request.model.info.name, ask)
