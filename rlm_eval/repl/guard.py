"""Keeps the harness's own memory and environment closed while model code runs on the machine."""

from __future__ import annotations

import sys
from threading import Lock

from rlm_eval.repl import linux


class HarnessGuard:
    """Makes this process non-dumpable from the first ``enter`` to the last ``leave`` (Linux only).

    Then no process of the same user can ptrace it or read /proc/PID/environ, mem or maps, and no
    core is dumped; nor, without root, can debuggers, nor the process list its own /proc/self/fd.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._before = 0

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1 and sys.platform == "linux":
                self._before = linux.get_dumpable()
                linux.set_dumpable(0)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count and self._before == 1:
                linux.set_dumpable(1)


#: The process has one dumpable flag, so it has one guard.
harness_guard = HarnessGuard()
