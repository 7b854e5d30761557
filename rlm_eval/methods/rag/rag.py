"""What the retrieval methods share: index the context once, rank, fit the best, ask."""

# No postponed annotations here: the constructors of subclasses in other modules carry these types.
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Ledger
from rlm_eval.methods.chunking import Chunk, ChunkBy, chunks_of
from rlm_eval.methods.fitting import largest_fitting, offline_tokens
from rlm_eval.methods.method import Forecast, Method, Shape, at_least, prompt_tokens_left
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.methods.rag.rerank import Reranked, Reranker
from rlm_eval.methods.rag.retriever import (
    Index,
    Indices,
    Retriever,
    in_position,
    within_budget,
)
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer, Context, Problem, Role

T = TypeVar("T")
Order = Literal["position", "rank"]
#: A passage's number and the blank line after it, assumed in forecasts.
_LABEL_TOKENS = 4
#: No vocabulary packs text this much tighter than the offline one: what is ranked beyond need not
#: be counted to know that it does not fit.
_TIGHTEST = 8


@dataclass
class Rag(Method, Generic[T]):
    """Chunks of ``chunk_tokens``, ranked for the question; the ``top_k`` best, or as many of them
    as hold ``token_budget`` tokens, go into one prompt, in ``order`` of rank or of position. None
    is no bound; of two the tighter one binds.

    How chunks are cut: ``chunk_by``, ``overlap_tokens`` (:func:`chunks_of`). With ``rerank`` above
    0 the root model first puts that many of the best in order, in up to ``rerank_tokens`` of reply
    for each. Sizes are in tokens of the offline tokenizer; passages are dropped from the lowest
    rank until the prompt fits the served model's window.

    A context's index is built once per method and run, by the first sample that needs it; others
    wait for it. With ``matched``, where the sample has a cap on tokens or dollars, as many of the
    best-ranked passages as that buys are shown in place of ``top_k`` and ``token_budget``, and at
    most half of it goes into reranking, in one call.
    """

    prompt: str = "plain"
    chunk_tokens: int = 128
    chunk_by: ChunkBy = "lines"
    overlap_tokens: int = 0
    top_k: int | None = 3
    token_budget: int | None = None
    order: Order = "position"
    rerank: int = 0
    rerank_prompt: str = "listwise"
    rerank_tokens: int = 8
    matched: bool = False

    #: The method's name, where its settings stand.
    name: ClassVar[str]
    reads_everything: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._check_sizes()
        self._prompt = load_prompt("rag", self.prompt)
        ranking = load_prompt("rag_rerank", self.rerank_prompt)
        self._reranker = Reranker(ranking, self.rerank_tokens)
        self._indices: Indices[Index[T]] = Indices()

    # -- what a subclass says --------------------------------------------------------------------

    def index(self, chunks: Sequence[Chunk], lm: LM, ledger: Ledger) -> T:
        """What is kept of a context's chunks, of which there is one at least."""
        raise NotImplementedError

    def retriever(self, chunks: Sequence[Chunk], kept: T, lm: LM, ledger: Ledger) -> Retriever:
        """The retriever of one sample."""
        raise NotImplementedError

    # -- what the run asks -----------------------------------------------------------------------

    def prompt_name(self) -> str:
        return self._prompt.name

    def prompt_source(self) -> str:
        return self._prompt.source + (self._reranker.prompt.source if self.rerank else "")

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        window = models["root"].context_window
        if self.chunk_tokens >= window:
            raise ConfigError(
                f"method.{self.name}.chunk_tokens={self.chunk_tokens} does not fit the model's "
                f"window of {window}"
            )
        pair = self._reranker.frame_tokens() + 2 * (self.chunk_tokens + self.rerank_tokens)
        if self.rerank and pair >= window:
            raise ConfigError(
                f"method.{self.name}.rerank: two chunks of {self.chunk_tokens} tokens do not fit "
                f"the model's window of {window} together: lower chunk_tokens, or set rerank=0"
            )

    def close(self) -> None:
        self._indices.clear()

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        """What ``matched`` changes follows from the cap and is not in it."""
        window = models["root"].context_window
        count = max(1, math.ceil(shape.context_tokens / (self.chunk_tokens - self.overlap_tokens)))
        each = min(self.chunk_tokens, shape.context_tokens) + _LABEL_TOKENS
        shown = min(count, self.top_k or count)
        if self.token_budget is not None:
            shown = min(shown, self.token_budget // self.chunk_tokens)
        frame = offline_tokens(self._messages([], "")) + shape.question_tokens
        shown = min(shown, max(0, window - shape.max_answer_tokens - frame) // each)
        answering = Forecast(1, frame + shown * each, shape.max_answer_tokens)
        if not self.rerank:
            return (answering,)
        candidates = min(self.rerank, count)
        return answering, self._reranker.load(candidates, each, shape.question_tokens, window)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        index, shared = self._indices.get(
            problem.context.id, lambda: self._built(problem.context, lm, ledger)
        )
        left = self._left(problem, lm, ledger)
        retriever = self.retriever(index.chunks, index.kept, lm, ledger)
        ranked = retriever.ranked(problem.question, self._wanted(index, left))
        reranked = self._reranked(ranked, problem, lm, ledger)
        ranked = [*reranked.chunks, *ranked[len(reranked.chunks) :]]
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
            },
            *([reranked.event()] if self.rerank else []),
            {"type": "retrieved", "starts": [chunk.start for chunk in shown]},
        ]
        return Answer(
            text=reply.text,
            outcome="answered",
            iterations=1 + reranked.calls,
            context_chars_read_by_lm=reranked.chars + sum(len(chunk.text) for chunk in shown),
            spans_read=tuple(chunk.span for chunk in shown),
            trajectory=tuple(events),
        )

    # -- its steps -------------------------------------------------------------------------------

    def _built(self, context: Context, lm: LM, ledger: Ledger) -> Index[T]:
        begun = time.perf_counter()
        chunks = chunks_of(
            context.content, self.chunk_tokens, by=self.chunk_by, overlap_tokens=self.overlap_tokens
        )
        kept = self.index(chunks, lm, ledger)
        return Index(chunks, kept, time.perf_counter() - begun)

    def _left(self, problem: Problem, lm: LM, ledger: Ledger, reply: int = 0) -> int | None:
        """With ``matched``, the prompt tokens that the sample's cap still buys beside the answer
        and ``reply`` other tokens; None where it bounds nothing."""
        if not self.matched or (ledger.budget.tokens is None and ledger.budget.usd is None):
            return None
        return prompt_tokens_left(
            ledger, lm.info(), calls=1, completion_tokens=problem.max_answer_tokens + reply
        )

    def _wanted(self, index: Index[T], left: int | None) -> int:
        """How many of the best to rank."""
        if left is not None or self.top_k is None:
            return len(index.chunks)
        return max(self.top_k, self.rerank)

    def _reranked(
        self, ranked: Sequence[Chunk], problem: Problem, lm: LM, ledger: Ledger
    ) -> Reranked:
        candidates = ranked[: self.rerank]
        if self._left(problem, lm, ledger) is None:
            return self._reranker.rerank(candidates, problem.question, lm, ledger)

        def half(reply: int) -> int:
            thought = lm.info().reasoning_tokens
            return (self._left(problem, lm, ledger, reply + thought) or 0) // 2

        return self._reranker.rerank_once(candidates, problem.question, lm, ledger, half)

    def _shown(
        self, ranked: Sequence[Chunk], problem: Problem, lm: LM, ledger: Ledger
    ) -> list[Chunk]:
        """The best-ranked that fit, best first. Raises ContextOverflow where not even the question
        fits the window."""
        room = lm.info().context_window - problem.max_answer_tokens
        left = self._left(problem, lm, ledger)
        if left is not None:
            best = within_budget(ranked, _TIGHTEST * min(room, left))
        else:
            best = list(ranked[: self.top_k])
            if self.token_budget is not None:
                best = within_budget(best, self.token_budget)

        def excess(count: int) -> int:
            messages = self._messages(best[:count], problem.question)
            return lm.prompt_tokens(messages) - room

        spare = 0 if left is None else max(0, room - left)
        if excess(len(best)) + spare <= 0:
            return best
        count = largest_fitting(len(best) - 1, lambda n: excess(n) + spare <= 0)
        if count == 0 and (over := excess(0)) > 0:
            raise ContextOverflow("the question alone fills the window", over)
        return best[:count]

    def _messages(self, chunks: Sequence[Chunk], question: str) -> list[Message]:
        shown = in_position(chunks) if self.order == "position" else chunks
        return self._prompt.messages(passages=[c.passage for c in shown], question=question)

    def _check_sizes(self) -> None:
        where = f"method.{self.name}"
        for knob, value in (("top_k", self.top_k), ("rerank_tokens", self.rerank_tokens)):
            if value is not None:
                at_least(1, **{f"{where}.{knob}": value})
        for knob, value in (
            ("chunk_tokens", self.chunk_tokens),
            ("token_budget", self.token_budget),
        ):
            if value is not None:
                at_least(8, **{f"{where}.{knob}": value})
        if self.top_k is None and self.token_budget is None:
            raise ConfigError(f"{where}: give top_k or token_budget, or both")
        if self.token_budget is not None and self.chunk_tokens > self.token_budget:
            raise ConfigError(
                f"{where}.chunk_tokens={self.chunk_tokens} is larger than "
                f"token_budget={self.token_budget}: no chunk would fit"
            )
        if not 0 <= self.overlap_tokens < self.chunk_tokens:
            raise ConfigError(
                f"{where}.overlap_tokens={self.overlap_tokens} must be at least 0 and below "
                f"chunk_tokens={self.chunk_tokens}"
            )
        if self.rerank < 0 or self.rerank == 1:
            raise ConfigError(f"{where}.rerank must be 0 or at least 2 candidates")
