"""OOLONG's question groups over a window's lines: how each is drawn, worded and answered.

An answer is recomputed from the lines alone. A question whose answer is not unique, or whose lead
is too small, is not asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ..draws import Draws
from ..scoring import oolong
from .windows import DAY_OF, DAYS, MONTH_OF, MONTHS, SHOWN, Line

#: Most-common and A-vs-B questions need a lead of more than this share of the lines.
GAP = 0.02
#: Users that a question may be about: so many with most lines, and so many of these are named. A
#: fixed number, so that the size of the subset tells little about the answer; so is the range.
BUSY_USERS, NAMED_USERS = 20, 2
RANGE = DAYS // 3


@dataclass(frozen=True)
class Query:
    """A question as data. ``kind`` names an entry of KINDS; the rest are its arguments."""

    kind: str
    label: str = ""
    other: str = ""
    users: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class View:
    """What a query is answered from: the lines it is about, all labels, and the lead that a most
    common one needs (None: the best is taken, whatever its lead)."""

    lines: Sequence[Line]
    labels: Sequence[str]
    gap: float | None


# --- Answers: None where one is not unique or its lead too small ---------------------------------


def _ranked(counts: Counter[Any], rank: int, lead: float | None) -> Any | None:
    """The key with the ``rank``-th largest count, if it is apart from its neighbours by more than
    ``lead``."""
    order = sorted(counts, key=lambda key: (-counts[key], str(key)))
    if rank >= len(order):
        return None
    chosen, near = order[rank], [*order[max(rank - 1, 0) : rank], *order[rank + 1 : rank + 2]]
    if lead is not None and any(abs(counts[chosen] - counts[key]) <= lead for key in near):
        return None
    return chosen


def _comparison(a: int, b: int, total: int, gap: float | None) -> str | None:
    if gap is not None and (a == b == 0 or 0 < abs(a - b) <= gap * total):
        return None
    return "same frequency as" if a == b else "more common than" if a > b else "less common than"


def label_count(q: Query, view: View) -> str:
    return str(sum(line.label == q.label for line in view.lines))


def common_label(q: Query, view: View, *, least: bool = False) -> str | None:
    counts = Counter(dict.fromkeys(view.labels, 0))
    counts.update(line.label for line in view.lines if line.label in counts)
    lead = None if view.gap is None else view.gap * len(view.lines)
    return _ranked(counts, len(counts) - 1 if least else 0, lead)


def compared(q: Query, view: View) -> str | None:
    counts = Counter(line.label for line in view.lines)
    return _comparison(counts[q.label], counts[q.other], len(view.lines), view.gap)


def before_after(q: Query, view: View) -> str | None:
    days = [line.day for line in view.lines if line.label == q.label]
    before = sum(day < q.days[0] for day in days)
    return _comparison(before, len(days) - before, len(days), view.gap)


def top_user(q: Query, view: View, *, rank: int = 0) -> str | None:
    counts = Counter(line.user for line in view.lines if not q.label or line.label == q.label)
    user = _ranked(counts, rank, None if view.gap is None else 0)
    return None if user is None else str(user)


def top_date(q: Query, view: View) -> str | None:
    counts = Counter(line.day for line in view.lines)
    day = _ranked(counts, 0, None if view.gap is None else 0)
    return None if day is None else SHOWN[day]


def dates_exactly_n(q: Query, view: View) -> str:
    return str(list(Counter(line.day for line in view.lines).values()).count(q.number))


# --- Kinds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of question. The placeholders of ``text`` are what a query of it holds; ``find``
    answers it from the lines that remain of its users, dates or month."""

    family: Literal["counting", "user", "timeline"]
    form: oolong.Kind
    text: str
    find: Callable[[Query, View], str | None]

    @property
    def needs_labels(self) -> bool:
        """Whether the answer depends on the labels."""
        return self.form == "label" or "{label}" in self.text


KINDS: dict[str, Kind] = {
    "label_count": Kind(
        "counting",
        "number",
        "How many lines should be classified as '{label}'?",
        label_count,
    ),
    "most_common": Kind("counting", "label", "Which label is the most common?", common_label),
    "least_common": Kind(
        "counting",
        "label",
        "Which label is the least common?",
        partial(common_label, least=True),
    ),
    "compare": Kind(
        "counting",
        "comparison",
        "Is the label '{label}' more common than, less common than, or of the same frequency as"
        " the label '{other}'?",
        compared,
    ),
    "user_label_count": Kind(
        "user",
        "number",
        "Counting only the lines of these users: {users}; how many should be classified as"
        " '{label}'?",
        label_count,
    ),
    "user_most_common": Kind(
        "user",
        "label",
        "Counting only the lines of these users: {users}; which label is the most common?",
        common_label,
    ),
    "label_top_user": Kind(
        "user",
        "user",
        "Which user has the most lines that should be classified as '{label}'?",
        top_user,
    ),
    "top_user": Kind("user", "user", "Which user has the most lines?", top_user),
    "second_user": Kind(
        "user", "user", "Which user has the second most lines?", partial(top_user, rank=1)
    ),
    "before_after": Kind(
        "timeline",
        "comparison",
        "Take the lines that should be classified as '{label}': are those dated before {day} more"
        " common than, less common than, or of the same frequency as those dated {day} or later?",
        before_after,
    ),
    "month_label_count": Kind(
        "timeline",
        "number",
        "Counting only the lines dated in the month of {month}, of any year, how many should be"
        " classified as '{label}'?",
        label_count,
    ),
    "range_label_count": Kind(
        "timeline",
        "number",
        "Counting only the lines dated from {day} to {until}, both included, how many should be"
        " classified as '{label}'?",
        label_count,
    ),
    "range_most_common": Kind(
        "timeline",
        "label",
        "Counting only the lines dated from {day} to {until}, both included, which label is the"
        " most common?",
        common_label,
    ),
    "top_date": Kind("timeline", "date", "Which date occurs in the most lines?", top_date),
    "dates_exactly_n": Kind(
        "timeline",
        "number",
        "How many different dates occur in exactly {number} lines?",
        dates_exactly_n,
    ),
}


def answer(
    q: Query, lines: Sequence[Line], labels: Sequence[str], gap: float | None = None
) -> str | None:
    """The answer to a query from a window's lines; None where it has none."""
    kind = KINDS[q.kind]
    if q.users:
        lines = [line for line in lines if line.user in q.users]
    if "{until}" in kind.text:
        lines = [line for line in lines if q.days[0] <= line.day <= q.days[1]]
    if "{month}" in kind.text:
        lines = [line for line in lines if MONTH_OF[line.day] == q.number]
    return kind.find(q, View(lines, labels, gap))


# --- Draws ---------------------------------------------------------------------------------------


def draw_queries(
    kinds: Iterable[str], count: int, labels: Sequence[str], lines: Sequence[Line], draws: Draws
) -> Iterator[tuple[Query, str]]:
    """Up to ``count`` distinct questions with their golds, going round ``kinds`` in order; a kind
    that has no exact question left in this window is passed over."""
    users = Counter(line.user for line in lines)
    busy = sorted(users, key=lambda user: (-users[user], user))[:BUSY_USERS]
    repeats = sorted(set(Counter(line.day for line in lines).values()))
    asked: set[Query] = set()

    def draw(kind: str) -> tuple[Query, str] | None:
        tried = set(asked)
        for _ in range(24):
            query = _draw(kind, labels, busy, repeats, draws)
            gold = None if query in tried else answer(query, lines, labels, GAP)
            if gold is not None:
                return query, gold
            tried.add(query)
        return None

    left = list(kinds)
    while left:
        for kind in tuple(left):
            found = draw(kind)
            if found is None:
                left.remove(kind)
                continue
            asked.add(found[0])
            yield found
            if len(asked) == count:
                return


def _draw(
    kind: str, labels: Sequence[str], busy: Sequence[int], repeats: Sequence[int], draws: Draws
) -> Query:
    """A query of the kind: whatever its text has a placeholder for, in this order."""
    holds = set(re.findall(r"\{(\w+)\}", KINDS[kind].text))
    users: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    label = other = ""
    number = 0
    if "users" in holds:
        users = tuple(sorted(draws.sample(busy, min(NAMED_USERS, len(busy)))))
    if "until" in holds:
        first = draws.below(DAYS - RANGE)
        days = first, first + RANGE
    if "other" in holds:
        label, other = draws.sample(labels, 2)
    elif "label" in holds:
        label = draws.choice(labels)
    if "day" in holds and not days:
        days = (draws.between(DAYS // 5, DAYS * 4 // 5),)
    if "month" in holds:
        number = draws.between(1, 12)
    if "number" in holds:
        number = draws.choice(repeats)
    return Query(kind, label, other, users, days, number)


# --- Words ---------------------------------------------------------------------------------------


def word(query: Query) -> str:
    """The question in words, without the answer's form."""
    day, until, *_ = [*(SHOWN[day] for day in query.days), "", ""]
    return KINDS[query.kind].text.format(
        label=query.label,
        other=query.other,
        users=", ".join(map(str, query.users)),
        day=day,
        until=until,
        month=MONTHS[query.number - 1] if query.kind == "month_label_count" else "",
        number=query.number,
    )


def form(kind: str, labels: Sequence[str]) -> str:
    """How to write the answer; OOLONG's forms, in our own words."""
    forms: dict[oolong.Kind, str] = {
        "label": f"'Label: X', where X is one of: {', '.join(labels)}",
        "number": "'Answer: X', where X is a whole number",
        "comparison": "'Answer: X', where X is 'more common than', 'less common than' or"
        " 'same frequency as'",
        "user": "'User: X', where X is the user's number",
        "date": "'Date: X', where X is written as in the lines, such as 'Mar 05, 2024'",
    }
    return f"Reply in the form {forms[KINDS[kind].form]}."


def _pattern(text: str) -> re.Pattern[str]:
    """What finds a kind's text with its arguments; of a placeholder that comes twice, the first
    counts."""
    for name in set(re.findall(r"\{(\w+)\}", text)):
        text = text.replace(f"{{{name}}}", f"<{name}>", 1).replace(f"{{{name}}}", "<>")
    escaped = re.escape(text).replace("<>", ".+?")
    return re.compile(re.sub(r"<(\w+)>", r"(?P<\1>.+?)", escaped))


PATTERNS = {name: _pattern(kind.text) for name, kind in KINDS.items()}


def read(text: str) -> Query | None:
    """The query a question's text holds; the inverse of :func:`word`."""
    for name, pattern in PATTERNS.items():
        if found := pattern.search(text):
            part = found.groupdict()
            number = MONTHS.index(part["month"]) + 1 if "month" in part else part.get("number", 0)
            return Query(
                name,
                label=part.get("label", ""),
                other=part.get("other", ""),
                users=tuple(int(u) for u in part.get("users", "").split(", ") if u),
                days=tuple(DAY_OF[part[key]] for key in ("day", "until") if key in part),
                number=int(number),
            )
    return None
