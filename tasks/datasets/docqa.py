"""docqa: real questions over real documents, padded to length with other questions' documents.

A context holds a question's supporting documents, then the distractors of its own row (in SQuAD the
other paragraphs of its article), then documents of other rows (none with a supporting title) until
the target is full, all in random order. MuSiQue (two to four hops), HotpotQA (two), SQuAD (one, its
paragraphs without titles). Score: official, exact match after SQuAD's normalisation, with F1 in
``score_f1``, each the best over aliases; for the F1 a yes, no or noanswer of HotpotQA must agree.

``task=ruler_qa_1`` (SQuAD) and ``task=ruler_qa_2`` (HotpotQA) are RULER's own: its data, its
question and answer prefix (a ``template``), its rule ``string_match_part``. What stays different:
prompts other than ``experiment=ruler``'s say more after the prefix, each sample is filled to its
target (RULER takes as many documents as its first sample holds), questions are in an order drawn
from the seed, SQuAD's paragraphs without an answerable question are left out, HotpotQA's
distractors never have a supporting title (some of RULER's do by chance), and RULER says its
instruction before the documents too and leaves a line empty after them.

Known shortcuts: the documents are Wikipedia's and the questions public: compare with a no_context
arm. Padding is rarely about the question's subject, so word overlap finds the row's own documents;
``code_oracle`` takes the title (or first name) of the document with the largest overlap (what
it scores: ``python tests/benchmarks/tasks.py controls``).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator, Discriminator, Strict, Tag

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Scalar, documents_of

from ..draws import Draws
from ..generated.haystack import MOST_CHARS_PER_TOKEN, ruler_file
from ..task import Pair, check_lengths, heading, one_of
from .dataset import AnyText, Name, Row, Text, many, shape
from .padded import Asked, Padded, nearest


@dataclass(kw_only=True, eq=False)
class DocumentQA(Padded):
    """Questions of a data set, padded. A document is its title and, on a second line, its text."""

    scorer: str = "squad_em"
    split: str = "validation"
    template: str | None = None

    #: The name that the task has with RULER's data.
    ruler_name = ""
    max_answer_tokens = 32
    instruction = (
        "Answer the question from the documents, in as few words as possible (a name, a date or a"
        " short phrase, no sentence). Question: "
    )

    def __post_init__(self) -> None:
        if self.path == "ruler":
            self.path = str(ruler_file(f"{self.name}.json", "path"))
            self.name = self.ruler_name
        self.instruction, _, self._end = (
            self.template or f"{self.instruction}{{question}}"
        ).partition("{question}")
        super().__post_init__()
        one_of("scorer", self.scorer, ("squad_em", "hotpot_em", "string_match_part"))
        if self.path is not None:
            self._check_lengths()

    @staticmethod
    @abstractmethod
    def read(row: Row) -> Iterator[Asked]:
        """The questions of a row."""

    def build(self) -> Iterator[Pair]:
        self._check_lengths()
        for target in self.lengths:
            fitting = (asked for asked in self._questions if self.fits(asked, target))
            for index, asked in enumerate(islice(fitting, self.n)):
                draws = Draws(self.name, "pad", self.seed, target, asked.id)
                documents = self._fill(asked, self.budget(asked, target), draws)
                yield self.question_on(asked, documents, target, index, draws)

    def query(self, question: str) -> str:
        return super().query(question).removesuffix(self._end)

    def code_oracle(self, question: str, context: Context) -> str | None:
        best = nearest(self.query(question), documents_of(context.content))
        title, _, text = best.partition("\n")
        if text and title.lower() not in question.lower():
            return title
        names = re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", text or title)
        return next((name for name in names if name.lower() not in question.lower()), None)

    def knobs(self, asked: Asked, places: Sequence[int]) -> Mapping[str, Scalar]:
        return {"row": asked.id, "first_support": min(places) + 1, "last_support": max(places) + 1}

    def cost(self, number: int, document: str) -> int:
        return self._count(document) + self._count(heading(number)) + 1

    @cached_property
    def _questions(self) -> list[Asked]:
        """All questions of the source, in an order drawn from the seed."""
        asked = chain.from_iterable(map(self.read, self.rows()))
        found = [replace(one, question=one.question + self._end) for one in asked]
        Draws(self.name, "order", self.seed).shuffle(found)
        return found

    @cached_property
    def _pool(self) -> list[str]:
        """Every distinct document of the source."""
        each = (document for a in self._questions for document in (*a.support, *a.others))
        return list(dict.fromkeys(each))

    def _check_lengths(self) -> None:
        """Raises ConfigError for a length that too few questions, or all documents, can't fill."""
        for target in self.lengths:
            fitting = sum(self.fits(asked, target) for asked in self._questions)
            if fitting < self.n:
                told = f"is {self.n}, but only {fitting} of the {len(self._questions)} questions"
                told = f"{told} have supporting documents that fit {target} tokens"
                raise ConfigError(told, key="n")
        most = sum(map(len, self._pool)) // MOST_CHARS_PER_TOKEN
        check_lengths(self.name, self.lengths, 1, most)

    def _fill(self, asked: Asked, budget: int, draws: Draws) -> list[str]:
        """The supporting documents, then as many others as fit, nearest first."""
        own, others = list(asked.others), list(self._pool)
        draws.shuffle(own)
        draws.shuffle(others)
        titles = {document.partition("\n")[0] for document in asked.support}
        mine = {*asked.support, *own}
        chosen: dict[str, None] = {}
        for document in chain(asked.support, own, others):
            known = document.partition("\n")[0] in titles and document not in mine
            if document in chosen or known:
                continue
            cost = self.cost(len(chosen) + 1, document)
            if cost <= budget:
                chosen[document] = None
                budget -= cost
            elif len(chosen) >= len(asked.support) + len(own):
                break
        return list(chosen)


def _document(title: str, text: str) -> str:
    """Without line breaks and repeated spaces in either."""
    return f"{' '.join(title.split())}\n{' '.join(text.split())}"


def _parted(paragraphs: Iterable[tuple[bool, str, str]]) -> list[tuple[str, ...]]:
    """The documents that support the answer, and the others."""
    found = [(supports, _document(title, text)) for supports, title, text in paragraphs]
    return [tuple(text for supports, text in found if supports is this) for this in (True, False)]


def _answered(row: Row) -> Row:
    if row.get("answerable", True) and not any(p["is_supporting"] for p in row["paragraphs"]):
        raise ValueError("a paragraph that is_supporting")
    return row


class MuSiQue(DocumentQA):
    """MuSiQue (Trivedi et al. 2022): answerable rows; the group is the number of hops."""

    name = "musique"
    schema = shape(
        _answered,
        id=Name,
        paragraphs=many(shape(title=Text, paragraph_text=Text, is_supporting=bool)),
        question=Text,
        answer=Text,
        answer_aliases=NotRequired[many(Text) | None],
        answerable=NotRequired[bool],
    )

    @staticmethod
    def read(row: Row) -> Iterator[Asked]:
        if not row.get("answerable", True):
            return
        support, others = _parted(
            (p["is_supporting"], p["title"], p["paragraph_text"]) for p in row["paragraphs"]
        )
        golds = tuple(dict.fromkeys((row["answer"], *(row.get("answer_aliases") or ()))))
        hops = re.sub(r"(?<=hop)\d?__.*", "", row["id"])  # 3hop1__… and 3hop2__… are shapes of 3
        yield Asked(row["id"], row["question"], golds, hops, support, others)


def _side_by_side(first: str, second: str) -> BeforeValidator:
    """Pairs of what the hub has as two columns; what is written as pairs already is let be."""

    def pairs(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        left, right = value.get(first), value.get(second)
        if not (isinstance(left, list) and isinstance(right, list) and len(left) == len(right)):
            raise ValueError(f"lists '{first}' and '{second}' of one length, or a list of pairs")
        return list(zip(left, right, strict=True))

    return BeforeValidator(pairs)


Titled = Annotated[tuple[Text, list[AnyText]], Strict(False)]
Fact = Annotated[tuple[Text, int], Strict(False)]


def _traced(row: Row) -> Row:
    if not {"id", "_id"} & set(row):
        raise ValueError("a column id or _id")
    if not {title for title, _ in row["supporting_facts"]} & {title for title, _ in row["context"]}:
        raise ValueError("a document of context whose title is in supporting_facts")
    return row


class HotpotQA(DocumentQA):
    """HotpotQA (Yang et al. 2018), distractor setting: rows of the hub or of the original JSON;
    the group is bridge or comparison."""

    name, ruler_name = "hotpotqa", "ruler_qa_2"
    schema = shape(
        _traced,
        question=Text,
        answer=Text,
        context=Annotated[many(Titled), _side_by_side("title", "sentences")],
        supporting_facts=Annotated[many(Fact), _side_by_side("title", "sent_id")],
        **dict.fromkeys(("id", "_id"), NotRequired[Name]),
        type=NotRequired[Text],
    )

    @staticmethod
    def read(row: Row) -> Iterator[Asked]:
        titles = {title for title, _ in row["supporting_facts"]}
        support, others = _parted(
            (title in titles, title, " ".join(text)) for title, text in row["context"]
        )
        name, group = row["id"] if "id" in row else row["_id"], row.get("type", "hotpotqa")
        yield Asked(name, row["question"], (row["answer"],), group, support, others)


ASKED = many(shape(id=Name, question=Text, answers=many(shape(text=Text))))
#: A row of SQuAD's original JSON, and one on the hub.
ARTICLE = shape(title=Text, paragraphs=many(shape(context=Text, qas=ASKED)))
QUESTION = shape(title=Text, context=Text, id=Name, question=Text, answers=shape(text=many(Text)))


class SQuAD(DocumentQA):
    """SQuAD (Rajpurkar et al. 2016): hub rows, or articles of the original JSON; questions without
    an answer (version 2) are left out."""

    name, ruler_name = "squad", "ruler_qa_1"
    schema = Annotated[
        Annotated[ARTICLE, Tag("<a>")] | Annotated[QUESTION, Tag("<q>")],  # type: ignore[valid-type]
        Discriminator(lambda raw: "<a>" if "paragraphs" in raw else "<q>"),
    ]

    @cached_property
    def _questions(self) -> list[Asked]:
        """Without titles, each with the other paragraphs of its article."""
        articles: dict[str, dict[str, None]] = defaultdict(dict)
        found = []
        for asked in super()._questions:
            title, _, text = asked.support[0].partition("\n")
            articles[title][text] = None
            found.append((asked, articles[title], text))
        return [
            replace(asked, support=(text,), others=tuple(t for t in article if t != text))
            for asked, article, text in found
        ]

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
                golds, support = tuple(dict.fromkeys(answers)), (_document(row["title"], context),)
                yield Asked(identifier, question, golds, "squad", support)
