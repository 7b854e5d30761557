"""What happened in one sample's agent and its children: the trajectory's events, the row's counts.

A trajectory is JSONL. Its first event, ``start``, has the format's ``version`` and the settings;
then ``turn`` (one reply of an agent's model, at any depth), ``call`` (a plain sub-call), ``block``
(code that ran) and ``answer`` in the order they ended; a child RLM's events stand together.
``at_s`` are seconds since the start. The replies and the code are complete: they can be replayed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.method import Method
from rlm_eval.models.client import Completion
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Outcome, content_hash
from rlm_eval.repl.results import BlockResult

TRAJECTORY_VERSION = 1


class Trace:
    """One agent's events and counts; a child RLM's are its own until it has ended. ``parent`` is
    the call that began this one. Safe for threads."""

    def __init__(
        self, coverage: ContextCoverage, *, depth: int = 0, parent: str | None = None
    ) -> None:
        self.coverage = coverage
        self.events: list[Mapping[str, Any]] = []
        self.iterations = 0
        self.code_errors = 0
        self.sandbox_s = 0.0
        self.last_subcall_used: bool | None = None
        self._depth = depth
        self._parent = parent
        self._lock = threading.Lock()
        self._started = time.perf_counter()

    def child(self, parent: str | None) -> Trace:
        """The trace of a child RLM begun by the call ``parent``; to be adopted when it ends."""
        child = Trace(self.coverage, depth=self._depth + 1, parent=parent)
        child._started = self._started
        return child

    def adopt(self, child: Trace) -> None:
        """Take over an ended child's events and counts."""
        with self._lock:
            self.events += child.events
            self.code_errors += child.code_errors
            self.sandbox_s += child.sandbox_s
            self.last_subcall_used = False

    def start(self, name: str, method: Method, sandbox_level: str, ledger: Ledger) -> None:
        """The method called ``name`` begins, with the settings that ``method`` has as text and
        numbers."""
        self._add(
            "start",
            version=TRAJECTORY_VERSION,
            method=name,
            prompt=method.prompt_name(),
            prompt_hash=content_hash(method.prompt_source()),
            sandbox_level=sandbox_level,
            settings={k: v for k, v in vars(method).items() if isinstance(v, str | int | float)},
            budget=asdict(ledger.budget),
        )

    def answer(self, ended: Callable[[], tuple[Outcome, str | None]], **rest: Any) -> Answer:
        """What the run ``ended`` with, or the failure that it raised, and the row's counts."""
        try:
            (outcome, text), error = ended(), ""
        except SampleFailure as failure:
            outcome, text, error = failure.outcome, None, str(failure)
        return Answer(
            text=text,
            outcome=outcome,
            iterations=self.iterations,
            code_errors=self.code_errors,
            context_chars_read_by_lm=self.coverage.chars(),
            last_subcall_used=self.last_subcall_used,
            sandbox_s=self.sandbox_s,
            error=error,
            trajectory=tuple(self.events),
            **rest,
        )

    def turn(
        self,
        number: int,
        reply: Completion,
        messages: Sequence[Message],
        budget_left: Mapping[str, float | None],
        **noted: bool,
    ) -> None:
        """``messages``: the rendered prompt, whose size is kept; its hash is with its call."""
        self.iterations = number
        self._add(
            "turn",
            iteration=number,
            call_id=reply.call_id,
            parent_call_id=self._parent,
            reply=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            messages=len(messages),
            prompt_chars=sum(len(m["content"]) for m in messages),
            budget_left=budget_left,
            **noted,
        )

    def sub_call(
        self, outcome: Completion | SampleFailure, prompt: str, depth: int, parent: str | None
    ) -> None:
        event: dict[str, Any] = {"role": "sub", "depth": depth, "parent_call_id": parent}
        event["prompt"] = prompt
        if isinstance(outcome, SampleFailure):
            event |= {"error": str(outcome), "outcome": outcome.outcome}
        else:
            event |= {"call_id": outcome.call_id, "reply": outcome.text}
            event |= {"cached_response": outcome.cached_response}
            event |= {"prompt_tokens": outcome.usage.prompt_tokens}
            event |= {"completion_tokens": outcome.usage.completion_tokens}
            self.last_subcall_used = False
        self._add("call", **event)

    def block(self, number: int, call_id: str, code: str, shown: str, result: BlockResult) -> None:
        with self._lock:
            self.sandbox_s += result.exec_s
            self.code_errors += result.error is not None
        self._add(
            "block",
            iteration=number,
            call_id=call_id,
            code=code,
            output=shown,
            output_chars=result.stdout_chars + result.stderr_chars,
            error=result.error,
            seconds=round(result.exec_s, 6),
            callback_seconds=round(result.callback_s, 6),
        )

    def ended(self, outcome: str, text: str | None, error: str = "") -> None:
        """How a child RLM ended; the root's end is written with its result."""
        event = {"error": error} if error else {}
        self._add("answer", parent_call_id=self._parent, outcome=outcome, text=text, **event)

    def answered(self) -> None:
        """The run ended through its protocol: what the last sub-call said was there to be used."""
        if self.last_subcall_used is False:
            self.last_subcall_used = True

    def _add(self, kind: str, **event: Any) -> None:
        at = round(time.perf_counter() - self._started, 4)
        with self._lock:
            self.events.append({"type": kind, "depth": self._depth, "at_s": at, **event})
