"""What every way of summarising shares: its prompt, its parts, its calls and its answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.errors import ConfigError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import largest_fitting
from rlm_eval.methods.method import Forecast, Method, Shape, at_least
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.summarize.load import (
    Load,
    Sizes,
    affords,
    capped,
    even_parts,
    expected_sizes,
    served,
    served_sizes,
)
from rlm_eval.methods.summarize.parts import Part, parts_of
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import Message, ModelInfo, user
from rlm_eval.records import Answer, Problem, Role, documents_of

#: Each finer cut tried for a budget has parts this much smaller.
_FINER = 0.9
#: Room left where the tokens of many small texts are judged by those of the whole.
_MARGIN = 1.02
SUMMARIZE = CallTags(role="summarize")


@dataclass
class Summarizer(Method):
    """Reads the input in parts of ``chunk_tokens`` (offline tokenizer) and answers from what it
    has written down. ``query_aware``: the question is in sight while it reads.

    With ``matched`` and a cap on tokens or dollars it reads as finely as the cap affords, never
    more coarsely than it is set.
    """

    prompt: str = "plain"
    query_aware: bool = True
    chunk_tokens: int = 2048
    matched: bool = False

    name: ClassVar[str]
    #: Whether something is written after each part.
    per_part: ClassVar[bool] = True
    #: The prompt file's template for reading, then what else it must hold.
    templates: ClassVar[tuple[str, ...]]
    #: What the templates for reading and for answering are filled with to see their own size.
    blank: ClassVar[Mapping[str, Any]]
    blank_answer: ClassVar[Mapping[str, Any]]
    roles = ("root", "summarize")

    def __post_init__(self) -> None:
        at_least(32, **{f"method.{self.name}.chunk_tokens": self.chunk_tokens})
        key, tokens = self.written
        at_least(8, **{f"method.{self.name}.{key}": tokens})
        if self.per_part and tokens >= self.chunk_tokens:
            raise ConfigError(
                f"method.{self.name}.{key}={tokens} must be smaller than chunk_tokens="
                f"{self.chunk_tokens}, or what is written is no shorter than the text"
            )
        self._prompt = load_prompt(self.name, self.prompt)
        self._prompt.require(*self.templates)
        if not self.query_aware and "query_aware" not in self._prompt.source:
            raise ConfigError(
                f"method.{self.name}.query_aware: the prompt {self.prompt} makes no use of it"
            )

    @property
    def written(self) -> tuple[str, int]:
        """The setting that bounds what is written at once, by name, and its tokens."""
        raise NotImplementedError

    @property
    def beside(self) -> int:
        """Tokens that need room in the window beside a part and the prompt around it."""
        raise NotImplementedError

    def room(self, window: int) -> int:
        """The tokens of the summarising model's window that may be filled."""
        return window

    def load(self, sizes: Sizes) -> Load:
        """What one answer takes, with everything that is written as long as it may be."""
        raise NotImplementedError

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        sizes = expected_sizes(Shape(self.chunk_tokens, 0, 0), models, self.chunk_tokens)
        room, (key, tokens) = self.room(sizes.summarize_window), self.written
        needed = self.chunk_tokens + self.beside + self.frame(sizes)
        if needed > room:
            raise ConfigError(
                f"method.{self.name}: a chunk of {self.chunk_tokens} tokens with {key}={tokens} "
                f"and the prompt takes {needed} tokens, of the window of "
                f"{sizes.summarize_window} it may fill {room}: lower method.{self.name}."
                f"chunk_tokens or take a model with a larger window"
            )
        if tokens + self.answer_frame(sizes) > sizes.root_window:
            raise ConfigError(
                f"method.{self.name}: the answering prompt with {key}={tokens} does not fit the "
                f"window of {sizes.root_window} tokens: lower method.{self.name}.{key}"
            )

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return self.load(expected_sizes(shape, models, self.chunk_tokens))

    # -- parts -----------------------------------------------------------------------------------

    def parts(self, problem: Problem, lm: LM, ledger: Ledger) -> list[Part]:
        """The input cut as configured, or as finely as the budget affords."""
        content = problem.context.content
        parts = parts_of(content, self.chunk_tokens)
        if not (self.matched and capped(lm, ledger)):
            return parts
        total = sum(part.tokens for part in parts)
        rate = _MARGIN * served(lm, [user(problem.context.text)]) / max(1, total)

        def affordable(tokens: Iterable[int]) -> bool:
            sizes = served_sizes(problem, lm, [math.ceil(size * rate) for size in tokens])
            return affords(lm, ledger, self.load(sizes))

        finer = self._finer()
        best = largest_fitting(len(finer) - 1, lambda n: affordable(even_parts(total, finer[n])))
        for size in reversed(finer[1 : best + 1]):
            cut = parts_of(content, size)
            if affordable(part.tokens for part in cut):
                return cut
        return parts

    def _finer(self) -> list[int]:
        """Sizes of parts from the configured one down to twice what is written on one."""
        sizes = [self.chunk_tokens]
        while sizes[-1] * _FINER >= max(32, 2 * self.written[1]):
            sizes.append(int(sizes[-1] * _FINER))
        return sizes

    # -- prompts and calls -----------------------------------------------------------------------

    def text(self, key: str, question: str, **values: Any) -> list[Message]:
        """The prompt's template ``key``, filled in, as a chat."""
        aware = self.query_aware
        return [user(self._prompt.text(key, question=question, query_aware=aware, **values))]

    def asked(self, question: str, **values: Any) -> list[Message]:
        """The chat that asks for the answer."""
        return self._prompt.messages(question=question, query_aware=self.query_aware, **values)

    def frame(self, sizes: Sizes) -> int:
        """Tokens of the prompt for reading around what it is filled with, the question in it."""
        around = sizes.count(self.text(self.templates[0], "", **self.blank))
        return around + (sizes.question if self.query_aware else 0)

    def answer_frame(self, sizes: Sizes) -> int:
        """The same of the chat that asks for the answer."""
        return sizes.count(self.asked("", **self.blank_answer)) + sizes.question

    def write(
        self,
        prompts: Sequence[Sequence[Message]],
        lm: LM,
        ledger: Ledger,
        max_tokens: int,
        concurrency: int = 1,
    ) -> list[str]:
        """What the summarising model writes on each prompt. Raises the first failure."""
        replies = lm.complete_batch(
            prompts, ledger=ledger, max_tokens=max_tokens, tags=SUMMARIZE, concurrency=concurrency
        )
        return [self._said(reply) for reply in replies]

    def _said(self, reply: Completion | SampleFailure) -> str:
        if isinstance(reply, SampleFailure):
            raise reply
        text = reply.text.strip()
        if not text and reply.finish_reason == "length":
            raise SampleFailure(
                "the summarising model spent all its tokens before it wrote anything: raise "
                f"method.{self.name}.{self.written[0]}"
            )
        return text

    def answered(
        self,
        messages: Sequence[Message],
        problem: Problem,
        lm: LM,
        ledger: Ledger,
        *,
        rounds: int,
        trajectory: Sequence[Mapping[str, Any]],
    ) -> Answer:
        """The last call. ``rounds``: how many there were one after another before it."""
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        size = sum(map(len, documents_of(problem.context.content)))
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=rounds + 1,
            context_chars_read_by_lm=len(problem.context.text),
            spans_read=((0, size),),
            trajectory=tuple(trajectory),
        )
