"""A chain of relations over short documents about people, towns and companies that don't exist.

Each document is about one of them and states everyday facts; the question names the first and asks
for the last, as in ``the mayor of the town where the founder of Troaneith was born``. A document
words its facts otherwise than the question does (no content word in common), and every other
document states the same kinds of facts about others. Our own, in the manner of MuSiQue's composed
questions. Score: ``strict_answer``, 1 where the answer names the wanted one and no other candidate;
MuSiQue's exact match and F1 stand beside it. Names are made up from the seed, so no model has read
the facts before; each relation of each document has one object, so the answer is unique.

Known shortcuts: the answer is one of the names in the last document of the chain, and a script
that follows names from document to document has about one chance in three or four a hop
(``code_oracle`` does so, taking the sentence with most words in common with the question; best
constant: 0).
"""

# ruff: noqa: SIM905  (word lists read better as text)
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, cast

from rlm_eval.errors import at_least
from rlm_eval.records import Context, documents_of

from ..draws import Draws
from ..task import Generated, Pair, heading, spans_of
from .haystack import ITEMS, made_up_names

LEAST_DOCUMENTS = 12
MOST_HOPS = 5

NAME = re.compile(r"\b[A-Z][a-z]+\b")

Type = Literal["person", "town", "company"]


@dataclass(frozen=True)
class Relation:
    """``phrase`` is how the question names the object of {x}; ``facts`` are how documents state it,
    each name after a space and before no apostrophe (so that token counts add up)."""

    source: Type
    target: Type
    phrase: str
    facts: tuple[str, ...]


def _relations() -> Iterator[Relation]:
    """Source and target with the phrase, then the facts on lines that start with spaces."""
    text = (ITEMS / "facts.txt").read_text(encoding="utf-8")
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        head, *facts = (line.strip() for line in block.strip().splitlines())
        types, _, phrase = head.partition(": ")
        source, target = cast(list[Type], types.split())
        yield Relation(source, target, phrase, tuple(facts))


RELATIONS = tuple(_relations())
OPENINGS: dict[Type, str] = {
    "person": "This page is about somebody called {x}.",
    "town": "This page is about a place called {x}.",
    "company": "This page is about a firm called {x}.",
}
TYPES: tuple[Type, ...] = ("person", "person", "town", "company")


@dataclass(kw_only=True, eq=False)
class SemanticChain(Generated):
    hops: int = 2

    name, scorer = "multihop", "strict_answer"
    max_answer_tokens = 32

    def prepare(self) -> None:
        at_least(1, up_to=MOST_HOPS, hops=self.hops)
        longest = max((relation.phrase for relation in RELATIONS), key=self._tok.count)
        longest_question = self._tok.count(_question([longest] * self.hops, "Troaneith"))
        self._reserve = self.max_answer_tokens + longest_question + 8

    def shortest(self) -> int:
        """Room for documents with the longest facts and names of ten tokens."""
        longest = max(self._wording(fact) for relation in RELATIONS for fact in relation.facts)
        return self._reserve + LEAST_DOCUMENTS * (40 + 4 * (longest + 20))

    def code_oracle(self, question: str, context: Context) -> str | None:
        documents = documents_of(context.content)
        pages = {
            found[-1]: text for text in documents if (found := NAME.findall(text.partition(".")[0]))
        }
        phrase = question.partition("Name ")[2].partition(".")[0]
        here = next((name for name in NAME.findall(phrase) if name in pages), None)
        words = _content_words(phrase)
        for _ in range(len(re.findall(r"\bthe\b(?! bridge)", phrase))):
            facts = pages.get(here or "", "").split(". ")[1:]
            linked = [
                (len(words & _content_words(fact)), -i, name)
                for i, fact in enumerate(facts)
                for name in NAME.findall(fact[1:])
                if name != here and name != fact.split(" ", 1)[0]
            ]
            here = max(linked)[2] if linked else None
        return here

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, "semantic", purpose, self.hops, self.seed, target, index)
        budget = target - self._reserve
        # More names than documents fit: those without a page are only mentioned.
        names: dict[Type, list[str]] = {"person": [], "town": [], "company": []}
        count = max(2 * LEAST_DOCUMENTS, budget // 60)
        for kind, name in zip(cycle(TYPES), islice(made_up_names(draws), count), strict=False):
            names[kind].append(name)
        kinds = {name: kind for kind, group in names.items() for name in group}
        kind = draws.choice(TYPES)
        chain, relations = [draws.choice(names[kind])], list[Relation]()
        while len(relations) < self.hops:
            kind = kinds[chain[-1]]
            relation = draws.choice([r for r in RELATIONS if r.source == kind])
            following = chain[-1]
            while following in chain:
                following = draws.choice(names[relation.target])
            relations.append(relation)
            chain.append(following)
        fixed = dict(zip(zip(chain, relations, strict=False), chain[1:], strict=True))
        others = [name for name in kinds if name not in chain[:-1]]
        draws.shuffle(others)
        blank = self._count(".\n\n") - self._count(".")
        documents, facts, used = list[str](), list[str](), 0
        for subject in [*chain[:-1], *others]:
            page, stated, cost = self._page(subject, kinds[subject], names, fixed, draws)
            cost += self._count(heading(len(documents) + 1)) + blank
            if used + cost > budget:
                break
            documents.append(page)
            facts += stated
            used += cost
        places = list(range(len(documents)))
        draws.shuffle(places)
        context = Context.of(tuple(documents[i] for i in places))
        yield self.pair(
            context,
            target,
            question=_question([relation.phrase for relation in relations], chain[0]),
            gold=(chain[-1],),
            group=f"semantic_{self.hops}hop",
            summed=used,
            evidence=spans_of("".join(documents_of(context.content)), facts),
            knobs=self.noted(
                index,
                variant="semantic",
                hops=self.hops,
                n_documents=len(documents),
                first_document=places.index(0) + 1,
                last_document=places.index(self.hops - 1) + 1,
            ),
        )

    def _page(
        self,
        subject: str,
        kind: Type,
        names: Mapping[Type, Sequence[str]],
        fixed: Mapping[tuple[str, Relation], str],
        draws: Draws,
    ) -> tuple[str, list[str], int]:
        """A document about ``subject``, those of its facts that are ``fixed``, and its tokens: of
        the names and of the wordings."""
        relations = [relation for relation in RELATIONS if relation.source == kind]
        draws.shuffle(relations)
        own = self._count(f" {subject}")
        sentences, stated = [OPENINGS[kind].replace("{x}", subject)], []
        cost = self._wording(OPENINGS[kind]) + own
        for relation in relations:
            target = fixed.get((subject, relation), subject)
            while target == subject:
                target = draws.choice(names[relation.target])
            template = draws.choice(relation.facts)
            fact = template.replace("{x}", subject).replace("{y}", target)
            sentences.append(fact)
            if (subject, relation) in fixed:
                stated.append(fact)
            cost += self._wording(template) + own + self._count(f" {target}")
        return " ".join(sentences), stated, cost

    def _wording(self, template: str) -> int:
        """Tokens of ``" " + template`` without its names."""
        return sum(map(self._count, filter(None, re.split(r" \{[xy]\}", f" {template}"))))


def _question(phrases: Sequence[str], start: str) -> str:
    asked = start
    for phrase in phrases:
        asked = phrase.replace("{x}", asked)
    return (
        "The documents are about people, towns and companies. The answer has to be put together"
        f" from more than one of them. Name {asked}. Answer with the name alone."
    )


STOP = frozenset(
    """
    the a an of to in on at is was by from for and that which who where it its with has have had
    what when their there one
    """.split()
)


def _content_words(text: str) -> set[str]:
    return {w for w in re.findall(r"[a-z]+", text.lower()) if w not in STOP}
