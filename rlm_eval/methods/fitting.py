"""Cutting an input to size: down to what a model's window holds, or into chunks."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.models.protocol import Message
from rlm_eval.records import Content, Context, Span, documents_of, union
from rlm_eval.tokens import Tokenizer, load_tokenizer

#: What is cut away of an input that is larger than the window.
Cut = Literal["truncate_head", "truncate_middle", "truncate_tail"]
#: What else may be done with it: refuse it, or show nothing of it.
Overflow = Cut | Literal["refuse", "omit"]
#: What one step of the search for the most that fits may leave unused, in characters.
_GRAIN = 64
#: Where a cut is made rather than within a word: how far away it may be, in characters, and what
#: is there. At most a quarter of what is kept goes for it.
_BREAKS: tuple[tuple[int, Callable[[str], bool]], ...] = (
    (128, lambda character: character == "\n"),
    (32, str.isspace),
)
#: Template tokens of a message beside its text, assumed in forecasts.
_MESSAGE_TOKENS = 4
#: Room that a window must have for an answer, beside the prompt's own words: what a task asks for
#: that says nothing else. Where one asks for more, samples that don't fit are overflows.
_ANSWER_TOKENS = 64
#: ``lines`` are kept together where they fit, then sentences; ``tokens`` cuts after so many tokens,
#: wherever that is.
ChunkBy = Literal["lines", "tokens"]
#: Characters of the longest token of the offline tokenizers (white space).
_LONGEST = 128
_SENTENCE = re.compile(r".+?(?:[.!?؟।]\s+|[。！？]\s*|\Z)", re.DOTALL)

# -- tokens ----------------------------------------------------------------------------------------


def largest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """The largest n ≤ ``size`` with ``fits(n)``, for a test that is true up to some n (0 holds)."""
    return bisect_left(range(1, size + 1), True, key=lambda n: not fits(n))


def offline_tokens(messages: Sequence[Message]) -> int:
    """A prompt's size for forecasts: by the offline tokenizer, no model is asked."""
    count = load_tokenizer().count
    return sum(count(m["content"]) + _MESSAGE_TOKENS for m in messages)


def check_window(frame: Sequence[Message], window: int) -> int:
    """Raise ConfigError where a prompt without its text and question leaves no room for an answer
    in the window; else the tokens that are left over."""
    size = offline_tokens(frame)
    if size + _ANSWER_TOKENS > window:
        raise ConfigError(
            f"takes {size} tokens without text and question, and the answer {_ANSWER_TOKENS}: the "
            f"model's window has {window}, take a model with a larger one",
            key="prompt",
        )
    return window - size - _ANSWER_TOKENS


# -- down to a window ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """A chat with as much of the input as fits: its ``tokens``, the stretches ``spans`` of the
    input's text that it shows, and how many tokens were left out."""

    messages: list[Message]
    tokens: int
    spans: list[Span]
    truncated_tokens: int = 0


def cut_to_fit(
    text: str,
    overflow: Overflow,
    count: Callable[[Sequence[Message]], int],
    room: int,
    size: int,
    part: Callable[[str], list[Message]],
) -> Fitted:
    """The chat ``part`` with what ``overflow`` leaves of ``text``, where all of it makes a chat of
    ``size`` tokens and there is ``room`` for fewer. Raises ContextOverflow."""
    if overflow == "refuse":
        sizes = f"the prompt has {size:,} tokens, the window room for {room:,}"
        raise ContextOverflow(sizes, size - room)
    spans: list[Span] = []
    if overflow != "omit":
        spans = fitting_spans(text, overflow, lambda shown: count(part(shown)) <= room)
    messages = part(marked(text, spans))
    tokens = count(messages)
    if tokens > room or not (spans or overflow == "omit"):
        raise ContextOverflow(f"the question alone fills the window of {room:,}", size - room)
    return Fitted(messages, tokens, spans, size - tokens)


def fitting_spans(text: str, cut: Cut, fits: Callable[[str], bool]) -> list[Span]:
    """The stretches of ``text`` that ``cut`` leaves of it, as many as fit when they are
    :func:`marked`; none where hardly any does."""
    steps = largest_fitting(
        len(text) // _GRAIN, lambda n: fits(marked(text, kept_spans(text, n * _GRAIN, cut)))
    )
    return kept_spans(text, steps * _GRAIN, cut)


def kept_spans(text: str, keep: int, cut: Cut) -> list[Span]:
    """The stretches of at most ``keep`` characters that ``cut`` leaves of ``text``: cut at a
    line's end, else at a word's, where there is one near."""
    size = len(text)
    if keep >= size:
        return [(0, size)]
    front = {"truncate_head": 0, "truncate_middle": (keep + 1) // 2, "truncate_tail": keep}[cut]
    back = keep - front
    spans = (0, _break(text, front, -1, front)), (_break(text, size - back, 1, back), size)
    return [(start, end) for start, end in spans if start < end]


def _break(text: str, at: int, step: Literal[-1, 1], kept: int) -> int:
    """The place of a cut at ``at`` or near it: before it (-1) in the front that is kept, after it
    (1) in the back. ``kept`` is the length of that front or back."""
    for reach, breaks in _BREAKS:
        for place in range(at, at + step * (min(reach, kept // 4) + 1), step):
            if kept and breaks(text[place if step < 0 else place - 1]):
                return place
    return at


def marked(text: str, spans: Sequence[Span]) -> str:
    """These stretches of ``text``, in order, with a line that says so wherever some is left out."""
    out, at = [], 0
    for start, end in (*spans, (len(text), len(text))):
        if start > at:
            out.append(f"\n[... {start - at:,} characters left out ...]\n")
        out.append(text[start:end])
        at = end
    return "".join(out)


def document_spans(context: Context, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Stretches of ``context.text`` as stretches of its documents put end to end; the headings
    between them drop out."""
    heading = "" if isinstance(context.content, str) else ":\n"
    text, at, offset = context.text, 0, 0
    out: list[Span] = []
    for document in documents_of(context.content):
        at = text.index(heading + document, at) + len(heading)
        for start, end in spans:
            first = max(start - at, 0) + offset
            last = min(end - at, len(document)) + offset
            if first < last:
                out.append((first, last))
        at, offset = at + len(document), offset + len(document)
    return tuple(union(out))


# -- into chunks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """A piece of the input. ``start`` is its character offset in the documents put end to end,
    ``tokens`` its size in offline tokens, ``source`` the name of its document where documents have
    names, ``number`` its place where they are a list."""

    text: str
    start: int
    tokens: int
    source: str = ""
    number: int = 0

    @property
    def span(self) -> Span:
        return self.start, self.start + len(self.text)

    @property
    def indexed(self) -> str:
        """The text under its document's name. A number would be taken for one of the question's."""
        text = self.text.strip()
        return f"{self.source}:\n{text}" if self.source else text

    @property
    def heading(self) -> str:
        return self.source or (f"Document {self.number}" if self.number else "")

    @property
    def passage(self) -> str:
        """The text under its document's name or number, as a prompt shows it."""
        text = self.text.strip()
        return f"{self.heading}:\n{text}" if self.heading else text


def chunks_of(
    content: Content, size: int, *, by: ChunkBy = "lines", overlap_tokens: int = 0
) -> list[Chunk]:
    """Consecutive pieces of at most ``size`` tokens that together are the whole input. Documents
    are cut one by one, never joined. A piece begins with the last ``overlap_tokens`` tokens of the
    one before at most: with as many whole lines or sentences as they hold."""
    tokenizer = load_tokenizer()
    out: list[Chunk] = []
    for source, number, offset, document in placed_documents(content):
        if by == "tokens":
            cut = _windows(document, size, overlap_tokens, tokenizer)
        else:
            cut = _packed(_pieces(document, size, tokenizer), size, overlap_tokens)
        out += [Chunk(text, offset + start, tokens, source, number) for start, text, tokens in cut]
    return out


def placed_documents(content: Content) -> Iterator[tuple[str, int, int, str]]:
    """Of each document its name (empty where documents have none), its number (of a single text 0),
    its character offset in the documents put end to end, and its text."""
    documents = documents_of(content)
    names = list(content) if isinstance(content, Mapping) else [""] * len(documents)
    offset, first = 0, 0 if isinstance(content, str) else 1
    for number, (name, document) in enumerate(zip(names, documents, strict=True), first):
        yield name, number, offset, document
        offset += len(document)


def _windows(
    text: str, size: int, overlap: int, tokenizer: Tokenizer
) -> Iterator[tuple[int, str, int]]:
    """(offset, text, tokens) of every ``size`` tokens, each beginning ``size - overlap`` after the
    last; a character of several tokens is never torn."""
    starts = [*tokenizer.starts(text), len(text)]
    last = len(starts) - 1
    for first in range(0, last, size - overlap):
        end = min(first + size, last)
        if starts[first] < starts[end]:
            yield starts[first], text[starts[first] : starts[end]], end - first
        if end == last:
            return


def _pieces(text: str, size: int, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """Lines with their ends, sentences of lines that are too long, slices of what still is; each
    with its tokens."""
    for line in text.splitlines(keepends=True):
        if (tokens := _counted(line, size, tokenizer)) <= size:
            yield line, tokens
            continue
        for sentence in (found[0] for found in _SENTENCE.finditer(line)):
            if (tokens := _counted(sentence, size, tokenizer)) <= size:
                yield sentence, tokens
            else:
                yield from (part[1:] for part in _windows(sentence, size, 0, tokenizer))


def _counted(text: str, size: int, tokenizer: Tokenizer) -> int:
    """Its tokens; of what is too long for ``size`` tokens whatever it says, just more than that."""
    return tokenizer.count(text) if len(text) <= size * _LONGEST else size + 1


def _packed(
    pieces: Iterator[tuple[str, int]], size: int, overlap: int
) -> Iterator[tuple[int, str, int]]:
    """(offset, text, tokens) of as many pieces as ``size`` holds, over and over."""
    held: list[tuple[str, int]] = []
    start = used = 0
    for piece in pieces:
        if held and used + piece[1] > size:
            yield start, "".join(text for text, _ in held), used
            room = min(overlap, size - piece[1])
            full = len(held)
            while held and (used > room or len(held) == full):
                text, tokens = held.pop(0)
                start, used = start + len(text), used - tokens
        held.append(piece)
        used += piece[1]
    if held:
        yield start, "".join(text for text, _ in held), used
