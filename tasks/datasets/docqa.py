"""docqa: real questions over real documents, padded to length with other questions' documents.

A context holds a question's supporting documents, then the distractors of its own row, then
documents of other rows (none with a supporting title) until the target is full, all in random
order. MuSiQue (two to four hops), HotpotQA (two), SQuAD (one; RULER's qa pads it this way). Scored
by exact match after SQuAD's normalisation, F1 as the lenient score, the best over aliases; a yes,
no or noanswer of HotpotQA must agree. ``scorer=string_match_part`` is RULER's rule for qa instead.

Known shortcuts: the documents are Wikipedia's and the questions public, so models answer many
without the context: compare with a no_context arm. Padding is rarely about the same subject as the
question, so word overlap finds the row's own documents; ``code_oracle`` takes the title (or first
name) of the document with the largest overlap (MuSiQue at 8K, 100 questions: exact match 1 %, F1
3 %; the most frequent answer: 6 %).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from math import log

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, documents_of

from ..draws import Draws
from ..sizing import PieceCounter, check_lengths, document_spans, one_of, whole_number
from ..task import Pair
from .dataset import DataSet, Row

SCORERS = ("squad_em", "hotpot_em", "string_match_part")
#: English takes fewer characters a token than this: a cheap bound on what a pool can fill.
CHARS_PER_TOKEN_AT_MOST = 7
QUESTION = (
    "Answer the question from the documents, in as few words as possible (a name, a date or a short"
    " phrase, no sentence). Question: "
)


@dataclass(frozen=True)
class Document:
    title: str
    text: str

    @classmethod
    def of(cls, title: str, text: str) -> Document:
        """Both without line breaks and repeated spaces."""
        return cls(" ".join(title.split()), " ".join(text.split()))

    @property
    def shown(self) -> str:
        return f"{self.title}\n{self.text}"


@dataclass(frozen=True)
class Asked:
    """One question: the documents that answer it, and the distractors its row brings along."""

    id: str
    question: str
    gold: tuple[str, ...]
    group: str
    support: tuple[Document, ...]
    distractors: tuple[Document, ...] = ()


def nearest(question: str, documents: Sequence[str]) -> str:
    """The document that shares most words with the question, rare words counting more."""
    asked = set(re.findall(r"\w+", question.lower()))
    shared = [asked.intersection(re.findall(r"\w+", document.lower())) for document in documents]
    frequency = Counter(chain.from_iterable(shared))

    def overlap(i: int) -> float:
        return sum(log(len(documents) / frequency[word]) for word in shared[i])

    return documents[max(range(len(documents)), key=overlap)]


@dataclass(kw_only=True, eq=False)
class DocumentQA(DataSet):
    """Questions of a data set, padded. A subclass says how its rows read."""

    lengths: Sequence[int]
    n: int
    seed: int = 0
    scorer: str = "squad_em"
    split: str = "validation"

    max_answer_tokens = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("scorer", self.scorer, SCORERS)
        whole_number("n", self.n)
        whole_number("seed", self.seed, 0)
        self.lengths = check_lengths(self.name, self.lengths, 100)
        self._count = PieceCounter(self._tok)
        if self.path is not None:
            self._check_lengths()

    @staticmethod
    @abstractmethod
    def read(row: Row) -> Iterator[Asked]:
        """The questions of a row."""

    def build(self) -> Iterator[Pair]:
        self._check_lengths()
        for target in self.lengths:
            for index, asked in enumerate(islice(self._fitting(target), self.n)):
                yield self._sample(asked, target, index)

    def code_oracle(self, question: str, context: Context) -> str | None:
        best = nearest(question.removeprefix(QUESTION), documents_of(context.content))
        title, _, text = best.partition("\n")
        if title.lower() not in question.lower():
            return title
        names = re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", text)
        return next((name for name in names if name.lower() not in question.lower()), None)

    @cached_property
    def _questions(self) -> list[Asked]:
        """All questions of the source, in an order drawn from the seed."""
        found = [asked for row in self.rows() for asked in self.read(row)]
        Draws(self.name, "order", self.seed).shuffle(found)
        return found

    @cached_property
    def _pool(self) -> list[Document]:
        """Every distinct document of the source."""
        each = (document for a in self._questions for document in (*a.support, *a.distractors))
        return list(dict.fromkeys(each))

    def _check_lengths(self) -> None:
        """Raises ConfigError for a length that too few questions, or all documents, can't fill."""
        for target in self.lengths:
            fitting = sum(1 for _ in islice(self._fitting(target), self.n))
            if fitting < self.n:
                raise ConfigError(
                    f"is {self.n}, but only {fitting} of the {len(self._questions)} questions have"
                    f" supporting documents that fit {target} tokens",
                    key="n",
                )
        most = sum(len(document.shown) for document in self._pool) // CHARS_PER_TOKEN_AT_MOST
        check_lengths(self.name, self.lengths, 1, most)

    def _cost(self, number: int, document: Document) -> int:
        return self._count(document.shown) + self._count.heading(number) + 1

    def _budget(self, asked: Asked, target: int) -> int:
        return target - self._tok.count(QUESTION + asked.question) - self.max_answer_tokens

    def _fitting(self, target: int) -> Iterator[Asked]:
        """Questions whose supporting documents fit."""
        for asked in self._questions:
            support = sum(self._cost(i, doc) for i, doc in enumerate(asked.support, 1))
            if support <= self._budget(asked, target):
                yield asked

    def _fill(self, asked: Asked, budget: int, draws: Draws) -> list[Document]:
        """The supporting documents, then as many others as fit, nearest first."""
        own, others = list(asked.distractors), list(self._pool)
        draws.shuffle(own)
        draws.shuffle(others)
        titles = {document.title for document in asked.support}
        chosen: dict[Document, None] = {}
        used = 0
        for document in chain(asked.support, own, others):
            if document in chosen or (document.title in titles and document not in asked.support):
                continue
            cost = self._cost(len(chosen) + 1, document)
            if used + cost <= budget:
                chosen[document] = None
                used += cost
            elif len(chosen) >= len(asked.support) + len(own):
                break
        return list(chosen)

    def _sample(self, asked: Asked, target: int, index: int) -> Pair:
        draws = Draws(self.name, "pad", self.seed, target, asked.id)
        documents = self._fill(asked, self._budget(asked, target), draws)
        draws.shuffle(documents)
        shown = tuple(document.shown for document in documents)
        context = Context.of(shown)
        places = [documents.index(document) for document in asked.support]
        sample = self.sample(
            context,
            target,
            question=QUESTION + asked.question,
            gold=asked.gold,
            group=asked.group,
            evidence=document_spans(shown, places),
            knobs={
                "row": asked.id,
                "n_documents": len(documents),
                "first_support": min(places) + 1,
                "last_support": max(places) + 1,
                "index": index,
                "seed": self.seed,
            },
        )
        return context, sample


class MuSiQue(DocumentQA):
    """MuSiQue (Trivedi et al. 2022): answerable rows; the group is the number of hops."""

    name = "musique"
    columns = ("id", "paragraphs", "question", "answer")

    @staticmethod
    def read(row: Row) -> Iterator[Asked]:
        if not row.get("answerable", True):
            return
        documents = [
            (bool(p["is_supporting"]), Document.of(p["title"], p["paragraph_text"]))
            for p in row["paragraphs"]
        ]
        yield Asked(
            id=str(row["id"]),
            question=row["question"],
            gold=tuple(dict.fromkeys((row["answer"], *(row.get("answer_aliases") or ())))),
            group=str(row["id"]).partition("__")[0],
            support=tuple(document for supports, document in documents if supports),
            distractors=tuple(document for supports, document in documents if not supports),
        )


class HotpotQA(DocumentQA):
    """HotpotQA (Yang et al. 2018), distractor setting: rows of the hub or of the original JSON;
    the group is bridge or comparison."""

    name = "hotpotqa"
    columns = ("question", "answer", "context", "supporting_facts")

    @staticmethod
    def read(row: Row) -> Iterator[Asked]:
        pairs, titles = row["context"], row["supporting_facts"]
        if isinstance(pairs, dict):
            pairs = zip(pairs["title"], pairs["sentences"], strict=True)
            titles = titles["title"]
        else:
            titles = [title for title, _ in titles]
        documents = [(title in titles, Document.of(title, " ".join(text))) for title, text in pairs]
        yield Asked(
            id=str(row.get("id") or row.get("_id")),
            question=row["question"],
            gold=(row["answer"],),
            group=row.get("type", "hotpotqa"),
            support=tuple(document for supports, document in documents if supports),
            distractors=tuple(document for supports, document in documents if not supports),
        )


class SQuAD(DocumentQA):
    """SQuAD (Rajpurkar et al. 2016): hub rows, or articles of the original JSON; questions without
    an answer (version 2) are left out."""

    name = "squad"
    columns = ("title",)

    @staticmethod
    def read(row: Row) -> Iterator[Asked]:
        if "paragraphs" not in row:
            questions = [(row["context"], row["id"], row["question"], row["answers"]["text"])]
        else:
            questions = [
                (p["context"], q["id"], q["question"], [answer["text"] for answer in q["answers"]])
                for p in row["paragraphs"]
                for q in p["qas"]
            ]
        for context, identifier, question, answers in questions:
            if answers:
                yield Asked(
                    id=str(identifier),
                    question=question,
                    gold=tuple(dict.fromkeys(answers)),
                    group="squad",
                    support=(Document.of(row["title"], context),),
                )
