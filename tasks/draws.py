"""Random draws that are the same bytes on every machine and Python version.

Only ``random.Random.random`` is used: its sequence is guaranteed, that of ``choice``, ``sample``
and ``shuffle`` is not.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, MutableSequence, Sequence
from typing import TypeVar

T = TypeVar("T")


def derive_seed(*parts: str | int) -> int:
    """A 64-bit seed from what a sample is: task, seed, length, index (never n)."""
    blob = json.dumps(parts, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.sha256(blob).digest()[:8], "big")


class Draws:
    """A stream of draws named by ``parts``."""

    def __init__(self, *parts: str | int) -> None:
        self.random = random.Random(derive_seed(*parts)).random

    def below(self, n: int) -> int:
        """Uniform in 0 … n − 1 (n far below 2**53)."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """Uniform in low … high, both ends included."""
        return low + self.below(high - low + 1)

    def choice(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def shuffle(self, values: MutableSequence[T]) -> None:
        random = self.random
        for i in range(len(values) - 1, 0, -1):
            j = int(random() * (i + 1))
            values[i], values[j] = values[j], values[i]

    def sample(self, values: Sequence[T], k: int) -> list[T]:
        """``k`` distinct positions of ``values``, in random order."""
        pool = list(values)
        for i in range(k):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]

    def distinct(self, k: int, draw: Callable[[], T]) -> list[T]:
        """The first ``k`` different values that ``draw`` gives."""
        found: dict[T, None] = {}
        while len(found) < k:
            found[draw()] = None
        return list(found)

    def uuid4(self) -> str:
        """A random UUID (version 4, RFC 4122 variant)."""
        digits = "".join(f"{self.below(1 << 32):08x}" for _ in range(4))
        parts = (digits[:8], digits[8:12], f"4{digits[13:16]}")
        return "-".join((*parts, f"{'89ab'[self.below(4)]}{digits[17:20]}", digits[20:]))
