"""Objects from checked configuration; nothing that wasn't checked is built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import content_hash


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
