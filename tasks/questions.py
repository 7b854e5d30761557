"""OOLONG's question groups over a window's lines: how each is drawn, worded and answered.

A question whose answer is not unique, or whose lead is too small, is not asked (see
:mod:`rlm_eval.tasks.answers`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .answers import (
    Facts,
    Query,
    before_after,
    common,
    common_label,
    compared,
    count_label,
    day_text,
    in_range,
    of_users,
    user_text,
)
from .draws import Draws
from .scorers import OolongKind
from .windows import DAY_OF, DAYS, MONTH_OF, MONTHS, SHOWN, Line

#: Most-common and A-vs-B questions need a lead of more than this share of the lines.
GAP = 0.02

Family = Literal["counting", "user", "timeline"]


@dataclass(frozen=True)
class Kind:
    """A kind of question. ``needs_labels``: whether its answer depends on the labels."""

    family: Family
    form: OolongKind
    text: str
    draw: Callable[[Draws, Facts], Query]
    answer: Callable[[Query, Sequence[Line], Sequence[str], float | None], str | None]
    needs_labels: bool = True


# --- draws ---------------------------------------------------------------------------------------


def two_labels(kind: str) -> Callable[[Draws, Facts], Query]:
    def draw(draws: Draws, facts: Facts) -> Query:
        label, other = draws.sample(facts.labels, 2)
        return Query(kind, label=label, other=other)

    return draw


def one_label(kind: str) -> Callable[[Draws, Facts], Query]:
    return lambda draws, facts: Query(kind, label=draws.choice(facts.labels))


def nothing(kind: str) -> Callable[[Draws, Facts], Query]:
    return lambda draws, facts: Query(kind)


def some_users(kind: str, *, label: bool) -> Callable[[Draws, Facts], Query]:
    """Two of the twenty users with most lines: a fixed number, so that the size of the subset tells
    little about the answer."""

    def draw(draws: Draws, facts: Facts) -> Query:
        busy = facts.users[:20]
        users = draws.sample(busy, min(2, len(busy)))
        chosen = draws.choice(facts.labels) if label else ""
        return Query(kind, label=chosen, users=tuple(sorted(users)))

    return draw


def a_range(kind: str, *, label: bool) -> Callable[[Draws, Facts], Query]:
    """A stretch of a third of all days: fixed, as the number of users is."""

    def draw(draws: Draws, facts: Facts) -> Query:
        length = DAYS // 3
        first = draws.below(DAYS - length)
        chosen = draws.choice(facts.labels) if label else ""
        return Query(kind, label=chosen, days=(first, first + length))

    return draw


KINDS: dict[str, Kind] = {
    "label_count": Kind(
        "counting",
        "number",
        "How many lines should be classified as '{label}'?",
        one_label("label_count"),
        lambda q, lines, labels, gap: count_label(lines, q.label),
    ),
    "most_common": Kind(
        "counting",
        "label",
        "Which label is the most common?",
        nothing("most_common"),
        lambda q, lines, labels, gap: common_label(lines, labels, gap),
    ),
    "least_common": Kind(
        "counting",
        "label",
        "Which label is the least common?",
        nothing("least_common"),
        lambda q, lines, labels, gap: common_label(lines, labels, gap, len(labels) - 1),
    ),
    "compare": Kind(
        "counting",
        "comparison",
        "Is the label '{label}' more common than, less common than, or of the same frequency as"
        " the label '{other}'?",
        two_labels("compare"),
        lambda q, lines, labels, gap: compared(q, lines, gap),
    ),
    "user_label_count": Kind(
        "user",
        "number",
        "Counting only the lines of these users: {users}; how many should be classified as"
        " '{label}'?",
        some_users("user_label_count", label=True),
        lambda q, lines, labels, gap: count_label(of_users(q, lines), q.label),
    ),
    "user_most_common": Kind(
        "user",
        "label",
        "Counting only the lines of these users: {users}; which label is the most common?",
        some_users("user_most_common", label=False),
        lambda q, lines, labels, gap: common_label(of_users(q, lines), labels, gap),
    ),
    "label_top_user": Kind(
        "user",
        "user",
        "Which user has the most lines that should be classified as '{label}'?",
        one_label("label_top_user"),
        lambda q, lines, labels, gap: user_text(
            common((line.user for line in lines if line.label == q.label), gap)
        ),
    ),
    "top_user": Kind(
        "user",
        "user",
        "Which user has the most lines?",
        nothing("top_user"),
        lambda q, lines, labels, gap: user_text(common((line.user for line in lines), gap)),
        needs_labels=False,
    ),
    "second_user": Kind(
        "user",
        "user",
        "Which user has the second most lines?",
        nothing("second_user"),
        lambda q, lines, labels, gap: user_text(common((line.user for line in lines), gap, 1)),
        needs_labels=False,
    ),
    "before_after": Kind(
        "timeline",
        "comparison",
        "Take the lines that should be classified as '{label}': are those dated before {day} more"
        " common than, less common than, or of the same frequency as those dated {day} or later?",
        lambda draws, facts: Query(
            "before_after",
            label=draws.choice(facts.labels),
            days=(draws.between(DAYS // 5, DAYS * 4 // 5),),
        ),
        lambda q, lines, labels, gap: before_after(q, lines, gap),
    ),
    "month_label_count": Kind(
        "timeline",
        "number",
        "Counting only the lines dated in the month of {month}, of any year, how many should be"
        " classified as '{label}'?",
        lambda draws, facts: Query(
            "month_label_count", label=draws.choice(facts.labels), number=draws.between(1, 12)
        ),
        lambda q, lines, labels, gap: count_label(
            (line for line in lines if MONTH_OF[line.day] == q.number), q.label
        ),
    ),
    "range_label_count": Kind(
        "timeline",
        "number",
        "Counting only the lines dated from {day} to {until}, both included, how many should be"
        " classified as '{label}'?",
        a_range("range_label_count", label=True),
        lambda q, lines, labels, gap: count_label(in_range(q, lines), q.label),
    ),
    "range_most_common": Kind(
        "timeline",
        "label",
        "Counting only the lines dated from {day} to {until}, both included, which label is the"
        " most common?",
        a_range("range_most_common", label=False),
        lambda q, lines, labels, gap: common_label(in_range(q, lines), labels, gap),
    ),
    "top_date": Kind(
        "timeline",
        "date",
        "Which date occurs in the most lines?",
        nothing("top_date"),
        lambda q, lines, labels, gap: day_text(common((line.day for line in lines), gap)),
        needs_labels=False,
    ),
    "dates_exactly_n": Kind(
        "timeline",
        "number",
        "How many different dates occur in exactly {number} lines?",
        lambda draws, facts: Query("dates_exactly_n", number=draws.choice(facts.repeats)),
        lambda q, lines, labels, gap: str(
            list(Counter(line.day for line in lines).values()).count(q.number)
        ),
        needs_labels=False,
    ),
}


def draw_queries(
    kinds: Sequence[str], count: int, facts: Facts, lines: Sequence[Line], draws: Draws
) -> Iterator[tuple[Query, str]]:
    """Up to ``count`` distinct questions with their golds, going round ``kinds`` in order; a kind
    that has no exact question left in this window is passed over."""
    asked: set[Query] = set()
    left = list(kinds)
    while left:
        for kind in tuple(left):
            found = _draw_one(KINDS[kind], facts, lines, draws, asked)
            if found is None:
                left.remove(kind)
                continue
            asked.add(found[0])
            yield found
            if len(asked) == count:
                return


def _draw_one(
    kind: Kind, facts: Facts, lines: Sequence[Line], draws: Draws, asked: set[Query]
) -> tuple[Query, str] | None:
    tried = set(asked)
    for _ in range(24):
        query = kind.draw(draws, facts)
        if query not in tried:
            tried.add(query)
            gold = kind.answer(query, lines, facts.labels, GAP)
            if gold is not None:
                return query, gold
    return None


# --- words ---------------------------------------------------------------------------------------


def word(query: Query) -> str:
    """The question in words, without the answer's form."""
    days = [SHOWN[day] for day in query.days] + ["", ""]
    return KINDS[query.kind].text.format(
        label=query.label,
        other=query.other,
        users=", ".join(map(str, query.users)),
        day=days[0],
        until=days[1],
        month=MONTHS[query.number - 1] if query.kind == "month_label_count" else "",
        number=query.number,
    )


def form(kind: str, labels: Sequence[str]) -> str:
    """How to write the answer; OOLONG's forms, in our own words."""
    forms: dict[OolongKind, str] = {
        "label": f"'Label: X', where X is one of: {', '.join(labels)}",
        "number": "'Answer: X', where X is a whole number",
        "comparison": "'Answer: X', where X is 'more common than', 'less common than' or"
        " 'same frequency as'",
        "user": "'User: X', where X is the user's number",
        "date": "'Date: X', where X is written as in the lines, such as 'Mar 05, 2024'",
    }
    return f"Reply in the form {forms[KINDS[kind].form]}."


def _pattern(text: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>.+?)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(text)))


PATTERNS = {name: _pattern(kind.text) for name, kind in KINDS.items()}


def read(text: str) -> Query | None:
    """The query a question's text holds; the inverse of :func:`word`."""
    for name, pattern in PATTERNS.items():
        if found := pattern.search(text):
            part = found.groupdict()
            days = [DAY_OF[part[key]] for key in ("day", "until") if key in part]
            number = part.get("number") or 0
            if "month" in part:
                number = MONTHS.index(part["month"]) + 1
            return Query(
                name,
                label=part.get("label", ""),
                other=part.get("other", ""),
                users=tuple(int(u) for u in part.get("users", "").split(", ") if u),
                days=tuple(days),
                number=int(number),
            )
    return None
