"""Ranking by meaning: nearest vectors, and ``rag_dense``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk
from rlm_eval.methods.method import Forecast, Shape
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.rag.retriever import Retriever
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

T = TypeVar("T")


@dataclass(frozen=True)
class Dense:
    """Chunks ranked by the cosine of their vectors with the question's, all of them compared."""

    chunks: Sequence[Chunk]
    vectors: Vectors
    embed: Callable[[Sequence[str]], Vectors]

    def ranked(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best, best first; equals stand in order of position."""
        if not self.chunks:
            return []
        cosines = self.vectors @ self.embed([question])[0]
        return [self.chunks[i] for i in (-cosines).argsort(kind="stable")[:k]]


class EmbeddingRag(Rag[T]):
    """What the methods with an embedding model share."""

    roles = ("root", "embed")

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        if "embed" not in models:
            raise ConfigError(
                f"method.{self.name} needs an embedding model: embed_model=minilm for one on this "
                "machine, or embed_model=litellm embed_model.name=PROVIDER/MODEL"
            )
        embedder = models["embed"]
        if self.chunk_tokens >= embedder.context_window:
            raise ConfigError(
                f"method.{self.name}.chunk_tokens={self.chunk_tokens} does not fit the window of "
                f"{embedder.context_window} of {embedder.name}: lower it"
            )
        super().check(models)

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """With the whole context to be embedded, as if no other question shared its index, in one
        request beside the question's."""
        overlapping = self.chunk_tokens / (self.chunk_tokens - self.overlap_tokens)
        tokens = int(shape.context_tokens * overlapping) + shape.question_tokens
        return *(super().forecast(shape, models) or ()), Forecast(2, tokens, 0, "embed")

    def vectors(self, chunks: Sequence[Chunk], lm: LM, ledger: Ledger) -> Vectors:
        """The chunks' vectors. They serve every question about the context: the run's caps hold
        for them, not the sample's, whose row has the calls."""
        return lm.embed([chunk.passage for chunk in chunks], ledger=ledger.run)

    def dense(self, chunks: Sequence[Chunk], vectors: Vectors, lm: LM, ledger: Ledger) -> Dense:
        """The retriever of one sample, which pays for its question's vector."""
        return Dense(chunks, vectors, lambda texts: lm.embed(texts, ledger=ledger))


@dataclass
class RagDense(EmbeddingRag["Vectors"]):
    """Retrieval by an embedding model's vectors."""

    name: ClassVar[str] = "rag_dense"

    def index(self, chunks: Sequence[Chunk], lm: LM, ledger: Ledger) -> Vectors:
        return self.vectors(chunks, lm, ledger)

    def retriever(
        self, chunks: Sequence[Chunk], kept: Vectors, lm: LM, ledger: Ledger
    ) -> Retriever:
        return self.dense(chunks, kept, lm, ledger)
