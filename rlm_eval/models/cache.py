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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.models.protocol import Completion, Request, Usage
from rlm_eval.records import Role

#: How a complete reply ends. A filter's or a failing server's end is neither.
_COMPLETE = frozenset({"stop", "length", "refusal", "tool_call", "thoughts_only"})
#: Settings of a model that say when and at what price it answers, never what; and what is in the
#: length of the reply that a request allows.
_NOT_SHAPING = {
    *("price", "limits", "timeout_s", "start_timeout_s", "latency_s", "api_key_env", "cache_mb"),
    *("tokenizer", "token_margin", "slots", "pool_windows", "threads", "reasoning_tokens"),
    *("limit_name", "cache_marks"),
}
_APPLICATION_ID, _VERSION = 0x524C4D63, 1
_SETUP = f"""BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION};
CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply BLOB NOT NULL,
finish_reason TEXT NOT NULL, model TEXT NOT NULL, saved_at REAL NOT NULL) WITHOUT ROWID;
COMMIT; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"""


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
    if header and header[60:64] + header[68:72] != struct.pack(">II", _VERSION, _APPLICATION_ID):
        raise ConfigError(f"response_cache={path} is no cache of this rlm_eval: name another")


class ResponseCache:
    """Safe for threads, and for processes on one machine that share the file.

    ``shapes`` hashes, per role, all settings of its model that its replies depend on; a role
    without one speaks through ``root``. ``sampling``: sampled requests are answered too. A reply
    that ``redact`` would change is not kept. Raises ConfigError where the file can't be opened; a
    failure later is an OSError, which ends the run.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[Role, str],
        *,
        sampling: bool = False,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.sampling = sampling
        self._path = path
        self._shapes = shapes
        self._redact = redact
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(
                path, timeout=60.0, check_same_thread=False, isolation_level=None
            )
            self._db.executescript(_SETUP)
        except sqlite3.Error as error:
            raise ConfigError(f"response_cache={path} can't be opened: {error}") from error

    def key(self, request: Request, temperature: float | None, repeat: int, nth: int) -> bytes:
        """The hash of all that shapes the reply: each repeat asks for itself, and of sampled
        replies a result's ``nth`` to a prompt is kept beside its others."""
        info = request.info
        shape = self._shapes.get(request.tags.role) or self._shapes["root"]
        what = [shape, info.name, info.endpoint, request.sha256, request.reply_tokens]
        return hashlib.sha256(json.dumps([*what, temperature, repeat, nth]).encode()).digest()

    def read(self, key: bytes) -> Completion | None:
        row = self._execute("SELECT reply, finish_reason FROM replies WHERE key = ?", (key,))
        return row and Completion(row[0].decode("utf-8", "surrogatepass"), "", row[1], Usage())

    def write(self, key: bytes, model: str, answer: Completion) -> None:
        """Keep the answer of the ``model`` of this name, if it is one to keep."""
        if answer.finish_reason in _COMPLETE and self._redact(answer.text) == answer.text:
            reply = answer.text.encode("utf-8", "surrogatepass")
            row = (key, reply, answer.finish_reason, model, time.time())
            self._execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row)

    def _execute(self, statement: str, values: Sequence[object]) -> Any:
        """The first row of what the statement finds, None without one."""
        try:
            with self._lock:
                return self._db.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            message = f"the response cache failed: {error}"
            raise OSError(errno.EIO, message, str(self._path)) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()
