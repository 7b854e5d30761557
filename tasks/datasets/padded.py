"""What tasks share whose questions come with documents: the context is filled with other rows'."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from re import findall

from rlm_eval.errors import at_least
from rlm_eval.records import Context, Scalar

from ..draws import Draws
from ..task import Pair, check_lengths, document_spans, heading
from .dataset import DataSet


@dataclass(frozen=True)
class Asked:
    """One question: the documents that answer it, and others that its row brings along."""

    id: str
    question: str
    gold: tuple[str, ...]
    group: str
    support: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(kw_only=True, eq=False)
class Padded(DataSet):
    """``n`` questions per length, in an order drawn from the seed."""

    lengths: Sequence[int]
    n: int
    seed: int = 0

    instruction = ""
    #: Tokens that question and context take at least.
    least_tokens = 68

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, n=self.n)
        at_least(0, seed=self.seed)
        shortest = self.max_answer_tokens + self.least_tokens
        self.lengths = check_lengths(self.name, self.lengths, shortest)

    @abstractmethod
    def knobs(self, asked: Asked, places: Sequence[int]) -> Mapping[str, Scalar]:
        """What else to note of a sample whose supporting documents have these places (from 0)."""

    def query(self, question: str) -> str:
        return question.removeprefix(self.instruction)

    def budget(self, asked: Asked, target: int) -> int:
        """Tokens that the documents may take."""
        question = self._tok.count(self.instruction + asked.question)
        return target - question - self.max_answer_tokens

    def cost(self, number: int, document: str) -> int:
        """Tokens of document ``number`` with its heading and the blank line after it: one piece
        ends in a newline and the next begins with none (see :mod:`rlm_eval.tasks.task`)."""
        return self._count(f"{document}\n\n") + self._count(heading(number))

    def fits(self, asked: Asked, target: int) -> bool:
        """Whether the supporting documents do. A token is at least a byte: most need no count."""
        budget = self.budget(asked, target)
        if sum(len(document.encode()) + 20 for document in asked.support) <= budget:
            return True
        return sum(self.cost(i, document) for i, document in enumerate(asked.support, 1)) <= budget

    def question_on(
        self,
        asked: Asked,
        documents: Sequence[str],
        target: int,
        index: int,
        draws: Draws,
        summed: int = 0,
    ) -> Pair:
        """The question about these documents in random order."""
        texts = list(documents)
        draws.shuffle(texts)
        context = Context.of(tuple(texts))
        places = [texts.index(document) for document in asked.support]
        drawn = {"n_documents": len(texts), "index": index, "seed": self.seed}
        return self.pair(
            context,
            target,
            question=self.instruction + asked.question,
            gold=asked.gold,
            group=asked.group,
            summed=summed,
            evidence=document_spans(texts, places),
            knobs={**self.knobs(asked, places), **drawn},
        )


def nearest(question: str, documents: Sequence[str]) -> str:
    """The document that shares most words with the question, rare words counting more."""
    asked = set(findall(r"\w+", question.lower()))
    shared = [asked.intersection(findall(r"\w+", document.lower())) for document in documents]
    frequency = Counter(chain.from_iterable(shared))
    overlaps = [sum(log(len(documents) / frequency[word]) for word in words) for words in shared]
    return documents[overlaps.index(max(overlaps))]
