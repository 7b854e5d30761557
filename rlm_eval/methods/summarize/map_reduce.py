"""Map-reduce: notes on each part of the input, then an answer from the notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.errors import ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Forecast, at_least
from rlm_eval.methods.summarize.load import Load, Sizes
from rlm_eval.methods.summarize.summarizer import Summarizer
from rlm_eval.models.client import LM
from rlm_eval.records import Answer, Problem

#: What stands around a note in the answering prompt.
_LABEL_TOKENS = 8


@dataclass
class SummarizeMapReduce(Summarizer):
    """Notes of at most ``note_tokens`` on every part, ``concurrency`` side by side; notes that
    don't fit one prompt are merged in groups until they do; then one answering call."""

    note_tokens: int = 64
    concurrency: int = 16
    max_merges: int = 8

    name: ClassVar[str] = "summarize_map_reduce"
    templates: ClassVar[tuple[str, ...]] = ("map", "merge")
    blank: ClassVar[Mapping[str, Any]] = {"number": 1, "total": 1, "chunk": ""}
    blank_answer: ClassVar[Mapping[str, Any]] = {"notes": ()}

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, **{f"method.{self.name}.concurrency": self.concurrency})
        at_least(1, **{f"method.{self.name}.max_merges": self.max_merges})

    @property
    def written(self) -> tuple[str, int]:
        return "note_tokens", self.note_tokens

    @property
    def beside(self) -> int:
        return self.note_tokens

    def load(self, sizes: Sizes) -> Load:
        """Merging's own prompt is taken to be as long as the one for reading."""
        notes, frame, around = len(sizes.parts), self.frame(sizes), self.answer_frame(sizes)
        calls, prompt, written = notes, sum(sizes.parts) + notes * frame, notes * self.note_tokens
        labelled = self.note_tokens + _LABEL_TOKENS
        room = sizes.root_window - sizes.answer - around
        for _ in range(self.max_merges):
            if notes < 2 or notes * labelled <= room:
                break
            groups = math.ceil(notes / max(2, sizes.summarize_window // 2 // self.note_tokens))
            prompt += notes * self.note_tokens + groups * frame
            written += groups * self.note_tokens
            calls, notes = calls + groups, groups
        return (
            Forecast(calls, prompt, written, "summarize"),
            Forecast(1, around + notes * labelled, sizes.answer),
        )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        parts = self.parts(problem, lm, ledger)
        prompts = [
            self.text("map", problem.question, number=i, total=len(parts), chunk=part.text)
            for i, part in enumerate(parts, 1)
        ]
        notes = self.write(prompts, lm, ledger, self.note_tokens, self.concurrency)
        rounds = 1
        while not self._fits(notes, problem, lm):
            if len(notes) < 2 or rounds > self.max_merges:
                raise ContextOverflow("the notes do not fit the window, however often merged")
            notes = self._merged(notes, problem, lm, ledger)
            rounds += 1
        messages = self.asked(problem.question, notes=notes)
        trajectory = [{"type": "notes", "notes": notes}]
        return self.answered(messages, problem, lm, ledger, rounds=rounds, trajectory=trajectory)

    def _fits(self, notes: Sequence[str], problem: Problem, lm: LM) -> bool:
        messages = self.asked(problem.question, notes=notes)
        return lm.prompt_tokens(messages) <= lm.info().context_window - problem.max_answer_tokens

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
        prompts = [self.text("merge", problem.question, notes=group) for group in groups]
        return self.write(prompts, lm, ledger, self.note_tokens, self.concurrency)
