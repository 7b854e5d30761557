"""A control: the question without the input. What it gets right was known or guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import check_window, offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class NoContext(Method):
    """One call with the question alone; the model is told to guess where it can't know."""

    prompt: str = "plain"

    reads_everything: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._prompt = load_prompt("no_context", self.prompt)

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        frame = self._prompt.messages(question="")
        check_window("method.no_context", frame, models["root"].context_window)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        messages = self._prompt.messages(question=problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(text=reply.text, outcome="answered", iterations=1, spans_read=())

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        prompt = offline_tokens(self._prompt.messages(question="")) + shape.question_tokens
        return (Forecast(1, prompt, shape.max_answer_tokens),)
