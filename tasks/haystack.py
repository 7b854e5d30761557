"""Text that has nothing to do with the question: noise, essays, and where needles go in.

A haystack is a list of pieces whose concatenation is the text (see :mod:`rlm_eval.tasks.sizing`
for why their tokens add up). A paragraph is one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from rlm_eval.errors import ConfigError
from rlm_eval.tokens import Tokenizer

from .draws import Draws

ESSAYS = Path(__file__).parent / "items" / "essays.txt"

#: RULER repeats five short sentences; these are our own, in the same manner.
NOISE = (
    "The hill is quiet.",
    " The clouds are low.",
    " The lake is cold.",
    " On we walk.",
    " Out and home again.\n",
)


def split_pieces(text: str) -> list[list[str]]:
    """``text`` as paragraphs (its non-empty lines) of sentence pieces."""
    paragraphs = []
    for line in text.splitlines():
        sentences = re.split(r"(?<=[.!?])\s+", " ".join(line.split()))
        if sentences != [""]:
            first, *rest = sentences
            pieces = [first, *(f" {sentence}" for sentence in rest)]
            pieces[-1] += "\n"
            paragraphs.append(pieces)
    return paragraphs


def _file_text(path: Path) -> str:
    """The text of a plain file, or of a JSON file holding ``{"text": …}`` (the form of RULER's
    PaulGrahamEssays.json) or a list of such objects or strings."""
    try:
        raw = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"task.haystack_file: can't read {path}: {error}") from error
    if path.suffix != ".json":
        return raw
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise ConfigError(f"task.haystack_file: {path} is no JSON: {error}") from error
    parts = data if isinstance(data, list) else [data]
    found = [part.get("text") if isinstance(part, dict) else part for part in parts]
    texts = [text for text in found if isinstance(text, str)]
    if not texts or len(texts) < len(found):
        raise ConfigError(f'task.haystack_file: {path} should hold {{"text": …}} or a list of it')
    return "\n".join(texts)


@lru_cache(maxsize=4)
def essays(path: Path | None = None) -> tuple[tuple[str, ...], ...]:
    """Paragraphs of sentence pieces, from the project's own short essays or from a file."""
    paragraphs = split_pieces(_file_text(path or ESSAYS))
    if not paragraphs:
        raise ConfigError(f"task.haystack_file: {path} holds no text")
    return tuple(tuple(pieces) for pieces in paragraphs)


def noise_pieces() -> Iterator[str]:
    while True:
        yield from NOISE


def essay_pieces(paragraphs: Sequence[Sequence[str]], draws: Draws) -> Iterator[str]:
    """Sentences for ever: all paragraphs in a fresh order, again and again."""
    order = list(range(len(paragraphs)))
    while True:
        draws.shuffle(order)
        for i in order:
            yield from paragraphs[i]


class PieceCounter:
    """Tokens of pieces, each distinct piece counted once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def learn(self, pieces: Iterable[str]) -> None:
        new = list(dict.fromkeys(piece for piece in pieces if piece not in self._known))
        self._known.update(zip(new, self._tokenizer.count_each(new), strict=True))

    def __call__(self, piece: str) -> int:
        count = self._known.get(piece)
        if count is None:
            count = self._known[piece] = self._tokenizer.count(piece)
        return count


def fill(pieces: Iterable[str], count: Callable[[str], int], budget: int) -> tuple[list[str], int]:
    """The first pieces that fit ``budget`` tokens, and the tokens they take."""
    taken: list[str] = []
    used = 0
    for piece in pieces:
        cost = count(piece)
        if used + cost > budget:
            break
        taken.append(piece)
        used += cost
    return taken, used


def fill_new(
    pieces: Iterator[str], tokenizer: Tokenizer, budget: int, block: int = 64
) -> tuple[list[str], int]:
    """As :func:`fill` for pieces that never repeat: counted ``block`` pieces at a time (the counts
    of joined pieces add up as those of single ones do), singly near the end."""
    taken: list[str] = []
    used = 0
    while True:
        chunk = list(islice(pieces, block))
        cost = tokenizer.count("".join(chunk))
        if not chunk or used + cost > budget:
            rest, last = fill(chunk, tokenizer.count, budget - used)
            return taken + rest, used + last
        taken += chunk
        used += cost


def insert(pieces: Sequence[str], needles: Sequence[tuple[float, str]]) -> str:
    """The text with each ``(depth, sentence)`` put at a sentence boundary.

    ``depth`` in [0, 1] counts sentences: 0 is before the first, 1 after the last. Needles of equal
    depth keep their order. A needle costs at most the larger of ``" " + sentence`` and
    ``sentence + "\\n"``.
    """
    parts: list[str] = []
    start = 0
    for depth, sentence in sorted(needles, key=lambda needle: needle[0]):
        place = round(depth * len(pieces))
        parts.extend(pieces[start:place])
        own_line = place == 0 or pieces[place - 1].endswith("\n")
        parts.append(f"{sentence}\n" if own_line else f" {sentence}")
        start = place
    parts.extend(pieces[start:])
    return "".join(parts).rstrip("\n")
