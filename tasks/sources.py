"""Rows of published data sets: a local file, or a pinned revision on the Hugging Face hub.

Local files: JSONL, JSON (a list of rows, or an object whose ``data`` is one), parquet, or a folder
of parquet files such as :mod:`rlm_eval.tasks.export` writes. Hub sets are streamed, so rows may be
taken from the front of very large ones. Columns are checked on the first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a task's rows come from: ``path``, or else ``hub`` at ``revision``."""

    task: str
    columns: tuple[str, ...]
    path: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None

    def check(self) -> None:
        """Raises ConfigError where rows can't come from: a file that is missing or lacks a column
        (the first row is read), or a hub set that is not pinned. Fetches nothing."""
        if self.path is not None:
            next(self.rows())
        elif not self.hub:
            raise ConfigError(f"{self.task} reads a file: give task.path=FILE (.jsonl or .parquet)")
        elif not self.revision:
            raise ConfigError(
                f"{self.task}: give task.path=FILE, or pin {self.hub} with task.revision=COMMIT"
            )

    @cached_property
    def record(self) -> dict[str, str]:
        """What to write down of the source: path and SHA-256, or hub id and revision."""
        if self.path is not None:
            return {"path": self.path, "sha256": _sha256(_files(self.task, Path(self.path)))}
        parts = {"hub": self.hub, "config": self.config, "split": self.split}
        named = {key: value for key, value in parts.items() if value}
        return {**named, "revision": self.revision or ""}

    def rows(self) -> Iterator[Row]:
        """The rows in order."""
        found = self._stream() if self.path is None else self._local(Path(self.path))
        first = next(found, None)
        where = self.path or self.hub
        if first is None:
            raise ConfigError(f"{self.task}: {where} holds no rows")
        missing = [column for column in self.columns if column not in first]
        if missing:
            raise ConfigError(
                f"{self.task}: {where} has no column {', '.join(missing)};"
                f" it has {', '.join(first)}"
            )
        return chain((first,), found)

    def _local(self, path: Path) -> Iterator[Row]:
        for file in _files(self.task, path):
            yield from _read(self.task, file)

    def _stream(self) -> Iterator[Row]:
        import datasets  # type: ignore[import-untyped]
        import httpx

        try:
            stream = datasets.load_dataset(
                self.hub,
                self.config,
                split=self.split,
                revision=self.revision,
                streaming=True,
            )
            yield from stream
        except (OSError, ValueError, httpx.HTTPError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"{self.task}: can't read {self.hub} at {self.revision} from the hub ({reason});"
                " give task.path=FILE instead"
            ) from error


def _files(task: str, path: Path) -> list[Path]:
    found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        what = "holds no .parquet file" if path.is_dir() else "is no file"
        raise ConfigError(f"{task}: task.path: {path} {what}")
    return found


def _sha256(files: Iterable[Path]) -> str:
    """The hash of one file, or of several joined in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read(task: str, path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        return _read_parquet(task, path)
    if path.suffix == ".json":
        return _read_json(task, path)
    if path.suffix == ".jsonl":
        return _read_jsonl(task, path)
    raise ConfigError(f"{task}: task.path: {path} is none of .jsonl, .json, .parquet")


def _read_jsonl(task: str, path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ConfigError(f"{task}: {path}, line {number}: no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ConfigError(f"{task}: {path}, line {number}: no JSON object")
                yield row


def _read_json(task: str, path: Path) -> Iterator[Row]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{task}: {path} is no JSON: {error}") from error
    rows = data.get("data") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f'{task}: {path} should hold a list of rows, or {{"data": [rows]}}')
    return iter(rows)


def _read_parquet(task: str, path: Path) -> Iterator[Row]:
    import pyarrow.lib  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.lib.ArrowInvalid) as error:
        raise ConfigError(f"{task}: {path} is no parquet file: {error}") from error
    for batch in file.iter_batches(batch_size=16):
        yield from batch.to_pylist()
