"""Two ways to answer from what was written on each part of the input, one after another or side by
side: refine and map-reduce."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.errors import ContextOverflow, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Forecast
from rlm_eval.methods.summarize.summarizer import Read, Sizes, Summarizer
from rlm_eval.models.client import LM
from rlm_eval.records import Problem

#: What is around a note in the answering prompt.
_LABEL_TOKENS = 8


@dataclass
class SummarizeMapReduce(Summarizer):
    """Notes of at most ``note_tokens`` on every part, ``concurrency`` side by side; notes that
    don't fit one prompt are merged in groups until they do; then one answering call."""

    note_tokens: int = 64
    concurrency: int = 16
    max_merges: int = 8

    prompts: ClassVar[str] = "summarize_map_reduce"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "map": {"number": 1, "total": 1, "chunk": ""},
        "merge": {"notes": ()},
    }
    blank: ClassVar[Mapping[str, Any]] = {"notes": ()}
    written_key: ClassVar[str] = "note_tokens"
    in_sight: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, concurrency=self.concurrency, max_merges=self.max_merges)

    def load(self, sizes: Sizes) -> tuple[Forecast, ...]:
        """Merging's own prompt is taken to be as long as the one for reading."""
        notes, frame, around = len(sizes.parts), self.frame(sizes), self.answer_frame(sizes)
        calls, prompt, written = notes, sum(sizes.parts) + notes * frame, notes * self.note_tokens
        labelled = self.note_tokens + _LABEL_TOKENS
        most = max(1, (sizes.root_window - sizes.answer - around) // labelled)
        for _ in range(self.max_merges):
            if notes <= most:
                break
            size = min(math.ceil(notes / most), sizes.summarize_window // 2 // self.note_tokens)
            groups = math.ceil(notes / max(2, size))
            prompt += notes * self.note_tokens + groups * frame
            written += groups * self.note_tokens
            calls, notes = calls + groups, groups
        return (
            Forecast(calls, prompt, written, "summarize"),
            Forecast(1, around + notes * labelled, sizes.answer),
        )

    def read(self, problem: Problem, lm: LM, ledger: Ledger) -> Read:
        parts = self.parts(problem, lm, ledger)
        prompts = [
            self.text("map", problem.question, number=i, total=len(parts), chunk=part.text)
            for i, part in enumerate(parts, 1)
        ]
        notes = self.write(prompts, lm, ledger, self.note_tokens, self.concurrency)
        rounds = 1
        room = lm.info().context_window - problem.max_answer_tokens
        while lm.prompt_tokens(self.asked(problem.question, notes=notes)) > room:
            if len(notes) < 2 or rounds > self.max_merges:
                raise ContextOverflow("the notes do not fit the window, however often merged")
            notes = self._merged(notes, problem, lm, ledger)
            rounds += 1
        return rounds, [{"type": "notes", "notes": notes}], {"notes": notes}

    def _merged(self, notes: Sequence[str], problem: Problem, lm: LM, ledger: Ledger) -> list[str]:
        """Notes joined in groups, as small as leave what fits the answering prompt, that fill at
        most half the summarising model's window."""
        answering = lm.info().context_window - problem.max_answer_tokens
        answering -= lm.prompt_tokens(self.asked(problem.question, **self.blank))
        enough = math.ceil(len(notes) / max(1, answering // (self.note_tokens + _LABEL_TOKENS)))
        room = lm.info("summarize").context_window // 2
        groups: list[list[str]] = [[]]
        used = 0
        for note in notes:
            size = lm.count_tokens(note, "summarize")
            if len(groups[-1]) >= 2 and (len(groups[-1]) >= enough or used + size > room):
                groups.append([])
                used = 0
            groups[-1].append(note)
            used += size
        prompts = [self.text("merge", problem.question, notes=group) for group in groups]
        return self.write(prompts, lm, ledger, self.note_tokens, self.concurrency)


@dataclass
class SummarizeRefine(Summarizer):
    """Reads part after part with the summary of all before it in sight, and writes that summary
    anew, at most ``summary_tokens`` long. One call per part, one after another, and one more that
    answers from the last summary."""

    summary_tokens: int = 256

    prompts: ClassVar[str] = "summarize_refine"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "refine": {"number": 2, "total": 2, "chunk": "", "summary": "-"}
    }
    blank: ClassVar[Mapping[str, Any]] = {"summary": "-"}

    def load(self, sizes: Sizes) -> tuple[Forecast, ...]:
        steps, kept = len(sizes.parts), self.summary_tokens
        prompt = sum(sizes.parts) + steps * self.frame(sizes) + max(0, steps - 1) * kept
        return (
            Forecast(steps, prompt, steps * kept, "summarize"),
            Forecast(1, self.answer_frame(sizes) + kept, sizes.answer),
        )

    def read(self, problem: Problem, lm: LM, ledger: Ledger) -> Read:
        parts = self.parts(problem, lm, ledger)
        summary = ""
        trajectory = []
        for number, part in enumerate(parts, 1):
            prompt = self.text(
                "refine",
                problem.question,
                number=number,
                total=len(parts),
                chunk=part.text,
                summary=summary,
            )
            # Nothing written takes nothing back.
            summary = self.write([prompt], lm, ledger, self.summary_tokens)[0] or summary
            trajectory.append({"type": "summary", "part": number, "text": summary})
        return len(parts), trajectory, {"summary": summary}
