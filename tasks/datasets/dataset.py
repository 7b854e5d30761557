"""Tasks that read rows of published data sets: a local file, or a pinned revision on the Hugging
Face hub.

Local files: JSONL, JSON (a list of rows, or an object whose ``data`` is one), parquet, or a folder
of parquet files such as :mod:`rlm_eval.tasks.export` writes. Hub sets are streamed, so rows may be
taken from the front of very large ones. Columns are checked on the first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError

from ..task import Task

Row = Mapping[str, Any]
#: What :meth:`Task.pair` takes.
Fields = dict[str, Any]


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

    def rows(self) -> Iterator[Row]:
        """The rows in order."""
        key, origin = ("path", self.path) if self.path is not None else ("hub", self.hub)
        found = self._stream() if self.path is None else _read(_files(Path(self.path)))
        first = next(found, None)
        if first is None:
            raise ConfigError(f"{origin} holds no rows", key=key)
        if missing := [column for column in self.columns if column not in first]:
            lacks = f"no column {', '.join(missing)}; it has {', '.join(first)}"
            raise ConfigError(f"{origin} has {lacks}", key=key)
        return chain((first,), found)

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


def _read(files: Iterable[Path]) -> Iterator[Row]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    for file in files:
        place = str(file)
        try:
            if file.suffix == ".parquet":
                for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=16):
                    yield from batch.to_pylist()
            elif file.suffix == ".json":
                data = json.loads(file.read_text(encoding="utf-8"))
                yield from map(_checked, data["data"] if isinstance(data, dict) else data)
            elif file.suffix == ".jsonl":
                with file.open(encoding="utf-8") as stream:
                    for number, line in enumerate(stream, 1):
                        place = f"{file}, line {number}"
                        if line.strip():
                            yield _checked(json.loads(line))
            else:
                raise ValueError("it is none of .jsonl, .json, .parquet")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{place} can't be read: {error}", key="path") from error


def _checked(row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    return row
