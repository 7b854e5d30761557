"""Making a text fit a model's window, counted in the served model's own tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from rlm_eval.errors import ConfigError
from rlm_eval.models.protocol import Message
from rlm_eval.records import Context, Span, documents_of
from rlm_eval.tokens import load_tokenizer

Cut = Literal["head", "middle", "tail"]
#: The part that each way to shorten an input (``overflow``) cuts away.
_CUTS: Mapping[str, Cut] = {
    "truncate_head": "head",
    "truncate_middle": "middle",
    "truncate_tail": "tail",
}
#: What one step of the search for the most that fits may leave unused, in characters.
_GRAIN = 64
#: Where a cut is made rather than within a word: how far away it may be, in characters, and what
#: stands there. At most a quarter of what is kept goes for it.
_BREAKS: tuple[tuple[int, Callable[[str], bool]], ...] = (
    (128, lambda character: character == "\n"),
    (32, str.isspace),
)
#: Template tokens of a message beside its text, assumed in forecasts.
_MESSAGE_TOKENS = 4
#: Room that a window must have for an answer, beside the prompt's own words: what a task asks for
#: that says nothing else. Where one asks for more, samples that don't fit are overflows.
_ANSWER_TOKENS = 64


def fitting_spans(text: str, overflow: str, fits: Callable[[str], bool]) -> list[Span]:
    """The stretches of ``text`` that ``overflow`` leaves of it, as many as fit when they are
    :func:`marked`; none where hardly any does."""
    cut = _CUTS[overflow]
    steps = largest_fitting(len(text) // _GRAIN, lambda n: fits(cut_text(text, n * _GRAIN, cut)))
    return kept_spans(text, steps * _GRAIN, cut)


def cut_text(text: str, keep: int, cut: Cut) -> str:
    """At most ``keep`` characters of ``text``, :func:`marked` where its head, middle or tail is
    cut away."""
    return marked(text, kept_spans(text, keep, cut))


def kept_spans(text: str, keep: int, cut: Cut) -> list[Span]:
    """The stretches of ``text`` that :func:`cut_text` keeps: cut at a line's end, else at a
    word's, where there is one near."""
    size = len(text)
    if keep >= size:
        return [(0, size)]
    front = {"head": 0, "middle": (keep + 1) // 2, "tail": keep}[cut]
    back = keep - front
    spans = (0, _break(text, front, -1, front)), (_break(text, size - back, 1, back), size)
    return [(start, end) for start, end in spans if start < end]


def marked(text: str, spans: Sequence[Span]) -> str:
    """These stretches of ``text``, in order, with a line that says so wherever some is left out."""
    out, at = [], 0
    for start, end in (*spans, (len(text), len(text))):
        if start > at:
            out.append(f"\n[... {start - at:,} characters left out ...]\n")
        out.append(text[start:end])
        at = end
    return "".join(out)


def _break(text: str, at: int, step: Literal[-1, 1], kept: int) -> int:
    """The place of a cut at ``at`` or near it: before it (-1) in the front that is kept, after it
    (1) in the back. ``kept`` is the length of that front or back."""
    for reach, breaks in _BREAKS:
        for place in range(at, at + step * (min(reach, kept // 4) + 1), step):
            if kept and breaks(text[place if step < 0 else place - 1]):
                return place
    return at


def document_spans(context: Context, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Stretches of ``context.text`` as stretches of its documents put end to end; the headings
    between them drop out."""
    out: list[Span] = []
    for begin, offset, length in _places(context):
        for start, end in spans:
            first, last = max(start, begin), min(end, begin + length)
            if first >= last:
                continue
            first, last = first - begin + offset, last - begin + offset
            if out and out[-1][1] == first:
                first = out.pop()[0]
            out.append((first, last))
    return tuple(out)


def _places(context: Context) -> Iterator[tuple[int, int, int]]:
    """(begin in ``context.text``, offset, length) of each document."""
    text, at, offset = context.text, 0, 0
    for document in documents_of(context.content):
        heading = "" if isinstance(context.content, str) else ":\n"
        begin = text.index(heading + document, at) + len(heading)
        yield begin, offset, len(document)
        at, offset = begin + len(document), offset + len(document)


def largest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """The largest n ≤ ``size`` with ``fits(n)``, for a test that is true up to some n (0 holds)."""
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def offline_tokens(messages: Sequence[Message]) -> int:
    """A prompt's size for forecasts: by the offline tokenizer, no model is asked."""
    count = load_tokenizer().count
    return sum(count(m["content"]) + _MESSAGE_TOKENS for m in messages)


def check_window(where: str, frame: Sequence[Message], window: int) -> int:
    """Raise ConfigError where a prompt without its text and question leaves no room for an answer
    in the window; else the tokens that are left over."""
    size = offline_tokens(frame)
    if size + _ANSWER_TOKENS > window:
        raise ConfigError(
            f"{where}: the prompt without text and question takes {size} tokens and the answer "
            f"{_ANSWER_TOKENS}, the model's window has {window}: take a model with a larger window"
        )
    return window - size - _ANSWER_TOKENS
