"""Questions over documents, in one shape: MuSiQue, HotpotQA and SQuAD rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .sources import Row


@dataclass(frozen=True)
class Document:
    title: str
    text: str

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


@dataclass(frozen=True)
class Form:
    """How the rows of a data set read: the columns it must have, and the questions in a row."""

    columns: tuple[str, ...]
    read: Callable[[Row], Iterator[Asked]]


def _document(title: str, text: str) -> Document:
    return Document(" ".join(title.split()), " ".join(text.split()))


def read_musique(row: Row) -> Iterator[Asked]:
    """MuSiQue (Trivedi et al. 2022): answerable rows; the group is the number of hops."""
    if not row.get("answerable", True):
        return
    documents = [
        (_document(p["title"], p["paragraph_text"]), bool(p["is_supporting"]))
        for p in row["paragraphs"]
    ]
    yield Asked(
        id=str(row["id"]),
        question=row["question"],
        gold=tuple(dict.fromkeys((row["answer"], *(row.get("answer_aliases") or ())))),
        group=str(row["id"]).partition("__")[0],
        support=tuple(document for document, supports in documents if supports),
        distractors=tuple(document for document, supports in documents if not supports),
    )


def read_hotpot(row: Row) -> Iterator[Asked]:
    """HotpotQA (Yang et al. 2018), distractor setting: rows of the hub or of the original JSON;
    the group is bridge or comparison."""
    context, facts = row["context"], row["supporting_facts"]
    if isinstance(context, dict):
        pairs = list(zip(context["title"], context["sentences"], strict=True))
        titles = set(facts["title"])
    else:
        pairs = [(title, sentences) for title, sentences in context]
        titles = {title for title, _ in facts}
    documents = [(title in titles, _document(title, " ".join(text))) for title, text in pairs]
    yield Asked(
        id=str(row.get("id") or row.get("_id")),
        question=row["question"],
        gold=(row["answer"],),
        group=row.get("type", "hotpotqa"),
        support=tuple(document for supports, document in documents if supports),
        distractors=tuple(document for supports, document in documents if not supports),
    )


def read_squad(row: Row) -> Iterator[Asked]:
    """SQuAD (Rajpurkar et al. 2016): hub rows, or articles of the original JSON; questions without
    an answer (version 2) are left out."""
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
                support=(_document(row["title"], context),),
            )


FORMS = {
    "musique": Form(("id", "paragraphs", "question", "answer"), read_musique),
    "hotpotqa": Form(("question", "answer", "context", "supporting_facts"), read_hotpot),
    "squad": Form(("title",), read_squad),
}
