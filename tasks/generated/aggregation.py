"""aggregation: OOLONG-style questions about every line of a window.

A window is 40 lines or more, ``Date: … || User: … || Instance: …``; a question asks for counts over
them by label, user or date, and the label of a line must be judged by its meaning. Several
questions share a window. Source: OOLONG (Bertsch et al. 2025), synthetic split, whose
distributions, question kinds and answer forms these follow. Score: ``strict``, the one value that
the answer names, in any wording, graded as OOLONG does (numbers ``0.75 ** |error|``, else 0 or 1);
OOLONG's own reading is ``score_official``. ``task=oolong_style`` asks all of OOLONG's kinds, 25
questions a window, drawn its way (``official=true``), and scores as OOLONG does.

Not as in OOLONG, and what it does: the items are the project's own (scores are not OOLONG's) and
longer (fewer lines at a length); windows are filled, OOLONG's to 95 %; kinds take turns, where
OOLONG draws from all questions that a window gives, most of them about pairs of labels; only golds
that are unique are asked (no point for one of two right answers); the labels of a subset are all
labels (least common may be one without lines); "exactly n times" counts all dates, not the 50 most
frequent; of two users either may be right, in OOLONG the one named first; labels are named in the
question too, so that a method that reads the window in pieces can judge each.

Known shortcuts: a graded count rewards any constant near the middle, so read skill over
``best_constant``, never the bare score. Questions without labels (top_user, second_user, the same
of named users, top_date, second_date, dates_exactly_n) are solved by counting lines without reading
one (``cheat_count`` scores 1), as is by code the whole structured twin (``structured=true``, where
the label is a visible field): the twin measures counting, the difference judging. ``code_oracle``
otherwise guesses the six types of question from keywords. Whoever counts a user's lines knows an
upper bound of the answer. No text comes twice in a window, but parts do (tasks/items/README.md).
What these, labels by coin and classifiers of words score: ``python tests/benchmarks/tasks.py
controls``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context

from ..draws import Draws
from ..task import LONGEST, one_of
from . import questions
from .labels import LabelOf
from .questions import FAMILIES, KINDS, Query
from .windows import DAY_OF, DAYS, MONTHS, SHOWN, Line, Windowed, read_lines

FIRST_KINDS = "label_count", "most_common", "compare", "user_label_count", "range_label_count"
#: Users that a question may be about: so many with most lines, and so many of these are named. A
#: fixed number, so that the size of the subset tells little about the answer; so is the range.
BUSY_USERS, NAMED_USERS = 20, 2
RANGE = DAYS // 3
#: OOLONG's own, for ``official`` draws: 10 to 20 of the 50 users with most lines, 4 in 5 at most.
OFFICIAL_BUSY, OFFICIAL_NAMED, OFFICIAL_PART = 50, (10, 20), 0.8
#: Queries of a kind that are drawn to find one with an exact answer.
ATTEMPTS = 24
#: Two users that are compared are of so many with most lines of the label.
RIVALS = 10


@dataclass(kw_only=True, eq=False)
class Aggregation(Windowed):
    domain: str = "short_reviews"
    kinds: Sequence[str] = FIRST_KINDS
    questions_per_context: int = 5
    official: bool = False

    name, scorer = "aggregation", "strict"

    def prepare(self) -> None:
        at_least(1, questions_per_context=self.questions_per_context)
        self.scorer = "oolong" if self.official else "strict"
        if not self.kinds:
            raise ConfigError("must be a list such as [label_count,user]", key="kinds")
        for name in self.kinds:
            one_of("kinds", name, (*KINDS, *FAMILIES))
        named = (k for name in self.kinds for k in KINDS if name in (k, KINDS[k].family))
        self.kinds = tuple(dict.fromkeys(named))
        super().prepare()
        labels = self._items.labels
        right = ["Label: {}"] if self.official else ["Label: {}", "{}"]
        asked = any(KINDS[kind].form in ("label", "comparison") for kind in self.kinds)
        for label in labels if asked else ():
            _, sample = self.pair(
                Context("", ""),
                LONGEST,
                question="",
                length=1,
                gold=(label,),
                scorer=f"{self.scorer}:label",
                knobs={"labels": "|".join(labels)},
            )
            if not all(self.score(sample, form.format(label)).correct for form in right):
                told = "which can't be read in an answer: leave out |()[]: and marks at its ends"
                raise ConfigError(f"has the label {label!r}, {told}", key="items")

    def reserve(self) -> int:
        """Of the longest question, with room for a number or month that takes one token more."""
        wordiest = max(self._items.labels, key=self._tok.count)
        users = OFFICIAL_NAMED[1] if self.official else NAMED_USERS
        args = {"label": wordiest, "other": wordiest, "users": ", ".join(["99999"] * users)}
        args |= {"user": "99999", "rival": "99999", "number": "9"}
        args |= {"day": SHOWN[-1], "until": SHOWN[-1], "month": MONTHS[8]}
        longest = max(self._tok.count(self._question(Query(kind, args))) for kind in self.kinds)
        return longest + 4 + self.max_answer_tokens

    def ask(self, lines: Sequence[Line], draws: Draws, index: int) -> Iterator[dict[str, Any]]:
        labels, number = self._items.labels, self.questions_per_context
        source = Source(lines, labels, draws, self.official)
        first = index * number % len(self.kinds)
        kinds = (*self.kinds[first:], *self.kinds[:first])
        for place, (query, gold) in enumerate(source.queries(kinds, number)):
            kind = KINDS[query.kind]
            yield {
                "question": self._question(query),
                "gold": (gold,),
                "group": query.kind,
                "scorer": f"{self.scorer}:{kind.form}",
                "knobs": {
                    "family": kind.family,
                    "labels": "|".join(labels),
                    "needs_labels": kind.needs_labels,
                    "question_index": place,
                },
            }

    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        query = questions.read(question)
        if query is None:
            return None
        lines = read_lines(context.text)
        if KINDS[query.kind].needs_labels:
            labels = [line.label or label_of(line.text) for line in lines]
            labelled = zip(lines, labels, strict=True)
            lines = [line._replace(label=label) for line, label in labelled if label]
        return questions.answer(query, lines, self._items.labels) if lines else None

    def count_alone(self, question: str, context: Context) -> str | None:
        """As if each line had the label that is asked about; of numbers an even part."""
        query = questions.read(question)
        if query is None:
            return None
        kind, args, labels = KINDS[query.kind], query.args, self._items.labels
        lines = read_lines(context.text)
        if kind.form == "label":
            return labels[0]
        if query.kind == "before_after":
            query = Query("compare", {"label": "before", "other": "after"})
            cut = DAY_OF[args["day"]]
            lines = [x._replace(label="before" if x.day < cut else "after") for x in lines]
        else:
            lines = [line._replace(label=args.get("label", "")) for line in lines]
        found = questions.answer(query, lines, labels)
        if found is None or not (kind.needs_labels and kind.form == "number"):
            return found
        return str(round(int(found) / (2 if "other" in args else len(labels))))

    def _question(self, query: Query) -> str:
        form = questions.form(query.kind, self._items.labels)
        return f"{self.statement()} {questions.word(query)} {form}"


def by_lines(lines: Iterable[Line]) -> list[int]:
    """Users, those with most lines first."""
    users = Counter(line.user for line in lines)
    return sorted(users, key=lambda user: (-users[user], user))


class Source:
    """What the arguments of queries about a window are drawn from."""

    def __init__(
        self, lines: Sequence[Line], labels: Sequence[str], draws: Draws, official: bool = False
    ) -> None:
        self._lines, self._labels, self._draws, self._official = lines, labels, draws, official
        self._days = sorted(line.day for line in lines)
        self._busy = by_lines(lines)[: OFFICIAL_BUSY if official else BUSY_USERS]
        times = sorted(Counter(self._days).values(), reverse=True)
        self._times = times[min(3, len(times) - 1)]

    def queries(self, kinds: Iterable[str], count: int) -> Iterator[tuple[Query, str]]:
        """Up to ``count`` distinct questions with their golds, going round ``kinds`` (``official``
        draws: in random order) and past those that have no exact question left in this window."""
        asked: set[str] = set()
        left = list(kinds)
        if self._official:
            self._draws.shuffle(left)
        while left:
            for kind in tuple(left):
                for _ in range(ATTEMPTS):
                    query = self._draw(kind)
                    if (text := questions.word(query)) in asked:
                        continue
                    gold = questions.answer(query, self._lines, self._labels, questions.GAP)
                    if gold is not None:
                        asked.add(text)
                        yield query, gold
                        break
                else:
                    left.remove(kind)
                if len(asked) == count:
                    return

    def _draw(self, kind: str) -> Query:
        """A query of the kind: whatever its text has a placeholder for, in this order."""
        draws = self._draws
        holds = set(re.findall(r"\{(\w+)\}", KINDS[kind].text))
        args: dict[str, str] = {}
        if "users" in holds:
            users = sorted(draws.sample(self._busy, min(self._named(), len(self._busy))))
            args["users"] = ", ".join(map(str, users))
        if "until" in holds:
            first, last = self._range()
            args |= {"day": SHOWN[first], "until": SHOWN[last]}
        if "other" in holds:
            args["label"], args["other"] = draws.sample(self._labels, 2)
        elif "label" in holds:
            args["label"] = draws.choice(self._labels)
        if "rival" in holds:
            users = by_lines(line for line in self._lines if line.label == args["label"])
            rivals = draws.sample(users[:RIVALS] if len(users) > 1 else self._busy, 2)
            args["user"], args["rival"] = map(str, rivals)
        if "day" in holds - args.keys():
            lines = len(self._days)  # neither the first in order of time nor the last
            day = self._days[draws.between(int(0.15 * lines), int(0.75 * lines))]
            args["day"] = SHOWN[day]
        if "month" in holds:
            args["month"] = draws.choice(MONTHS)
        if "number" in holds:
            args["number"] = str(self._times)
        return Query(kind, args)

    def _named(self) -> int:
        """How many users a question names."""
        if not self._official:
            return NAMED_USERS
        few, many = OFFICIAL_NAMED
        return min(self._draws.between(few, many), max(1, int(OFFICIAL_PART * len(self._busy))))

    def _range(self) -> tuple[int, int]:
        """The first and last day; OOLONG's begins in the first half and has ten lines more."""
        if not self._official:
            first = self._draws.below(DAYS - RANGE)
            return first, first + RANGE
        days, lines = self._days, len(self._days)
        begin = self._draws.between(int(0.1 * lines), int(0.5 * lines))
        end = self._draws.between(begin + 10, max(begin + 12, int(0.9 * lines)))
        return days[begin], days[min(end, lines - 1)]
