"""Numbers as people read them, the same in every table, verdict and figure."""

from __future__ import annotations

import pandas as pd


def points(share: float) -> str:
    """A signed difference in points of a hundred, with a true minus sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def percent(share: float) -> str:
    return "–" if pd.isna(share) else str(round(100 * share)).replace("-", "−")


def limits(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{100 * low:.0f}–{100 * high:.0f}"


def limits_of_difference(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{100 * low:+.0f} to {100 * high:+.0f}".replace("-", "−")


def seconds(number: float) -> str:
    """Seconds in at most five characters, ``<0.01`` for less than a hundredth."""
    return "<0.01" if 0 < number < 0.01 else count(number)


def count(number: float) -> str:
    """A token count or other large number in at most five characters."""
    if pd.isna(number):
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(usd: float) -> str:
    return "unpriced" if pd.isna(usd) else f"${usd:.2g}" if usd < 0.1 else f"${usd:,.2f}"
