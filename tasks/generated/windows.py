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
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

from rlm_eval.records import Context, Sample

from ..draws import Draws
from ..sizing import PieceCounter, fill
from ..task import Generated, Pair
from .labels import LabelOf, guess_label, load_domain

FIRST_DAY = date(2022, 2, 16)
DAYS = (date(2025, 6, 21) - FIRST_DAY).days + 1
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LEAST_LINES = 40
#: Windows' labels are drawn for this many lines in all to fit the best constant answers.
CALIBRATION_LINES = 200_000
#: Windows of fewer than LEAST_LINES lines are drawn again, this often at most.
ATTEMPTS = 200


class Line(NamedTuple):
    """``day`` counts from FIRST_DAY; ``text`` is the item."""

    day: int
    user: int
    label: str
    text: str


EVERY_DAY = (FIRST_DAY + timedelta(days=day) for day in range(DAYS))
#: ``Mar 05, 2024``, whatever the locale.
SHOWN = tuple(f"{MONTHS[d.month - 1][:3]} {d.day:02d}, {d.year}" for d in EVERY_DAY)
DAY_OF = {shown: day for day, shown in enumerate(SHOWN)}


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


@dataclass(kw_only=True, eq=False)
class Windowed(Generated):
    """Several questions about each window. A subclass words and answers them."""

    items: str | None = None
    structured: bool = False

    #: The project's own items that a window's lines are made of, where ``items`` names no file.
    domain = "questions"
    #: Windows at most to fit the best constant answers on.
    most_calibrated = 200

    def prepare(self) -> None:
        self._items = load_domain(self.domain, self.items)
        self.source = self._items.source
        self._count = PieceCounter(self._tok)
        self._costs = {
            label: {text: self._tok.count(self._tail(label, text)) for text in texts}
            for label, texts in self._items.texts.items()
        }
        header = self._count(f"Date: {SHOWN[0]} ||") + self._count(" User: 99999 ||")
        self._means = [header + sum(c.values()) / len(c) for c in self._costs.values()]
        self._frame = sum(map(self._count, self._frames(10**9)))
        self._reserve = self.reserve()

    @abstractmethod
    def reserve(self) -> int:
        """Tokens of the target that are not the window's."""

    @abstractmethod
    def ask(self, lines: Sequence[Line], draws: Draws) -> Iterator[dict[str, Any]]:
        """The questions about a window, as keyword arguments of :meth:`pair`."""

    @abstractmethod
    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        """The answer by code, where ``label_of`` gives the labels that no field shows."""

    def shortest(self) -> int:
        """With it, the lines of the wordiest label fit on average."""
        return self._reserve + self._frame + math.ceil(1.03 * LEAST_LINES * max(self._means))

    def code_oracle(self, question: str, context: Context) -> str | None:
        return self.solve(question, context, lambda text: guess_label(text, self._items.labels))

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        windows = CALIBRATION_LINES // self._expected_lines(target_tokens)
        for index in range(min(self.most_calibrated, max(4, windows))):
            for _, sample in self.make(target_tokens, "calibration", index):
                yield sample

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        """Windows to calibrate with are not written out: nobody reads them."""
        parts = (self.name, self._items.name, purpose, self.seed, target, index)
        lines, tokens = self._draw(target, parts)
        context, summed = Context("", ""), 0
        if purpose == "run":
            opening, closing = self._frames(len(lines))
            rows = [
                f"Date: {SHOWN[day]} || User: {user} ||{self._tail(label, text)}"
                for day, user, label, text in lines
            ]
            context, summed = Context.of("".join([opening, *rows, closing])), tokens
        shared = {
            "domain": self._items.name,
            "structured": self.structured,
            "n_lines": len(lines),
            "context_index": index,
            "seed": self.seed,
        }
        length = 0
        for asked in self.ask(lines, Draws(*parts, "questions")):
            asked["knobs"] |= shared
            pair = self.pair(context, target, length=length, summed=summed, **asked)
            length = pair[1].length_tokens
            yield pair

    def statement(self) -> str:
        """What a line is and which labels there are: part of the context and of each question."""
        where = (
            "The label stands in the line's Label field."
            if self.structured
            else "No line says its label: judge each text by its meaning."
        )
        return (
            f"Each line holds one {self._items.noun}, to be classified by {self._items.criterion}"
            f" as exactly one of these labels: {', '.join(self._items.labels)}. {where}"
        )

    def _frames(self, lines: int) -> tuple[str, str]:
        return (
            f"There are {lines} lines below. {self.statement()}\n",
            f"Those were the {lines} lines. {self.statement()}",
        )

    def _tail(self, label: str, text: str) -> str:
        field = f" Label: {label} ||" if self.structured else ""
        return f"{field} Instance: {text}\n"

    def _expected_lines(self, target: int) -> int:
        mean = sum(self._means) / len(self._means)
        return max(1, int((target - self._reserve - self._frame) / mean))

    def _draw(self, target: int, parts: Sequence[str | int]) -> tuple[list[Line], int]:
        """The lines of the window named by ``parts``, as many as fit ``target``, 40 at least; and
        the window's tokens."""
        for attempt in range(ATTEMPTS):
            stream = self._lines(self._expected_lines(target), Draws(*parts, attempt))
            lines, used = fill(stream, self._cost, target - self._reserve - self._frame)
            if len(lines) >= LEAST_LINES:
                return lines, used + self._frame
        raise AssertionError(f"no window of {LEAST_LINES} lines in {target} tokens")

    def _lines(self, expected: int, draws: Draws) -> Iterator[Line]:
        labels = self._items.labels
        edges = list(accumulate(label_weights(draws, len(labels))))
        decks = {label: Deck(self._items.texts[label], draws) for label in labels}
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
