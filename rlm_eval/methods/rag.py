"""Retrieval-augmented generation: answer from the best-ranked chunks only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk, chunks_of
from rlm_eval.methods.method import Method, at_least
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.door import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Context, Problem, Role

#: Indices kept per arm: questions about one context come one after another.
_INDICES_KEPT = 8


@dataclass
class RagBm25(Method):
    """BM25 (Lucene's variant, by ``bm25s``) over chunks of ``chunk_tokens``; the ``top_k`` best
    within ``token_budget`` go into one prompt, in ``order`` of rank or of position.

    Sizes are in tokens of the offline tokenizer; passages are dropped from the lowest rank until
    the prompt fits the served model's window.
    """

    prompt: str = "plain"
    chunk_tokens: int = 128
    top_k: int = 16
    token_budget: int = 1024
    order: Literal["position", "rank"] = "position"

    reads_everything: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(1, **{"method.rag_bm25.top_k": self.top_k})
        at_least(
            8,
            **{
                "method.rag_bm25.chunk_tokens": self.chunk_tokens,
                "method.rag_bm25.token_budget": self.token_budget,
            },
        )
        if self.chunk_tokens > self.token_budget:
            raise ConfigError(
                f"method.rag_bm25.chunk_tokens={self.chunk_tokens} is larger than "
                f"token_budget={self.token_budget}: no chunk would fit"
            )
        self._prompt = load_prompt("rag", self.prompt)
        self._lock = threading.Lock()
        self._indices: OrderedDict[str, _Bm25Index] = OrderedDict()

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        if self.chunk_tokens >= window:
            raise ConfigError(
                f"method.rag_bm25.chunk_tokens={self.chunk_tokens} does not fit the model's "
                f"window of {window}"
            )

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        index = self._index(problem.context)
        ranked = within_budget(index.ranked(problem.question, self.top_k), self.token_budget)
        room = lm.info().context_window - problem.max_answer_tokens
        while True:
            shown = sorted(ranked, key=lambda c: c.start) if self.order == "position" else ranked
            messages = self._prompt.messages(
                passages=[c.text.strip() for c in shown], question=problem.question
            )
            excess = lm.prompt_tokens(messages) - room
            if excess <= 0:
                break
            if not ranked:
                raise ContextOverflow("the question alone fills the window", excess)
            ranked = ranked[:-1]
        reply = lm.complete(messages, ledger=ledger, max_tokens=problem.max_answer_tokens)
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=1,
            context_chars_read_by_lm=sum(len(c.text) for c in ranked),
            trajectory=({"type": "retrieved", "starts": [c.start for c in ranked]},),
        )

    def _index(self, context: Context) -> _Bm25Index:
        with self._lock:
            index = self._indices.get(context.id)
            if index is None:
                index = _Bm25Index(chunks_of(context.content, self.chunk_tokens))
                self._indices[context.id] = index
                if len(self._indices) > _INDICES_KEPT:
                    self._indices.popitem(last=False)
            else:
                self._indices.move_to_end(context.id)
            return index


def within_budget(ranked: list[Chunk], token_budget: int) -> list[Chunk]:
    """The longest run of best-ranked chunks whose sizes add up to ``token_budget`` at most."""
    used, kept = 0, []
    for chunk in ranked:
        used += chunk.tokens
        if used > token_budget:
            break
        kept.append(chunk)
    return kept


class _Bm25Index:
    """Chunks of one context, ranked by BM25."""

    def __init__(self, chunks: list[Chunk]) -> None:
        import bm25s

        self._chunks = chunks
        self._bm25s: Any = bm25s
        self._retriever = bm25s.BM25()
        corpus = bm25s.tokenize([c.text for c in chunks], stopwords="en", show_progress=False)
        self._empty = not corpus.vocab
        if not self._empty:
            self._retriever.index(corpus, show_progress=False)

    def ranked(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best chunks, best first; equal scores stand in order of position."""
        if self._empty:
            return self._chunks[:k]
        query = self._bm25s.tokenize([question], stopwords="en", show_progress=False)
        k = min(k, len(self._chunks))
        if not query.vocab:
            return self._chunks[:k]
        scores = self._retriever.get_scores(list(query.vocab))
        best = sorted(range(len(self._chunks)), key=lambda i: (-float(scores[i]), i))[:k]
        return [self._chunks[i] for i in best]
