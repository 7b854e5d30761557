"""What every way of summarising shares: its prompt, its parts, its calls and its answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.errors import ConfigError, NoReply, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import Chunk, chunks_of, largest_fitting, offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape, affords, without_failures
from rlm_eval.methods.prompts import Prompted, load_prompt
from rlm_eval.models.client import LM, CallTags
from rlm_eval.models.protocol import Message, ModelInfo, user
from rlm_eval.records import Answer, Content, Problem, Role, documents_of
from rlm_eval.tokens import load_tokenizer

#: Each finer cut tried for a budget has parts this much smaller.
_FINER = 0.9
#: Room left where the tokens of many small texts are judged by those of all together.
_MARGIN = 1.02
SUMMARIZE = CallTags(role="summarize")
#: How many calls came one after another, the events, and what fills the answering chat.
Read = tuple[int, Sequence[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """Of one answer, in tokens: the ``parts`` to read, the question and the longest answer; the
    windows of the answering and of the summarising model; what counts a prompt's tokens; and how
    many a summary may have beyond its limit: what its model may think, it may write instead."""

    parts: Sequence[int]
    question: int
    answer: int
    root_window: int
    summarize_window: int
    count: Callable[[Sequence[Message]], int]
    beyond_limit: int


@dataclass
class Summarizer(Prompted, Method):
    """Reads the input in parts of ``chunk_tokens`` (offline tokenizer) and answers from what it
    has written down. ``query_aware``: the question is in sight while it reads.

    With ``matched`` and a cap on tokens or dollars it reads as finely as the cap affords, never
    more coarsely than it is set.
    """

    prompt: str = "plain"
    query_aware: bool = True
    chunk_tokens: int = 2048
    matched: bool = False

    #: The folder of its prompts.
    prompts: ClassVar[str]
    #: The prompt file's template for reading, then what else it must hold; each with blanks for
    #: what fills it, to see its own size. And the blanks of the chat that asks for the answer.
    templates: ClassVar[Mapping[str, Mapping[str, Any]]]
    blank: ClassVar[Mapping[str, Any]]
    #: The setting that bounds what is written at once, and how often that needs room in the window
    #: beside a part and the prompt around it.
    written_key: ClassVar[str] = "summary_tokens"
    in_sight: ClassVar[int] = 2
    #: Whether something is written after each part.
    per_part: ClassVar[bool] = True
    roles = ("root", "summarize")

    def __post_init__(self) -> None:
        at_least(32, chunk_tokens=self.chunk_tokens)
        at_least(8, **{self.written_key: getattr(self, self.written_key)})
        if self.per_part and self.written >= self.chunk_tokens:
            raise ConfigError(
                f"must be smaller than chunk_tokens={self.chunk_tokens}, got {self.written}, or "
                "what is written is no shorter than the text",
                key=self.written_key,
            )
        self.loaded_prompt = load_prompt(self.prompts, self.prompt)
        if not self.query_aware and "query_aware" not in self.loaded_prompt.source:
            raise ConfigError(f"is not used by the prompt {self.prompt}", key="query_aware")

    @property
    def written(self) -> int:
        """The tokens that are written at once at most."""
        return int(getattr(self, self.written_key))

    def room(self, window: int) -> int:
        """The tokens of the summarising model's window that may be filled."""
        return window

    def load(self, sizes: Sizes) -> tuple[Forecast, ...]:
        """What one answer takes, with everything that is written as long as it may be."""
        raise NotImplementedError

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        for key, blank in self.templates.items():
            self.text(key, "", **blank)
        sizes = self.expected_sizes(Shape(self.chunk_tokens, 0, 0), models)
        window, writes = sizes.summarize_window, f"{self.written_key}={self.written}"
        needed = self.chunk_tokens + self.in_sight * self.written + self.frame(sizes)
        if needed > self.room(window):
            raise ConfigError(
                f"must be lower, or the model's window larger: {self.chunk_tokens} tokens with "
                f"{writes} and the prompt take {needed}, of the window of {window} it may fill "
                f"{self.room(window)}",
                key="chunk_tokens",
            )
        if self.written + self.answer_frame(sizes) > sizes.root_window:
            told = f"the answering prompt does not fit the {sizes.root_window} tokens of the window"
            raise ConfigError(f"must be lower: {told} with {writes}", key=self.written_key)

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return self.load(self.expected_sizes(shape, models))

    # -- sizes -----------------------------------------------------------------------------------

    def expected_sizes(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Sizes:
        """From the lengths alone, in offline tokens: full parts and a rest."""
        full, rest = divmod(shape.context_tokens, self.chunk_tokens)
        return Sizes(
            parts=[self.chunk_tokens] * full + ([rest] if rest else []),
            question=shape.question_tokens,
            answer=shape.max_answer_tokens,
            root_window=models["root"].context_window,
            summarize_window=models.get("summarize", models["root"]).context_window,
            count=offline_tokens,
            beyond_limit=models.get("summarize", models["root"]).reasoning_tokens,
        )

    def served_sizes(self, problem: Problem, lm: LM, parts: Sequence[int]) -> Sizes:
        """The same as the served models count, with parts of these sizes."""
        return Sizes(
            parts=parts,
            question=served(lm, [user(problem.question)]),
            answer=problem.max_answer_tokens,
            root_window=lm.info().context_window,
            summarize_window=lm.info("summarize").context_window,
            count=lambda messages: served(lm, messages),
            beyond_limit=lm.info("summarize").reasoning_tokens,
        )

    def frame(self, sizes: Sizes) -> int:
        """Tokens of the prompt for reading around what it is filled with, the question in it."""
        key, blank = next(iter(self.templates.items()))
        around = sizes.count(self.text(key, "", **blank))
        return around + (sizes.question if self.query_aware else 0)

    def answer_frame(self, sizes: Sizes) -> int:
        """The same of the chat that asks for the answer."""
        return sizes.count(self.asked("", **self.blank)) + sizes.question

    # -- prompts and calls -----------------------------------------------------------------------

    def text(self, key: str, question: str, **values: Any) -> list[Message]:
        """The prompt's template ``key``, filled in, as a chat."""
        aware = self.query_aware
        return [user(self.loaded_prompt.text(key, question=question, query_aware=aware, **values))]

    def asked(self, question: str, **values: Any) -> list[Message]:
        """The chat that asks for the answer."""
        return self.loaded_prompt.messages(
            question=question, query_aware=self.query_aware, **values
        )

    def parts(self, problem: Problem, lm: LM, ledger: Ledger) -> list[Chunk]:
        """The input cut as configured, or as finely as the budget affords."""
        content = problem.context.content
        parts = parts_of(content, self.chunk_tokens)
        if not self.spends_up_to_cap(ledger):
            return parts
        total = sum(part.tokens for part in parts)
        rate = _MARGIN * served(lm, [user(problem.context.text)]) / max(1, total)
        finer = [self.chunk_tokens]
        while finer[-1] * _FINER >= max(32, 2 * self.written):
            finer.append(int(finer[-1] * _FINER))

        def affordable(n: int) -> bool:
            tokens = [math.ceil(part.tokens * rate) for part in parts_of(content, finer[n])]
            return affords(lm, ledger, self.load(self.served_sizes(problem, lm, tokens)))

        return parts_of(content, finer[largest_fitting(len(finer) - 1, affordable)])

    def write(
        self,
        prompts: Sequence[Sequence[Message]],
        lm: LM,
        ledger: Ledger,
        max_tokens: int,
        concurrency: int = 1,
    ) -> list[str]:
        """What the summarising model writes on each prompt. Raises the first failure."""
        outcomes = lm.complete_batch(
            prompts, ledger=ledger, max_tokens=max_tokens, tags=SUMMARIZE, concurrency=concurrency
        )
        replies = without_failures(outcomes)
        for reply in replies:
            if nothing := reply.no_reply:  # going on, what it read would be lost unseen
                raise NoReply(f"{self.written_key}={max_tokens}: {nothing}", nothing.outcome)
        return [reply.text.strip() for reply in replies]

    def read(self, problem: Problem, lm: LM, ledger: Ledger) -> Read:
        """Reads the input and writes down what the answer will be drawn from."""
        raise NotImplementedError

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        rounds, trajectory, values = self.read(problem, lm, ledger)
        messages = self.asked(problem.question, **values)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        size = sum(map(len, documents_of(problem.context.content)))
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=rounds + 1,
            spans_read=((0, size),),
            trajectory=tuple(trajectory),
        )


def served(lm: LM, messages: Sequence[Message]) -> int:
    """Tokens of a chat, of the two models that speak for the one that counts more."""
    tokens = lm.prompt_tokens(messages)
    if lm.info("summarize") == lm.info():
        return tokens
    return max(tokens, lm.prompt_tokens(messages, "summarize"))


def parts_of(content: Content, size: int) -> list[Chunk]:
    """The whole input in parts of at most ``size`` tokens, in order. Documents are under their
    number or name, which is repeated where one goes on; short ones share a part, and no ``start``
    is told."""
    if isinstance(content, str):
        return chunks_of(content, size)
    if not isinstance(content, Mapping):
        content = {f"Document {i}": text for i, text in enumerate(content, 1)}
    out: list[Chunk] = []
    for title, text in content.items():
        around = load_tokenizer().count(f"{title}:\n") + 1
        for chunk in chunks_of(text, max(size - around, size // 2)):
            part = Chunk(f"{title}:\n{chunk.text.rstrip()}\n\n", 0, around + chunk.tokens)
            if out and out[-1].tokens + part.tokens <= size:
                part = Chunk(out[-1].text + part.text, 0, out.pop().tokens + part.tokens)
            out.append(part)
    return out
