"""Methods that put the whole input into the prompt: fitted to the window, asked, and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import (
    check_window,
    document_spans,
    fitting_spans,
    marked,
    offline_tokens,
)
from rlm_eval.methods.method import Forecast, Method, Shape, at_least
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.thinking import Said, final_answer
from rlm_eval.methods.votes import majority, sampled, votes_within_cap
from rlm_eval.models.client import LM, Completion, Temperature
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Problem, Role, Span

Overflow = Literal["refuse", "truncate_head", "truncate_middle", "truncate_tail"]
QuestionAt = Literal["after", "before", "both"]


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits the window. ``tokens`` are its own, ``max_tokens`` its reply's at most,
    in the served model's tokens; ``spans`` the stretches of the context in it."""

    messages: list[Message]
    tokens: int
    max_tokens: int
    chars: int
    truncated_tokens: int
    spans: tuple[Span, ...]

    def answer(self, text: str | None, **rest: Any) -> Answer:
        """What was answered from this prompt: ``no_answer`` for None."""
        return Answer(
            text=text,
            outcome="no_answer" if text is None else "answered",
            truncated_tokens=self.truncated_tokens,
            context_chars_read_by_lm=self.chars,
            spans_read=self.spans,
            **rest,
        )


@dataclass
class FullPrompt(Method):
    """The input and the question in one prompt.

    ``overflow`` says what happens to an input larger than the window: ``refuse`` it
    (context_overflow), or cut away its head, middle or tail, which a line in its place says; what
    was cut is recorded in the row's ``truncated_tokens``, in the served model's tokens. The
    question stands after the input, before it, or on both sides (``question_at``).

    With ``think`` the model may reason first, in up to ``think_tokens`` beside the answer's own,
    and hands the answer in between tags (:mod:`rlm_eval.methods.thinking`). What a reasoning model
    thinks unasked is not in its reply and needs none of this.

    With ``matched`` the sample's cap on tokens or dollars decides how many replies are asked for,
    each counted at its largest.
    """

    prompt: str = "plain"
    overflow: Overflow = "truncate_middle"
    question_at: QuestionAt = "after"
    think: bool = False
    think_tokens: int = 512
    matched: bool = False

    #: Where this method's settings stand.
    settings: ClassVar[str] = "method.direct"

    def __post_init__(self) -> None:
        at_least(1, **{f"{self.settings}.think_tokens": self.think_tokens})
        self._prompt = load_prompt("direct", self.prompt)
        needed = {
            "think": "<answer>" if self.think else "",
            "question_at": "question_at" if self.question_at != "after" else "",
        }
        for knob, word in needed.items():
            if word not in self._prompt.source:
                raise ConfigError(
                    f"{self.settings}.{knob} needs {word} in the prompt {self.prompt}: see "
                    "conf/prompt/direct/plain.yaml"
                )

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        left = check_window(self.settings, self._messages("", ""), window)
        if self.think and self.think_tokens > left:
            raise ConfigError(
                f"{self.settings}.think_tokens={self.think_tokens} leaves too little of the window "
                f"of {window}: lower it to {left} or less"
            )

    def size(self, problem: Problem, lm: LM) -> int:
        """Tokens that the whole input, the question and the largest reply take."""
        messages = self._messages(problem.context.text, problem.question)
        return lm.prompt_tokens(messages) + self._max_tokens(problem.max_answer_tokens)

    def fitted(self, problem: Problem, lm: LM) -> Fitted:
        """The prompt as it will be sent. Raises ContextOverflow."""
        full, max_tokens = problem.context.text, self._max_tokens(problem.max_answer_tokens)
        room = lm.info().context_window - max_tokens

        def tokens(text: str) -> int:
            return lm.prompt_tokens(self._messages(text, problem.question))

        whole = tokens(full)
        spans = [(0, len(full))]
        if whole > room:
            spans = self._kept(full, lambda text: tokens(text) <= room, whole, room)
        messages = self._messages(marked(full, spans), problem.question)
        size = lm.prompt_tokens(messages) if whole > room else whole
        chars = sum(end - start for start, end in spans)
        shown = document_spans(problem.context, spans)
        return Fitted(messages, size, max_tokens, chars, whole - size, shown)

    def _kept(self, full: str, fits: Callable[[str], bool], whole: int, room: int) -> list[Span]:
        """The stretches of a text too large for the window that ``overflow`` leaves of it."""
        if self.overflow == "refuse":
            raise ContextOverflow(
                f"the prompt has {whole:,} tokens, the window room for {room:,}", whole - room
            )
        spans = fitting_spans(full, self.overflow, fits)
        if not spans:
            raise ContextOverflow(f"the question alone fills the window of {room:,}", whole - room)
        return spans

    def said(self, reply: Completion) -> Said:
        """The answer in a reply."""
        return final_answer(reply) if self.think else Said(reply.text, "whole reply")

    def asked(
        self,
        fitted: Fitted,
        lm: LM,
        ledger: Ledger,
        *,
        votes: int,
        first: Temperature,
        others: Temperature,
    ) -> Answer:
        """The majority of ``votes`` replies, the first of them and the others each at their
        temperature; one without an answer abstains. All votes stand in the trajectory."""
        replies = sampled(
            fitted.messages,
            lm,
            ledger,
            votes=votes,
            max_tokens=fitted.max_tokens,
            first=first,
            others=others,
        )
        said = [self.said(reply) for reply in replies]
        given = [s.text for s in said if s.text and s.text.strip()]
        cast = [
            {"call_id": reply.call_id, "answer": s.text, "taken": s.taken}
            for reply, s in zip(replies, said, strict=True)
        ]
        sent_at = {"first_at": lm.temperature(first), "others_at": lm.temperature(others)}
        event = {"type": "votes", **sent_at, "votes": cast}
        return fitted.answer(
            majority(given) if given else None,
            iterations=votes,
            trajectory=(event,) if self.think or votes > 1 else (),
            error="" if given else f"no answer in {votes} {'reply' if votes == 1 else 'replies'}",
        )

    def votes_bought(self, fitted: Fitted, lm: LM, ledger: Ledger) -> int | None:
        """With ``matched``, how many replies the sample's cap buys; None where none binds."""
        if not self.matched:
            return None
        return votes_within_cap(
            ledger, lm.info(), prompt_tokens=fitted.tokens, max_tokens=fitted.max_tokens
        )

    def forecast_size(self, shape: Shape) -> int:
        """Tokens that the whole input, the question and the largest reply are expected to take."""
        questions = 2 if self.question_at == "both" else 1
        prompt = offline_tokens(self._messages("", ""))
        prompt += shape.context_tokens + questions * shape.question_tokens
        return prompt + self._max_tokens(shape.max_answer_tokens)

    def forecast_replies(
        self, shape: Shape, models: Mapping[Role, ModelInfo], replies: int
    ) -> tuple[Forecast, ...]:
        """What ``replies`` to one prompt take, each at its largest. What ``matched`` changes
        follows from the cap and is not in it."""
        window, size = models["root"].context_window, self.forecast_size(shape)
        if size > window and self.overflow == "refuse":
            return ()
        completion = self._max_tokens(shape.max_answer_tokens)
        prompt = min(size, window) - completion
        again = (replies - 1) * prompt
        return (Forecast(replies, replies * prompt, replies * completion, repeated_tokens=again),)

    def _max_tokens(self, answer_tokens: int) -> int:
        return answer_tokens + (self.think_tokens if self.think else 0)

    def _messages(self, text: str, question: str) -> list[Message]:
        return self._prompt.messages(
            context=text, question=question, question_at=self.question_at, think=self.think
        )
