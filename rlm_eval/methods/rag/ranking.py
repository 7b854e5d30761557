"""Chunks ranked for a question: by words, by meaning, by both; and one index for each context."""

from __future__ import annotations

import threading
import unicodedata
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import regex

from rlm_eval.methods.fitting import Chunk
from rlm_eval.models.memory import Memory
from rlm_eval.tokens import UNSPACED, load_tokenizer

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

#: Tokens of the contexts whose indices by words are kept, and what a short one counts at least: to
#: build one again takes time and nothing else.
_KEPT, _LEAST = 10**8, 10**6
#: A passage's number and the blank line after it, assumed.
LABEL_TOKENS = 4
#: The constant of reciprocal rank fusion, as its paper sets it.
RRF_K = 60


#: Accents and points of scripts that can do without, marks nobody sees, English endings.
_MARKS = r"[\u0300-\u036F\u0591-\u05C7\u0610-\u061A\u064B-\u065F\u0670\u0640\p{Cf}]"
_ENDINGS = r"['’](?<=\p{L}.)(?:s|t|re|ve|ll|d|m)\b"
#: What is dropped, and digits of other scripts.
_DROPPED = regex.compile(rf"{_MARKS}|{_ENDINGS}|(?P<digit>[\p{{Nd}}--[0-9]])", regex.V1)
_RUN = rf"(?P<run>(?:[{UNSPACED}ー]\p{{M}}*)+)"
_WORD = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--[{UNSPACED}]]+"
_WORD_OR_RUN = regex.compile(rf"{_WORD}|{_RUN}|\p{{So}}", regex.V1)
_CHARACTER = regex.compile(r"\X", regex.V1)


def words(text: str) -> list[str]:
    """The words of ``text`` that BM25 counts, in any script: without case, accents and width, names
    of one character among them, English stop words not (in capitals they are names: A, IT). Where
    words have no spaces between them, each pair of neighbouring characters counts, and each Chinese
    character or Korean syllable by itself."""
    from bm25s.stopwords import STOPWORDS_EN

    # Decomposed, so that marks can go; composed again with those that stay.
    text = unicodedata.normalize("NFKD", text)
    text = _DROPPED.sub(lambda m: str(unicodedata.decimal(m[0], m[0])) if m["digit"] else "", text)
    found: list[str] = []
    for match in _WORD_OR_RUN.finditer(unicodedata.normalize("NFC", text)):
        if match.lastgroup is None:
            word = match[0].casefold()
            if word not in STOPWORDS_EN or match[0].isupper():
                found.append(word)
            continue
        run = _CHARACTER.findall(match[0])
        found += map("".join, pairwise(run))
        # From U+3400 on those that can be words by themselves: not kana, not an alphabet's letters.
        found += run if len(run) == 1 else [c for c in run if c >= "\u3400"]
    return found


class Bm25:
    """Chunks ranked by BM25 (Lucene's variant, by ``bm25s``) over :func:`words`."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        import bm25s

        self.chunks = chunks
        self._scorer: Any = bm25s.BM25()
        # Numbers, each word's once: a word that occurs a million times would be as many texts.
        known: dict[str, int] = {}
        corpus = [
            array("I", (known.setdefault(word, len(known)) for word in words(chunk.indexed)))
            for chunk in chunks
        ]
        self._empty = not known
        if not self._empty:
            self._scorer.index((corpus, known), show_progress=False)

    def ranked(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best; chunks without a word of the question come last."""
        return [chunk for chunk, _ in self._scored(question)[:k]]

    def matching(self, question: str, k: int) -> list[Chunk]:
        """The ``k`` best of the chunks that hold a word of the question."""
        return [chunk for chunk, score in self._scored(question)[:k] if score > 0]

    def _scored(self, question: str) -> list[tuple[Chunk, float]]:
        """Best first; equals in order of position."""
        scores = [0.0] * len(self.chunks)
        query = list(dict.fromkeys(words(question)))
        if query and not self._empty:
            scores = self._scorer.get_scores(query).tolist()
        return sorted(zip(self.chunks, scores, strict=True), key=lambda scored: -scored[1])


def nearest(chunks: Sequence[Chunk], vectors: Vectors, query: Vectors) -> list[Chunk]:
    """All chunks by the cosine of their vectors with the question's, best first; equals in order
    of position."""
    return [chunks[i] for i in (-(vectors @ query)).argsort(kind="stable")]


def fused(rankings: Iterable[Sequence[Chunk]]) -> list[Chunk]:
    """Reciprocal rank fusion (Cormack et al. 2009): a chunk scores 1 / (60 + its rank), added up
    over the rankings that have it. Best first; equals in order of position."""
    scores: dict[Chunk, float] = {}
    for ranking in rankings:
        for rank, chunk in enumerate(ranking, 1):
            scores[chunk] = scores.get(chunk, 0.0) + 1 / (RRF_K + rank)
    return sorted(scores, key=lambda chunk: (-scores[chunk], chunk.start))


@dataclass(frozen=True)
class Index:
    """One context made ready: its ``chunks``, what a ranking needs of them, and the ``seconds`` it
    took, with what was loaded for it the first time."""

    chunks: Sequence[Chunk]
    bm25: Bm25 | None
    vectors: Vectors | None
    seconds: float


T = TypeVar("T", Bm25, Index)


class Indices(Generic[T]):
    """The indices of the last contexts, with up to ``kept`` tokens together, None: of all. Each is
    built once: those who need it while it is built wait for it. A build that fails is begun again
    by the next. Safe for threads."""

    def __init__(self, kept: int | None = _KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Memory[T]] = OrderedDict()
        self._tokens: dict[str, int] = {}

    def get(self, context_id: str, build: Callable[[], T]) -> tuple[T, bool]:
        """(the index, whether it was there or being built). ``build`` runs in the calling thread.
        Raises what ``build`` does."""
        with self._lock:
            memory = self._known.setdefault(context_id, Memory())
            self._known.move_to_end(context_id)
        index, shared = memory.get("index", build)
        if not shared and self._kept is not None:
            with self._lock:
                if context_id in self._known:  # and was not left out while it was built
                    self._tokens[context_id] = max(_LEAST, sum(c.tokens for c in index.chunks))
                while sum(self._tokens.values()) > self._kept and len(self._known) > 1:
                    self._tokens.pop(self._known.popitem(last=False)[0], None)
        return index, shared


def within_budget(ranked: Sequence[Chunk], token_budget: int) -> list[Chunk]:
    """The longest run of best-ranked chunks that with their labels and their documents' names have
    ``token_budget`` offline tokens at most."""
    count = cache(load_tokenizer().count)
    used = accumulate(chunk.tokens + LABEL_TOKENS + count(chunk.heading) for chunk in ranked)
    return [chunk for chunk, tokens in zip(ranked, used, strict=True) if tokens <= token_budget]


def in_position(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The chunks in order of position; those that overlap are joined, so that no text is shown
    twice."""
    out: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda c: c.start):
        seen = out[-1].span[1] - chunk.start if out else 0
        if seen > 0:
            last = out.pop()
            chunk = replace(last, text=last.text + chunk.text[seen:])
        out.append(chunk)
    return out
