"""The source files that a result depends on: those of given modules and of all that they import.

Read from the files' import statements, those inside functions too and those for type checkers not.
A result's key holds their hash: a change to a module that its method, task and models never import
leaves it valid. Data files are no part of it: what they give is in the sample's own hash.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rlm_eval.errors import ConfigError

#: Packages with files that are run by path in processes of their own: they count as one.
_TOGETHER = ("rlm_eval.repl", "rlm_eval.methods.foreign", "rlm_eval.models.local")


def sources_of(modules: Iterable[str]) -> dict[str, str]:
    """Name → hash (16 hex digits of SHA-256) of every source file behind ``modules``: ours, and
    those in the packages that ``modules`` lie in. The same for a wheel and a checkout."""
    roots = list(modules)
    named = frozenset(roots)
    ours = {"rlm_eval", *(name.partition(".")[0] for name in roots)}
    found: dict[str, str] = {}
    seen = {"rlm_eval"}  # the package itself only offers names to users
    while roots:
        name = roots.pop()
        if not name or name in seen or name.partition(".")[0] not in ours:
            continue
        seen.add(name)
        if (path := _file_of(name)) is None:
            if name not in named:
                continue
            raise ConfigError(f"the module {name} has no source file: a result can't be told by it")
        found[name], imported = _read(name, path, path.stat().st_mtime_ns)
        roots += [*imported, name.rpartition(".")[0]]
        for package in _TOGETHER:
            if name.startswith(f"{package}."):
                roots += [f"{package}.{file.stem}" for file in path.parent.glob("*.py")]
    return dict(sorted(found.items()))


@cache
def _file_of(module: str) -> Path | None:
    """Its Python file; None for what is no module (a name in one) or has no source."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # its parent is a module, not a package
        return None
    found = spec.origin if spec else None
    return Path(found) if found and found.endswith(".py") else None


@cache
def _read(module: str, path: Path, mtime_ns: int) -> tuple[str, tuple[str, ...]]:
    """A file's hash, and what it imports as names that may be modules or lie in one."""
    data = path.read_bytes()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in _statements(ast.parse(data)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return hashlib.sha256(data).hexdigest()[:16], tuple(names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        checking = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        if not checking:
            yield node
            yield from _statements(node)
