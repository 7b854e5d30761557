"""Labelled items, short texts whose label must be judged by meaning, and what keywords guess."""

# ruff: noqa: SIM905  (word lists read better as text)
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlm_eval.errors import ConfigError

from ..sizing import one_of

ITEMS = Path(__file__).parents[1] / "items"

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
class Domain:
    """A labelled set: ``texts[label]`` are its distinct texts, ``noun`` what one of them is and
    ``criterion`` what its label says; ``source`` names the file and its SHA-256."""

    name: str
    noun: str
    criterion: str
    labels: tuple[str, ...]
    texts: dict[str, tuple[str, ...]]
    source: dict[str, str]


#: What the project's own sets hold: file stem → (noun, criterion).
OWN = {
    "reviews": ("review", "sentiment"),
    "questions": ("question", "kind of answer it asks for"),
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
    lines = [line for line in text.splitlines() if line.strip()]
    return lines, hashlib.sha256(data).hexdigest()


def _parse(path: Path, lines: list[str]) -> list[tuple[str, str]]:
    """(label, text) of each line: TREC's ``COARSE:fine question``, or ``label<TAB>text``, or
    columns named by a header line that holds ``label`` and ``text``."""
    trec = [TREC_LINE.fullmatch(line.strip()) for line in lines]
    if all(trec):
        return [(TREC_LABELS.get(m[1], m[1].lower()), m[2]) for m in trec if m]
    columns = ["label", "text"]
    header = lines[0].split("\t")
    if {"label", "text"} <= set(header):
        columns, lines = header, lines[1:]
    rows = []
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ConfigError(
                f"{path}, line {number}: neither 'label<TAB>text' nor TREC's"
                f" 'COARSE:fine question': {line[:60]!r}",
                key="items",
            )
        rows.append((cells[columns.index("label")], cells[columns.index("text")]))
    return rows


@lru_cache(maxsize=8)
def load_domain(name: str, file: str | None = None) -> Domain:
    """One of the project's own sets by ``name``, or any labelled file. Raises ConfigError for a set
    that does not hold two labels."""
    noun, criterion = "text", "category"
    path = Path(file) if file else ITEMS / f"{name}.tsv"
    if not file:
        one_of("domain", name, OWN)
        noun, criterion = OWN[name]
    lines, digest = _read(path)
    found: dict[str, dict[str, None]] = {}
    for label, text in _parse(path, lines):
        found.setdefault(" ".join(label.split()), {})[" ".join(text.split())] = None
    if set(found) == set(TREC_LABELS.values()):
        noun, criterion = OWN["questions"]
    if len(found) < 2:
        raise ConfigError(f"{path} holds {len(found)} label(s); at least 2 are needed", key="items")
    labels = tuple(sorted(found))
    return Domain(
        name=path.stem,
        noun=noun,
        criterion=criterion,
        labels=labels,
        texts={label: tuple(found[label]) for label in labels},
        source={"items": file or name, "sha256": digest},
    )


# --- Keywords, for code oracles ------------------------------------------------------------------

#: The label of a text, None where it has no idea.
LabelOf = Callable[[str], str | None]

PRAISE = frozenset(
    """
    amazing awesome beautiful best better brilliant charming cheerful clean comfortable delicious
    delighted easily easy enjoy enjoyed excellent fantastic fast favorite favourite finally fine
    flawless fresh friendly fun generous glad good great happy helpful impressed kept lasted laughed
    like love loved lovely nice perfect perfectly pleasant pleased polite prompt quick quickly quiet
    recommend recommended refund reliable right safe satisfied smile smooth smoothly solid still
    superb sturdy sweet thank thanked thanks warm well wonderful worked works worth
    """.split()
)
COMPLAINT = frozenset(
    """
    awful bad badly bland blamed boring broke broken burnt cancelled cheap cold complained crashed
    cracked damaged dead delayed difficult dirty disappointed disappointing dull empty error fail
    failed fell flimsy gave hate hated horrible hour hours hung ignored lacked late leak leaked left
    lost mistake missing mould nasty neither never no nobody noisy nor not nothing painful poor
    refused regret returned rude rust rusty sick slow slowly smelled soggy stained stale stopped
    stuck terrible tired torn twice ugly unhelpful unless useless wait waited waste wasted weak
    worse worst wrong wobbly
    """.split()
)


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
    lowered = text.lower()
    if set(labels) == {"positive", "negative"}:
        words = re.findall(r"[a-z]+", lowered)
        balance = sum(w in PRAISE for w in words) - sum(w in COMPLAINT for w in words)
        return "positive" if balance >= 0 else "negative"
    if set(labels) == set(TREC_LABELS.values()):
        codes = (code for code, pattern in QUESTION_RULES if re.search(pattern, lowered))
        return TREC_LABELS[next(codes, "ENTY")]
    return None
