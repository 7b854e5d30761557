"""Controls: the question without the input, the task's own script, and what cheats score.

A cheat asks no model and understands nothing. Where one comes near a method, the task has not
measured what the method read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import check_window, offline_tokens
from rlm_eval.methods.method import CodeOracle, Forecast, Method, Shape
from rlm_eval.methods.prompts import Prompted, load_prompt
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Content, Context, Problem, Role, documents_of


@dataclass
class NoContext(Prompted, Method):
    """One call with the question alone; the model is told to guess where it can't know. What it
    gets right was known or guessed."""

    prompt: str = "plain"

    reads_everything = False

    def __post_init__(self) -> None:
        self.loaded_prompt = load_prompt("no_context", self.prompt)

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        check_window(self.loaded_prompt.messages(question=""), models["root"].context_window)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        messages = self.loaded_prompt.messages(question=problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(text=reply.text, outcome="answered", iterations=1, spans_read=())

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        prompt = offline_tokens(self.loaded_prompt.messages(question="")) + shape.question_tokens
        return (Forecast(1, prompt, shape.max_answer_tokens),)


@dataclass
class ScriptedSolver(Method):
    """The task's own scripted solver: how far code gets that only reads the surface. Its rows have
    no calls, and ``no model`` for a protocol."""

    script: CodeOracle | None = field(default=None, init=False, repr=False)

    roles = ()
    reads_everything = False

    def bind(self, code_oracle: CodeOracle, count_alone: CodeOracle) -> None:
        self.script = code_oracle

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        assert self.script is not None, "bind() comes before answer()"
        text = self.script(problem.question, problem.context)
        return Answer(
            text=text,
            outcome="no_answer" if text is None else "answered",
            protocol="no model",
            error="the script has no idea" if text is None else "",
        )

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return ()


#: More sentences than this that occur once say nothing about which is meant.
MOST_ONCE = 25
How = Literal["whole_context", "deduplicate", "occurs_once", "question", "count"]


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """What could be judged one by one, and by what it is known again: a line with fields (``||``)
    by its last, else each sentence of a line."""
    for line in text.splitlines():
        for piece in [line] if " || " in line else re.split(r"(?<=[.!?;]) +", line):
            yield piece, piece.rpartition(" || ")[2]


def without_repeats(content: Content) -> Content:
    """The content with each piece where it comes first."""
    seen: set[str] = set()

    def left(text: str) -> str:
        first: dict[str, str] = {}
        for piece, known in pieces(text):
            first.setdefault(known, piece)
        new = [piece for known, piece in first.items() if known not in seen]
        seen.update(first)
        return "\n".join(new)

    if isinstance(content, Mapping):
        return {name: left(text) for name, text in content.items()}
    return left(content) if isinstance(content, str) else tuple(map(left, content))


def occurs_once(question: str, text: str) -> str | None:
    """The words, of the few pieces that occur once, that neither the question nor a piece that
    occurs again has."""
    times = Counter(known for _, known in pieces(text) if known.strip())
    once = [piece for piece, number in times.items() if number == 1]
    others = chain([question], (piece for piece, number in times.items() if number > 1))
    known = {word.lower() for piece in others for word in re.findall(r"[\w-]+", piece)}
    words = dict.fromkeys(word for piece in once for word in re.findall(r"[\w-]+", piece))
    odd = [word for word in words if word.lower() not in known]
    return ", ".join(odd) if odd and len(once) <= MOST_ONCE else None


@dataclass
class Cheat(ScriptedSolver):
    """An answer without a model and without understanding: ``whole_context`` hands in the input,
    ``deduplicate`` lets the task's script look at no sentence or line twice, ``occurs_once`` looks
    for what is there once, ``question`` hands in the question, ``count`` counts lines, users and
    dates without reading a text."""

    how: How = "whole_context"

    def bind(self, code_oracle: CodeOracle, count_alone: CodeOracle) -> None:
        ways: Mapping[How, CodeOracle] = {
            "whole_context": lambda question, context: context.text,
            "deduplicate": lambda question, context: code_oracle(
                question, Context.of(without_repeats(context.content))
            ),
            "occurs_once": lambda question, context: occurs_once(
                question, "\n".join(documents_of(context.content))
            ),
            "question": lambda question, context: question,
            "count": count_alone,
        }
        self.script = ways[self.how]
