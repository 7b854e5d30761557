"""How many characters of the context reached a language model's prompt.

Measured on the text itself, whatever route it took: a stretch of the context that stands in a
prompt, at least ``2 × stride − 1`` characters long, counts once however often it is read. Shorter
quotations are not seen; where a context repeats itself, a stretch counts at its longest match.
Searched are sub-calls' prompts and what the root is shown, not the question.

Blocks of ``stride`` characters of the context are kept in an index. A prompt is searched for their
first 16 characters by a rolling hash at all offsets at once; each find is compared and grown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

STRIDE = 16
_LARGEST_INDEX = 500_000
_CANDIDATES = 8
_SLICE = 1 << 18  # characters hashed at once
#: An odd number with random bits, and what undoes a multiplication by it modulo 2**64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
#: Another, for each block's second place in the table: few others have both.
_OTHER = 0xC2B2AE3D27D4EB4F


class ContextCoverage:
    """The union of context stretches seen in prompts. Safe for threads."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._stride = max(STRIDE, len(context) // _LARGEST_INDEX)
        self._index: _Index | None = None
        self._seen: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def add(self, start: int, end: int) -> None:
        """Mark a stretch that is known to be shown."""
        with self._lock:
            self._seen.append((start, end))

    def note(self, prompt: str) -> None:
        """Mark every stretch of the context that stands in ``prompt``."""
        if min(len(prompt), len(self._context)) < self._stride:
            return
        with self._lock:
            self._index = self._index or _Index(self._context, self._stride)
            done = 0
            for at, found in self._index.likely(prompt):
                if at < done:
                    continue
                places = self._index.places(found, prompt, at)
                if places:
                    spans = [_grown(prompt, at, self._context, place) for place in places]
                    start, end, done = max(spans, key=lambda span: span[1] - span[0])
                    self._seen.append((start, end))

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


class _Index:
    """The blocks of a text by the hash of their first characters, and a table of those hashes."""

    def __init__(self, text: str, stride: int) -> None:
        import numpy as np

        self._text, self._stride = text, stride
        starts = range(0, len(text) - stride + 1, stride)
        powers = np.full(STRIDE, _BASE, dtype=np.uint64).cumprod()
        parts = []
        for first in range(0, len(starts), _SLICE // STRIDE):
            blocks = (text[at : at + STRIDE] for at in starts[first : first + _SLICE // STRIDE])
            parts.append((_codes("".join(blocks)).reshape(-1, STRIDE) * powers).sum(axis=1))
        hashes = np.concatenate(parts)
        order = hashes.argsort(kind="stable")
        self._hashes, self._starts = hashes[order], order * stride
        self._bits = max(16, (32 * len(starts)).bit_length())
        self._table = np.zeros(1 << self._bits, dtype=bool)
        for factor in (_BASE, _OTHER):
            self._table[self._slots(hashes, factor)] = True

    def likely(self, prompt: str) -> Iterator[tuple[int, Any]]:
        """The offsets of the prompt at which a block may stand, with the hash there."""
        import numpy as np

        for start in range(0, len(prompt) - STRIDE + 1, _SLICE):
            codes = _codes(prompt[start : start + _SLICE + STRIDE - 1])
            powers = np.full(len(codes), _BASE, dtype=np.uint64).cumprod()
            sums = np.concatenate(([np.uint64(0)], (codes * powers).cumsum(dtype=np.uint64)))
            # What lies between two sums is a block's hash times base**offset.
            hashes = sums[STRIDE:] - sums[:-STRIDE]
            hashes[1:] *= np.full(len(hashes) - 1, _INVERSE, dtype=np.uint64).cumprod()
            likely = self._table[self._slots(hashes, _BASE)].nonzero()[0]
            likely = likely[self._table[self._slots(hashes[likely], _OTHER)]]
            for offset in likely.tolist():
                yield start + offset, hashes[offset]

    def places(self, found: Any, prompt: str, at: int) -> list[int]:
        """Where the block at ``prompt[at]`` stands in the text; its first places if many."""
        first = int(self._hashes.searchsorted(found))
        last = int(self._hashes.searchsorted(found, side="right"))
        block = prompt[at : at + self._stride]
        if len(block) < self._stride:
            return []
        likely = self._starts[first : min(last, first + 8 * _CANDIDATES)].tolist()
        return [p for p in likely if self._text.startswith(block, p)][:_CANDIDATES]

    def _slots(self, hashes: Any, factor: int) -> Any:
        """Where hashes stand in the table: by the top bits of a product, the best mixed ones."""
        return (hashes * factor) >> (64 - self._bits)


def _codes(text: str) -> Any:
    """The characters' code points, as unsigned 64-bit numbers that wrap around."""
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _grown(prompt: str, at: int, text: str, place: int) -> tuple[int, int, int]:
    """The match around prompt[at] and text[place], grown both ways: (start, end) in the text and
    where it ends in the prompt."""
    left = _shared(prompt, at, text, place, -1)
    right = _shared(prompt, at, text, place, +1)
    return place - left, place + right, at + right


def _shared(a: str, i: int, b: str, j: int, way: int) -> int:
    """How many characters from a[i] and b[j] on are the same, forwards or backwards: by ever
    longer slices, then by halves."""
    limit = min(len(a) - i, len(b) - j) if way > 0 else min(i, j)
    count, step, longer = 0, 64, True
    while step and count < limit:
        take = min(step, limit - count)
        low = count if way > 0 else -count - take
        if a[i + low : i + low + take] == b[j + low : j + low + take]:
            count += take
            step = step * 2 if longer else step
        else:
            longer, step = False, take // 2
    return count
