"""Windows of dated, signed, labelled lines, as in OOLONG's synthetic split (Bertsch et al. 2025).

``Date: Mar 05, 2024 || User: 48211 || Instance: …``, between an opening line that says how many
lines and which labels there are, and the same again at the end. The label is not written down; the
structured twin shows it in a field of its own, ``|| Label: …``.

Per window: labels are drawn with softmax(randint(1, 30) ** (1 / T)), T = randint(2, 6); 80 % of
lines come from a common pool of max(N // 10, 1) users, the rest from all ids 10000–99999; dates are
uniform. Items of a label are dealt from a shuffled deck, so none comes twice before all have come
once; after that they repeat, but never for the same user while one is left that user has not had.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import NamedTuple

from rlm_eval.tokens import Tokenizer

from ..draws import Draws
from ..sizing import PieceCounter, fill
from .labels import Domain

FIRST_DAY = date(2022, 2, 16)
DAYS = (date(2025, 6, 21) - FIRST_DAY).days + 1
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LEAST_LINES = 40
#: Windows of fewer than LEAST_LINES lines are drawn again, this often at most.
ATTEMPTS = 200


class Line(NamedTuple):
    """``day`` counts from FIRST_DAY; ``text`` is the item."""

    day: int
    user: int
    label: str
    text: str


@dataclass(frozen=True)
class Window:
    """Lines in order, and their tokens with the opening and closing sentences."""

    lines: list[Line]
    tokens: int


def show_day(day: int) -> str:
    """``Mar 05, 2024``, whatever the locale."""
    d = FIRST_DAY + timedelta(days=day)
    return f"{MONTHS[d.month - 1][:3]} {d.day:02d}, {d.year}"


SHOWN = tuple(show_day(day) for day in range(DAYS))
DAY_OF = {shown: day for day, shown in enumerate(SHOWN)}
MONTH_OF = tuple((FIRST_DAY + timedelta(days=day)).month for day in range(DAYS))


def label_weights(draws: Draws, labels: int) -> list[int]:
    """OOLONG's label distribution in parts per million, rounded so that every machine agrees."""
    root = 1 / draws.between(2, 6)
    heights = [math.exp(draws.between(1, 30) ** root) for _ in range(labels)]
    return [round(1_000_000 * height / sum(heights)) for height in heights]


class Deck:
    """Deals the items of one label."""

    def __init__(self, items: Sequence[str], draws: Draws) -> None:
        self._items = list(items)
        self._draws = draws
        self._next = len(self._items)
        self._had: set[tuple[int, str]] = set()

    def deal(self, user: int) -> str:
        items, had = self._items, self._had
        if self._next == len(items):
            self._draws.shuffle(items)
            self._next = 0
        here = self._next
        fresh = next((i for i in range(here, len(items)) if (user, items[i]) not in had), here)
        items[here], items[fresh] = items[fresh], items[here]
        had.add((user, items[here]))
        self._next += 1
        return items[here]


class WindowMaker:
    """Draws windows of one domain that fit a token budget, and writes them out."""

    def __init__(self, domain: Domain, tokenizer: Tokenizer, structured: bool) -> None:
        self.domain = domain
        self._structured = structured
        self._count = PieceCounter(tokenizer)
        self._costs = {
            label: {text: tokenizer.count(self._tail(label, text)) for text in items}
            for label, items in domain.items.items()
        }
        header = self._count(f"Date: {SHOWN[0]} ||") + self._count(" User: 99999 ||")
        means = [header + sum(c.values()) / len(c) for c in self._costs.values()]
        self._mean = sum(means) / len(means)
        self._frame = sum(self._count(s) for s in self._frames(10**9))
        #: Least budget for a window: with it, the lines of the wordiest label fit on average.
        self.least_tokens = self._frame + math.ceil(1.03 * LEAST_LINES * max(means))

    def expected_lines(self, budget: int) -> int:
        return max(1, int((budget - self._frame) / self._mean))

    def draw(self, budget: int, *parts: str | int) -> Window:
        """The window named by ``parts``: as many lines as fit ``budget`` tokens, 40 at least."""
        for attempt in range(ATTEMPTS):
            stream = self._lines(self.expected_lines(budget), Draws(*parts, attempt))
            lines, used = fill(stream, self._cost, budget - self._frame)
            if len(lines) >= LEAST_LINES:
                return Window(lines, used + self._frame)
        raise AssertionError(f"no window of {LEAST_LINES} lines in {budget} tokens")

    def text(self, window: Window) -> str:
        opening, closing = self._frames(len(window.lines))
        rows = [
            f"Date: {SHOWN[day]} || User: {user} ||{self._tail(label, text)}"
            for day, user, label, text in window.lines
        ]
        return "".join([opening, *rows, closing])

    def statement(self) -> str:
        """What a line is and which labels there are: part of the context and of each question."""
        d = self.domain
        where = (
            "The label stands in the line's Label field."
            if self._structured
            else "No line says its label: judge each text by its meaning."
        )
        return (
            f"Each line holds one {d.noun}, to be classified by {d.criterion} as exactly one of"
            f" these labels: {', '.join(d.labels)}. {where}"
        )

    def _frames(self, lines: int) -> tuple[str, str]:
        return (
            f"There are {lines} lines below. {self.statement()}\n",
            f"Those were the {lines} lines. {self.statement()}",
        )

    def _tail(self, label: str, text: str) -> str:
        field = f" Label: {label} ||" if self._structured else ""
        return f"{field} Instance: {text}\n"

    def _lines(self, expected: int, draws: Draws) -> Iterator[Line]:
        labels = self.domain.labels
        edges = list(accumulate(label_weights(draws, len(labels))))
        decks = {label: Deck(self.domain.items[label], draws) for label in labels}
        pool = [draws.between(10_000, 99_999) for _ in range(max(expected // 10, 1))]
        while True:
            day = draws.below(DAYS)
            common = draws.random() < 0.8
            user = draws.choice(pool) if common else draws.between(10_000, 99_999)
            label = labels[draws.weighted(edges)]
            yield Line(day, user, label, decks[label].deal(user))

    def _cost(self, line: Line) -> int:
        head = self._count(f"Date: {SHOWN[line.day]} ||") + self._count(f" User: {line.user} ||")
        return head + self._costs[line.label][line.text]


LINE = re.compile(
    r"^Date: (?P<day>\w+ \d\d, \d{4}) \|\| User: (?P<user>\d+)"
    r"(?: \|\| Label: (?P<label>.*?))? \|\| Instance: (?P<text>.*)$",
    re.MULTILINE,
)


def read_lines(text: str) -> list[Line]:
    """The lines of a window's text; ``label`` is empty where the text doesn't show it."""
    return [
        Line(DAY_OF[m["day"]], int(m["user"]), m["label"] or "", m["text"])
        for m in LINE.finditer(text)
        if m["day"] in DAY_OF
    ]
