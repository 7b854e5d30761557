"""A report on disk: scripts that hand data to the page, and one report put in another's place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from rlm_eval.errors import ConfigError

#: Data that come by need are bundled into files of about this many bytes.
BUNDLE_BYTES = 500_000


@contextmanager
def replacing(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """An empty folder to write ``names`` to. At the end they take the place of those in
    ``folder``; after an error those stay as they were."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = TemporaryDirectory(prefix=".report-", dir=folder)
    except OSError as error:
        what = "it is a file" if folder.is_file() else error.strerror
        raise ConfigError(f"can't write to {folder}: {what}; name a folder with --out") from error
    with beside as place:
        new, old = Path(place, "new"), Path(place, "old")
        new.mkdir()
        old.mkdir()
        yield new
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(old / name)
            (new / name).rename(folder / name)


def put(folder: Path, name: str, data: str) -> None:
    """A script that hands ``data``, JSON, to the page. ``<`` is escaped even so, for good
    measure."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data.replace("<", "\\u003c")
    path.write_text(f"REPORT.put({json.dumps(name)},{text});\n", encoding="ascii")


def put_bundles(folder: Path, name: str, items: Iterable[tuple[str, str]]) -> list[int]:
    """Scripts ``name``/0, ``name``/1, … of keys and their JSON; returns each item's number."""
    numbers: list[int] = []
    bundle: list[str] = []
    number = size = 0
    for key, data in items:
        bundle.append(f"{json.dumps(key)}:{data}")
        numbers.append(number)
        size += len(data)
        if size > BUNDLE_BYTES:
            put(folder, f"{name}/{number}", f"{{{','.join(bundle)}}}")
            bundle, size, number = [], 0, number + 1
    if bundle:
        put(folder, f"{name}/{number}", f"{{{','.join(bundle)}}}")
    return numbers


def as_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """JSON data: nan and infinities are null, numpy scalars are Python's."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA else value
