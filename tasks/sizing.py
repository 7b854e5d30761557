"""Lengths: how much context fits a target, and refusing what can't be built.

A sample's budget is ``tokens(context) + tokens(question) + Task.answer_room ≤ target``.

Contexts are made of pieces whose tokens are counted once per distinct piece and added. The sum is
exact because no pre-token of cl100k or o200k spans the seam between two pieces: a piece either
starts with one space and a printable character after a piece that ends in none, or follows a piece
that ends in a newline and itself starts with a letter or digit. Pre-tokens are split before BPE
merges are looked for, so the tokens on both sides are those of the pieces alone. Contexts up to
``EXACT_UP_TO`` tokens are counted again from beginning to end; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice

from rlm_eval.errors import ConfigError
from rlm_eval.records import Span

EXACT_UP_TO = 200_000
#: Larger samples are refused: their text alone would take some 0.5 GB.
LONGEST = 100_000_000


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Raises ConfigError unless ``value`` is among the choices."""
    if value not in choices:
        raise ConfigError(f"{value!r} is unknown; choose one of {', '.join(choices)}", key=key)


def check_lengths(
    task: str, lengths: Sequence[int], shortest: int, longest: int = LONGEST
) -> tuple[int, ...]:
    """The lengths in rising order without repeats. Raises ConfigError, naming the limit, for one
    that can't be built."""
    if not lengths:
        raise ConfigError("must be a list such as [4000,16000]", key="lengths")
    values = sorted(set(lengths))
    if values[0] < shortest:
        told = f"has {values[0]}, too few tokens for {task}; the least is {shortest}"
        raise ConfigError(told, key="lengths")
    if values[-1] > longest:
        told = f"has {values[-1]}, more tokens than {task} can build; the most is {longest}"
        raise ConfigError(told, key="lengths")
    return tuple(values)


def heading(number: int) -> str:
    """What ``Context.text`` puts before document ``number``: a specimen with as many digits."""
    return f"Document {10 ** (len(str(number)) - 1)}:\n"


def fill(pieces: Iterator[str], count: Callable[[str], int], budget: int) -> tuple[list[str], int]:
    """The first pieces that fit ``budget`` tokens, and the tokens they take: counted 64 pieces at a
    time (the counts of joined pieces add up as those of single ones do), singly near the end."""
    taken: list[str] = []
    used = 0
    while chunk := list(islice(pieces, 64)):
        cost = count("".join(chunk))
        if used + cost > budget:
            for piece, cost in zip(chunk, map(count, chunk), strict=True):
                if used + cost > budget:
                    break
                taken.append(piece)
                used += cost
            break
        taken += chunk
        used += cost
    return taken, used


def spans_of(text: str, pieces: Iterable[str]) -> tuple[Span, ...]:
    """Where each of ``pieces`` first occurs in ``text``. Raises ValueError for one that doesn't."""
    starts = [(text.index(piece), len(piece)) for piece in pieces]
    return tuple((start, start + length) for start, length in starts)


def document_spans(documents: Sequence[str], places: Iterable[int]) -> tuple[Span, ...]:
    """The stretches of the documents at these places (from 0)."""
    ends = list(accumulate(map(len, documents)))
    return tuple((ends[place] - len(documents[place]), ends[place]) for place in places)
