"""The retrieval method: index the context once, rank, fit the best into one prompt, ask."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlm_eval.errors import ConfigError, ContextOverflow, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import Chunk, ChunkBy, chunks_of, largest_fitting, offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape, affords
from rlm_eval.methods.prompts import Prompt, Prompted, load_prompt
from rlm_eval.methods.rag.ranking import (
    LABEL_TOKENS,
    Bm25,
    Index,
    Indices,
    fused,
    in_position,
    nearest,
    within_budget,
)
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Context, Problem, Role

_BRACKETED = re.compile(r"\[\s*(\d+)\s*\]")
_BARE = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Reranker:
    """Asks the root model, with ``tokens`` of reply for each candidate, for the best first:
    listwise, in windows from the last candidates to the first where they don't fit one prompt, each
    half overlapping the next (Sun et al. 2023, "Is ChatGPT Good at Search?", section 3.2)."""

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


#: No vocabulary packs text this much tighter than the offline one: what is ranked beyond need not
#: be counted to know that it does not fit.
_TIGHTEST = 8
#: Each of two rankings that are fused counts down to this place at least.
_DEPTH = 100


@dataclass
class Rag(Prompted, Method):
    """Chunks of the context, ranked for the question; the best go into one prompt, dropped from the
    lowest rank until it fits the window. Settings: conf/method/rag_bm25.yaml.

    A context's index is built once per method and run. Vectors of its chunks serve every question,
    so the run's caps hold for them."""

    retriever: Literal["bm25", "dense", "hybrid"] = "bm25"
    prompt: str = "plain"
    chunk_tokens: int = 128
    chunk_by: ChunkBy = "lines"
    overlap_tokens: int = 0
    top_k: int | None = 3
    token_budget: int | None = None
    order: Literal["position", "rank"] = "position"
    rerank: int = 0
    rerank_prompt: str = "listwise"
    rerank_tokens: int = 8
    matched: bool = False

    reads_everything = False

    def __post_init__(self) -> None:
        at_least(8, chunk_tokens=self.chunk_tokens)
        at_least(1, rerank_tokens=self.rerank_tokens, top_k=self.top_k)
        if self.top_k is None and self.token_budget is None:
            raise ConfigError("or token_budget must be given", key="top_k")
        if self.token_budget is not None and self.token_budget < self.chunk_tokens:
            told = f"must hold a chunk of chunk_tokens={self.chunk_tokens}"
            raise ConfigError(told, key="token_budget")
        if not 0 <= self.overlap_tokens < self.chunk_tokens:
            told = f"must be at least 0 and below chunk_tokens={self.chunk_tokens}"
            raise ConfigError(told, key="overlap_tokens")
        if self.rerank < 0 or self.rerank == 1:
            raise ConfigError("must be 0 or at least 2 candidates", key="rerank")
        self.loaded_prompt = load_prompt("rag", self.prompt)
        self._reranker = Reranker(load_prompt("rag_rerank", self.rerank_prompt), self.rerank_tokens)
        self._indices: Indices[Index] = Indices()
        if self.retriever != "bm25":
            self.roles: tuple[Role, ...] = ("root", "embed")
            self._indices = Indices(kept=None)  # vectors were paid for

    def prompt_source(self) -> str:
        return super().prompt_source() + (self._reranker.prompt.source if self.rerank else "")

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        index, shared = self._indices.get(
            problem.context.id, lambda: self._index(problem.context, lm, ledger)
        )
        wanted = max(self.top_k or 0, self.rerank)
        if self.top_k is None or self.spends_up_to_cap(ledger):
            wanted = len(index.chunks)
        ranked = self._ranked(index, problem.query or problem.question, wanted, lm, ledger)
        candidates = ranked[: self.rerank]
        best, calls, unread = self._reranker.rerank(candidates, problem.question, lm, ledger)
        ranked[: len(best)] = best
        shown = self._shown(ranked, problem, lm, ledger)
        messages = self._messages(shown, problem.question)
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        events: list[dict[str, Any]] = [
            {
                "type": "index",
                "built": "shared" if shared else "here",
                "chunks": len(index.chunks),
                "tokens": sum(chunk.tokens for chunk in index.chunks),
                "seconds": round(index.seconds, 3),
            }
        ]
        if self.rerank:
            starts = [chunk.start for chunk in best]
            events.append({"type": "reranked", "calls": calls, "unread": unread, "starts": starts})
        events.append({"type": "retrieved", "starts": [chunk.start for chunk in shown]})
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=1 + calls,
            spans_read=tuple(chunk.span for chunk in shown),
            trajectory=tuple(events),
        )

    def _index(self, context: Context, lm: LM, ledger: Ledger) -> Index:
        begun = time.perf_counter()
        chunks = chunks_of(
            context.content, self.chunk_tokens, by=self.chunk_by, overlap_tokens=self.overlap_tokens
        )
        bm25 = vectors = None
        if self.retriever != "dense":
            bm25 = Bm25(chunks)
        if self.retriever != "bm25":
            vectors = lm.embed([chunk.indexed for chunk in chunks], ledger=ledger.run)
        return Index(chunks, bm25, vectors, time.perf_counter() - begun)

    def _ranked(self, index: Index, question: str, k: int, lm: LM, ledger: Ledger) -> list[Chunk]:
        """The ``k`` best, best first. The sample pays for its question's vector."""
        if index.vectors is None or not index.chunks:
            return index.bm25.ranked(question, k) if index.bm25 else []
        by_meaning = nearest(
            index.chunks, index.vectors, lm.embed([question], ledger=ledger, query=True)[0]
        )
        if index.bm25 is None:
            return by_meaning[:k]
        depth = max(k, _DEPTH)
        return fused([index.bm25.matching(question, depth), by_meaning[:depth]])[:k]

    def _shown(
        self, ranked: Sequence[Chunk], problem: Problem, lm: LM, ledger: Ledger
    ) -> list[Chunk]:
        """The best-ranked that fit, best first. Raises ContextOverflow where not even the question
        fits the window."""
        room = lm.info().context_window - problem.max_answer_tokens
        capped = self.spends_up_to_cap(ledger)
        if capped:
            left, price = ledger.left(), lm.info().price
            most = min(room, left.get("tokens", room))
            if "usd" in left and price and price.input:
                most = min(most, left["usd"] * 1e6 / price.input)
            best = within_budget(ranked, _TIGHTEST * int(most))
        else:
            best = list(ranked[: self.top_k])
            if self.token_budget is not None:
                best = within_budget(best, self.token_budget) or best[:1]

        def tokens(count: int) -> int:
            return lm.prompt_tokens(self._messages(best[:count], problem.question))

        def fits(count: int) -> bool:
            size = tokens(count)
            asked = [Forecast(1, size, problem.max_answer_tokens)]
            return size <= room and (not capped or affords(lm, ledger, asked))

        if fits(len(best)):
            return best
        count = largest_fitting(len(best) - 1, fits)
        if count == 0 and (over := tokens(0) - room) > 0:
            raise ContextOverflow("the question alone fills the window", over)
        return best[:count]

    def _messages(self, chunks: Sequence[Chunk], question: str) -> list[Message]:
        shown = in_position(chunks) if self.order == "position" else chunks
        return self.loaded_prompt.messages(passages=[c.passage for c in shown], question=question)

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        root = models["root"]
        if "embed" in self.roles and "embed" not in models:
            raise ConfigError(
                "needs an embedding model: embed_model=minilm for one on this machine, or "
                "embed_model=litellm embed_model.name=PROVIDER/MODEL",
                key="retriever",
            )
        for info in (models[role] for role in self.roles):
            if self.chunk_tokens >= info.context_window:
                told = f"must fit the window of {info.context_window} of {info.name}: lower it"
                raise ConfigError(told, key="chunk_tokens")
        pair = self._reranker.frame_tokens() + 2 * (self.chunk_tokens + self.rerank_tokens)
        if self.rerank and pair >= root.context_window:
            raise ConfigError(
                f"puts two chunks of {self.chunk_tokens} tokens into one prompt, too much for the "
                f"model's window of {root.context_window}: set it to 0, or lower chunk_tokens",
                key="rerank",
            )

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """With the whole context to be embedded, as if no other question shared its index, in one
        request beside the question's. What ``matched`` changes follows from the cap and is not in
        it."""
        window = models["root"].context_window
        stride = self.chunk_tokens - self.overlap_tokens
        count = max(1, math.ceil(shape.context_tokens / stride))
        each = min(self.chunk_tokens, shape.context_tokens) + LABEL_TOKENS
        shown = min(count, self.top_k or count)
        if self.token_budget is not None:
            shown = min(shown, max(1, self.token_budget // each))
        frame = offline_tokens(self._messages([], "")) + shape.question_tokens
        shown = min(shown, max(0, window - shape.max_answer_tokens - frame) // each)
        out = [Forecast(1, frame + shown * each, shape.max_answer_tokens)]
        if self.rerank:
            candidates = min(self.rerank, count)
            out.append(self._reranker.forecast(candidates, each, shape.question_tokens, window))
        if "embed" in self.roles:
            tokens = int(shape.context_tokens * self.chunk_tokens / stride)
            out.append(Forecast(2, tokens + shape.question_tokens, 0, "embed"))
        return tuple(out)
