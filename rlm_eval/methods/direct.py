"""Plain long context: the whole input and the question in one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rlm_eval.errors import ConfigError, ContextOverflow, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import (
    Fitted,
    check_window,
    cut_to_fit,
    document_spans,
    offline_tokens,
)
from rlm_eval.methods.method import Forecast, Method, Shape, kept_of
from rlm_eval.methods.prompts import Prompted, load_prompt
from rlm_eval.models.client import LM, Completion
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Problem, Role, Span, documents_of

Overflow = Literal["refuse", "truncate_head", "truncate_middle", "truncate_tail"]
QuestionAt = Literal["after", "before", "both"]
#: How often an input is cut further where the provider still finds it too long, and to what share.
_CUTS, _SHORTER = 3, 0.85


@dataclass
class Direct(Prompted, Method):
    """The input and the question in one prompt. Settings: conf/method/direct.yaml. How an answer is
    read after thoughts: :func:`final_answer`."""

    prompt: str = "plain"
    overflow: Overflow = "truncate_middle"
    question_at: QuestionAt = "after"
    think: bool = False
    think_tokens: int = 512

    def __post_init__(self) -> None:
        at_least(1, think_tokens=self.think_tokens)
        self.loaded_prompt = load_prompt("direct", self.prompt)
        source = self.loaded_prompt.source
        where = f"in the prompt {self.prompt}: see conf/prompt/direct/plain.yaml"
        if self.think and "<answer>" not in source:
            raise ConfigError(f"needs <answer> {where}", key="think")
        if self.question_at != "after" and "question_at" not in source:
            raise ConfigError(f"needs question_at {where}", key="question_at")

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        left = check_window(self._messages("", ""), window)
        if self.think and self.think_tokens > left:
            told = f"leaves too little of the window of {window}: lower it to {left} or less"
            raise ConfigError(told, key="think_tokens")

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        max_tokens = self._max_tokens(problem.max_answer_tokens)
        context, question = problem.context, problem.question
        text, room = context.text, lm.info().context_window - max_tokens
        whole, part = self._messages(text, question), partial(self._messages, question=question)
        size, chars = lm.prompt_tokens(whole), sum(map(len, documents_of(context.content)))
        read: tuple[Span, ...] = ((0, chars),) if chars else ()
        chat, tries = Fitted(whole, size, []), 0
        while True:
            if size > room:
                chat = cut_to_fit(text, self.overflow, lm.prompt_tokens, room, size, part)
                read = document_spans(context, chat.spans)
            try:
                reply = lm.complete(chat.messages, ledger=ledger, max_tokens=max_tokens)
                break
            except ContextOverflow:  # the provider counts more tokens than are counted here
                tries += 1
                if self.overflow == "refuse" or tries > _CUTS:
                    raise
                room = int(_SHORTER * chat.tokens)
        answer, taken = final_answer(reply) if self.think else (reply.text, "whole reply")
        given = bool(answer and answer.strip())
        event = {"type": "thought", "call_id": reply.call_id, "answer": answer, "taken": taken}
        return Answer(
            text=answer if given else None,
            outcome="answered" if given else "no_answer",
            iterations=1,
            truncated_tokens=chat.truncated_tokens,
            spans_read=read,
            trajectory=(event,) if self.think else (),
            error="" if given else "no answer in the reply",
        )

    def _max_tokens(self, answer_tokens: int) -> int:
        return answer_tokens + (self.think_tokens if self.think else 0)

    def _messages(self, text: str, question: str) -> list[Message]:
        return self.loaded_prompt.messages(
            context=text, question=question, question_at=self.question_at, think=self.think
        )

    def forecast_size(self, shape: Shape) -> int:
        """Tokens that the whole input, the question and the largest reply are expected to take."""
        questions = 2 if self.question_at == "both" else 1
        prompt = offline_tokens(self._messages("", ""))
        prompt += shape.context_tokens + questions * shape.question_tokens
        return prompt + self._max_tokens(shape.max_answer_tokens)

    def kept(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> float:
        over = self.forecast_size(shape) - models["root"].context_window
        return kept_of(shape, over, refused=self.overflow == "refuse")

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        window = models["root"].context_window
        completion = self._max_tokens(shape.max_answer_tokens)
        size = self.forecast_size(shape)
        if size > window and self.overflow == "refuse":
            return ()
        return (Forecast(1, min(size, window) - completion, completion),)


def final_answer(reply: Completion) -> tuple[str | None, str]:
    """The answer in a reply that was given room to think, None where it has none, and what was
    taken for it: what is in the last ``<answer>`` tag that is closed, or else open, a form that no
    task's own answer form contains. Without a tag it is the last line: never all of its thoughts,
    in which a scorer that looks for substrings would find much. A reply that was cut off before
    its end has none."""
    cut_off = reply.finish_reason == "length"
    found: list[str] = re.findall(r"(?is)<answer>((?:(?!<answer>).)*?)</answer>", reply.text)
    if not found and not cut_off:
        found = re.split(r"(?i)<answer>", reply.text)[1:]
    if found:
        return found[-1].strip(), "tag"
    lines = [line.strip() for line in reply.text.split("\n") if line.strip()]
    return (None, "nothing") if cut_off or not lines else (lines[-1], "last line")
