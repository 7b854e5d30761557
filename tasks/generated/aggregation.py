"""aggregation: OOLONG-style questions about every line of a window.

A window is 40 lines or more, ``Date: … || User: … || Instance: …``; a question asks for counts over
them by label, user or date, and the label of a line must be judged by its meaning. Several
questions share a window. Source: OOLONG (Bertsch et al. 2025), synthetic split: label, user and
date distributions, question groups, answer forms and graded score (exact 1; numbers
``0.75 ** |error|``) follow it; see :mod:`rlm_eval.tasks.generated.windows`
and :mod:`rlm_eval.tasks.generated.questions`.

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

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample

from ..draws import Draws
from ..sizing import at_least, one_of
from ..task import Generated, Pair
from . import questions
from .labels import LabelOf, guess_label, load_domain
from .questions import KINDS, Query
from .windows import MONTHS, SHOWN, Window, WindowMaker, read_lines

#: Asked by default, in this order.
FIRST_KINDS = "label_count", "most_common", "compare", "user_label_count", "range_label_count"
GROUPS = ("counting", "user", "timeline")
#: Windows' labels are drawn for this many lines in all to fit the best constant answers.
CALIBRATION_LINES = 200_000


def expand_kinds(names: Sequence[str]) -> tuple[str, ...]:
    """Question kinds, a group's name standing for all of its kinds. Raises ConfigError for a name
    that is neither."""
    if not names:
        raise ConfigError("must be a list such as [label_count,user]", key="kinds")
    found: list[str] = []
    for name in names:
        one_of("kinds", name, (*KINDS, *GROUPS))
        found += [name] if name in KINDS else [k for k in KINDS if KINDS[k].family == name]
    return tuple(dict.fromkeys(found))


@dataclass(kw_only=True, eq=False)
class Aggregation(Generated):
    domain: str = "reviews"
    items: str | None = None
    structured: bool = False
    kinds: Sequence[str] = FIRST_KINDS
    questions_per_context: int = 5

    name = "aggregation"

    def prepare(self) -> None:
        at_least(1, questions_per_context=self.questions_per_context)
        self.kinds = expand_kinds(self.kinds)
        self._domain = load_domain(self.domain, self.items)
        self.source = self._domain.source
        self._maker = WindowMaker(self._domain, self._tok, self.structured)
        # The longest question, with room for a number or month that takes one token more.
        wordiest = max(self._domain.labels, key=self._tok.count)
        args = {"label": wordiest, "other": wordiest, "users": "99999, 99999"}
        args |= {"day": SHOWN[-1], "until": SHOWN[-1], "month": MONTHS[8], "number": "9"}
        specimens = (Query(kind, args) for kind in self.kinds)
        longest = max(self._tok.count(self._question(query)) for query in specimens)
        self._reserve = longest + 4 + self.max_answer_tokens

    def shortest(self) -> int:
        return self._maker.least_tokens + self._reserve

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        lines = self._maker.expected_lines(target_tokens - self._reserve)
        for index in range(min(200, max(4, CALIBRATION_LINES // lines))):
            window, queries = self._draw(target_tokens, "calibration", index)
            for _, sample in self._pairs(window, queries, Context("", ""), target_tokens, index):
                yield sample

    def code_oracle(self, question: str, context: Context) -> str | None:
        return self.solve(question, context, lambda text: guess_label(text, self._domain.labels))

    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        """The answer by counting, where ``label_of`` gives the labels that no field shows."""
        query = questions.read(question)
        if query is None:
            return None
        lines = read_lines(context.text)
        if KINDS[query.kind].needs_labels:
            labels = [line.label or label_of(line.text) for line in lines]
            labelled = zip(lines, labels, strict=True)
            lines = [line._replace(label=label) for line, label in labelled if label]
        return questions.answer(query, lines, self._domain.labels) if lines else None

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        window, queries = self._draw(target, purpose, index)
        context = Context.of(self._maker.text(window))
        yield from self._pairs(window, queries, context, target, index)

    def _draw(
        self, target: int, purpose: str, index: int
    ) -> tuple[Window, list[tuple[Query, str]]]:
        """A window with its questions and golds, before any text is written."""
        parts = (self.name, self._domain.name, purpose, self.seed, target, index)
        window = self._maker.draw(target - self._reserve, *parts)
        draws, labels = Draws(*parts, "questions"), self._domain.labels
        number = self.questions_per_context
        return window, list(questions.draw_queries(self.kinds, number, labels, window.lines, draws))

    def _question(self, query: Query) -> str:
        form = questions.form(query.kind, self._domain.labels)
        return f"{self._maker.statement()} {questions.word(query)} {form}"

    def _pairs(
        self,
        window: Window,
        queries: Sequence[tuple[Query, str]],
        context: Context,
        target: int,
        index: int,
    ) -> Iterator[Pair]:
        for place, (query, gold) in enumerate(queries):
            kind = KINDS[query.kind]
            yield self.pair(
                context,
                target,
                question=self._question(query),
                gold=(gold,),
                group=query.kind,
                scorer=f"oolong:{kind.form}",
                summed=window.tokens if context.content else 0,
                knobs={
                    "family": kind.family,
                    "domain": self._domain.name,
                    "labels": "|".join(self._domain.labels),
                    "structured": self.structured,
                    "n_lines": len(window.lines),
                    "context_index": index,
                    "question_index": place,
                    "seed": self.seed,
                },
            )
