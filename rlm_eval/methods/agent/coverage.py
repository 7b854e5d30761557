"""How many characters of the context reached a language model's prompt, measured on the text.

A stretch of the context that is in a sub-call's prompt or in what the root is shown, at least
``2 × block − 1`` characters long, counts once however often it is read; where a context repeats
itself, at its longest match. Shorter quotations are not seen.
"""

from __future__ import annotations

import threading
from operator import itemgetter

from rlm_eval.records import Span, union

#: The context is known by its blocks of so many characters, or longer ones where those would be
#: more than ``_MOST_BLOCKS``.
BLOCK = 16
_MOST_BLOCKS = 500_000
#: Of a block that is in many places, how many are compared.
_CANDIDATES = 8


class ContextCoverage:
    """The union of context stretches seen in prompts. Safe for threads."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._block = max(BLOCK, len(context) // _MOST_BLOCKS)
        self._places: dict[str, list[int]] = {}
        self._seen: list[Span] = []
        self._lock = threading.Lock()

    def add(self, start: int, end: int) -> None:
        """Mark a stretch that is known to be shown."""
        with self._lock:
            self._seen.append((start, end))

    def note(self, prompt: str) -> None:
        """Mark every stretch of the context that is in ``prompt``."""
        text, size, at = self._context, self._block, 0
        if min(len(prompt), len(text)) < size:
            return
        with self._lock:
            places = self._places
            if not places:
                for place in range(0, len(text) - size + 1, size):
                    places.setdefault(text[place : place + size], []).append(place)
            last = len(prompt) - size
            while at <= last:
                candidates = places.get(prompt[at : at + size])
                if candidates is None:
                    at += 1
                    continue
                matches = [
                    _match(prompt, at, text, place, size) for place in candidates[:_CANDIDATES]
                ]
                _, start, end, at = max(matches, key=itemgetter(0))
                self._seen.append((start, end))

    def chars(self) -> int:
        """Size of the union so far, in characters."""
        with self._lock:
            self._seen = union(self._seen)
            return sum([end - start for start, end in self._seen])


def _match(prompt: str, at: int, text: str, place: int, size: int) -> tuple[int, int, int, int]:
    """The longest match around a block that is at prompt[at] and text[place]: its length, its start
    and end in the text, its end in the prompt."""
    shift, start, end = place - at, at, at + size
    while min(start, start + shift) > 0 and prompt[start - 1] == text[start - 1 + shift]:
        start -= 1
    last = min(len(prompt), len(text) - shift)
    for step in (size, 1):
        while end + step <= last and text.startswith(prompt[end : end + step], end + shift):
            end += step
    return end - start, start + shift, end + shift, end
