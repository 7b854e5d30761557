"""Two controls: the question without the input, and the task's own script without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import check_window, offline_tokens
from rlm_eval.methods.method import CodeOracle, Forecast, Method, Shape
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class NoContext(Method):
    """One call with the question alone; the model is told to guess where it can't know. What it
    gets right was known or guessed."""

    prompt: str = "plain"

    reads_everything: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._prompt = load_prompt("no_context", self.prompt)

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        check_window(self._prompt.messages(question=""), models["root"].context_window)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        messages = self._prompt.messages(question=problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(text=reply.text, outcome="answered", iterations=1, spans_read=())

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        prompt = offline_tokens(self._prompt.messages(question="")) + shape.question_tokens
        return (Forecast(1, prompt, shape.max_answer_tokens),)


@dataclass
class ScriptedSolver(Method):
    """The task's own scripted solver: how far code gets that only reads the surface. Its rows have
    no calls, and ``no model`` for a protocol."""

    _solve: CodeOracle | None = field(default=None, init=False, repr=False)

    roles = ()
    reads_everything: ClassVar[bool] = False

    def bind(self, code_oracle: CodeOracle) -> None:
        self._solve = code_oracle

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        if self._solve is None:
            raise RuntimeError("bind() comes before answer()")
        text = self._solve(problem.question, problem.context)
        return Answer(
            text=text,
            outcome="no_answer" if text is None else "answered",
            protocol="no model",
            error="the task's solver has no idea" if text is None else "",
        )

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return ()
