"""rlm_eval: is a Recursive Language Model worth it? See ARCHITECTURE.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_eval.analysis.load import load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    """``rlm_eval.load_results`` without importing pandas for those who don't ask for it."""
    if name == "load_results":
        from rlm_eval.analysis.load import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
