"""Labelled items, short texts whose label must be judged by meaning, and what keywords guess.

Of our own (tasks/items/README.md) ``short_reviews`` are whole sentences; the others are composed
from parts, of which none tells the label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError

from ..task import one_of
from .haystack import ITEMS

#: Coarse classes of the TREC question-classification set (Li & Roth 2002).
TREC_LABELS = {
    "ABBR": "abbreviation",
    "ENTY": "entity",
    "DESC": "description and abstract concept",
    "HUM": "human being",
    "LOC": "location",
    "NUM": "numeric value",
}
TREC_LINE = re.compile(r"([A-Z]+):\S+ (.+)")


@dataclass(frozen=True)
class Composed(Sequence[str]):
    """``size`` different texts, each made when it is asked for."""

    size: int
    make: Callable[[int], str]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        return self.make(index)


@dataclass(frozen=True)
class Domain:
    """A labelled set: ``texts[label]`` are its distinct texts, ``noun`` what one of them is and
    ``criterion`` what its label says; ``source`` names the file and its SHA-256. ``repeats``:
    whether a window may hold one of them twice."""

    name: str
    noun: str
    criterion: str
    labels: tuple[str, ...]
    texts: Mapping[str, Sequence[str]]
    source: dict[str, str]
    repeats: bool


#: The project's own sets: file stem → (noun, criterion).
OWN = {
    "short_reviews": ("review", "sentiment"),
    "reviews": ("review", "sentiment"),
    "questions": ("question", "kind of answer it asks for"),
}
#: How a question says which of the four things that it lists is meant.
PLACES = ("first", "second", "third", "fourth")
#: Which three of the five other kinds it lists, in which order.
DECOYS = tuple(permutations(range(5), len(PLACES) - 1))

#: The cells of a file of parts, each with its phrases.
Parts = Sequence[Sequence[Sequence[str]]]


def _review(agrees: bool, when: Sequence[str], squares: Parts, index: int) -> str:
    index, begin = divmod(index, len(when))
    index, square = divmod(index, len(squares))
    index, side = divmod(index, 2)
    needs, got = squares[square][side], squares[square][2 + (side if agrees else 1 - side)]
    return f"{when[begin]} {needs[index // len(got)]}. {got[index % len(got)]}."


def _question(kind: int, frame: Sequence[Sequence[str]], topics: Parts, index: int) -> str:
    index, listed = divmod(index, len(frame[0]))
    index, meant = divmod(index, len(frame[1]))
    index, topic = divmod(index, len(topics))
    decoys, place = divmod(index, len(PLACES))
    things = [phrases[0] for phrases in topics[topic]]
    asked = things.pop(kind)
    shown = [things[i] for i in DECOYS[decoys]]
    shown.insert(place, asked)
    return f"{frame[0][listed]}: {'; '.join(shown)}. {frame[1][meant].format(PLACES[place])}"


def compose(lines: Sequence[str]) -> dict[str, Sequence[str]]:
    """The texts of each label from a file of parts: a header, the frames, and in each row what was
    needed and got, twice each, or a thing to ask for of each kind."""
    head = lines[0].split("\t")[1:]
    frame, *parts = ([cell.split(" | ") for cell in line.split("\t")[1:]] for line in lines[1:])
    if head[0] == "need 1":
        size = len(frame[0]) * len(parts) * 2 * len(parts[0][0]) * len(parts[0][2])
        return {
            label: Composed(size, partial(_review, label == "positive", frame[0], parts))
            for label in ("negative", "positive")
        }
    size = len(frame[0]) * len(frame[1]) * len(parts) * len(PLACES) * len(DECOYS)
    return {
        label: Composed(size, partial(_question, i, frame, parts)) for i, label in enumerate(head)
    }


def _read(path: Path) -> tuple[list[str], str]:
    """The lines of a file, and its SHA-256."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}", key="items") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise ConfigError(f"{path} is no text in UTF-8 or Latin-1: convert it", key="items")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    return lines, hashlib.sha256(data).hexdigest()


def _parse(path: Path, lines: list[str]) -> list[tuple[str, str]]:
    """(label, text) of each line: TREC's ``COARSE:fine question``, or ``label<TAB>text``, or
    columns named by a header line that holds ``label`` and ``text``."""
    trec = [TREC_LINE.fullmatch(line.strip()) for line in lines]
    if all(trec):
        return [(TREC_LABELS.get(m[1], m[1].lower()), m[2]) for m in trec if m]
    columns = ["label", "text"]
    header = [cell.strip().lower() for cell in lines[0].split("\t")]
    if {"label", "text"} <= set(header):
        columns, lines = header, lines[1:]
    rows = []
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if len(cells) != len(columns):
            told = f"neither 'label<TAB>text' nor TREC's 'COARSE:fine question': {line[:60]!r}"
            raise ConfigError(f"{path}, line {number}: {told}", key="items")
        rows.append((cells[columns.index("label")], cells[columns.index("text")]))
    (first, text), labels = rows[0], [label for label, _ in rows]
    if columns is not header and labels.count(first) == 1 < len(rows) - 1 and " " not in text:
        told = f"{first!r} comes nowhere else: call named columns label and text"
        raise ConfigError(f"{path}, line 1: {told}", key="items")
    return rows


def load_domain(name: str, file: str | None = None) -> Domain:
    """One of the project's own sets, or any labelled file. Raises ConfigError for less than two
    labels."""
    noun, criterion = "text", "category"
    path = Path(file) if file else ITEMS / f"{name}.tsv"
    if not file:
        one_of("domain", name, OWN)
        noun, criterion = OWN[name]
    lines, digest = _read(path)
    texts: Mapping[str, Sequence[str]]
    if file or lines[0].startswith("label\t"):
        found: dict[str, dict[str, None]] = {}
        for label, text in _parse(path, lines):
            found.setdefault(" ".join(label.split()), {})[" ".join(text.split())] = None
        texts = {label: tuple(found[label]) for label in sorted(found)}
    else:
        texts = compose(lines)
    if set(texts) == set(TREC_LABELS.values()):
        noun, criterion = OWN["questions"]
    if len(texts) < 2:
        raise ConfigError(f"{path} holds {len(texts)} label(s); at least 2 are needed", key="items")
    return Domain(
        name=path.stem,
        noun=noun,
        criterion=criterion,
        labels=tuple(texts),
        texts=texts,
        source={"items": file or name, "sha256": digest},
        repeats=file is not None,
    )


# --- Keywords, for code oracles ------------------------------------------------------------------

#: The label of a text, None where it has no idea.
LabelOf = Callable[[str], str | None]

#: First rule whose pattern is found wins; question types of TREC.
QUESTION_RULES = (
    ("ABBR", r"\b(abbreviat|acronym|stands? for|short for|full form|initials)"),
    ("NUM", r"\b(how (many|much|old|long|far|tall|often|fast|big|large|high|deep|heavy|late|soon)|"
            r"when|what (year|date|day|time|percentage|number|price|age|temperature)|"
            r"which (year|date|day|month|number)|population|cost|speed)\b"),
    ("HUM", r"\b(who|whom|whose|what (man|woman|person|president|team|actor|singer|company))\b"),
    ("LOC", r"\b(where|(what|which) (country|city|state|town|river|continent|capital|island|street|"
            r"county|mountain|planet|lake|sea|place))\b"),
    ("DESC", r"\b(why|how (do|does|did|can|is|are|was|were|would|should|come)|mean|meaning|define|"
             r"definition|describe|explain|difference|what (is|are) (a|an|the)?)\b"),
)  # fmt: skip


def guess_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that keywords suggest, or None for a label set there are no keywords for."""
    if set(labels) != set(TREC_LABELS.values()):
        return None
    codes = (code for code, pattern in QUESTION_RULES if re.search(pattern, text.lower()))
    return TREC_LABELS[next(codes, "ENTY")]
