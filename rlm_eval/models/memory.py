"""What a run remembers of its calls: answers, each asked for once even by callers who come
together, and how its prompts began."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from rlm_eval.errors import ContextOverflow, ProviderError

T = TypeVar("T")


class Memory(Generic[T]):
    """Single flight per key. Failures are never remembered. Safe for threads: each step on the
    dictionary is atomic.

    The first caller asks; those who come meanwhile wait for it and share its answer, or its
    failure where that is the model's (ProviderError, ContextOverflow). A failure of the asker's
    own, such as its spent budget, is not theirs: one of them asks next.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Future[T]] = {}

    def has(self, key: Hashable) -> bool:
        """Whether the answer is there or on its way."""
        return key in self._known

    def get(self, key: Hashable, ask: Callable[[], T], *, keep: bool = True) -> tuple[T, bool]:
        """(the answer, whether it was remembered). ``ask`` runs in the calling thread. Without
        ``keep`` its answer is shared only with those who came before it was there."""
        mine: Future[T] = Future()
        while (future := self._known.setdefault(key, mine)) is not mine:
            failure = future.exception()
            if failure is None:
                return future.result(), True
            if isinstance(failure, ProviderError | ContextOverflow):
                raise failure
        try:
            answer = ask()
        except BaseException as failure:
            del self._known[key]
            mine.set_exception(failure)
            raise
        if not keep:
            del self._known[key]
        mine.set_result(answer)
        return answer, False


class Prefixes:
    """How prompts began, so that one can tell what a prompt cache would give an arm that has it to
    itself. A model of those of OpenAI and Anthropic: the longest prefix that was sent before to
    the same model, from 1,024 tokens on and in steps of 128, a token taken for 4 bytes; nothing is
    ever forgotten.

    Kept is a hash per step: 8 bytes for 512 of text. Safe for threads: adding to a set is atomic.
    """

    STEP, LEAST = 512, 4096

    def __init__(self) -> None:
        self._seen: dict[Hashable, set[bytes]] = {}

    def reused(self, scope: Hashable, messages: Sequence[Mapping[str, str]]) -> float:
        """The share of a prompt that an earlier one in ``scope`` began with; the prompt is then
        one of them."""
        seen = self._seen.setdefault(scope, set())
        data = "\0".join(text for m in messages for text in m.values()).encode("utf-8", "replace")
        digest, known, going = hashlib.blake2b(digest_size=8), 0, True
        for start in range(0, len(data) - self.STEP + 1, self.STEP):
            digest.update(data[start : start + self.STEP])
            mark = digest.digest()
            going = going and mark in seen
            if going:
                known = start + self.STEP
            else:
                seen.add(mark)
        return known / len(data) if known >= self.LEAST else 0.0
