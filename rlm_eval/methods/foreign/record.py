"""The trajectory of a foreign engine, in the format of ``agent/trace.py``: its calls as the model
client saw them, and the code that the engine reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.agent.trace import TRAJECTORY_VERSION
from rlm_eval.models.client import CallTags, Completion
from rlm_eval.models.protocol import Message

#: Code that the engine ran: ``code``, ``output``, ``error`` (empty when it went well).
Block = Mapping[str, str]


class Record:
    """What one sample's engine asked. ``iterations`` counts the turns of its own loop, ``calls``
    all that reached the model client. Safe for threads."""

    def __init__(self, context: str, **settings: Any) -> None:
        self.iterations = 0
        self.calls = 0
        self.coverage = ContextCoverage(context)
        self._seen: set[int] = set()
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        start = {"type": "start", "depth": 0, "at_s": 0.0, "version": TRAJECTORY_VERSION}
        self._events: list[dict[str, Any]] = [start | settings]

    def call(
        self, tags: CallTags, messages: Sequence[Message], outcome: Completion | SampleFailure
    ) -> None:
        """One call and what became of it (a :data:`rlm_eval.models.proxy.CallLog`)."""
        event: dict[str, Any] = {"role": tags.role, "depth": tags.depth}
        event |= {"at_s": round(time.perf_counter() - self._started, 4)}
        event |= {"parent_call_id": tags.parent_call_id}
        with self._lock:
            self.calls += 1
            new = [m["content"] for m in messages if hash(m["content"]) not in self._seen]
            self._seen |= {hash(text) for text in new}
            turn = tags.role == "root" and isinstance(outcome, Completion)
            if turn and tags.depth == 0:
                self.iterations += 1
                event["iteration"] = self.iterations
            self._events.append(event)
        event["type"] = "turn" if turn else "call"
        if isinstance(outcome, Completion):
            event |= {"call_id": outcome.call_id, "reply": outcome.text}
            event |= {"finish_reason": outcome.finish_reason}
            event |= {"cached_response": outcome.cached_response}
            event |= {"prompt_tokens": outcome.usage.prompt_tokens}
            event |= {"completion_tokens": outcome.usage.completion_tokens}
            for text in new:
                self.coverage.note(text)
        else:
            event |= {"error": str(outcome), "outcome": outcome.outcome}
        if turn:
            event |= {"messages": len(messages)}
            event |= {"prompt_chars": sum(len(m["content"]) for m in messages)}
        else:
            event["prompt"] = "\n\n".join(m["content"] for m in messages)

    def trajectory(self, blocks: Sequence[Block]) -> tuple[Mapping[str, Any], ...]:
        """The events in order, each block after the turn that wrote it and the calls it made."""
        out: list[Mapping[str, Any]] = []
        left = list(blocks)
        reply = ""
        for event in self._events:
            if event["type"] == "turn" and event["depth"] == 0:
                out += _written_in(reply, left)
                reply = event["reply"]
            out.append(event)
        out += _written_in(reply, left)
        return (*out, *(_event(block) for block in left))


def _written_in(reply: str, left: list[Block]) -> list[Mapping[str, Any]]:
    """Takes from ``left`` the blocks at its head that are in ``reply``, one after the other."""
    out = []
    end = 0
    while left:
        code = left[0]["code"].strip()
        start = reply.find(code, end)
        if start < 0:
            break
        end = start + len(code)
        out.append(_event(left.pop(0)))
    return out


def _event(block: Block) -> Mapping[str, Any]:
    return {"type": "block", "depth": 0, **block}
