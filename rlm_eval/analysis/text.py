"""Numbers and tables as people read them, the same in every table, verdict and figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def points(share: float) -> str:
    """A signed difference in points of a hundred, with a true minus sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def percent(share: float) -> str:
    return "–" if pd.isna(share) else str(round(100 * share)).replace("-", "−")


def digits(number: float, n: int) -> str:
    """A number in ``n`` digits, without an exponent."""
    return np.format_float_positional(float(f"{number:.{n}g}"), trim="-")


def seconds(number: float) -> str:
    """Seconds in at most five characters, ``<0.01`` for less than a hundredth."""
    return "<0.01" if 0 < number < 0.01 else count(number)


def count(number: float) -> str:
    """A token count or other large number in at most five characters."""
    if pd.isna(number):
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{digits(number / size, 3)}{unit}"
    return digits(number, 3)


def times(ratio: float) -> str:
    """A ratio in two digits, or as many as tell it from 1."""
    told = (digits(ratio, n) for n in range(2, 18))
    return next((text for text in told if float(text) != 1), "1")


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(usd: float) -> str:
    return "unpriced" if pd.isna(usd) else f"${digits(usd, 2)}" if usd < 0.1 else f"${usd:,.2f}"


@dataclass(frozen=True)
class Column:
    """A column of a shown table, labelled by its name unless ``label`` is given.

    ``kind`` is how values are shown: text, right (text to the right), int, count, seconds, usd
    (null is unpriced), money (null is unknown), share and percent (of 1, with and without a
    decimal), points, number, times, or range for an interval: ``name``_low to ``name``_high,
    without a name ``low`` to ``high``. ``more``: shown only where there is room, or on demand.
    ``if_any``: left out where no row has a value. ``link`` says which samples the report's values
    lead to.
    """

    name: str
    kind: str
    label: str = ""
    more: bool = False
    if_any: bool = False
    link: str | None = None

    @property
    def heading(self) -> str:
        return self.label or self.name.replace("_", " ")

    def values(self, frame: pd.DataFrame) -> list[Any]:
        """The column's values; for a range, pairs of its ends."""
        parts = [frame[part].tolist() for part in self.parts]
        return [list(pair) for pair in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]

    @property
    def parts(self) -> list[str]:
        """The columns of the frame that it shows."""
        if self.kind != "range":
            return [self.name]
        return [f"{self.name}_{end}".removeprefix("_") for end in ("low", "high")]

    def has_values(self, frame: pd.DataFrame) -> bool:
        """Whether the frame can fill the column."""
        own = frame.get(self.parts[0])
        return own is not None and (not self.if_any or bool((own.notna() & (own != "")).any()))


_KINDS: Mapping[str, Callable[[Any], str]] = {
    "right": str,
    "int": lambda v: f"{v:,.0f}",
    "count": count,
    "seconds": seconds,
    "usd": dollars,
    "money": dollars,
    "share": lambda v: f"{round(100 * v, 1) + 0.0:.1f}",
    "percent": percent,
    "points": points,
    "number": lambda v: "<0.001" if 0 < abs(v) < 0.001 else digits(v, 3),
    "range": lambda ends: f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f}",
    "times": lambda v: f"{count(v)}×",
}


def shown(value: Any, kind: str, null: str = "–") -> str:
    """A value of a :class:`Column` as text."""
    first = value[0] if kind == "range" else value
    if pd.isna(first) or (isinstance(first, float) and isinf(first)):
        return "unpriced" if kind == "usd" else null
    return str(value) if kind == "text" else _KINDS[kind](value).replace("-", "−")


def terminal_table(
    columns: Sequence[Column], frame: pd.DataFrame, console: Console, below: str = ""
) -> Table:
    """With rules and without padding on a terminal, the other way round where it is piped. Rows
    with a true ``quiet`` are dim, under the heading ``below``."""
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        padding=(0, 1, 0, 0) if not console.is_terminal else 0,
        pad_edge=False,
    )
    columns = [column for column in columns if column.has_values(frame)]
    for column in columns:
        left = column.kind == "text"
        justify: Any = "left" if left else "right"
        table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=not left)
    quiet = frame["quiet"].tolist() if "quiet" in frame else [False] * len(frame)
    rows = zip(*(column.values(frame) for column in columns), strict=True)
    for i, (row, dim) in enumerate(zip(rows, quiet, strict=True)):
        if dim and below and not any(quiet[:i]):
            table.add_row(Text(below, style="dim italic"))
        cells = (shown(value, column.kind) for value, column in zip(row, columns, strict=True))
        table.add_row(*(Text(cell, style="dim" if dim else "") for cell in cells))
    return table
