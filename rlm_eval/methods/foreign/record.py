"""The trajectory of a foreign engine, in the format of ``agent/trace.py``: its calls as the model
client saw them, and the code that the engine reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.methods.agent.trace import Trace, became
from rlm_eval.models.client import CallTags, Completion
from rlm_eval.models.protocol import Message
from rlm_eval.repl.capture import cut

#: Characters of a tool's output that stay.
MOST_SHOWN = 20_000
#: Code that the engine ran: ``code``, ``output``, ``error`` (empty when it went well).
Block = Mapping[str, str]


@dataclass
class Record(Trace):
    """What one sample's engine asked. ``iterations`` counts the turns of its own loop, ``calls``
    all that reached the model client. ``by_wire``: what its tools gave is read from what it sends
    next; else the engine reports its code itself (``ran``). Safe for threads."""

    by_wire: bool = False
    calls: int = 0
    _shown: set[tuple[int, int, str | None, str]] = field(default_factory=set)

    def call(
        self, tags: CallTags, messages: Sequence[Message], outcome: Completion | SampleFailure
    ) -> None:
        """One call and what became of it (a :data:`rlm_eval.models.proxy.CallLog`)."""
        turn = tags.role == "root" and isinstance(outcome, Completion)
        if tags.role == "root" and self.by_wire:
            self._outputs(tags.depth, messages)
        texts = [m["content"] for m in messages]
        event: dict[str, Any] = {"role": tags.role, "depth": tags.depth}
        event |= {"parent_call_id": tags.parent_call_id, **became(outcome)}
        if turn:
            event |= {"messages": len(texts), "prompt_chars": sum(map(len, texts))}
            called = outcome.tool_calls if isinstance(outcome, Completion) else ""
            event |= {"tool_calls": json.loads(called)} if called else {}
        first = self.by_wire and all(m["role"] != "assistant" for m in messages)
        if first or not turn:
            event |= self.stored("\n\n".join(texts), outcome)
        with self.lock:
            self.calls += 1
            if turn and tags.depth == 0:
                self.iterations += 1
                event["iteration"] = self.iterations
        self.add("turn" if turn else "call", **event)

    def _outputs(self, depth: int, messages: Sequence[Message]) -> None:
        """A block for what each tool gave that the last reply called, or what was said to it."""
        said = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not said:
            return
        called = json.loads(messages[said[-1]].get("tool_calls", "[]"))
        functions = {call.get("id"): call["function"] for call in called}
        for message in messages[said[-1] + 1 :]:
            which = depth, len(said), message.get("tool_call_id"), message["content"]
            if which in self._shown:  # sent again, after a refusal or a reply that was not kept
                continue
            self._shown.add(which)
            function = functions.get(message.get("tool_call_id"))
            code = f"{function['name']} {function.get('arguments')}" if function else ""
            shown = cut(message["content"], MOST_SHOWN)
            self.add("block", depth=depth, code=code, output=shown, error="")

    def ran(self, blocks: Sequence[Block]) -> None:
        """Put each block after the turn that wrote it and the calls it made."""
        self.code_errors = sum(bool(block["error"]) for block in blocks)
        left: list[dict[str, Any]] = [{"type": "block", "depth": 0, **block} for block in blocks]
        out: list[Mapping[str, Any]] = []
        end: Mapping[str, Any] = {"type": "turn", "depth": 0, "reply": ""}
        reply = ""
        for event in [*self.events, end]:
            if event["type"] == "turn" and event["depth"] == 0:
                while left and (code := _as_written(left[0]["code"].strip(), reply)) is not None:
                    reply = reply[reply.index(code) + len(code) :]
                    out.append(left.pop(0))
                reply = event["reply"]
            out.append(event)
        self.events = [*out[:-1], *left]


def _as_written(code: str, reply: str) -> str | None:
    """``code`` as it stands in a reply: plain, or within a JSON string; None where it doesn't."""
    forms = code, json.dumps(code, ensure_ascii=False)[1:-1]
    return next((form for form in forms if form in reply), None)
