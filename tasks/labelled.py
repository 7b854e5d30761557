"""Labelled items: short texts whose label must be judged by meaning."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlm_eval.errors import ConfigError

HERE = Path(__file__).parent / "items"

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
    """A labelled set: ``items[label]`` are its distinct texts, ``noun`` what one of them is and
    ``criterion`` what its label says; ``source`` names the file and its SHA-256."""

    name: str
    noun: str
    criterion: str
    labels: tuple[str, ...]
    items: dict[str, tuple[str, ...]]
    source: dict[str, str]


#: What the project's own sets hold: file stem → (noun, criterion).
OWN = {
    "reviews": ("review", "sentiment"),
    "questions": ("question", "kind of answer it asks for"),
}


def _read(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"task.items: can't read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return [line for line in text.splitlines() if line.strip()]


def _parse(path: Path, lines: list[str]) -> list[tuple[str, str]]:
    """(label, text) of each line: TREC's ``COARSE:fine question``, or ``label<TAB>text``, or
    columns named by a header line that holds ``label`` and ``text``."""
    trec = [TREC_LINE.fullmatch(line.strip()) for line in lines]
    if lines and all(trec):
        return [(TREC_LABELS.get(m[1], m[1].lower()), m[2]) for m in trec if m]
    header = lines[0].split("\t") if lines else []
    columns = ["label", "text"]
    if {"label", "text"} <= set(header):
        columns, lines = header, lines[1:]
    rows = []
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ConfigError(
                f"task.items: line {number} of {path} is neither 'label<TAB>text' nor TREC's"
                f" 'COARSE:fine question': {line[:60]!r}"
            )
        rows.append((cells[columns.index("label")], cells[columns.index("text")]))
    return rows


@lru_cache(maxsize=8)
def load_domain(name: str, path: Path | None = None) -> Domain:
    """One of the project's own sets by ``name``, or any labelled file at ``path``. Raises
    ConfigError for a set that does not hold two labels."""
    if path is None and name not in OWN:
        raise ConfigError(
            f"task.domain: unknown {name!r}; choose one of {', '.join(OWN)},"
            " or give task.items=PATH"
        )
    noun, criterion = OWN[name] if path is None else ("text", "category")
    source = path or HERE / f"{name}.tsv"
    found: dict[str, dict[str, None]] = {}
    for label, text in _parse(source, _read(source)):
        found.setdefault(" ".join(label.split()), {})[" ".join(text.split())] = None
    if set(found) == set(TREC_LABELS.values()):
        noun, criterion = OWN["questions"]
    if len(found) < 2:
        raise ConfigError(
            f"task.items: {source} holds {len(found)} label(s); at least 2 are needed"
        )
    labels = tuple(sorted(found))
    return Domain(
        name=name if path is None else path.stem,
        noun=noun,
        criterion=criterion,
        labels=labels,
        items={label: tuple(found[label]) for label in labels},
        source={
            "items": name if path is None else str(path),
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
    )
