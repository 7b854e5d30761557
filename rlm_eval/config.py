"""From Hydra's composed configuration to checked objects.

The constructor is the schema: each ``_target_`` node is checked against its signature (unknown
and missing keys, types) before anything is built, so a typo costs nothing.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from rlm_eval.errors import ConfigError, speaking_of
from rlm_eval.records import Role, content_hash

#: Top-level keys that change how a run is carried out, not what it measures.
RUN_TIME_KEYS = frozenset(
    {
        "concurrency",
        "results_dir",
        "dry_run",
        "stop_on_forecast",
        "allow_targets",
        "demonstration",
        "response_cache",
        "cache_samples",
        "retry",
    }
)
TOP_LEVEL: Mapping[str, Any] = {
    "repeats": int,
    "temperature": float | None,
    "memoize": bool,
    "response_cache": str | None,
    "cache_samples": bool,
    "concurrency": int | None,
    "results_dir": str,
    "dry_run": bool,
    "stop_on_forecast": bool,
    "seed": int,
    "allow_targets": list[str],
    "demonstration": bool | None,
}
#: The roles that may have a model of their own, and the key that gives it. Without one they speak
#: through ``model``.
ROLE_KEYS: Mapping[Role, str] = {
    "sub": "sub_model",
    "summarize": "summarize_model",
    "judge": "judge_model",
}
#: Groups beside ``method`` that every run needs, and those it may do without.
NEEDED = ("task", "model", "sandbox", "budget", "retry")
OPTIONAL = (*ROLE_KEYS.values(), "embed_model")
GROUPS = ("method", *NEEDED, *OPTIONAL)


@dataclass(frozen=True)
class RunConfig:
    """The resolved configuration as plain dicts, checked. ``tree`` is all of it."""

    tree: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Hash of what the run measures: the same for any concurrency, path or verbosity."""
        measured = {k: v for k, v in self.tree.items() if k not in RUN_TIME_KEYS}
        return content_hash({**measured, "caching": self.caching})

    @property
    def caching(self) -> str:
        """What a response cache may answer: it changes what results cost, wherever it lies."""
        if self.tree["response_cache"] is None:
            return "nothing"
        return "all" if self.tree["cache_samples"] else "temperature 0"

    def __getitem__(self, key: str) -> Any:
        return self.tree[key]


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """The configuration with each role's model filled in and every value's type settled.

    Raises ConfigError for the first thing that is wrong, naming the key.
    """
    unknown = set(tree) - set(TOP_LEVEL) - set(GROUPS)
    if unknown:
        raise ConfigError(unknown_key(min(unknown), [*TOP_LEVEL, *GROUPS]))
    for key in (*TOP_LEVEL, *NEEDED):
        if key not in tree:
            raise ConfigError(f"{key} is missing: leave ~{key} out")
    tree = dict(tree)
    for key, kind in TOP_LEVEL.items():
        tree[key] = _typed(key, kind, tree[key])
    for key, least in (("repeats", 1), ("concurrency", 1)):
        if tree[key] is not None and tree[key] < least:
            raise ConfigError(f"{key} must be at least {least}, got {tree[key]}")
    if not tree.get("method"):
        raise ConfigError("no method is left: give at least one, as in method=[direct,rlm]")
    for key in ROLE_KEYS.values():
        tree[key] = _role_model(key, tree["model"], tree.get(key))
    tree["embed_model"] = tree.get("embed_model") or None
    allowed = ("rlm_eval", *tree["allow_targets"])
    tree["budget"] = _checked_budget(tree["budget"], allowed)
    for group in ("task", "model", "sandbox", "retry", *OPTIONAL):
        if group not in OPTIONAL or tree[group] is not None:
            tree[group] = _checked(group, tree[group], allowed)
    tree["method"] = {
        name: _checked(f"method.{name}", node, allowed) for name, node in tree["method"].items()
    }
    return RunConfig(tree)


def check_task(node: Any, allow_targets: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of a task alone, checked as :func:`check_config` does."""
    return _checked("task", node, ("rlm_eval", *allow_targets))


def build(where: str, node: Mapping[str, Any]) -> Any:
    """The object that the checked node at ``where`` describes, with those it holds as parameters;
    nothing that wasn't checked is built. Raises the ConfigError of a constructor."""
    module, _, name = node["_target_"].rpartition(".")
    given = {
        key: build(f"{where}.{key}", value)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for key, value in node.items()
        if key != "_target_"
    }
    with speaking_of(where):
        return getattr(importlib.import_module(module), name)(**given)


def targets(node: Any) -> list[str]:
    """Every ``_target_`` in a tree of nodes."""
    if not isinstance(node, Mapping):
        return []
    own = [str(node["_target_"])] if "_target_" in node else []
    return own + [target for value in node.values() for target in targets(value)]


def _role_model(key: str, model: Any, node: Any) -> dict[str, Any] | None:
    """A role's model: one of its own, the root model with changes, or None (the same).

    ``model@sub_model=NAME`` gives a node with a ``_target_``; ``sub_model.key=`` overlays.
    """
    if node is None:
        return None
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key}={node} is no configuration: write model@{key}={node}")
    given = {k: v for k, v in node.items() if v is not None}
    if "_target_" in given:
        return dict(given)
    return {**model, **given} if given else None


def _checked(where: str, node: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """A ``_target_`` node with its keys and types checked against the target's signature."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{where} must be a configuration with a _target_, got {node!r}")
    target = str(node["_target_"])
    if not any(target.startswith(f"{name}.") for name in allowed):
        package = target.rpartition(".")[0]
        raise ConfigError(
            f"{where}._target_={target} lies outside rlm_eval: if you trust it, add "
            f"'allow_targets=[{package}]'"
        )
    parameters = _parameters(where, target)
    out: dict[str, Any] = {"_target_": target}
    for key, value in node.items():
        if key == "_target_":
            continue
        if key not in parameters:
            raise ConfigError(unknown_key(f"{where}.{key}", [f"{where}.{p}" for p in parameters]))
        with speaking_of(where):
            out[key] = _value(f"{where}.{key}", parameters[key], value, allowed)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in out:
            raise ConfigError(f"{where}.{key} is missing: give {where}.{key}=VALUE")
    return out


def _checked_budget(node: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """The caps of both scopes, each checked as :class:`~rlm_eval.ledger.Budget` declares them."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"budget={node!r} does not fit: write budget.run.usd=5, for instance")
    known = {"run", "sample", "matched"}
    if unknown := set(node) - known:
        raise ConfigError(unknown_key(f"budget.{min(unknown)}", [f"budget.{k}" for k in known]))
    out: dict[str, Any] = {"matched": _typed("budget.matched", bool, node.get("matched", False))}
    for scope in ("run", "sample"):
        caps = node.get(scope) or {}
        if not isinstance(caps, Mapping):
            raise ConfigError(f"budget.{scope}={caps!r} does not fit: write budget.{scope}.usd=5")
        where, target = f"budget.{scope}", "rlm_eval.ledger.Budget"
        checked = _checked(where, {"_target_": target, **caps}, allowed)
        for key in _parameters(where, target):
            cap = checked.get(key)
            if cap is not None and cap <= 0:
                raise ConfigError(f"{where}.{key} must be above 0, got {cap}; null is no cap")
            out.setdefault(scope, {})[key] = cap
    return out


def _value(where: str, parameter: inspect.Parameter, value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _checked(where, value, allowed)
    if targets(value):
        raise ConfigError(f"{where} holds a _target_ deeper within: it would not be built")
    if value == "???":
        raise ConfigError(f"{where} is missing: give {where}=VALUE")
    if parameter.annotation is inspect.Parameter.empty:
        return value
    return _typed(where, parameter.annotation, value)


def _parameters(where: str, target: str) -> dict[str, inspect.Parameter]:
    """The target's parameters with their annotations resolved to types."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{where}._target_={target} can't be loaded: {reason}") from error
    # A dataclass's own annotations, each resolved in the module of the class that wrote it.
    plain = inspect.isclass(found) and not is_dataclass(found)
    hints = typing.get_type_hints(found.__init__ if plain else found)
    return {
        name: parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _typed(where: str, kind: Any, value: Any) -> Any:
    """``value`` as ``kind`` in plain data, or ConfigError naming the key."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        return _plain(TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        problem = error.errors()[0]
        given = problem["input"]
        raise ConfigError(f"{where}={given!r} does not fit: {problem['msg']}") from None
    except PydanticSchemaGenerationError:
        raise ConfigError(f"{where} must be a configuration with a _target_") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, records as mappings: what YAML and a hash can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def unknown_key(key: str, known: Sequence[str]) -> str:
    """One line for a key nobody reads, with the nearest one that exists."""
    if key in known:
        return f"{key} can't be set here: set it where {key.rpartition('.')[0]} comes from"
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else _siblings(key, known)
    return f"unknown key {key}: {hint}"


def _siblings(key: str, known: Sequence[str]) -> str:
    """The keys that stand beside ``key``, or all at the top."""
    parent = key.rpartition(".")[0]
    beside = [k for k in known if k.rpartition(".")[0] == parent]
    return f"known here: {', '.join(sorted(beside)) or 'none'}"
