"""What the REPL's tests give model code to call, and the limits they set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from rlm_eval.repl import linux
from rlm_eval.repl.conversation import Exchange
from rlm_eval.repl.results import BlockResult, HostError, HostFunction
from rlm_eval.repl.session import ReplSession

OUTPUT_CHARS, GRACE_S = 2000, 5.0
LIMITS = {
    "block_seconds": 15.0,
    "grace_seconds": GRACE_S,
    "memory_mb": 1024,
    "output_chars": OUTPUT_CHARS,
}
#: Not every kernel has what this level is made of.
needs_landlock = pytest.mark.skipif(not linux.landlock_abi(), reason="this kernel has no Landlock")
LANDLOCK = pytest.param("landlock", marks=needs_landlock)
#: The limit of a block that is to be stopped, after lines that no stall of the machine may cut off.
HASTE_S = 2.0


def ask(prompt: str, **options: Any) -> str:
    return f"<{prompt}>"


def ask_all(prompts: list[str]) -> list[Any]:
    failed = HostError("context_overflow", "too long", {"excess_tokens": 7}).as_value()
    return [failed if len(p) > 100 else ask(p) for p in prompts]


def refuse(kind: str) -> str:
    raise HostError(kind, "no more", {"left": 0})


HOST: dict[str, HostFunction] = {"llm_query": ask, "llm_query_batched": ask_all, "refuse": refuse}


def names(result: BlockResult) -> set[str]:
    return {variable.name for variable in result.variables}


@contextmanager
def hurried(repl: ReplSession, grace_s: float = GRACE_S) -> Iterator[None]:
    """The worker that there is now is stopped after ``HASTE_S`` here. One that takes its place has
    the time of the session's limits."""
    worker = repl._worker
    exchange = worker.exchange

    def hasten(head: dict[str, Any], _: float, **given: Any) -> Exchange:
        return exchange(head, HASTE_S, **given)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(worker, "exchange", hasten)
        changed.setattr(worker, "_limits", replace(worker._limits, grace_seconds=grace_s))
        yield


#: Model code: ``when_over(work)`` gives a thread that does ``work`` once its block is over, and has
#: been reported.
WHEN_OVER = """
import sys, threading, time
def callers(frame):
    while frame:
        yield frame.f_code.co_name
        frame = frame.f_back
def when_over(work):
    main = threading.get_ident()
    def wait():
        while '_exec' in callers(sys._current_frames()[main]): time.sleep(0.001)
        work()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread
"""


def unread(repl: ReplSession) -> bool:
    """Whether its worker has sent something that nobody has looked at."""
    channel = repl._worker._process.channel
    return bool(channel._buffer) or bool(channel._readable.poll(0))
