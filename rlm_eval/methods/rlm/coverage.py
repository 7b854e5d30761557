"""How many characters of the context reached a language model's prompt.

Measured on the text itself, whatever route it took: a stretch of the context that stands in a
prompt, at least ``2 × stride − 1`` characters long, counts once however often it is read. Shorter
quotations are not seen; where a context repeats itself, a stretch counts at its longest match.
"""

from __future__ import annotations

import threading

STRIDE = 16
_LARGEST_INDEX = 500_000
_CANDIDATES = 8


class ContextCoverage:
    """The union of context stretches seen in prompts. Safe for threads."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._stride = max(STRIDE, len(context) // _LARGEST_INDEX)
        self._index: dict[str, list[int]] | None = None
        self._seen: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def note(self, prompt: str) -> None:
        """Mark every stretch of the context that stands in ``prompt``."""
        with self._lock:
            index = self._built_index()
            width, at = self._stride, 0
            while at + width <= len(prompt):
                places = index.get(prompt[at : at + width])
                if places is None:
                    at += 1
                    continue
                spans = [self._grown(prompt, at, place) for place in places]
                start, end, stop = max(spans, key=lambda s: s[1] - s[0])
                self._seen.append((start, end))
                at = stop

    def chars(self) -> int:
        """Size of the union so far, in characters."""
        with self._lock:
            merged: list[tuple[int, int]] = []
            for start, end in sorted(self._seen):
                if merged and start <= merged[-1][1]:
                    merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
                else:
                    merged.append((start, end))
            self._seen = merged
            return sum(end - start for start, end in merged)

    def _built_index(self) -> dict[str, list[int]]:
        if self._index is None:
            self._index = {}
            for at in range(0, len(self._context) - self._stride + 1, self._stride):
                places = self._index.setdefault(self._context[at : at + self._stride], [])
                if len(places) < _CANDIDATES:
                    places.append(at)
        return self._index

    def _grown(self, prompt: str, at: int, place: int) -> tuple[int, int, int]:
        """The match around prompt[at] and context[place], grown both ways: (start, end) in the
        context and where it ends in the prompt."""
        text, left = self._context, 0
        while (
            at - left > 0 and place - left > 0 and prompt[at - left - 1] == text[place - left - 1]
        ):
            left += 1
        right = self._stride
        limit = min(len(prompt) - at, len(text) - place)
        while right < limit and prompt[at + right] == text[place + right]:
            right += 1
        return place - left, place + right, at + right
