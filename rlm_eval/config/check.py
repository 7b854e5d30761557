"""A run's composed configuration, checked before anything is built, and what is built from it.

The constructor is the schema: each ``_target_`` node is checked against its signature (unknown
and missing keys, types). What has no constructor has :class:`Settings`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from rlm_eval.config.compose import known_keys
from rlm_eval.config.credentials import as_written, refuse_credentials
from rlm_eval.config.spelling import misfit, unknown_key
from rlm_eval.errors import ConfigError
from rlm_eval.records import Role, content_hash

#: Top-level keys that change how a run is carried out, not what it measures.
RUN_TIME_KEYS = {
    *("concurrency", "results_dir", "dry_run", "stop_on_forecast", "allow_targets"),
    *("demonstration", "retry", "analysis", "shards", "shard"),
}
#: Settings of a model of which the same holds.
_OF_ASKING = ("limits", "timeout_s", "start_timeout_s", "api_key_env")
#: The roles that may have a model of their own, and the key that gives it. Without one they use
#: ``model``.
ROLE_KEYS: Mapping[Role, str] = {
    "sub": "sub_model",
    "summarize": "summarize_model",
    "judge": "judge_model",
}
#: What an arm is in a verdict; by default its class says (analysis/arms.py).
KINDS = ("rlm", "alternative", "control")
#: Groups beside ``method`` that every run needs, and those it may do without.
NEEDED = ("task", "model", "sandbox", "retry")
OPTIONAL = (*ROLE_KEYS.values(), "embed_model")
_MODELS = ("model", *OPTIONAL)


class Caps(BaseModel, extra="forbid", allow_inf_nan=False):
    """The caps of one scope of ``budget``; None is no cap."""

    calls: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    usd: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)


class BudgetSettings(BaseModel, extra="forbid"):
    run: Caps = Field(default_factory=Caps)
    sample: Caps = Field(default_factory=Caps)
    matched: bool = False


class AnalysisSettings(BaseModel, extra="forbid", allow_inf_nan=False):
    """``margin``: how much lower a score may be, in score (0 to 1), and still be called as good.
    ``unit``: what intervals and tests take as independent, contexts or single questions; the latter
    says something about these contexts alone."""

    margin: float = Field(default=0.05, gt=0, lt=1)
    unit: Literal["context", "question"] = "context"


class Settings(BaseModel, extra="forbid", allow_inf_nan=False):
    """The keys of conf/config.yaml that have no ``_target_``."""

    repeats: int = Field(ge=1)
    temperature: float | None = Field(ge=0)
    memoize: bool
    concurrency: int | None = Field(ge=1)
    shards: int = Field(default=1, ge=1)
    shard: int | None = Field(default=None, ge=1)
    results_dir: str
    dry_run: bool
    stop_on_forecast: bool
    seed: int
    allow_targets: list[str]
    demonstration: bool | None
    budget: BudgetSettings
    analysis: AnalysisSettings = Field(default_factory=AnalysisSettings)


@dataclass(frozen=True)
class RunConfig:
    """The resolved configuration as plain dicts, checked. ``tree`` is all of it."""

    tree: Mapping[str, Any]

    @property
    def stored(self) -> dict[str, Any]:
        """All of it as it may be written down: without what it takes from the environment."""
        return dict(as_written(self.tree))

    @property
    def measured(self) -> dict[str, Any]:
        """What it measures, without how it is carried out."""
        kept = {key: value for key, value in self.tree.items() if key not in RUN_TIME_KEYS}
        return kept | {key: what_is_asked(kept[key]) for key in _MODELS if kept.get(key)}

    @property
    def identity(self) -> str:
        """Hash of what the run measures: the same for any concurrency, path or verbosity."""
        measured = self.measured
        models = {key: switched_on(measured.get(key)) for key in ("model", *ROLE_KEYS.values())}
        return content_hash(as_written(measured | models, all_of_it=False))

    def __getitem__(self, key: str) -> Any:
        return self.tree[key]


def changes_no_result(key: str) -> bool:
    """Whether a dotted key says how a run is carried out, or how a model is asked."""
    top, _, rest = key.partition(".")
    return top in RUN_TIME_KEYS or (top in _MODELS and rest.partition(".")[0] in _OF_ASKING)


def what_is_asked(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings without those of how it is asked."""
    return {key: value for key, value in model.items() if key not in _OF_ASKING}


def switched_on(model: Any) -> dict[str, Any]:
    """A model's settings but for those that are off: an older run did not know one that is new."""
    return what_is_asked({k: v for k, v in (model or {}).items() if v})


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """The configuration with each role's model filled in and every value's type settled. Raises
    ConfigError for the first thing that is wrong, naming the key."""
    refuse_credentials(tree)
    for key in NEEDED:
        if not tree.get(key):
            raise ConfigError(f"{key} is missing: leave ~{key} out")
    if not tree.get("method"):
        raise ConfigError("no method is left: give at least one, as in method=[direct,rlm]")
    groups = ("method", *NEEDED, *OPTIONAL)
    checked = _settings({key: value for key, value in tree.items() if key not in groups})
    allowed = ("rlm_eval", *checked["allow_targets"])
    for key in NEEDED:
        checked[key] = _checked(key, tree[key], allowed)
    for key in OPTIONAL:
        node = tree.get(key)
        if key != "embed_model":
            node = _role_model(key, tree["model"], node)
        checked[key] = _checked(key, node, allowed) if node else None
    checked["method"] = {
        name: _arm(f"method.{name}", node, allowed) for name, node in tree["method"].items()
    }
    return RunConfig(checked)


def _arm(where: str, node: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """A method's node, and with it what verdicts are to take it for: ``kind``."""
    given = dict(node) if isinstance(node, Mapping) else node
    kind = given.pop("kind", None) if isinstance(given, dict) else None
    if kind not in (None, *KINDS):
        raise ConfigError(f"{where}.kind={kind} must be one of {', '.join(KINDS)}")
    return _checked(where, given, allowed) | ({"kind": kind} if kind else {})


def check_task(node: Any, allow_targets: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of a task alone, checked as :func:`check_config` does."""
    refuse_credentials({"task": node})
    return _checked("task", node, ("rlm_eval", *allow_targets))


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    budget = given.get("budget")
    if isinstance(budget, Mapping):  # a scope that is left empty has no caps
        given = {**given, "budget": {k: v for k, v in budget.items() if v is not None}}
    try:
        checked = Settings.model_validate(given).model_dump()
        if (checked["shard"] or 1) > checked["shards"]:
            raise ConfigError(f"shard={checked['shard']} is none of shards={checked['shards']}")
        return checked
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing":
            raise ConfigError(f"{key} is missing: leave ~{key} out") from None
        if problem["type"] == "extra_forbidden":
            raise ConfigError(unknown_key(key, known_keys())) from None
        raise ConfigError(misfit(key, problem)) from None


def _role_model(key: str, model: Any, node: Any) -> dict[str, Any] | None:
    """A role's model: one of its own (``model@sub_model=NAME`` gives its ``_target_``), the root
    model with changes, or None (the same). Another model than the root's has not its price."""
    if not isinstance(node, Mapping | None):
        raise ConfigError(f"{key}={node} is no configuration: write model@{key}={node}")
    given = {k: v for k, v in (node or {}).items() if v is not None}
    if not given or "_target_" in given:
        return given or None
    other = given.get("name", model.get("name")) != model.get("name") and "price" in model
    return {**model, **({"price": {}} if other else {}), **given}


def _checked(
    where: str, node: Any, allowed: Sequence[str], *, whole: bool = True
) -> dict[str, Any]:
    """A ``_target_`` node, checked against the target's signature; ``whole``: no key is missing."""
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
        out[key] = _value(f"{where}.{key}", parameters[key], value, allowed)
    for key, parameter in parameters.items():
        if whole and parameter.default is inspect.Parameter.empty and key not in out:
            raise ConfigError(f"{where}.{key} is missing: give {where}.{key}=VALUE")
    return out


def _value(where: str, parameter: inspect.Parameter, value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _checked(where, value, allowed)
    if isinstance(value, list) and any("_target_" in v for v in value if isinstance(v, Mapping)):
        # A function that is handed over, with some of its parameters given.
        return [
            _checked(where, v, allowed, whole=False) if isinstance(v, Mapping) else v for v in value
        ]
    if targets(value):
        raise ConfigError(f"{where} holds a _target_ deeper within: it would not be built")
    if value == "???":
        raise ConfigError(f"{where} is missing: give {where}=VALUE (--cfg shows what it is)")
    if parameter.annotation is inspect.Parameter.empty:
        return value
    try:
        fitting = _plain(TypeAdapter(parameter.annotation).validate_python(value))
        json.dumps(fitting, allow_nan=False, skipkeys=True, default=str)
        # Texts from the environment stay known as such; numbers and records are values.
        return value if as_written(value) != value == fitting else fitting
    except ValidationError as error:
        raise ConfigError(misfit(where, error.errors()[0])) from None
    except ValueError:
        raise ConfigError(f"{where}={value!r} does not fit: every number must be finite") from None
    except PydanticSchemaGenerationError:
        raise ConfigError(f"{where} must be a configuration with a _target_") from None
    except ConfigError as error:  # of a record that checks itself, as a price does
        raise error.within(where) from error


def _parameters(where: str, target: str) -> dict[str, inspect.Parameter]:
    """The target's parameters with their annotations resolved to types."""
    module, _, name = target.rpartition(".")
    if not target.startswith("rlm_eval.") and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where ``python -m`` looks, and a console script does not
    try:
        found = getattr(importlib.import_module(module), name)
        # A dataclass's own annotations, each resolved in the module of the class that wrote it.
        plain = inspect.isclass(found) and not is_dataclass(found)
        hints = typing.get_type_hints(found.__init__ if plain else found)
    except (ImportError, ValueError, AttributeError, NameError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{where}._target_={target} can't be loaded: {reason}") from error
    return {
        name: parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, records as mappings: what YAML and a hash can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def targets(node: Any) -> list[str]:
    """Every ``_target_`` in a tree of nodes."""
    if isinstance(node, list):
        return [target for value in node for target in targets(value)]
    if not isinstance(node, Mapping):
        return []
    own = [str(node["_target_"])] if "_target_" in node else []
    return own + [target for value in node.values() for target in targets(value)]


def build(where: str, node: Mapping[str, Any], shared: dict[str, Any] | None = None) -> Any:
    """The object that the checked node at ``where`` describes, with those it holds as parameters.

    Parameters that are equal nodes (the sandboxes of several arms, say) are one object, kept in
    ``shared`` by their hash; but a method that another one asks (``of``) is its own, and so is what
    it keeps for its questions. Raises the ConfigError of a constructor, its key within ``where``.
    """
    shared = {} if shared is None else shared
    given: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, list):
            given[key] = [_handed_over(item) for item in value]
        elif isinstance(value, Mapping) and "_target_" in value:
            digest = content_hash(value)
            if key == "of" or digest not in shared:
                shared[digest] = build(f"{where}.{key}", value, shared)
            given[key] = shared[digest]
        elif key != "_target_":
            given[key] = value
    try:
        return _named(node["_target_"])(**given)
    except ConfigError as error:
        raise error.within(where) from error


def _handed_over(item: Any) -> Any:
    """In a list, a node is a function that is handed over with its other keys given, not called."""
    if not isinstance(item, Mapping):
        return item
    given = {key: value for key, value in item.items() if key != "_target_"}
    return partial(_named(item["_target_"]), **given)


def _named(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)
