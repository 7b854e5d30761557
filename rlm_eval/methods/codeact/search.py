"""``search(query, k)``: BM25 over the input, for code in the REPL."""

from __future__ import annotations

import threading
from typing import Any

from rlm_eval.methods.rag.ranking import Bm25
from rlm_eval.records import Span
from rlm_eval.repl.results import HostError


class Search:
    """The tool of one run, and what of its finds a model has seen: a piece counts where it stands
    whole in a prompt, as text or as Python shows a string. Safe for threads."""

    def __init__(self, pieces: Bm25) -> None:
        self._pieces = pieces
        self._found: dict[str, set[Span]] = {}
        self._seen: set[Span] = set()
        self._lock = threading.Lock()

    def search(self, query: Any, k: Any = 5) -> list[str]:
        """The ``k`` pieces that go best with the words of ``query``, the best first; fewer where
        fewer hold any of them."""
        if not isinstance(query, str) or not isinstance(k, int) or k < 1:
            told = "search(query, k) takes a string and a number from 1 on"
            raise HostError("bad_request", told, {})
        pieces = self._pieces.matching(query, k)
        with self._lock:
            for piece in pieces:
                self._found.setdefault(piece.passage, set()).add(piece.span)
        return [piece.passage for piece in pieces]

    def note(self, prompt: str) -> None:
        """A model is shown ``prompt``."""
        with self._lock:
            for text, spans in self._found.items():
                if text in prompt or repr(text)[1:-1] in prompt:
                    self._seen |= spans

    def spans(self) -> tuple[Span, ...]:
        """The stretches of the input that were found and seen, documents put end to end."""
        with self._lock:
            return tuple(sorted(self._seen))
