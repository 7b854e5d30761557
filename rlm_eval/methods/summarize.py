"""Summarise, then answer: notes on each part of the input, then an answer from the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlm_eval.errors import ConfigError, ContextOverflow, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import chunks_of
from rlm_eval.methods.method import Method, at_least
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.door import LM, CallTags
from rlm_eval.models.protocol import ModelInfo, user
from rlm_eval.records import Answer, Problem, Role


@dataclass
class SummarizeMapReduce(Method):
    """Notes on every chunk with the question in sight, side by side; notes that don't fit one
    prompt are merged in groups until they do; then one answering call.

    ``chunk_tokens`` (offline tokenizer) of input per note of at most ``note_tokens``.
    """

    prompt: str = "plain"
    chunk_tokens: int = 2048
    note_tokens: int = 160
    concurrency: int = 16
    max_merges: int = 8

    roles: ClassVar[tuple[Role, ...]] = ("root", "summarize")

    def __post_init__(self) -> None:
        at_least(32, **{"method.summarize_map_reduce.chunk_tokens": self.chunk_tokens})
        at_least(8, **{"method.summarize_map_reduce.note_tokens": self.note_tokens})
        at_least(1, **{"method.summarize_map_reduce.concurrency": self.concurrency})
        if self.note_tokens >= self.chunk_tokens:
            raise ConfigError(
                "method.summarize_map_reduce.note_tokens must be smaller than chunk_tokens, "
                "or the notes are no shorter than the text"
            )
        self._prompt = load_prompt("summarize_map_reduce", self.prompt)

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models.get("summarize", models["root"]).context_window
        if self.chunk_tokens + self.note_tokens >= window:
            raise ConfigError(
                f"method.summarize_map_reduce: a chunk of {self.chunk_tokens} and its note of "
                f"{self.note_tokens} tokens do not fit the window of {window}"
            )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        chunks = chunks_of(problem.context.content, self.chunk_tokens)
        prompts = [
            self._prompt.text(
                "map", number=i, total=len(chunks), chunk=c.text, question=problem.question
            )
            for i, c in enumerate(chunks, 1)
        ]
        notes = self._notes(prompts, lm, ledger)
        rounds = 1
        while not self._fits(notes, problem, lm):
            if len(notes) < 2 or rounds > self.max_merges:
                raise ContextOverflow("the notes do not fit the window, however often merged")
            notes = self._merged(notes, problem, lm, ledger)
            rounds += 1
        messages = self._prompt.messages(notes=notes, question=problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=rounds + 1,
            context_chars_read_by_lm=sum(len(c.text) for c in chunks),
            trajectory=({"type": "notes", "notes": notes},),
        )

    def _notes(self, prompts: Sequence[str], lm: LM, ledger: Ledger) -> list[str]:
        replies = lm.complete_batch(
            [[user(p)] for p in prompts],
            ledger=ledger,
            max_tokens=self.note_tokens,
            tags=CallTags(role="summarize"),
            concurrency=self.concurrency,
        )
        for reply in replies:
            if isinstance(reply, SampleFailure):
                raise reply
        return [r.text.strip() for r in replies if not isinstance(r, SampleFailure)]

    def _fits(self, notes: Sequence[str], problem: Problem, lm: LM) -> bool:
        messages = self._prompt.messages(notes=notes, question=problem.question)
        room = lm.info().context_window - problem.max_answer_tokens
        return lm.prompt_tokens(messages) <= room

    def _merged(self, notes: Sequence[str], problem: Problem, lm: LM, ledger: Ledger) -> list[str]:
        """Notes joined in groups that fill at most half the summarising model's window."""
        room = lm.info("summarize").context_window // 2
        groups: list[list[str]] = [[]]
        used = 0
        for note in notes:
            size = lm.count_tokens(note, "summarize")
            if len(groups[-1]) >= 2 and used + size > room:
                groups.append([])
                used = 0
            groups[-1].append(note)
            used += size
        prompts = [self._prompt.text("merge", notes=g, question=problem.question) for g in groups]
        return self._notes(prompts, lm, ledger)
