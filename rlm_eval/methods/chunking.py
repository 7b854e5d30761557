"""Cutting an input into pieces of a bounded size, on line or sentence boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from rlm_eval.records import Content
from rlm_eval.tokens import Tokenizer, load_tokenizer

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Chunk:
    """A piece of the input. ``start`` is its character offset, ``tokens`` its size in tokens of
    the tokenizer it was cut with."""

    text: str
    start: int
    tokens: int


def chunks_of(content: Content, size: int, tokenizer_name: str = "cl100k_base") -> list[Chunk]:
    """Consecutive pieces of at most ``size`` tokens that together are the whole input.

    Lines stay whole where they fit, then sentences; what is longer is cut between tokens.
    Documents of a list are cut one by one, never joined.
    """
    tokenizer = load_tokenizer(tokenizer_name)
    documents = (content,) if isinstance(content, str) else content
    out: list[Chunk] = []
    offset = 0
    for document in documents:
        out += _packed(document, offset, size, tokenizer)
        offset += len(document)
    return out


def _packed(text: str, offset: int, size: int, tokenizer: Tokenizer) -> Iterator[Chunk]:
    start, held, used = offset, "", 0
    for piece, tokens in _pieces(text, size, tokenizer):
        if held and used + tokens > size:
            yield Chunk(held, start, used)
            start, held, used = start + len(held), "", 0
        held, used = held + piece, used + tokens
    if held:
        yield Chunk(held, start, used)


def _pieces(text: str, size: int, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """Lines with their ends, sentences of lines that are too long, slices of what still is."""
    lines = text.splitlines(keepends=True)
    for line, tokens in zip(lines, tokenizer.count_each(lines), strict=True):
        if tokens <= size:
            yield line, tokens
            continue
        sentences = _sentences(line)
        for sentence, count in zip(sentences, tokenizer.count_each(sentences), strict=True):
            if count <= size:
                yield sentence, count
            else:
                yield from _slices(sentence, size, tokenizer)


def _sentences(line: str) -> list[str]:
    ends = [m.end() for m in _SENTENCE.finditer(line)]
    bounds = [0, *ends, len(line)]
    return [line[a:b] for a, b in pairwise(bounds) if a < b]


def _slices(text: str, size: int, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """Character slices of at most ``size`` tokens each: a token is never cut in two bytes."""
    at = 0
    while at < len(text):
        width = min(len(text) - at, size * 4)
        while tokenizer.count(text[at : at + width]) > size:
            width = max(1, width // 2)
        piece = text[at : at + width]
        yield piece, tokenizer.count(piece)
        at += width
