"""What a run remembers: answers already given, each asked for once even by callers who come
together, and how prompts began."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

from rlm_eval.errors import BudgetExceeded, RunBudgetExceeded

T = TypeVar("T")


class Memory(Generic[T]):
    """Single flight per key. Failures are never remembered. Safe for threads: each step on the
    dictionary is atomic.

    The first caller asks; those who come meanwhile wait for it and share its answer or its failure.
    Only its spent budget is not theirs: one of them asks next.
    """

    def __init__(self) -> None:
        #: A future is on its way.
        self._known: dict[Hashable, Future[T] | T] = {}

    def has(self, key: Hashable) -> bool:
        """Whether the answer is there or on its way."""
        return key in self._known

    def get(self, key: Hashable, ask: Callable[[], T]) -> tuple[T, bool]:
        """(the answer, whether it was remembered). ``ask`` runs in the calling thread."""
        mine: Future[T] = Future()
        while (known := self._known.setdefault(key, mine)) is not mine:
            if not isinstance(known, Future):
                return known, True
            failure = known.exception()
            if failure is None:
                return known.result(), True
            if not isinstance(failure, BudgetExceeded | RunBudgetExceeded):
                raise failure
        try:
            answer = ask()
        except BaseException as failure:
            del self._known[key]
            mine.set_exception(failure)
            raise
        self._known[key] = answer
        mine.set_result(answer)
        return answer, False


def kept_messages(messages: Sequence[Mapping[str, str]]) -> int:
    """How many messages from the first on a cache of whole messages is asked to keep: all of a
    chat, which goes on; of what is asked once, what comes before its last message."""
    return len(messages) if any(m["role"] == "assistant" for m in messages) else len(messages) - 1


class Prefixes:
    """How prompts began: what a prompt cache would give an arm that has it to itself. A model of
    OpenAI's and Anthropic's: the longest prefix that was sent before, in steps of 512 bytes (some
    128 tokens) or of messages, from 1,024 of the provider's tokens on. Nothing is forgotten while a
    run goes on; one that is resumed begins anew. Safe for threads: adding to a set is atomic."""

    #: Bytes of a step; tokens of the shortest beginning that is kept.
    STEP, LEAST = 512, 1024

    def __init__(self) -> None:
        self._seen: dict[Hashable, set[bytes]] = {}

    def reused(
        self, scope: Hashable, messages: Sequence[Mapping[str, str]], *, by_message: bool = False
    ) -> float:
        """The share of a prompt, however short, that an earlier one in ``scope`` began with; the
        prompt is then one of them. Whether a cache keeps it, a request says (``LEAST``)."""
        seen = self._seen.setdefault(scope, set())
        texts = ["\0".join([*m.values(), ""]).encode("utf-8", "replace") for m in messages]
        data, digest, known, going = b"".join(texts), hashlib.blake2b(digest_size=8), 0, True
        ends = accumulate(map(len, texts[: kept_messages(messages)]), initial=0)
        for start, end in pairwise(ends if by_message else range(0, len(data) + 1, self.STEP)):
            digest.update(data[start:end])
            mark = digest.digest()
            going = going and mark in seen
            if going:
                known = end
            else:
                seen.add(mark)
        return known / len(data) if known else 0.0
