"""rlm_eval: is a Recursive Language Model worth it? See ARCHITECTURE.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_eval.analysis.load import load_results
    from rlm_eval.commands.notebook import Run, ask, run
    from rlm_eval.errors import ConfigError

__all__ = ["ConfigError", "Run", "ask", "load_results", "run"]
_HOMES = {
    **dict.fromkeys(("Run", "ask", "run"), "rlm_eval.commands.notebook"),
    "load_results": "rlm_eval.analysis.load",
    "ConfigError": "rlm_eval.errors",
}


def __getattr__(name: str) -> Any:
    """What is offered, imported when it is asked for: pandas and Hydra take their time."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
