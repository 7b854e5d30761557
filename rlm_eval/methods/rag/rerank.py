"""Reranking by a language model: it is shown the candidates and puts them in order.

Listwise, in windows from the last candidates to the first where they don't fit one prompt (Sun et
al. 2023, "Is ChatGPT Good at Search?", section 3.2), each half overlapping the next: a prompt for a
small window, and one call for a large one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk
from rlm_eval.methods.fitting import largest_fitting, offline_tokens
from rlm_eval.methods.method import Forecast
from rlm_eval.methods.prompts import Prompt
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message

_BRACKETED = re.compile(r"\[\s*(\d+)\s*\]")
_BARE = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Reranked:
    """The candidates as they were left, after ``calls`` of which ``unread`` had a reply without a
    single passage's number in it; ``chars`` of the context were shown in them."""

    chunks: Sequence[Chunk]
    calls: int = 0
    unread: int = 0
    chars: int = 0

    def event(self) -> dict[str, Any]:
        """For the trajectory."""
        starts = [chunk.start for chunk in self.chunks]
        return {"type": "reranked", "calls": self.calls, "unread": self.unread, "starts": starts}


@dataclass(frozen=True)
class Reranker:
    """Asks the root model, with ``tokens`` of reply for each candidate."""

    prompt: Prompt
    tokens: int

    def rerank(
        self, candidates: Sequence[Chunk], question: str, lm: LM, ledger: Ledger
    ) -> Reranked:
        """Window after window, from the last to the first, as many in each as fit."""
        window = lm.info().context_window
        size = self._fitting(candidates, question, lm, lambda reply: window - reply)
        done = Reranked(candidates)
        if size < 2:
            return done
        start = max(0, len(candidates) - size)
        while True:
            done = self._ordered(done, slice(start, start + size), question, lm, ledger)
            if start == 0:
                return done
            start = max(0, start - max(1, size // 2))

    def rerank_once(
        self,
        candidates: Sequence[Chunk],
        question: str,
        lm: LM,
        ledger: Ledger,
        room: Callable[[int], int],
    ) -> Reranked:
        """In one call, with as many of the candidates as fit the window and ``room``, the prompt
        tokens there are beside a reply of so many; none where not even two do."""
        window = lm.info().context_window
        size = self._fitting(
            candidates, question, lm, lambda reply: min(window - reply, room(reply))
        )
        done = Reranked(candidates)
        if size < 2:
            return done
        return self._ordered(done, slice(0, size), question, lm, ledger)

    def frame_tokens(self) -> int:
        """Offline tokens of the prompt without passages and question."""
        return offline_tokens(self._messages([], ""))

    def load(self, candidates: int, each: int, question_tokens: int, window: int) -> Forecast:
        """What ordering candidates of ``each`` tokens takes."""
        frame = self.frame_tokens() + question_tokens
        size = min(candidates, max(2, (window - frame) // (each + self.tokens)))
        calls = 1 + math.ceil((candidates - size) / max(1, size // 2))
        return Forecast(calls, calls * (frame + size * each), calls * size * self.tokens)

    def _ordered(
        self, done: Reranked, window: slice, question: str, lm: LM, ledger: Ledger
    ) -> Reranked:
        shown = done.chunks[window]
        reply = lm.complete(
            self._messages(shown, question), ledger=ledger, max_tokens=self.tokens * len(shown)
        )
        order = order_in(reply.text, len(shown))
        chunks = list(done.chunks)
        chunks[window] = [shown[i] for i in order]
        return replace(
            done,
            chunks=chunks,
            calls=done.calls + 1,
            unread=done.unread + (not _numbers(reply.text, len(shown))),
            chars=done.chars + sum(len(chunk.text) for chunk in shown),
        )

    def _fitting(
        self, candidates: Sequence[Chunk], question: str, lm: LM, room: Callable[[int], int]
    ) -> int:
        """How many of the candidates, whichever they are, fit one prompt."""
        longest = sorted(candidates, key=lambda chunk: -chunk.tokens)

        def fits(count: int) -> bool:
            prompt = lm.prompt_tokens(self._messages(longest[:count], question))
            return prompt <= room(count * self.tokens)

        return len(longest) if fits(len(longest)) else largest_fitting(len(longest) - 1, fits)

    def _messages(self, chunks: Sequence[Chunk], question: str) -> list[Message]:
        return self.prompt.messages(passages=[c.passage for c in chunks], question=question)


def order_in(reply: str, count: int) -> list[int]:
    """The order that a reply gives to passages 1 … ``count``, as indices: those it names first,
    each at its first place, then the others as they were. Numbers in brackets count, or where
    there are none, bare ones."""
    named = _numbers(reply, count)
    return [*named, *(i for i in range(count) if i not in named)]


def _numbers(reply: str, count: int) -> list[int]:
    found = _BRACKETED.findall(reply) or _BARE.findall(reply)
    return list(dict.fromkeys(n - 1 for n in map(int, found) if 1 <= n <= count))
