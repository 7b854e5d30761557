"""OOLONG's questions about a window's lines: how each kind is drawn, worded and answered.

An answer is recomputed from the lines alone. A question whose answer is not unique, or whose lead
is too small, is not asked. Dates are answered as MM/DD/YYYY and months as October 2022; in the
questions they stand as in the lines.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..scoring.oolong import Kind as Form
from .windows import DAY_OF, EVERY_DAY, MONTHS, SHOWN, Line

#: Most-common and A-vs-B questions need a lead of more than this share of the lines.
GAP = 0.02
#: Of two users that are compared, one has to lead by so many lines.
LEAD = 2

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
    """The key with the ``rank``-th largest count, if its neighbours are more than ``lead`` away."""
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
    """By the label's share of all lines before the day and after it; the day itself is left out."""
    day, label = DAY_OF[args["day"]], args["label"]
    before, after = (
        [line.label == label for line in view.lines if (line.day - day) * side > 0]
        for side in (-1, 1)
    )
    if not before or not after:
        return None
    scaled = sum(before) * len(after), sum(after) * len(before)
    return _comparison(*scaled, len(before) * len(after), view.gap)


def top_user(args: Args, view: View, *, rank: int = 0) -> str | None:
    counts = Counter(
        line.user for line in view.lines if line.label == args.get("label", line.label)
    )
    user = _ranked(counts, rank, None if view.gap is None else 0)
    return None if user is None else str(user)


def rival_users(args: Args, view: View) -> str | None:
    counts = Counter(str(line.user) for line in view.lines if line.label == args["label"])
    one, other = args["user"], args["rival"]
    if view.gap is not None and abs(counts[one] - counts[other]) < LEAD:
        return None
    return one if counts[one] >= counts[other] else other


def top_date(args: Args, view: View, *, rank: int = 0) -> str | None:
    counts = Counter(line.day for line in view.lines)
    day = _ranked(counts, rank, None if view.gap is None else 0)
    return None if day is None else f"{EVERY_DAY[day]:%m/%d/%Y}"


def dates_exactly_n(args: Args, view: View) -> str:
    return str(list(Counter(line.day for line in view.lines).values()).count(int(args["number"])))


def _leads(args: Args, view: View) -> dict[str, bool]:
    """By month that has lines, in order of time: whether the label has more of them than the other
    label, or than each other where none is named."""
    months: dict[str, Counter[str]] = defaultdict(Counter)
    for line in sorted(view.lines, key=lambda line: line.day):
        day = EVERY_DAY[line.day]
        months[f"{MONTHS[day.month - 1]} {day.year}"][line.label] += 1
    label = args["label"]
    others = [args["other"]] if "other" in args else [x for x in view.labels if x != label]
    return {
        month: all(counts[label] > counts[other] for other in others)
        for month, counts in months.items()
    }


def first_month(args: Args, view: View) -> str | None:
    return next((month for month, leads in _leads(args, view).items() if leads), None)


def months_led(args: Args, view: View) -> str:
    return str(sum(_leads(args, view).values()))


# --- Kinds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of question. The placeholders of ``text`` are a query's arguments; ``find``
    answers it from the lines that remain of its users, dates or month."""

    form: Form
    text: str
    find: Callable[[Args, View], str | None]
    family: str = ""

    @property
    def needs_labels(self) -> bool:
        """Whether the answer depends on the labels."""
        return self.form == "label" or "{label}" in self.text


COUNTING = {
    "label_count": Kind("number", "How many lines should be classified as '{label}'?", label_count),
    "most_common": Kind("label", "Which label is the most common?", common_label),
    "least_common": Kind(
        "label", "Which label is the least common?", partial(common_label, least=True)
    ),
    "compare": Kind(
        "comparison",
        "Is the label '{label}' more common than, less common than, or of the same frequency as"
        " the label '{other}'?",
        compared,
    ),
}
USERS = {
    "top_user": Kind("user", "Which user has the most lines?", top_user),
    "second_user": Kind("user", "Which user has the second most lines?", partial(top_user, rank=1)),
    "label_top_user": Kind(
        "user", "Which user has the most lines that should be classified as '{label}'?", top_user
    ),
}


def _of(name: str, what: str, kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The same questions about some of the lines only."""
    return {
        f"{name}_{of}": replace(
            kind, text=f"Counting only the lines {what} {kind.text[0].lower()}{kind.text[1:]}"
        )
        for of, kind in kinds.items()
    }


OF_USERS = "of these users: {users};"
FAMILIES: dict[str, dict[str, Kind]] = {
    "counting": COUNTING,
    "user": {
        **_of("user", OF_USERS, COUNTING),
        **_of("named", OF_USERS, USERS),
        **USERS,
        "rival_users": Kind(
            "user",
            "Which of the two users {user} and {rival} has more lines that should be classified as"
            " '{label}'?",
            rival_users,
        ),
    },
    "timeline": {
        "before_after": Kind(
            "comparison",
            "Among the lines dated before {day}, is the label '{label}' more common than, less"
            " common than, or of the same frequency as among the lines dated after {day}? Compare"
            " its shares: its lines divided by all lines, before and after; lines of that day don't"
            " count.",
            before_after,
        ),
        **_of("month", "dated in the month of {month}, of any year,", COUNTING),
        **_of("range", "dated from {day} to {until}, both included,", COUNTING),
        "top_date": Kind("date", "Which date occurs in the most lines?", top_date),
        "second_date": Kind(
            "date", "Which date occurs in the second most lines?", partial(top_date, rank=1)
        ),
        "dates_exactly_n": Kind(
            "number", "How many different dates occur in exactly {number} lines?", dates_exactly_n
        ),
        "first_month": Kind(
            "month",
            "Which is the first month, with its year, in which more lines should be classified as"
            " '{label}' than as '{other}'?",
            first_month,
        ),
        "months_more": Kind(
            "number",
            "In how many months, each of its year, should more lines be classified as '{label}'"
            " than as '{other}'?",
            months_led,
        ),
        "months_most": Kind(
            "number",
            "In how many months, each of its year, is the label '{label}' more common than each"
            " other label?",
            months_led,
        ),
    },
}
KINDS = {
    name: replace(kind, family=family)
    for family, kinds in FAMILIES.items()
    for name, kind in kinds.items()
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


# --- Words ---------------------------------------------------------------------------------------


def word(query: Query) -> str:
    """The question in words, without the answer's form."""
    return KINDS[query.kind].text.format(**query.args)


def form(kind: str, labels: Sequence[str]) -> str:
    """How to write the answer; OOLONG's forms, in our own words."""
    forms: dict[Form, str] = {
        "label": f"'Label: X', where X is one of: {', '.join(labels)}",
        "number": "'Answer: X', where X is a whole number",
        "comparison": "'Answer: X', where X is 'more common than', 'less common than' or"
        " 'same frequency as'",
        "user": "'User: X', where X is the user's number",
        "date": "'Date: X', where X is the date in the format MM/DD/YYYY",
        "month": "'Answer: X', where X is the month and the year, such as 'October 2022'",
    }
    return f"Reply in the form {forms[KINDS[kind].form]}."


def _pattern(text: str) -> re.Pattern[str]:
    """What finds a kind's text with its arguments; a placeholder that comes again, the same."""
    pattern = re.escape(text)
    for name in set(re.findall(r"\{(\w+)\}", text)):
        place = re.escape(f"{{{name}}}")
        pattern = pattern.replace(place, f"(?P<{name}>.+?)", 1).replace(place, f"(?P={name})")
    return re.compile(pattern)


PATTERNS = {name: _pattern(kind.text) for name, kind in KINDS.items()}


def read(text: str) -> Query | None:
    """The query a question's text holds; the inverse of :func:`word`."""
    found = ((name, pattern.search(text)) for name, pattern in PATTERNS.items())
    return next((Query(name, match.groupdict()) for name, match in found if match), None)
