"""The twenty conditions of OOLONG-Pairs (RLM paper, arXiv 2512.24601, appendix D.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .labelled import TREC_LABELS
from .windows import DAY_OF, SHOWN, Line


@dataclass(frozen=True)
class Need:
    """So many lines of a label: exactly, or at least."""

    label: str
    number: int
    exactly: bool = False

    def met(self, counts: Mapping[str, int]) -> bool:
        have = counts[TREC_LABELS[self.label]]
        return have == self.number if self.exactly else have >= self.number

    def words(self) -> str:
        lines = "line" if self.number == 1 else "lines"
        amount = "exactly" if self.exactly else "at least"
        return f"{amount} {self.number} {lines} labelled '{TREC_LABELS[self.label]}'"


@dataclass(frozen=True)
class Clause:
    """All lines of a label dated before or after a day."""

    label: str
    after: bool
    day: int

    def met(self, lines: Iterable[Line]) -> bool:
        label = TREC_LABELS[self.label]
        days = [line.day for line in lines if line.label == label]
        return all(day > self.day if self.after else day < self.day for day in days)

    def words(self) -> str:
        label, when = TREC_LABELS[self.label], "after" if self.after else "before"
        return f"all their lines labelled '{label}' are dated {when} {SHOWN[self.day]}"


@dataclass(frozen=True)
class Either:
    """Queries 1–10: both users have a line of either label, and meet the clause if there is one."""

    one: str
    other: str
    clause: Clause | None = None

    def roles(self, users: Mapping[int, Sequence[Line]]) -> tuple[set[int], set[int]]:
        labels = {TREC_LABELS[self.one], TREC_LABELS[self.other]}
        fit = {
            user
            for user, lines in users.items()
            if any(line.label in labels for line in lines)
            and (self.clause is None or self.clause.met(lines))
        }
        return fit, fit

    def words(self) -> str:
        first = (
            f"both users have at least one line labelled '{TREC_LABELS[self.one]}' or"
            f" '{TREC_LABELS[self.other]}'"
        )
        if self.clause is None:
            return first
        return f"{first}, and for both users {self.clause.words()} (true of a user without any)"


@dataclass(frozen=True)
class Roles:
    """Queries 11–20: one user meets all needs of ``a``, the other all of ``b``."""

    a: tuple[Need, ...]
    b: tuple[Need, ...]

    def roles(self, users: Mapping[int, Sequence[Line]]) -> tuple[set[int], set[int]]:
        counts = {user: Counter(line.label for line in lines) for user, lines in users.items()}
        first, second = (
            {user for user, have in counts.items() if all(need.met(have) for need in needs)}
            for needs in (self.a, self.b)
        )
        return first, second

    def words(self) -> str:
        a, b = (" and ".join(need.words() for need in needs) for needs in (self.a, self.b))
        return f"one user has {a}, and the other user has {b}"


Query = Either | Roles


def _day(shown: str) -> int:
    return DAY_OF[shown]


def _need(text: str) -> Need:
    """``HUM≥1`` at least one, ``HUM=1`` exactly one."""
    return Need(text[:-2], int(text[-1]), exactly=text[-2] == "=")


def _roles(a: str, b: str) -> Roles:
    return Roles(tuple(map(_need, a.split())), tuple(map(_need, b.split())))


#: RLM paper, appendix D.1, in its order.
QUERIES: tuple[Query, ...] = (
    Either("NUM", "LOC"),
    Either("ENTY", "HUM"),
    Either("DESC", "ABBR"),
    Either("HUM", "LOC", Clause("HUM", after=True, day=_day("Jan 06, 2023"))),
    Either("ENTY", "NUM", Clause("ENTY", after=False, day=_day("Mar 15, 2023"))),
    Either("LOC", "ABBR"),
    Either("DESC", "NUM", Clause("NUM", after=True, day=_day("Feb 01, 2023"))),
    Either("HUM", "DESC"),
    Either("ENTY", "LOC", Clause("LOC", after=True, day=_day("Apr 10, 2023"))),
    Either("NUM", "ABBR", Clause("ABBR", after=False, day=_day("May 20, 2023"))),
    _roles("ENTY≥1 ABBR≥1", "ENTY=1"),
    _roles("NUM≥2", "LOC≥1 HUM≥1"),
    _roles("DESC=1", "ABBR≥1 ENTY≥1"),
    _roles("HUM≥1 NUM≥1", "LOC=2"),
    _roles("ENTY≥1 LOC≥1 ABBR≥1", "NUM=1"),
    _roles("DESC≥1 HUM≥1", "ENTY≥2 ABBR=1"),
    _roles("NUM=1", "LOC≥1 DESC≥1"),
    _roles("ABBR≥1 HUM=1", "ENTY≥1 NUM≥1"),
    _roles("LOC≥2 ENTY≥1", "DESC=1 ABBR=1"),
    _roles("NUM≥1 HUM≥1", "LOC≥1 ENTY≥1 ABBR=1"),
)
