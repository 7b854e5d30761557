"""Objects from checked configuration; nothing that wasn't checked is built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import content_hash


def build(where: str, node: Mapping[str, Any], shared: dict[str, Any] | None = None) -> Any:
    """The object that the checked node at ``where`` describes, with those it holds as parameters.

    Parameters that are equal nodes (the sandboxes of several arms, say) are one object, kept in
    ``shared`` by their hash. Raises the ConfigError of a constructor, its key within ``where``.
    """
    shared = {} if shared is None else shared
    module, _, name = node["_target_"].rpartition(".")
    given: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and "_target_" in value:
            digest = content_hash(value)
            if digest not in shared:
                shared[digest] = build(f"{where}.{key}", value, shared)
            given[key] = shared[digest]
        elif key != "_target_":
            given[key] = value
    try:
        return getattr(importlib.import_module(module), name)(**given)
    except ConfigError as error:
        raise error.within(where) from error
