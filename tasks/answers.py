"""Questions over a window's lines as data, and what their answers are.

An answer is recomputed from the lines alone; None where it is not unique or its lead is too small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .windows import SHOWN, Line


@dataclass(frozen=True)
class Query:
    """``kind`` names an entry of KINDS; the rest are its arguments."""

    kind: str
    label: str = ""
    other: str = ""
    users: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class Facts:
    """What questions are drawn from: the labels, the users with most lines first, the counts of
    lines that dates have."""

    labels: tuple[str, ...]
    users: tuple[int, ...]
    repeats: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[str], lines: Sequence[Line]) -> Facts:
        users = Counter(line.user for line in lines)
        ranked = sorted(users, key=lambda user: (-users[user], user))
        repeats = set(Counter(line.day for line in lines).values())
        return cls(tuple(labels), tuple(ranked), tuple(sorted(repeats)))


# ``lead``: how much larger than its neighbours the chosen count must be (None: take the best).


def ranked(counts: Mapping[Any, int], rank: int, lead: float | None) -> Any | None:
    """The key with the ``rank``-th largest count, if it is apart from its neighbours."""
    order = sorted(counts, key=lambda key: (-counts[key], str(key)))
    if rank >= len(order):
        return None
    near = [order[i] for i in (rank - 1, rank + 1) if 0 <= i < len(order)]
    chosen = order[rank]
    if lead is not None and any(abs(counts[chosen] - counts[key]) <= lead for key in near):
        return None
    return chosen


def label_counts(lines: Iterable[Line], labels: Sequence[str]) -> dict[str, int]:
    found = Counter(line.label for line in lines)
    return {label: found[label] for label in labels}


def count_label(lines: Iterable[Line], label: str) -> str:
    return str(sum(line.label == label for line in lines))


def common_label(
    lines: Sequence[Line], labels: Sequence[str], gap: float | None, rank: int = 0
) -> str | None:
    lead = None if gap is None else gap * len(lines)
    return ranked(label_counts(lines, labels), rank, lead)


def common(values: Iterable[Any], gap: float | None, rank: int = 0) -> Any | None:
    return ranked(Counter(values), rank, None if gap is None else 0)


def comparison(a: int, b: int, total: int, gap: float | None) -> str | None:
    if gap is not None and (a == b == 0 or 0 < abs(a - b) <= gap * total):
        return None
    return "same frequency as" if a == b else "more common than" if a > b else "less common than"


def compared(q: Query, lines: Sequence[Line], gap: float | None) -> str | None:
    counts = Counter(line.label for line in lines)
    return comparison(counts[q.label], counts[q.other], len(lines), gap)


def before_after(q: Query, lines: Sequence[Line], gap: float | None) -> str | None:
    days = [line.day for line in lines if line.label == q.label]
    before = sum(day < q.days[0] for day in days)
    return comparison(before, len(days) - before, len(days), gap)


def of_users(q: Query, lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.user in q.users]


def in_range(q: Query, lines: Sequence[Line]) -> list[Line]:
    first, last = q.days
    return [line for line in lines if first <= line.day <= last]


def user_text(user: int | None) -> str | None:
    return None if user is None else str(user)


def day_text(day: int | None) -> str | None:
    return None if day is None else SHOWN[day]
