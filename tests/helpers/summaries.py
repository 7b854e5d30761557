"""A long text to sum up, the three methods that do, and a model that keeps what it was shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from rlm_eval.methods.summarize.compaction import Compaction
from rlm_eval.methods.summarize.notes import SummarizeMapReduce, SummarizeRefine
from rlm_eval.methods.summarize.summarizer import Summarizer
from rlm_eval.models.protocol import Message

LINES = tuple(
    f"Record {i}: the lantern in room {i} shone {'crimson' if i % 2 else 'ultramarine'} at dusk.\n"
    for i in range(300)
)
TEXT = "".join(LINES)
QUESTION = "Which lamp is green?"
#: One of each kind, small enough that the text above takes several steps.
KINDS: tuple[Callable[..., Summarizer], ...] = (
    lambda **k: SummarizeMapReduce(**{"chunk_tokens": 1000, "note_tokens": 40} | k),
    lambda **k: SummarizeRefine(**{"chunk_tokens": 1000, "summary_tokens": 60} | k),
    lambda **k: Compaction(**{"chunk_tokens": 300, "summary_tokens": 60} | k),
)
#: In which the third has to sum up.
WINDOW = 2000
kinds = pytest.mark.parametrize("kind", KINDS, ids=["map_reduce", "refine", "compaction"])


class Witness:
    """A script that writes notes of ``note`` characters, answers ``done``, and keeps the prompts:
    an answering one has a system message, a summarising one has none."""

    def __init__(self, note: int = 100) -> None:
        self.read: list[str] = []
        self.asked: list[str] = []
        self._note = note

    def __call__(self, messages: Sequence[Message]) -> str:
        last = messages[-1]["content"]
        if messages[0]["role"] == "system":
            self.asked.append(last)
            return "done"
        self.read.append(last)
        return f"<{len(self.read)}>".ljust(self._note, "n")


def records_in(prompts: Sequence[str]) -> list[int]:
    return [int(n) for prompt in prompts for n in re.findall(r"Record (\d+):", prompt)]
