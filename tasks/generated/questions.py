"""OOLONG's question groups over a window's lines: how each is drawn, worded and answered.

An answer is recomputed from the lines alone. A question whose answer is not unique, or whose lead
is too small, is not asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from ..draws import Draws
from ..scoring import oolong
from .windows import DAY_OF, DAYS, MONTHS, SHOWN, Line

#: Most-common and A-vs-B questions need a lead of more than this share of the lines.
GAP = 0.02
#: Users that a question may be about: so many with most lines, and so many of these are named. A
#: fixed number, so that the size of the subset tells little about the answer; so is the range.
BUSY_USERS, NAMED_USERS = 20, 2
RANGE = DAYS // 3
#: Queries of a kind that are drawn to find one with an exact answer.
ATTEMPTS = 24


#: What the placeholders of a kind's text stand for, as written there.
Args = Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """A question as data: of a kind in KINDS, with its arguments."""

    kind: str
    args: Args = field(default_factory=dict)


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


def label_count(args: Args, view: View) -> str:
    return str(sum(line.label == args["label"] for line in view.lines))


def common_label(args: Args, view: View, *, least: bool = False) -> str | None:
    counts = Counter(dict.fromkeys(view.labels, 0))
    counts.update(line.label for line in view.lines if line.label in counts)
    lead = None if view.gap is None else view.gap * len(view.lines)
    return _ranked(counts, len(counts) - 1 if least else 0, lead)


def compared(args: Args, view: View) -> str | None:
    counts = Counter(line.label for line in view.lines)
    return _comparison(counts[args["label"]], counts[args["other"]], len(view.lines), view.gap)


def before_after(args: Args, view: View) -> str | None:
    days = [line.day for line in view.lines if line.label == args["label"]]
    before = sum(day < DAY_OF[args["day"]] for day in days)
    return _comparison(before, len(days) - before, len(days), view.gap)


def top_user(args: Args, view: View, *, rank: int = 0) -> str | None:
    counts = Counter(
        line.user for line in view.lines if line.label == args.get("label", line.label)
    )
    user = _ranked(counts, rank, None if view.gap is None else 0)
    return None if user is None else str(user)


def top_date(args: Args, view: View) -> str | None:
    counts = Counter(line.day for line in view.lines)
    day = _ranked(counts, 0, None if view.gap is None else 0)
    return None if day is None else SHOWN[day]


def dates_exactly_n(args: Args, view: View) -> str:
    return str(list(Counter(line.day for line in view.lines).values()).count(int(args["number"])))


# --- Kinds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of question. The placeholders of ``text`` are a query's arguments; ``find``
    answers it from the lines that remain of its users, dates or month."""

    family: Literal["counting", "user", "timeline"]
    form: oolong.Kind
    text: str
    find: Callable[[Args, View], str | None]

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
    query: Query, lines: Sequence[Line], labels: Sequence[str], gap: float | None = None
) -> str | None:
    """The answer to a query from a window's lines; None where it has none."""
    args = query.args
    if "users" in args:
        users = set(map(int, args["users"].split(", ")))
        lines = [line for line in lines if line.user in users]
    if "until" in args:
        days = range(DAY_OF[args["day"]], DAY_OF[args["until"]] + 1)
        lines = [line for line in lines if line.day in days]
    if "month" in args:
        lines = [line for line in lines if SHOWN[line.day].startswith(args["month"][:3])]
    return KINDS[query.kind].find(args, View(lines, labels, gap))


# --- Draws ---------------------------------------------------------------------------------------


def draw_queries(
    kinds: Iterable[str], count: int, labels: Sequence[str], lines: Sequence[Line], draws: Draws
) -> Iterator[tuple[Query, str]]:
    """Up to ``count`` distinct questions with their golds, going round ``kinds`` in order; a kind
    that has no exact question left in this window is passed over."""
    users = Counter(line.user for line in lines)
    busy = sorted(users, key=lambda user: (-users[user], user))[:BUSY_USERS]
    repeats = sorted(set(Counter(line.day for line in lines).values()))
    asked: set[str] = set()
    left = list(kinds)
    while left:
        for kind in tuple(left):
            drawn = (_draw(kind, labels, busy, repeats, draws) for _ in range(ATTEMPTS))
            new = (query for query in drawn if word(query) not in asked)
            golds = ((query, answer(query, lines, labels, GAP)) for query in new)
            found = next(((query, gold) for query, gold in golds if gold is not None), None)
            if found is None:
                left.remove(kind)
                continue
            asked.add(word(found[0]))
            yield found
            if len(asked) == count:
                return


def _draw(
    kind: str, labels: Sequence[str], busy: Sequence[int], repeats: Sequence[int], draws: Draws
) -> Query:
    """A query of the kind: whatever its text has a placeholder for, in this order."""
    holds = set(re.findall(r"\{(\w+)\}", KINDS[kind].text))
    args: dict[str, str] = {}
    if "users" in holds:
        users = sorted(draws.sample(busy, min(NAMED_USERS, len(busy))))
        args["users"] = ", ".join(map(str, users))
    if "until" in holds:
        first = draws.below(DAYS - RANGE)
        args |= {"day": SHOWN[first], "until": SHOWN[first + RANGE]}
    if "other" in holds:
        args["label"], args["other"] = draws.sample(labels, 2)
    elif "label" in holds:
        args["label"] = draws.choice(labels)
    if "day" in holds - args.keys():
        args["day"] = SHOWN[draws.between(DAYS // 5, DAYS * 4 // 5)]
    if "month" in holds:
        args["month"] = draws.choice(MONTHS)
    if "number" in holds:
        args["number"] = str(draws.choice(repeats))
    return Query(kind, args)


# --- Words ---------------------------------------------------------------------------------------


def word(query: Query) -> str:
    """The question in words, without the answer's form."""
    return KINDS[query.kind].text.format(**query.args)


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
    found = ((name, pattern.search(text)) for name, pattern in PATTERNS.items())
    return next((Query(name, match.groupdict()) for name, match in found if match), None)
