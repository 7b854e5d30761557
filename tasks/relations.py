"""Facts about people, towns and companies: how documents state them, how questions name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["person", "town", "company"]


@dataclass(frozen=True)
class Relation:
    """``phrase`` is how the question names the object of {x}; ``facts`` are how documents state
    it. A name in a fact follows a space and is not followed by an apostrophe (token counts add
    up)."""

    source: Type
    target: Type
    phrase: str
    facts: tuple[str, ...]


RELATIONS = (
    Relation(
        "person",
        "person",
        "the teacher of {x}",
        (
            "Whatever {x} knows about the craft was picked up from {y}.",
            "For six winters {x} was apprenticed to {y}.",
            "It was under {y} that {x} took the first clumsy steps in the trade.",
        ),
    ),
    Relation(
        "person",
        "town",
        "the town where {x} was born",
        (
            "The cradle of {x} stood in {y}.",
            "The parents of {x} were living in {y} when their only child arrived.",
            "The midwife who delivered {x} walked home through the lanes of {y}.",
        ),
    ),
    Relation(
        "person",
        "company",
        "the employer of {x}",
        (
            "On weekdays {x} clocks in at {y}.",
            "The monthly wages of {x} come from {y}.",
            "For years {x} has been on the payroll of {y}.",
        ),
    ),
    Relation(
        "person",
        "person",
        "the doctor of {x}",
        (
            "When {x} falls ill, somebody is sent to fetch {y}.",
            "The pills {x} swallows each morning were prescribed by {y}.",
            "With a fever or a bad knee, {x} goes to see {y}.",
        ),
    ),
    Relation(
        "town",
        "person",
        "the mayor of {x}",
        (
            "At the last ballot the citizens of {x} put {y} in charge.",
            "In {x} the chain of office hangs around the neck of {y}.",
            "Nothing is decided in the council chamber of {x} without {y} in the chair.",
        ),
    ),
    Relation(
        "town",
        "person",
        "the person who built the bridge of {x}",
        (
            "In {x} the span over the river is the work of {y}.",
            "The stone arches that join both banks at {x} were put up by {y}.",
            "To cross the water at {x}, one walks over what {y} raised there.",
        ),
    ),
    Relation(
        "town",
        "company",
        "the company that supplies {x} with electricity",
        (
            "The lamps of {x} are kept alight by {y}.",
            "When the power fails in {x}, people ring up {y}.",
            "Every cable under the pavements of {x} leads back to {y}.",
        ),
    ),
    Relation(
        "company",
        "person",
        "the founder of {x}",
        (
            "It all started for {x} when {y} rented a garage with borrowed money.",
            "The idea for {x} came to {y} on a long train journey.",
            "In the early days {x} was nothing but {y} and a telephone.",
        ),
    ),
    Relation(
        "company",
        "town",
        "the town where {x} has its head office",
        (
            "The directors of {x} meet in {y}.",
            "Letters meant for the board of {x} are delivered in {y}.",
            "The top floor from which {x} is run looks out over {y}.",
        ),
    ),
    Relation(
        "company",
        "company",
        "the owner of {x}",
        (
            "Every share of {x} is held by {y}.",
            "The profits of {x} flow to {y}, which bought it long ago.",
            "Legally {x} is a subsidiary of {y}.",
        ),
    ),
)

OPENINGS: dict[Type, str] = {
    "person": "This page is about somebody called {x}.",
    "town": "This page is about a place called {x}.",
    "company": "This page is about a firm called {x}.",
}
TYPES: tuple[Type, ...] = ("person", "person", "town", "company")

BY_SOURCE: dict[Type, tuple[Relation, ...]] = {
    kind: tuple(relation for relation in RELATIONS if relation.source == kind) for kind in OPENINGS
}
