"""Making a text fit a model's window, counted in the served model's own tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Cut = Literal["head", "middle", "tail"]


def cut_text(text: str, keep: int, cut: Cut) -> str:
    """``keep`` characters of ``text``: the head, the middle or the tail is cut away."""
    if keep >= len(text):
        return text
    if cut == "tail":
        return text[:keep]
    if cut == "head":
        return text[len(text) - keep :]
    front = (keep + 1) // 2
    return text[:front] + text[len(text) - (keep - front) :]


def largest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """The largest n ≤ ``size`` with ``fits(n)``, for a test that is true up to some n (0 holds)."""
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
