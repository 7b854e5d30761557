"""Work on threads that can be left behind.

A server that drips bytes for ever is ended by no timeout of a single read. So a request runs on
another thread and its caller waits only so long. A pool of the standard library would do, but it
waits at the interpreter's end for a thread that never ends; a thread for each call costs 2 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], T], Future[T]]


class Workers(Generic[T]):
    """Daemon threads, as many as there is work at once, each used again when it is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Job[T] | None]] = []

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin ``work`` now. Whoever stops waiting for the future leaves the thread to it."""
        future: Future[T] = Future()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), daemon=True).start()
        inbox.put((work, future))
        return future

    def close(self) -> None:
        """Let the idle threads end."""
        with self._lock:
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _serve(self, inbox: SimpleQueue[Job[T] | None]) -> None:
        while (job := inbox.get()) is not None:
            work, future = job
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  handed to the caller, nothing swallowed
                self._free(inbox)
                future.set_exception(error)
            else:
                self._free(inbox)
                future.set_result(result)
                del result
            del job, work, future

    def _free(self, inbox: SimpleQueue[Job[T] | None]) -> None:
        """Before the caller hears of its result: its next work finds this thread still warm."""
        with self._lock:
            self._idle.append(inbox)
