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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from math import log

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample, Score, documents_of
from rlm_eval.tokens import load_tokenizer

from . import rules, sizing
from .documents import FORMS, Asked, Document
from .draws import Draws
from .haystack import PieceCounter
from .sources import Source
from .spans import document_spans

CARD = __doc__ or ""

MAX_ANSWER_TOKENS = 32
SCORERS = ("squad_em", "hotpot_em", "string_match_part")
#: English takes fewer characters a token than this: a cheap bound on what a pool can fill.
CHARS_PER_TOKEN_AT_MOST = 7


class DocumentQA:
    """MuSiQue, HotpotQA or SQuAD, padded; see the module's docstring."""

    card = CARD

    def __init__(
        self,
        *,
        name: str,
        form: str,
        lengths: Sequence[int],
        n: int,
        seed: int = 0,
        tokenizer: str = "cl100k_base",
        scorer: str = "squad_em",
        path: str | None = None,
        hub: str | None = None,
        config: str | None = None,
        split: str = "validation",
        revision: str | None = None,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self._tok = load_tokenizer(tokenizer)
        self._form = FORMS[sizing.one_of(name, "form", form, tuple(FORMS))]
        self._scorer = sizing.one_of(name, "scorer", scorer, SCORERS)
        self._n = sizing.at_least(name, "n", n)
        self._seed = sizing.at_least(name, "seed", seed, 0)
        self._lengths = sizing.check_lengths(name, lengths, 100)
        self._count = PieceCounter(self._tok)
        self._source = Source(name, self._form.columns, path, hub, config, split, revision)
        self._source.check()
        if path is not None:
            self._check_lengths()

    @property
    def source(self) -> dict[str, str]:
        """Path and hash, or hub id and revision, for the run's record."""
        return self._source.record

    def build(self) -> Iterator[tuple[Context, Sample]]:
        self._check_lengths()
        for target in self._lengths:
            for index, asked in enumerate(islice(self._fitting(target), self._n)):
                yield self._sample(asked, target, index)

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        return iter(())

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        return dict.fromkeys(sample.gold[0] for sample in group_samples)

    def score(self, sample: Sample, answer: str) -> Score:
        return rules.score(sample, answer)

    def code_oracle(self, question: str, context: Context) -> str | None:
        documents = documents_of(context.content)
        words = [set(re.findall(r"\w+", document.lower())) for document in documents]
        frequency = Counter(chain.from_iterable(words))
        asked = set(re.findall(r"\w+", question.partition("Question: ")[2].lower()))

        def overlap(i: int) -> float:
            return sum(log(len(words) / frequency[word]) for word in asked & words[i])

        best = documents[max(range(len(documents)), key=overlap)]
        title, _, text = best.partition("\n")
        if title.lower() not in question.lower():
            return title
        names = re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", text)
        return next((name for name in names if name.lower() not in question.lower()), None)

    @cached_property
    def _questions(self) -> list[Asked]:
        """All questions of the source, in an order drawn from the seed."""
        found = [asked for row in self._source.rows() for asked in self._form.read(row)]
        Draws(self.name, "order", self._seed).shuffle(found)
        return found

    @cached_property
    def _pool(self) -> list[Document]:
        """Every distinct document of the source."""
        return list(
            dict.fromkeys(
                document
                for asked in self._questions
                for document in (*asked.support, *asked.distractors)
            )
        )

    def _check_lengths(self) -> None:
        """Raises ConfigError for a length that too few questions, or all documents, can't fill."""
        for target in self._lengths:
            fitting = sum(1 for _ in islice(self._fitting(target), self._n))
            if fitting < self._n:
                raise ConfigError(
                    f"task.n: only {fitting} of the {len(self._questions)} questions of {self.name}"
                    f" have supporting documents that fit {target} tokens"
                )
        most = sum(len(document.shown) for document in self._pool) // CHARS_PER_TOKEN_AT_MOST
        if self._lengths[-1] > most:
            self._count.learn(document.shown for document in self._pool)
            most = sum(self._cost(i, document) for i, document in enumerate(self._pool, 1))
            sizing.check_lengths(self.name, self._lengths, 1, most)

    def _question(self, asked: Asked) -> str:
        return (
            "Answer the question from the documents, in as few words as possible (a name, a date"
            f" or a short phrase, no sentence). Question: {asked.question}"
        )

    def _cost(self, number: int, document: Document) -> int:
        return self._count(document.shown) + self._count(sizing.heading(number)) + 1

    def _budget(self, asked: Asked, target: int) -> int:
        return target - self._tok.count(self._question(asked)) - MAX_ANSWER_TOKENS

    def _fitting(self, target: int) -> Iterator[Asked]:
        """Questions whose supporting documents fit."""
        for asked in self._questions:
            support = sum(self._cost(i, doc) for i, doc in enumerate(asked.support, 1))
            if support <= self._budget(asked, target):
                yield asked

    def _fill(self, asked: Asked, budget: int, draws: Draws) -> list[Document]:
        """The supporting documents, then as many others as fit, nearest first."""
        own = list(asked.distractors)
        draws.shuffle(own)
        others = list(self._pool)
        draws.shuffle(others)
        titles = {document.title for document in asked.support}
        chosen: dict[Document, None] = {}
        used = 0
        for document in chain(asked.support, own, others):
            if document in chosen or (document.title in titles and document not in asked.support):
                continue
            cost = self._cost(len(chosen) + 1, document)
            if used + cost > budget:
                if len(chosen) >= len(asked.support) + len(own):
                    break
                continue
            chosen[document] = None
            used += cost
        return list(chosen)

    def _sample(self, asked: Asked, target: int, index: int) -> tuple[Context, Sample]:
        draws = Draws(self.name, "pad", self._seed, target, asked.id)
        documents = self._fill(asked, self._budget(asked, target), draws)
        draws.shuffle(documents)
        context = Context.of(tuple(document.shown for document in documents))
        places = [documents.index(document) for document in asked.support]
        sample = Sample.of(
            task=self.name,
            context_id=context.id,
            question=self._question(asked),
            gold=asked.gold,
            scorer=self._scorer,
            question_group=asked.group,
            target_tokens=target,
            length_tokens=self._tok.count(context.text),
            max_answer_tokens=MAX_ANSWER_TOKENS,
            evidence=document_spans(documents_of(context.content), places),
            knobs={
                "row": asked.id,
                "n_documents": len(documents),
                "first_support": min(places) + 1,
                "last_support": max(places) + 1,
                "index": index,
                "seed": self._seed,
            },
        )
        return context, sizing.within_target(self._tok, sample)
