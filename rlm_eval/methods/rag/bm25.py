"""Ranking by words: BM25, and ``rag_bm25``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.rag.retriever import Retriever
from rlm_eval.models.client import LM


class Bm25:
    """Chunks ranked by BM25 (Lucene's variant, by ``bm25s``), English stop words left out."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        import bm25s

        self._chunks = chunks
        self._bm25s: Any = bm25s
        self._scorer = bm25s.BM25()
        corpus = bm25s.tokenize([c.passage for c in chunks], stopwords="en", show_progress=False)
        self._empty = not corpus.vocab
        if not self._empty:
            self._scorer.index(corpus, show_progress=False)

    def ranked(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best; chunks without a word of the question come last."""
        return [chunk for chunk, _ in self._scored(question)[:k]]

    def matching(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best of the chunks that hold a word of the question."""
        return [chunk for chunk, score in self._scored(question)[:k] if score > 0]

    def _scored(self, question: str) -> list[tuple[Chunk, float]]:
        scores = self._scores(question)
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        return [(self._chunks[i], scores[i]) for i in order]

    def _scores(self, question: str) -> list[float]:
        nothing = [0.0] * len(self._chunks)
        if self._empty:
            return nothing
        query = self._bm25s.tokenize([question], stopwords="en", show_progress=False)
        if not query.vocab:
            return nothing
        return [float(score) for score in self._scorer.get_scores(list(query.vocab))]


@dataclass
class RagBm25(Rag[Bm25]):
    """Retrieval by BM25 over the question's words."""

    name: ClassVar[str] = "rag_bm25"

    def index(self, chunks: Sequence[Chunk], lm: LM, ledger: Ledger) -> Bm25:
        return Bm25(chunks)

    def retriever(self, chunks: Sequence[Chunk], kept: Bm25, lm: LM, ledger: Ledger) -> Retriever:
        return kept
