"""aggregation: OOLONG-style questions about every line of a window.

A window is 40 lines or more, ``Date: … || User: … || Instance: …``; a question asks for counts over
them by label, user or date, and the label of a line must be judged by its meaning. Several
questions share a window. Source: OOLONG (Bertsch et al. 2025), synthetic split: label, user and
date distributions, question groups and answer forms follow it; see
:mod:`rlm_eval.tasks.generated.windows` and :mod:`rlm_eval.tasks.generated.questions`. Score:
``strict``, the one value that the answer names, in any wording, graded as OOLONG does (numbers
``0.75 ** |error|``, else 0 or 1); OOLONG's own reading of the same answer is ``score_official``.

Not as in OOLONG: the default items are the project's own; only golds that are unique are asked;
the labels are named in the question as well as in the window, so that a method that reads the
window in pieces can judge each piece.

Known shortcuts: a graded count rewards any constant near the middle, so read skill over
``best_constant``, never the bare score. Questions without labels (top_user, second_user, top_date,
dates_exactly_n) are solved by code alone, as is the whole structured twin (``structured=true``,
where the label is a visible field): the twin measures counting, the difference measures judging.
``code_oracle`` otherwise guesses labels from a keyword list. A small part is inherent: whoever
counts a user's lines knows an upper bound of the answer. What these, labels by coin and classifiers
of words score: ``python tests/benchmarks/tasks.py controls``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import at_least, one_of
from . import questions
from .labels import LabelOf
from .questions import KINDS, Query
from .windows import MONTHS, SHOWN, Line, Windowed, read_lines

#: Asked by default, in this order.
FIRST_KINDS = "label_count", "most_common", "compare", "user_label_count", "range_label_count"
GROUPS = ("counting", "user", "timeline")


@dataclass(kw_only=True, eq=False)
class Aggregation(Windowed):
    domain: str = "reviews"
    kinds: Sequence[str] = FIRST_KINDS
    questions_per_context: int = 5

    name, scorer = "aggregation", "strict"

    def prepare(self) -> None:
        at_least(1, questions_per_context=self.questions_per_context)
        if not self.kinds:
            raise ConfigError("must be a list such as [label_count,user]", key="kinds")
        for name in self.kinds:
            one_of("kinds", name, (*KINDS, *GROUPS))
        named = (k for name in self.kinds for k in KINDS if name in (k, KINDS[k].family))
        self.kinds = tuple(dict.fromkeys(named))
        super().prepare()

    def reserve(self) -> int:
        """Of the longest question, with room for a number or month that takes one token more."""
        wordiest = max(self._items.labels, key=self._tok.count)
        args = {"label": wordiest, "other": wordiest, "users": "99999, 99999"}
        args |= {"day": SHOWN[-1], "until": SHOWN[-1], "month": MONTHS[8], "number": "9"}
        longest = max(self._tok.count(self._question(Query(kind, args))) for kind in self.kinds)
        return longest + 4 + self.max_answer_tokens

    def ask(self, lines: Sequence[Line], draws: Draws) -> Iterator[dict[str, Any]]:
        labels, number = self._items.labels, self.questions_per_context
        drawn = questions.draw_queries(self.kinds, number, labels, lines, draws)
        for place, (query, gold) in enumerate(drawn):
            kind = KINDS[query.kind]
            yield {
                "question": self._question(query),
                "gold": (gold,),
                "group": query.kind,
                "scorer": f"{self.scorer}:{kind.form}",
                "knobs": {
                    "family": kind.family,
                    "labels": "|".join(labels),
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

    def _question(self, query: Query) -> str:
        form = questions.form(query.kind, self._items.labels)
        return f"{self.statement()} {questions.word(query)} {form}"
