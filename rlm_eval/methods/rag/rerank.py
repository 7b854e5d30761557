"""Reranking by a language model, listwise, in windows from the last candidates to the first where
they don't fit one prompt, each half overlapping the next (Sun et al. 2023, "Is ChatGPT Good at
Search?", section 3.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import Chunk, largest_fitting, offline_tokens
from rlm_eval.methods.method import Forecast
from rlm_eval.methods.prompts import Prompt
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message

_BRACKETED = re.compile(r"\[\s*(\d+)\s*\]")
_BARE = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Reranker:
    """Asks the root model, with ``tokens`` of reply for each candidate."""

    prompt: Prompt
    tokens: int

    def rerank(
        self, candidates: Sequence[Chunk], question: str, lm: LM, ledger: Ledger
    ) -> tuple[list[Chunk], int, int]:
        """The candidates in order, after how many calls, and how many of those had a reply without
        a single passage's number. Window after window, from the last to the first, as many in each
        as fit."""
        window = lm.info().context_window
        longest = sorted(candidates, key=lambda chunk: -chunk.tokens)

        def fits(count: int) -> bool:
            """Whether so many of the candidates, whichever they are, fit one prompt."""
            prompt = lm.prompt_tokens(self._messages(longest[:count], question))
            return prompt + count * self.tokens <= window

        chunks, calls, unread = list(candidates), 0, 0
        size = len(chunks)
        if size > 1 and not fits(size):  # first, as mostly all fit
            size = largest_fitting(size - 1, fits)
        start = len(chunks) - size
        while size > 1:
            shown = chunks[start : start + size]
            reply = lm.complete(
                self._messages(shown, question), ledger=ledger, max_tokens=self.tokens * len(shown)
            )
            named = numbers_in(reply.text, len(shown))
            order = [*named, *(i for i in range(len(shown)) if i not in named)]
            chunks[start : start + size] = [shown[i] for i in order]
            calls += 1
            unread += not named
            if start == 0:
                break
            start = max(0, start - size // 2)
        return chunks, calls, unread

    def frame_tokens(self) -> int:
        """Offline tokens of the prompt without passages and question."""
        return offline_tokens(self._messages([], ""))

    def forecast(self, candidates: int, each: int, question_tokens: int, window: int) -> Forecast:
        """What ordering candidates of ``each`` tokens takes."""
        frame = self.frame_tokens() + question_tokens
        size = min(candidates, max(2, (window - frame) // (each + self.tokens)))
        calls = 1 + math.ceil((candidates - size) / max(1, size // 2))
        return Forecast(calls, calls * (frame + size * each), calls * size * self.tokens)

    def _messages(self, chunks: Sequence[Chunk], question: str) -> list[Message]:
        return self.prompt.messages(passages=[c.passage for c in chunks], question=question)


def numbers_in(reply: str, count: int) -> list[int]:
    """The passages of 1 … ``count`` that a reply names, as indices, each at its first place.
    Numbers in brackets count, or where there are none, bare ones."""
    found = _BRACKETED.findall(reply) or _BARE.findall(reply)
    return list(dict.fromkeys(n - 1 for n in map(int, found) if 1 <= n <= count))
