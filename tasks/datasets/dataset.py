"""Tasks that read rows of published data sets: a local file, or a pinned revision on the Hugging
Face hub.

Local files: JSONL, JSON (a list of rows, or an object whose ``data`` is one), parquet, or a folder
of parquet files such as :mod:`rlm_eval.tasks.export` writes. Hub sets are streamed, so rows may be
taken from the front of very large ones. Columns are checked on the first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import Sample

from ..task import Task

Row = Mapping[str, Any]


@dataclass(kw_only=True, eq=False)
class DataSet(Task):
    """A task whose rows come from ``path``, or else from ``hub`` at ``revision``."""

    path: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None

    #: What every row must have.
    columns = tuple[str, ...]()

    def __post_init__(self) -> None:
        """Raises ConfigError where rows can't come from: a file that is missing or lacks a column
        (the first row is read), or a hub set that is not pinned. Fetches nothing."""
        super().__post_init__()
        if self.path is not None:
            next(self.rows())
            self.source = {"path": self.path, "sha256": _sha256(_files(Path(self.path)))}
            return
        if not self.hub:
            raise ConfigError("is missing: give a file (.jsonl or .parquet)", key="path")
        if not self.revision:
            raise ConfigError(
                f"must be a commit of {self.hub}: pin it, or give path=FILE", key="revision"
            )
        parts = {"hub": self.hub, "config": self.config, "split": self.split}
        self.source = {k: v for k, v in parts.items() if v} | {"revision": self.revision}

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        return dict.fromkeys(sample.gold[0] for sample in group_samples)

    def rows(self) -> Iterator[Row]:
        """The rows in order."""
        found = self._stream() if self.path is None else _read_all(Path(self.path))
        first, origin = next(found, None), self.path or self.hub
        if first is None:
            raise ConfigError(f"{origin} holds no rows", key=self._key)
        if missing := [column for column in self.columns if column not in first]:
            raise ConfigError(
                f"{origin} has no column {', '.join(missing)}; it has {', '.join(first)}",
                key=self._key,
            )
        return chain((first,), found)

    @property
    def _key(self) -> str:
        return "path" if self.path is not None else "hub"

    def _stream(self) -> Iterator[Row]:
        import datasets  # type: ignore[import-untyped]
        import httpx

        try:
            yield from datasets.load_dataset(
                self.hub, self.config, split=self.split, revision=self.revision, streaming=True
            )
        except (OSError, ValueError, httpx.HTTPError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"{self.hub} at {self.revision} can't be read ({reason}); give path=FILE instead",
                key="hub",
            ) from error


def _files(path: Path) -> list[Path]:
    found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        what = "holds no .parquet file" if path.is_dir() else "is no file"
        raise ConfigError(f"{path} {what}", key="path")
    return found


def _sha256(files: Iterable[Path]) -> str:
    """The hash of one file, or of several joined in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read_all(path: Path) -> Iterator[Row]:
    readers = {".parquet": _read_parquet, ".json": _read_json, ".jsonl": _read_jsonl}
    for file in _files(path):
        if file.suffix not in readers:
            raise ConfigError(f"{file} is none of .jsonl, .json, .parquet", key="path")
        yield from readers[file.suffix](file)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ConfigError(
                        f"{path}, line {number}: no JSON: {error}", key="path"
                    ) from error
                if not isinstance(row, dict):
                    raise ConfigError(f"{path}, line {number}: no JSON object", key="path")
                yield row


def _read_json(path: Path) -> Iterator[Row]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}", key="path") from error
    rows = data.get("data") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f'{path} should hold a list of rows, or {{"data": [rows]}}', key="path")
    yield from rows


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.lib  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.lib.ArrowInvalid) as error:
        raise ConfigError(f"{path} is no parquet file: {error}", key="path") from error
    for batch in file.iter_batches(batch_size=16):
        yield from batch.to_pylist()
