"""browsecomp_plus: a question for deep research, over a thousand web documents.

Source: BrowseComp-Plus (Chen et al. 2025), ``Tevatron/browsecomp-plus``: 830 questions, each with
its gold documents (the answer is in them), other evidence, and hard negatives. As the RLM paper
does (150 questions, 1000 documents), a context holds the question's gold and evidence and fills up
with documents drawn at random from the rest of the set; ``hard_negatives`` puts the question's own
negatives in first. Questions are taken in an order drawn from the seed.

The data are encrypted against leaking, and stay so: text is decrypted in memory only, whatever a
run writes down is encrypted again (``seal``), and the export is refused. To read a run's text:
``rlm_eval.tasks.datasets.browsecomp_plus.decrypt(text, canary)``.

Score: a judge model compares the answer's first ``4 × max_answer_tokens`` characters with the
reference (role ``judge``), by the benchmark's rules. Its reply is read as officially, but that one
which says yes and no (officially its first word counts) or has no verdict (officially wrong) leaves
the row pending. Exact match and F1 after SQuAD's normalisation stand beside the score;
``judge=null`` scores by exact match alone, as do the constants.

Known shortcuts: a padding document is rarely about the question's subject, so word overlap finds
some evidence; ``code_oracle`` takes the title of the document with the largest overlap. The
questions are public, if encrypted: compare with a no_context arm. The wording of the instruction is
our own.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context, Scalar, documents_of

from ..draws import Draws, derive_seed
from ..task import Pair
from .dataset import Name, Row, Sealed, many, shape
from .padded import Asked, Padded, nearest

SUPPORT = ("gold_docs", "evidence_docs")
KINDS = (*SUPPORT, "negative_docs")
DOCUMENTS = many(shape(docid=Sealed, text=Sealed))


def _supported(row: Row) -> Row:
    if not any(row[kind] for kind in SUPPORT):
        raise ValueError("a document in gold_docs or evidence_docs")
    return row


# The encryption is the one published by OpenAI for BrowseComp: base64 of the UTF-8 bytes XORed
# with the SHA-256 of the canary, repeated. It keeps text out of crawls and training sets, no more.


def _xor(data: bytes, canary: str) -> bytes:
    key = hashlib.sha256(canary.encode()).digest()
    stream = (key * (len(data) // len(key) + 1))[: len(data)]
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")


def encrypt(text: str, canary: str) -> str:
    """``text`` as base64, to be read with the same canary."""
    return base64.b64encode(_xor(text.encode("utf-8", "surrogatepass"), canary)).decode("ascii")


def decrypt(ciphertext: str, canary: str) -> str:
    """The text of ``encrypt(text, canary)``. Raises ValueError for what is none by this canary."""
    data = base64.b64decode(ciphertext, validate=True)
    return _xor(data, canary).decode("utf-8", "surrogatepass")


def keep_least(found: dict[int, Any], size: int) -> float:
    """Drops all but the ``size`` items of least rank; the rank below which one more would be kept:
    a random choice in one pass and bounded memory, of which the first are those of a smaller."""
    for rank in sorted(found)[size:]:
        del found[rank]
    return max(found) if len(found) == size else math.inf


@dataclass(kw_only=True, eq=False)
class BrowseCompPlus(Padded):
    canary: str
    documents: int = 1000
    pool: int = 5000
    hard_negatives: bool = False
    judge: str | None = "equivalence"
    judge_tokens: int = 1024
    judge_repeats: int = 1
    max_answer_tokens: int = 256

    name = "browsecomp_plus"
    schema = shape(
        _supported,
        query_id=Name,
        query=Sealed,
        answer=Sealed,
        **dict.fromkeys(KINDS, DOCUMENTS),
    )
    instruction = (
        "Answer the question from the documents. Reply with the final answer alone, in as few words"
        " as possible. Question: "
    )
    least_tokens = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        self.scorer = "squad_em" if self.judge is None else "judge"
        at_least(1, documents=self.documents)
        at_least(self.documents, pool=self.pool)
        if self.path is not None:
            self._open(next(self.rows())["query"])

    def seal(self, text: str) -> str:
        """``text`` encrypted as the data set is."""
        return encrypt(text, self.canary)

    def build(self) -> Iterator[Pair]:
        asked, pool = self._read
        for target in self.lengths:
            for index, question in enumerate(asked[target]):
                draws = Draws(self.name, "fill", self.seed, target, question.id)
                documents, used = self._fill(question, pool, self.budget(question, target), draws)
                yield self.question_on(question, documents, target, index, draws, used)

    def fits(self, asked: Asked, target: int) -> bool:
        return len(asked.support) <= self.documents and super().fits(asked, target)

    def code_oracle(self, question: str, context: Context) -> str | None:
        best = nearest(self.query(question), documents_of(context.content))
        titles = (line.partition("title:") for line in best.splitlines()[:5])
        return next((title.strip() for _, found, title in titles if found), None)

    def knobs(self, asked: Asked, places: Sequence[int]) -> Mapping[str, Scalar]:
        return {
            "query_id": asked.id,
            "n_support": len(asked.support),
            "hard_negatives": self.hard_negatives,
        }

    @cached_property
    def _read(self) -> tuple[Mapping[int, Sequence[Asked]], Sequence[str]]:
        """What one pass over the source keeps: questions by length, documents to fill with."""
        asked: dict[int, dict[int, Asked]] = {target: {} for target in self.lengths}
        pool: dict[int, str] = {}
        for row in self.rows():
            limit = keep_least(pool, self.pool)
            for raw in chain.from_iterable(row[kind] for kind in KINDS):
                rank = derive_seed(self.name, "document", self.seed, self._open(raw["docid"]))
                if rank < limit and rank not in pool:
                    pool[rank] = self._open(raw["text"]).strip()
            rank = derive_seed(self.name, "question", self.seed, row["query_id"])
            for target, found in asked.items():
                limit = keep_least(found, self.n)
                if rank < limit and self.fits(question := self._asked(row), target):
                    found[rank] = question
        chosen = {
            target: [found[rank] for rank in sorted(found)[: self.n]]
            for target, found in asked.items()
        }
        for target, questions in chosen.items():
            if len(questions) < self.n:
                told = f"is {self.n}, but only {len(questions)} questions have gold and evidence"
                told = f"{told} that fit {target} tokens and {self.documents} documents"
                raise ConfigError(told, key="n")
        return chosen, [pool[rank] for rank in sorted(pool)[: self.pool]]

    def _open(self, ciphertext: str) -> str:
        try:
            return decrypt(ciphertext, self.canary)
        except ValueError as error:
            told = "does not open the rows: they must be encrypted as published, with this canary"
            raise ConfigError(told, key="canary") from error

    def _asked(self, row: Row) -> Asked:
        support = {d["docid"]: d for kind in SUPPORT for d in row[kind]}
        negatives = row["negative_docs"] if self.hard_negatives else []
        others = [d for d in negatives if d["docid"] not in support]
        texts, more = (
            tuple(filter(None, (self._open(d["text"]).strip() for d in documents)))
            for documents in (support.values(), others)
        )
        question, gold = self._open(row["query"]), self._open(row["answer"])
        return Asked(row["query_id"], question, (gold,), self.name, texts, more)

    def _fill(
        self, asked: Asked, pool: Sequence[str], budget: int, draws: Draws
    ) -> tuple[list[str], int]:
        """The question's own documents, then others in random order; and their tokens."""
        others = list(pool)
        draws.shuffle(others)
        chosen: dict[str, None] = {}
        used = 0
        for document in chain(asked.support, asked.others, others):
            if document in chosen or not document:
                continue
            cost = self.cost(len(chosen) + 1, document)
            if len(chosen) == self.documents or used + cost > budget:
                return list(chosen), used
            chosen[document] = None
            used += cost
        if len(chosen) < self.documents:
            told = f"is {self.documents}, but the set holds {len(chosen)} to fill a context with"
            raise ConfigError(told, key="documents")
        return list(chosen), used
