"""Refine: one running summary, written anew part after part, then an answer from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Forecast
from rlm_eval.methods.summarize.load import Load, Sizes
from rlm_eval.methods.summarize.summarizer import Summarizer
from rlm_eval.models.client import LM
from rlm_eval.records import Answer, Problem


@dataclass
class SummarizeRefine(Summarizer):
    """Reads part after part with the summary of all before it in sight, and writes that summary
    anew, at most ``summary_tokens`` long. One call per part, one after another, and one more that
    answers from the last summary."""

    summary_tokens: int = 256

    name: ClassVar[str] = "summarize_refine"
    templates: ClassVar[tuple[str, ...]] = ("refine",)
    blank: ClassVar[Mapping[str, Any]] = {"number": 2, "total": 2, "chunk": "", "summary": "-"}
    blank_answer: ClassVar[Mapping[str, Any]] = {"summary": ""}

    @property
    def written(self) -> tuple[str, int]:
        return "summary_tokens", self.summary_tokens

    @property
    def beside(self) -> int:
        return 2 * self.summary_tokens

    def load(self, sizes: Sizes) -> Load:
        steps, kept = len(sizes.parts), self.summary_tokens
        prompt = sum(sizes.parts) + steps * self.frame(sizes) + max(0, steps - 1) * kept
        return (
            Forecast(steps, prompt, steps * kept, "summarize"),
            Forecast(1, self.answer_frame(sizes) + kept, sizes.answer),
        )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
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
            (summary,) = self.write([prompt], lm, ledger, self.summary_tokens)
            trajectory.append({"type": "summary", "part": number, "text": summary})
        messages = self.asked(problem.question, summary=summary)
        return self.answered(
            messages, problem, lm, ledger, rounds=len(parts), trajectory=trajectory
        )
