"""Windows of dated, signed, labelled lines, as in OOLONG's synthetic split (Bertsch et al. 2025).

``Date: Mar 05, 2024 || User: 48211 || Instance: …``, between an opening line that says how many
lines and which labels there are, and the same again at the end. The label is not written down; the
structured twin shows it in a field of its own, ``|| Label: …``.

Per window: each label has exactly its share of the lines, softmax(randint(1, 30) ** (1 / T)), T =
randint(2, 6); 80 % of lines come from a common pool of max(N // 10, 1) users, the rest from all ids
10000–99999; dates are uniform. No item comes twice before all of its label have come once. The
project's own never come twice: a length that would need it is refused. A file's do where they must,
as OOLONG's do.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise, repeat
from statistics import fmean
from typing import Any, NamedTuple

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample

from ..draws import Draws
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
#: Items of each label whose mean length says how many lines to expect.
SPECIMENS = 200


class Line(NamedTuple):
    """``day`` counts from FIRST_DAY; ``text`` is the item."""

    day: int
    user: int
    label: str
    text: str


EVERY_DAY = [FIRST_DAY + timedelta(days=day) for day in range(DAYS)]
#: ``Mar 05, 2024``, whatever the locale.
SHOWN = tuple(f"{MONTHS[d.month - 1][:3]} {d.day:02d}, {d.year}" for d in EVERY_DAY)
DAY_OF = {shown: day for day, shown in enumerate(SHOWN)}


def label_weights(draws: Draws, labels: int) -> list[int]:
    """OOLONG's label distribution in parts per million, rounded so that every machine agrees."""
    root = 1 / draws.between(2, 6)
    heights = [math.exp(draws.between(1, 30) ** root) for _ in range(labels)]
    return [round(1_000_000 * height / sum(heights)) for height in heights]


def largest_share(labels: int) -> float:
    """What a label has at most: the softmax of √30 among ones."""
    return math.exp(30**0.5) / (math.exp(30**0.5) + (labels - 1) * math.e)


def shares(weights: Sequence[int], lines: int) -> list[int]:
    """How many of ``lines`` each label has: its exact share, cumulated and rounded."""
    ends = [0, *(round(lines * end / sum(weights)) for end in accumulate(weights))]
    return [after - before for before, after in pairwise(ends)]


def heads(lines: int, draws: Draws) -> Iterator[tuple[int, int]]:
    """The day and user of each line of a window of some ``lines``."""
    pool = [draws.between(10_000, 99_999) for _ in range(max(lines // 10, 1))]
    while True:
        day = draws.below(DAYS)
        common = draws.random() < 0.8
        yield day, draws.choice(pool) if common else draws.between(10_000, 99_999)


def deal(items: Sequence[str], draws: Draws) -> Iterator[str]:
    """The items in random order (Fisher and Yates, step by step), and again when all have come."""
    moved: dict[int, int] = {}
    while True:
        for here in range(len(items)):
            place = here + draws.below(len(items) - here)
            here_now, chosen = moved.get(here, here), moved.get(place, place)
            moved[place], moved[here] = here_now, chosen
            yield items[chosen]


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
        draws, texts = Draws("specimens"), self._items.texts
        self._means = [
            fmean(
                self._cost(Line(0, 99_999, label, draws.choice(texts[label])))
                for _ in range(SPECIMENS)
            )
            for label in self._items.labels
        ]
        self._frame = sum(map(self._count, self._frames(10**9)))
        self._reserve = self.reserve()
        most = Windowed.longest(self)
        if not self._items.repeats and max(self.lengths, default=0) > most:
            raise ConfigError(
                f"has {max(self.lengths)}, where items would come twice: there are"
                f" {min(map(len, texts.values()))} of each label, enough for {most} tokens: take"
                " task.domain=reviews or questions, which are composed",
                key="lengths",
            )

    @abstractmethod
    def reserve(self) -> int:
        """Tokens of the target that are not the window's."""

    @abstractmethod
    def ask(self, lines: Sequence[Line], draws: Draws, index: int) -> Iterator[dict[str, Any]]:
        """The questions about the window ``index``, as keyword arguments of :meth:`pair`."""

    @abstractmethod
    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        """The answer by code, where ``label_of`` gives the labels that no field shows."""

    def shortest(self) -> int:
        """With it, the lines of the wordiest label fit on average."""
        return self._reserve + self._frame + math.ceil(1.03 * LEAST_LINES * max(self._means))

    def longest(self) -> int:
        """With it, a label may have as many lines as it can have, and no item comes twice."""
        if self._items.repeats:
            return super().longest()
        items = min(map(len, self._items.texts.values()))
        lines = 0.95 * items / largest_share(len(self._items.labels))
        return min(super().longest(), self._reserve + self._frame + int(lines * min(self._means)))

    def code_oracle(self, question: str, context: Context) -> str | None:
        return self.solve(question, context, lambda text: guess_label(text, self._items.labels))

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        windows = int(CALIBRATION_LINES * fmean(self._means) / target_tokens)
        for index in range(min(self.most_calibrated, max(4, windows))):
            for _, sample in self.make(target_tokens, "calibration", index):
                yield sample

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        """Windows to calibrate with are not written out: nobody reads them."""
        parts = (self.name, self._items.name, purpose, self.seed, target, index)
        lines, tokens = self._draw(target, parts, written=purpose == "run")
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
        for asked in self.ask(lines, Draws(*parts, "questions"), index):
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
        said = self.statement()
        return f"There are {lines} lines below. {said}\n", f"Those were the {lines} lines. {said}"

    def _tail(self, label: str, text: str) -> str:
        field = f" Label: {label} ||" if self.structured else ""
        return f"{field} Instance: {text}\n"

    def _draw(
        self, target: int, parts: Sequence[str | int], *, written: bool
    ) -> tuple[list[Line], int]:
        """The lines of the window named by ``parts``, as many as fit ``target``, 40 at least; and
        the window's tokens. What is not ``written`` has as many as fit on average, and no texts."""
        budget, labels = target - self._reserve - self._frame, self._items.labels
        for attempt in range(ATTEMPTS):
            weights = label_weights(Draws(*parts, attempt), len(labels))
            mean = sum(map(math.prod, zip(weights, self._means, strict=True))) / sum(weights)
            expected = max(LEAST_LINES, int(1.01 * budget / mean) + 3)
            lines = expected if written else max(LEAST_LINES, int(budget / mean))
            while lines >= LEAST_LINES:
                times = dict(zip(labels, shares(weights, lines), strict=True))
                order = [*Counter(times).elements()]
                Draws(*parts, attempt, "order").shuffle(order)
                starts = heads(expected, Draws(*parts, attempt, "heads"))
                decks = {
                    label: deal(texts, Draws(*parts, attempt, label)) if written else repeat("")
                    for label, texts in self._items.texts.items()
                }
                window = [Line(*next(starts), label, next(decks[label])) for label in order]
                used = sum(map(self._cost, window)) if written else 0
                if used <= budget:
                    return window, used + self._frame
                lines = min(lines - 1, int(0.9999 * lines * budget / used))
        raise AssertionError(f"no window of {LEAST_LINES} lines in {target} tokens")

    def _cost(self, line: Line) -> int:
        head = self._count(f"Date: {SHOWN[line.day]} ||") + self._count(f" User: {line.user} ||")
        return head + self._count(self._tail(line.label, line.text))


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
