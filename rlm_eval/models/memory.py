"""Answers already given within a run, each asked for once even by callers who come together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
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
