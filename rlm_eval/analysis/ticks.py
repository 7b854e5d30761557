"""Ticks on logarithmic axes: few, round, and none over another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, log10

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rlm_eval.analysis import lettering

#: How many ticks an axis should have.
FEW = range(3, 6)
#: A narrower axis, as highest over lowest, is widened to this.
NARROW = 1.3
#: Inches between the labels of two ticks.
APART = 0.1


def log_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Round ticks over the whole axis. Call when all is drawn: it needs the final limits."""
    axes = axis.axes
    axes.autoscale_view()
    low, high = (float(v) for v in axis.get_view_interval())
    if high / low < NARROW:
        middle, half = (low * high) ** 0.5, NARROW**0.5
        low, high = middle / half, middle * half
        (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low, high)
    _set(axis, round_ticks(low, high, text), text)


def round_ticks(low: float, high: float, text: Callable[[float], str]) -> list[float]:
    """Of all ways to put 3 to 5 round ticks with a text each from ``low`` to ``high``, that with
    the widest gaps; the roundest of several."""
    ways = [
        ticks
        for ticks in _ways(low, high)
        if len(ticks) in FEW and len({text(v) for v in ticks}) == len(ticks)
    ]
    return max(ways, key=_narrowest, default=[low, high])


def _narrowest(ticks: Sequence[float]) -> float:
    return round(min(log10(b / a) for a, b in pairwise(ticks)), 6)


def _ways(low: float, high: float) -> Iterator[list[float]]:
    first, last = floor(log10(low)), ceil(log10(high))
    for apart in range(1, 1 + (last - first) // 2):
        yield [10.0**p for p in range(ceil(log10(low)), 1 + floor(log10(high)), apart)]
    for digits in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        every = [d * 10.0**p for p in range(first, last + 1) for d in digits]
        yield [v for v in every if low <= v <= high]
    for power in (0, -1, -2):
        for digit in (5, 2, 1):
            step = digit * 10.0 ** (first + power)
            if (high - low) / step <= FEW[-1]:
                yield [n * step for n in range(ceil(low / step), 1 + floor(high / step))]


def ticks_at(axes: Axes, places: Sequence[float], text: Callable[[float], str]) -> None:
    """Ticks along x at the places, least first, leaving out those whose label would touch the
    one before. Call when all is drawn."""
    axes.autoscale_view()
    low, high = axes.get_xlim()
    scale = axes.get_window_extent().width / axes.figure.dpi / log10(high / low)
    kept: list[float] = []
    end = -APART
    for place in places:
        middle, half = scale * log10(place / low), lettering.inches(text(place), 8) / 2
        if not kept or middle - half >= end + APART:
            kept.append(float(place))
            end = middle + half
    _set(axes.xaxis, kept, text)


def _set(axis: Axis, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: text(v)))
