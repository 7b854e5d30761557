"""The REPL from the harness's side: a sandbox, its sessions, and what a block did.

with Sandbox() as sandbox, sandbox.session({"llm_query": ask}) as repl:
    repl.load("context", long_text)
    result = repl.run("print(llm_query('Summarize: ' + context[:1000]))")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from rlm_eval import errors
from rlm_eval.errors import SandboxError
from rlm_eval.repl import levels
from rlm_eval.repl.channel import FrameError
from rlm_eval.repl.conversation import BROKEN, Conversation, Loadable
from rlm_eval.repl.launch import Launcher, Process, shut_harness
from rlm_eval.repl.results import (
    BlockResult,
    HostFunction,
    Limits,
    State,
    checked_result,
)


class ReplSession(AbstractContextManager["ReplSession"]):
    """One persistent namespace in a process of its own. Owned by one thread at a time.

    Host functions are called from the owning thread or, when model code uses threads, from others,
    several at once.
    """

    def __init__(
        self,
        spawn: Callable[[], Process],
        limits: Limits,
        host: Mapping[str, HostFunction],
        submit: bool = True,
    ) -> None:
        self._spawn, self._limits, self._host, self._submit = spawn, limits, dict(host), submit
        self._pool = ThreadPoolExecutor(limits.concurrent_calls, "host-call")
        self._loaded: dict[str, Loadable] = {}
        self._blocks = 0
        self._state: State = "kept"  # what has become of the variables since the last block
        self._worker = self._start()

    def load(self, name: str, content: Loadable) -> None:
        """Set ``name`` to a str, a list (from a tuple) or a dict of texts. Raises SandboxError
        when it does not fit into ``Limits.memory_mb``."""
        self._revive()
        self._worker.load(name, content)
        self._loaded[name] = content

    def run(self, code: str) -> BlockResult:
        """Run one block.

        Raises SandboxError when a worker can't be started, and whatever a host function raised
        other than HostError (the block is stopped then).
        """
        self._revive()
        self._blocks += 1
        head = {"op": "exec", "block": self._blocks}
        seconds = self._limits.block_seconds
        exchange = self._worker.exchange(head, seconds, text=code, answering=True)
        reason, death = exchange.reason, exchange.death
        times: dict[str, Any] = {"exec_s": exchange.exec_s, "callback_s": exchange.callback_s}
        if exchange.frame is not None:
            stopped = exchange.interrupted and exchange.frame.head.get("error_type") == "TimeLimit"
            told = {"interrupted": "time_limit" if stopped else "", "state": self._state, **times}
            try:
                result = checked_result(exchange.frame, self._limits, self._submit, **told)
            except FrameError as error:
                self._worker.close()
                reason, death = f"{BROKEN}: {error}", "crashed"
            else:
                self._state = "kept"
                return result
        self._restart()
        self._state = "kept"
        loaded = ", ".join(self._loaded) or "nothing"
        return BlockResult(
            error=f"This block was stopped: {reason}. All variables are gone; set again: {loaded}.",
            error_type=death,
            interrupted=death,
            state="lost",
            **times,
        )

    def read(self, name: str, key: str | None = None) -> str | None:
        """A variable, or its item ``key``, as text: a str as it is, other values as JSON if
        possible, else as printed; None when it is unset or None. Cut at ``Limits.read_chars``."""
        self._revive()
        head = {"op": "read", "name": name, "key": key}
        frame = self._worker.exchange(head, self._limits.block_seconds).frame
        if frame is None or frame.head.get("found") is not True:
            return None
        try:
            return frame.text()[: self._limits.read_chars]
        except FrameError:
            self._worker.close()
            return None

    @property
    def lost(self) -> bool:
        """Whether the variables are gone since the last block, by a read that had to be killed."""
        return self._state == "lost" or not self._worker.alive

    def close(self) -> None:
        """End the worker; calls in flight are waited for."""
        self._worker.close()
        self._pool.shutdown()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Conversation:
        return Conversation(self._spawn(), self._pool, self._limits, self._host, self._submit)

    def _revive(self) -> None:
        """Replace a worker that died while no block ran, or by a host function's exception."""
        if not self._worker.alive:
            self._restart()

    def _restart(self) -> None:
        """A new worker, which holds what was loaded and nothing else."""
        self._worker.close()
        self._state = "lost"
        self._worker = self._start()
        for name, content in self._loaded.items():
            self._worker.load(name, content)


class Sandbox(AbstractContextManager["Sandbox"]):
    """Makes sessions. Finds out at the first one what isolation this machine has, and keeps the
    warmed parent of the workers. Safe for threads; its sessions are independent of each other.

    Settings: conf/sandbox/auto.yaml. Raises ConfigError for those that can't be. For a level that
    this machine lacks, the first session does, or whoever asks for ``level`` before.
    """

    def __init__(
        self,
        level: str = "auto",
        limits: Mapping[str, int | float] | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self.limits = Limits.of(limits or {})
        levels.ways_of(level)  # to hear now what can't be
        self._asked, self._policy = level, levels.make_policy(self.limits, packages)
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None
        self._way = levels.Way()  # the one that was reached
        self._level = ""
        self._closed = False

    @property
    def level(self) -> str:
        """What was reached, as rows show it: ``landlock+seccomp+namespaces``, …, ``none``."""
        if not self._level:
            self._started()
        return self._level

    def session(self, host: Mapping[str, HostFunction], *, submit: bool = True) -> ReplSession:
        """A new namespace with the functions of ``host`` in it, and ``submit`` unless refused.
        Raises SandboxError when no worker starts."""
        return ReplSession(lambda: self._started().spawn(), self.limits, host, submit)

    def close(self) -> None:
        """End every worker of this sandbox."""
        with self._lock:
            launcher, self._launcher, self._closed = self._launcher, None, True
        if launcher is not None:
            launcher.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> Launcher:
        """What workers come from; started when there is none or it has died."""
        with self._lock:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._launcher is None:
                shut_harness()
                self._way, self._launcher = levels.reach(
                    self._asked, self._policy, self.limits, self._probe
                )
                self._level = self._way.level
            elif not self._launcher.alive():
                self._launcher.close()
                self._launcher = levels.launch(self._way, self._policy, self.limits)
            return self._launcher

    def _probe(self, launcher: Launcher) -> BlockResult:
        with ReplSession(launcher.spawn, self.limits, {}) as session:
            session.load("_path", errors.__file__)
            return session.run(levels.PROBE)
