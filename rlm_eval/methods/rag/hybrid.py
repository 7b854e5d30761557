"""Both rankings fused, and ``rag_hybrid``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk
from rlm_eval.methods.rag.bm25 import Bm25
from rlm_eval.methods.rag.dense import EmbeddingRag
from rlm_eval.methods.rag.retriever import Retriever
from rlm_eval.models.client import LM

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

#: The constant of reciprocal rank fusion, as its paper sets it.
RRF_K = 60
#: Each ranking counts down to this place at least.
_DEPTH = 100


@dataclass(frozen=True)
class Fused:
    """Reciprocal rank fusion (Cormack et al. 2009): a chunk scores 1 / (60 + its rank), added up
    over the ``rankings`` that have it."""

    rankings: Sequence[Callable[[str, int], list[Chunk]]]

    def ranked(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best, best first; equals stand in order of position."""
        scores: dict[Chunk, float] = {}
        for ranking in self.rankings:
            for rank, chunk in enumerate(ranking(question, max(k, _DEPTH)), 1):
                scores[chunk] = scores.get(chunk, 0.0) + 1 / (RRF_K + rank)
        return sorted(scores, key=lambda chunk: (-scores[chunk], chunk.start))[:k]


@dataclass
class RagHybrid(EmbeddingRag["tuple[Bm25, Vectors]"]):
    """Retrieval by words and by meaning: BM25, where it finds a word of the question, and an
    embedding model's vectors, fused by rank."""

    name: ClassVar[str] = "rag_hybrid"

    def index(self, chunks: Sequence[Chunk], lm: LM, ledger: Ledger) -> tuple[Bm25, Vectors]:
        return Bm25(chunks), self.vectors(chunks, lm, ledger)

    def retriever(
        self, chunks: Sequence[Chunk], kept: tuple[Bm25, Vectors], lm: LM, ledger: Ledger
    ) -> Retriever:
        bm25, vectors = kept
        return Fused((bm25.matching, self.dense(chunks, vectors, lm, ledger).ranked))
