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
from importlib.machinery import ModuleSpec
from pathlib import Path

from rlm_eval.errors import ConfigError

#: Folders of what is installed, not a user's own.
INSTALLED = {"site-packages", "dist-packages"}
#: Packages with files that are run by path in processes of their own: they count as one.
_TOGETHER = ("rlm_eval.repl", "rlm_eval.methods.foreign", "rlm_eval.models.local")


def sources_of(modules: Iterable[str]) -> dict[str, str]:
    """Name → hash (16 hex digits of SHA-256) of every source file behind ``modules``: ours, those
    in the packages that ``modules`` lie in, and a user's beside these. The same for a wheel and a
    checkout. Raises ConfigError for one that has changed since this process asked first."""
    roots = list(modules)
    named = frozenset(roots)
    ours = {"rlm_eval", *(name.partition(".")[0] for name in roots)}
    homes = {_home(name) for name in ours - {"rlm_eval"}} - {None}
    found: dict[str, str] = {}
    seen = {"rlm_eval"}  # the package itself only offers names to users
    while roots:
        name = roots.pop()
        if not name or name in seen:
            continue
        if (top := name.partition(".")[0]) not in ours and not (homes and _home(top) in homes):
            continue
        seen.add(name)
        within = _file_of(name.rpartition(".")[0])
        if within is not None and within.name != "__init__.py":
            continue  # a name in a module
        if (path := _file_of(name)) is None:
            if name not in named:
                continue
            raise ConfigError(f"the module {name} has no source file: a result can't be told by it")
        found[name], imported = _read(name, path, path.stat().st_mtime_ns)
        if found[name] != _at_first(name, path):
            told = "has changed since this process began, which may have it as it was"
            raise ConfigError(f"{path} {told}: start it again")
        roots += [*imported, name.rpartition(".")[0]]
        for package in _TOGETHER:
            if name.startswith(f"{package}."):
                roots += [f"{package}.{file.stem}" for file in path.parent.glob("*.py")]
    return dict(sorted(found.items()))


@cache
def _spec_of(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):  # its parent fails, or is no package; or it is __main__
        return None


def _file_of(module: str) -> Path | None:
    """Its Python file; None for what is no module (a name in one) or has no source."""
    found = spec.origin if (spec := _spec_of(module)) else None
    return Path(found) if found and found.endswith(".py") else None


@cache
def _home(module: str) -> Path | None:
    """The folder that a user's top-level module or package lies in; None for what is installed."""
    spec = _spec_of(module)
    folders = spec.submodule_search_locations if spec else None  # also without an __init__.py
    path = Path(next(iter(folders))) if folders else _file_of(module)
    return None if path is None or INSTALLED & {*path.parts} else path.parent


@cache
def _at_first(module: str, path: Path) -> str:
    return _read(module, path, path.stat().st_mtime_ns)[0]


@cache
def _read(module: str, path: Path, mtime_ns: int) -> tuple[str, tuple[str, ...]]:
    """A file's hash, and what it imports as names that may be modules or lie in one."""
    data = path.read_bytes()
    try:
        tree = ast.parse(data)
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level > package.count(".") + bool(package):
                continue  # beyond the top: it fails there as well
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
