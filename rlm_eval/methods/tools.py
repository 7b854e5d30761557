"""Functions over the input that an arm's ``tools`` put into its REPL: ``find``, ``search`` and a
user's own. The paper's arms have none. A tool's docstring is what its prompt says of it.
"""

from __future__ import annotations

import inspect
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import regex

from rlm_eval.errors import ConfigError
from rlm_eval.methods.fitting import Chunk, chunks_of, placed_documents
from rlm_eval.methods.rag.ranking import Bm25, Indices
from rlm_eval.records import Content, Context, Span, union
from rlm_eval.repl.results import HostError, HostFunction
from rlm_eval.tokens import UNSPACED

#: How far apart the words of a place may begin, and how much of its line is shown on each side of
#: them at most, in characters.
_NEAR = _AROUND = 200
_MOST_PLACES, _MOST_WORDS = 2_000, 50
_TAKEN = {
    *("context", "budget", "submit", "Final", "FINAL", "FINAL_VAR", "answer", "earlier_turns"),
    *("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched"),
}


class Toolset:
    """The tools that an arm offers; ``texts`` is name → what a prompt says of it. Pieces of
    ``piece_tokens`` are indexed once a content. Raises ConfigError for what can't be offered."""

    def __init__(self, offered: Sequence[Any], piece_tokens: int) -> None:
        self.texts = described(offered)
        self._offered, self._piece_tokens = offered, piece_tokens
        self._indices: Indices[Bm25] = Indices()

    def over(self, content: Content) -> Tools:
        def index() -> Bm25:
            key = Context.of(content).id  # in which the order of documents counts
            return self._indices.get(key, lambda: Bm25(chunks_of(content, self._piece_tokens)))[0]

        return Tools(self._offered, content, index)


class Tools:
    """The tools of one run over its ``content``, and the places of all that they found. ``index``
    gives the pieces that ``search`` ranks. Safe for threads."""

    def __init__(self, offered: Sequence[Any], content: Content, index: Callable[[], Bm25]) -> None:
        self._content, self._index = content, index
        self._found: dict[str, set[Span]] = {}
        self.functions: dict[str, HostFunction] = {
            name_of(tool): getattr(self, tool) if isinstance(tool, str) else _own(tool, content)
            for tool in offered
        }

    def find(self, words: str) -> list[str]:
        """Every place of the text where all of the words stand near each other, in any order, with
        what stands around it, as a list of strings. An empty list where there is none."""
        wanted = regex.findall(r"\w+", words) if isinstance(words, str) else []
        if not 0 < len(wanted) <= _MOST_WORDS:
            told = f"find(words) takes a string with 1 to {_MOST_WORDS} words"
            raise HostError("bad_request", told)
        found = [
            Chunk(document[start:end], offset + start, 0, name, number)
            for name, number, offset, document in placed_documents(self._content)
            for start, end in places(document, wanted)
        ]
        if len(found) > _MOST_PLACES:
            raise HostError("bad_request", f"{len(found):,} places: give more words, or rarer ones")
        return self._given(found)

    def search(self, query: str, k: int = 5) -> list[str]:
        """The k pieces of the text that go best with the words of a query, as a list of strings,
        the best first."""
        if not isinstance(query, str) or not isinstance(k, int) or k < 1:
            raise HostError("bad_request", "search(query, k) takes a string and a number from 1 on")
        return self._given(self._index().matching(query, k))

    def _given(self, pieces: Sequence[Chunk]) -> list[str]:
        for piece in pieces:
            self._found.setdefault(piece.passage, set()).add(piece.span)
        return [piece.passage for piece in pieces]

    def seen(self, texts: Sequence[str]) -> tuple[Span, ...]:
        """The stretches of the input, documents put end to end, that were found and are in the
        ``texts``: a piece counts where all of it is, as text or as Python shows a string."""
        seen: set[Span] = set()
        for piece, spans in list(self._found.items()):
            shown_as = piece, repr(piece)[1:-1]
            if any(form in text for form in shown_as for text in texts):
                seen |= spans
        return tuple(sorted(seen))


def places(text: str, wanted: Sequence[str]) -> list[Span]:
    """Stretches of ``text`` with all words of ``wanted``, in order, none overlapping: each word
    begins a word of the text (is one, where it is short or has digits), in any case, at most 200
    characters from the rarest of them. Shown is the line, of a long one 200 characters on each
    side."""
    starts = []
    for word in {word.casefold(): word for word in wanted}.values():
        begins = rf"(?:(?<!\w)|(?=[{UNSPACED}])){regex.escape(word)}"
        if word.isascii() and (len(word) < 3 or not word.isalpha()):
            begins += r"(?!\w)"
        starts.append([m.start() for m in regex.finditer(begins, text, regex.IGNORECASE)])
    starts.sort(key=len)
    found: list[Span] = []
    for at in starts[0]:
        near = [at]
        for other in starts[1:]:
            i = bisect_left(other, at)
            near.append(min(other[max(0, i - 1) : i + 1], key=partial(_distance, text, at)))
        if max(near) - at <= _NEAR and at - min(near) <= _NEAR:
            found.append(_around(text, min(near), max(near)))
    return union(found)


def _distance(text: str, at: int, other: int) -> tuple[bool, int]:
    """Those in the same line are nearer."""
    first, last = sorted((at, other))
    return "\n" in text[first : min(last, first + _NEAR)], last - first


def _around(text: str, first: int, last: int) -> Span:
    """From the start of a line or a word before ``first`` to the end of one after ``last``."""
    start, end = max(0, first - _AROUND), min(len(text), last + _AROUND)
    line = text.rfind("\n", start, first) + 1
    if line or start == 0:
        start = line
    elif space := regex.search(r"\s", text, pos=start, endpos=first):
        start = space.end()
    line_end = text.find("\n", last, end)
    if line_end >= 0:
        end = line_end
    elif end < len(text):
        end = max(text.rfind(" ", last, end), last + 1) if " " in text[last:end] else end
    return start, end


def name_of(tool: Any) -> str:
    return tool if isinstance(tool, str) else str(tool.func.__name__)


def described(tools: Sequence[Any]) -> dict[str, str]:
    """Name → what a prompt says of it: its call and its docstring. Raises ConfigError."""
    out: dict[str, str] = {}
    for tool in tools:
        if isinstance(tool, str) and tool not in ("find", "search"):
            raise ConfigError(
                f"there is no tool {tool!r}: choose find, search, or a function of your own as "
                "{_target_: module.function}",
                key="tools",
            )
        function = getattr(Tools, tool) if isinstance(tool, str) else tool.func
        given = {"self", "context", *getattr(tool, "keywords", ())}
        doc = " ".join((inspect.getdoc(function) or "").split())
        name = name_of(tool)
        if not doc:
            raise ConfigError(f"{name} needs a docstring: the model is told by it", key="tools")
        if name in out or name in _TAKEN:
            raise ConfigError(f"the name {name} is taken: call the function otherwise", key="tools")
        takes = inspect.signature(function).parameters
        out[name] = f"{name}({', '.join(p for p in takes if p not in given)}): {doc}"
    return out


def _own(tool: Any, content: Content) -> HostFunction:
    """A user's function as the REPL calls it. One that has a parameter ``context`` gets the input
    there, and what the configuration gives can't be given anew. Its LookupError, TypeError and
    ValueError are the model's to see."""
    context = {"context": content} if "context" in inspect.signature(tool).parameters else {}
    given = {**tool.keywords, **context}

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = tool.func(*args, **kwargs, **given)
            json.dumps(value, allow_nan=False)
        except (LookupError, TypeError, ValueError) as error:
            raise HostError("tool_error", f"{type(error).__name__}: {error}") from error
        return value

    return call
