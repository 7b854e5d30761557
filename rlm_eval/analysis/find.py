"""Run directories on disk."""

from __future__ import annotations

import glob
from pathlib import Path

from rlm_eval.errors import ConfigError


def find_runs(*sources: str | Path) -> list[Path]:
    """Run directories that ``sources`` name, each once: a path names one, a glob those that it
    matches, in name order."""
    runs: dict[Path, Path] = {}
    for source in sources:
        folders = _folders(source)
        found = [folder for folder in folders if _has_results(folder)]
        if any(True for folder in folders for _ in folder.glob("*/results.parquet")) and not found:
            told = f"{source} holds no results.parquet but runs that do: give '{source}/*'"
            raise ConfigError(told)
        if not found:
            what = "holds no results.parquet" if folders else "does not exist"
            where = "give the directory that a run printed as its last line"
            raise ConfigError(f"{source} {what}; {where}")
        for folder in found:
            runs.setdefault(folder.resolve(), folder)
    return list(runs.values())


def passed_over(*sources: str | Path) -> list[Path]:
    """Folders that globs among ``sources`` match and that hold no results, those around and inside
    a run left out."""
    folders = dict.fromkeys(folder for source in sources for folder in _folders(source))
    runs = {folder for folder in folders if _has_results(folder)}
    around = {parent for run in runs for parent in run.parents}
    return [
        folder
        for folder in folders
        if folder.is_dir() and folder not in around and runs.isdisjoint([folder, *folder.parents])
    ]


def _has_results(folder: Path) -> bool:
    return (folder / "results.parquet").is_file()


def _folders(source: str | Path) -> list[Path]:
    text = str(source)
    found = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
    folders = (Path(p).parent if p.endswith(".parquet") else Path(p) for p in found)
    return list(dict.fromkeys(folders))
