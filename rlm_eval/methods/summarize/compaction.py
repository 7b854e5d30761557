"""Compaction: read on until the window is full, sum up, read on with the summary in place of what
was read (the summary agent of arXiv 2512.24601, appendix C). An input within the window is answered
as direct does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

from rlm_eval.errors import at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import largest_fitting
from rlm_eval.methods.method import Forecast, affords
from rlm_eval.methods.summarize.summarizer import Read, Sizes, Summarizer, parts_of, served
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import user
from rlm_eval.records import Problem


@dataclass
class Compaction(Summarizer):
    """Reads until ``fill`` of the window is taken, writes a summary of at most ``summary_tokens``
    and goes on with it; what is left in sight at the end is answered from as it stands.

    Text is taken in by ``chunk_tokens``. A summary's room is kept free whether it fills it or not.
    ``matched`` lengthens the summaries as far as the cap affords, up to a quarter of the window; an
    input that fits the window is never summed up.
    """

    chunk_tokens: int = 1024
    summary_tokens: int = 512
    fill: float = 0.8

    prompts: ClassVar[str] = "compaction"
    per_part: ClassVar[bool] = False
    blank: ClassVar[Mapping[str, Any]] = {"summary": "-", "text": ""}
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {"compact": blank}

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, up_to=1, above=True, fill=self.fill)

    def room(self, window: int) -> int:
        return int(window * self.fill)

    def read(self, problem: Problem, lm: LM, ledger: Ledger) -> Read:
        parts = [part.text for part in parts_of(problem.context.content, self.chunk_tokens)]
        sizes = self.served_sizes(problem, lm, [served(lm, [user(part)]) for part in parts])
        longest = self._longest(sizes, lm, ledger)
        *read, _ = self._stretches(sizes, longest)
        if not read:  # as direct shows it: a document's heading once
            return 0, [], {"summary": "", "text": problem.context.text}
        summary, at = "", 0
        trajectory = []
        for taken in read:
            text = "".join(parts[at : at + taken])
            prompt = self.text("compact", problem.question, summary=summary, text=text)
            summary = self.write([prompt], lm, ledger, longest)[0] or summary
            at += taken
            trajectory.append({"type": "summary", "parts_read": at, "text": summary})
        return len(read), trajectory, {"summary": summary, "text": "".join(parts[at:])}

    def _stretches(self, sizes: Sizes, summary: int) -> list[int]:
        """How many parts each prompt in turn takes in beside a summary of so many tokens, at last
        the answering one. For a longer summary up to half of the room for parts is left."""
        reading = self.room(sizes.summarize_window) - self.frame(sizes) - summary
        seen = summary + min(sizes.beyond_limit, max(0, reading - summary) // 2)
        answering = self.room(sizes.root_window) - self.answer_frame(sizes) - sizes.answer
        taken: list[int] = []
        left = list(sizes.parts)
        while left and sum(left) > answering:
            if not taken:
                answering -= seen
            room = reading - (seen if taken else 0)
            taken.append(max(1, sum(used <= room for used in accumulate(left))))
            left = left[taken[-1] :]
        return [*taken, len(left)]

    def load(self, sizes: Sizes, summary: int | None = None) -> tuple[Forecast, ...]:
        """With summaries of so many tokens, by default as configured."""
        summary = summary or self.summary_tokens
        *read, left = self._stretches(sizes, summary)
        steps = len(read)
        text = sum(sizes.parts[: len(sizes.parts) - left])
        prompt = text + steps * self.frame(sizes) + max(0, steps - 1) * summary
        asked = self.answer_frame(sizes) + sum(sizes.parts) - text + min(1, steps) * summary
        return (
            Forecast(steps, prompt, steps * summary, "summarize"),
            Forecast(1, asked, sizes.answer),
        )

    def _longest(self, sizes: Sizes, lm: LM, ledger: Ledger) -> int:
        """The tokens of a summary: as configured, or with ``matched`` as many as the ledger
        affords."""
        least, room = self.summary_tokens, self.room(sizes.summarize_window)
        capped = self.spends_up_to_cap(ledger)
        if not capped or len(self._stretches(sizes, least)) == 1:
            return least
        most = min(room // 4, (room - self.frame(sizes) - max(sizes.parts)) // 2)
        most = min(most, self.room(sizes.root_window) - self.answer_frame(sizes) - sizes.answer)
        return least + largest_fitting(
            max(0, most - least), lambda n: affords(lm, ledger, self.load(sizes, least + n))
        )
