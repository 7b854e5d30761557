"""Files of a run, read. What can't be read is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from rlm_eval.errors import ConfigError

T = TypeVar("T")


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet file."""
    return _read(path, pd.read_parquet)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    return _mapping(path, _read(path, lambda p: json.loads(p.read_text("utf-8"))))


def read_records(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects."""
    found = _read(path, lambda p: json.loads(p.read_text("utf-8")))
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise ConfigError(f"{path} can't be read: it holds no list of objects")
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; an empty file is an empty one."""
    return _mapping(path, _read(path, lambda p: yaml.safe_load(p.read_text("utf-8")) or {}))


def _read(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}") from error


def _mapping(path: Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path} can't be read: it holds no mapping")
    return {str(key): held for key, held in value.items()}
