"""What happened in one sample's agent and its children: the trajectory's events, the row's counts.

A trajectory is JSONL. Its first event, ``start``, has the format's ``version`` and the settings;
then ``turn`` (one reply of an agent's model, at any depth), ``call`` (a plain sub-call), ``block``
(code that ran) and ``answer`` in the order they ended; a child RLM's events are next to each other.
``at_s`` are seconds since the start. The replies and the code are complete; a sub-call's prompt is
too, once: a long one that was sent before stands by its hash, and of one that was refused unsent
there are its two ends. A turn's prompt is the first ``kept`` messages of the turn before, with its
reply, and then those in ``sent``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any

from rlm_eval.errors import ProviderError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Method
from rlm_eval.models.client import Completion
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Outcome, Watch, content_hash
from rlm_eval.repl.capture import cut
from rlm_eval.repl.results import BlockResult

TRAJECTORY_VERSION = 1
#: Characters from which on a prompt is long, and of a refused one that stay.
LONG, ENDS = 2000, 400


def replied(reply: Completion) -> dict[str, Any]:
    """What an event says of a reply."""
    return {
        "call_id": reply.call_id,
        "reply": reply.text,
        "finish_reason": reply.finish_reason,
        "cached_response": reply.cached_response,
        "prompt_tokens": reply.usage.prompt_tokens,
        "completion_tokens": reply.usage.completion_tokens,
    }


def became(outcome: Completion | SampleFailure) -> dict[str, Any]:
    """What an event says of a call: its reply, or why there is none, or both."""
    event = replied(outcome) if isinstance(outcome, Completion) else {}
    failure = outcome.no_reply if isinstance(outcome, Completion) else outcome
    return event | ({"error": str(failure), "outcome": failure.outcome} if failure else {})


@dataclass
class Trace:
    """One agent's events and counts; a child RLM's are its own until it has ended. ``parent`` is
    the call that began this one; ``texts`` are what models were shown, sub-calls' prompts and what
    code printed; ``watch`` is told of each event at once. Safe for threads."""

    watch: Watch | None = None
    depth: int = 0
    parent: str | None = None
    texts: list[str] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    iterations: int = 0
    code_errors: int = 0
    sandbox_s: float = 0.0
    #: Whether a sub-call or a child was asked.
    has_asked: bool = False
    #: Hashes of the long prompts that the trajectory holds already.
    held: set[str] = field(default_factory=set)
    #: What the model was shown and said in its last turn.
    chat: list[Message] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sandbox_level: str = ""

    def child(self, parent: str | None) -> Trace:
        """The trace of a child RLM begun by the call ``parent``; to be joined when it ends."""
        return Trace(self.watch, self.depth + 1, parent, held=self.held, started=self.started)

    def join(self, child: Trace) -> None:
        """Add an ended child's events and counts."""
        with self.lock:
            self.events += child.events
            self.code_errors += child.code_errors
            self.sandbox_s += child.sandbox_s
            self.has_asked = True

    def add(self, kind: str, **event: Any) -> None:
        at = round(time.perf_counter() - self.started, 4)
        added = {"type": kind, "depth": self.depth, "at_s": at, **event}
        with self.lock:
            self.events.append(added)
        if self.watch is not None:
            self.watch(added)

    def start(self, name: str, method: Method, sandbox_level: str, ledger: Ledger) -> None:
        """The method called ``name`` begins, with the settings that ``method`` has as text,
        numbers and lists of texts."""
        self.sandbox_level = sandbox_level
        self.add(
            "start",
            version=TRAJECTORY_VERSION,
            method=name,
            prompt=method.prompt_name(),
            prompt_hash=content_hash(method.prompt_source()),
            sandbox_level=sandbox_level,
            settings={
                key: value
                for key, value in vars(method).items()
                if isinstance(value, str | int | float | dict)
                or (isinstance(value, list) and all(isinstance(part, str) for part in value))
            },
            budget=asdict(ledger.budget),
        )

    def turn(
        self, number: int, reply: Completion, messages: Sequence[Message], **more: Any
    ) -> None:
        """``messages`` is the rendered prompt."""
        self.iterations = number
        same = (a == b for a, b in zip(self.chat, messages, strict=False))
        kept = len(list(takewhile(bool, same)))
        self.chat = [*messages, {"role": "assistant", "content": reply.text}]
        self.add(
            "turn",
            iteration=number,
            parent_call_id=self.parent,
            **replied(reply),
            kept=kept,
            sent=list(messages[kept:]),
            messages=len(messages),
            prompt_chars=sum([len(m["content"]) for m in messages]),
            **more,
        )

    def sub_call(
        self, outcome: Completion | SampleFailure, prompt: str, parent: str | None
    ) -> None:
        event = {"role": "sub", "parent_call_id": parent, **became(outcome)}
        event |= self.stored(prompt, outcome)
        self.has_asked |= "error" not in event
        self.add("call", **event | {"depth": self.depth + 1})

    def stored(self, prompt: str, outcome: Completion | SampleFailure) -> dict[str, Any]:
        """What an event says of a prompt with this outcome."""
        if len(prompt) <= LONG:
            return {"prompt": prompt}
        digest = content_hash(prompt)
        event = {"prompt_hash": digest, "prompt_chars": len(prompt)}
        if isinstance(outcome, SampleFailure) and not isinstance(outcome, ProviderError):
            return {"prompt": cut(prompt, ENDS), **event}
        if digest in self.held:
            return {"prompt": f"[{len(prompt):,} characters, as before: {digest}]", **event}
        self.held.add(digest)
        return {"prompt": prompt, **event}

    def block(self, number: int, call_id: str, code: str, shown: str, result: BlockResult) -> None:
        with self.lock:
            self.sandbox_s += result.exec_s
            self.code_errors += result.error is not None
        self.add(
            "block",
            iteration=number,
            call_id=call_id,
            code=code,
            output=shown,
            output_chars=result.stdout_chars + result.stderr_chars + result.value_chars,
            error=result.error,
            seconds=round(result.exec_s, 6),
            callback_seconds=round(result.callback_s, 6),
        )

    def answer(self, run: Callable[[], tuple[Outcome, str | None]], **more: Any) -> Answer:
        """What ``run`` ends with, or the failure that it raises, and the row's counts."""
        try:
            (outcome, text), error = run(), ""
        except SampleFailure as failure:
            outcome, text, error = failure.outcome, None, str(failure)
        return Answer(
            text=text,
            outcome=outcome,
            iterations=self.iterations,
            code_errors=self.code_errors,
            last_subcall_used=outcome == "answered" if self.has_asked else None,
            sandbox_s=self.sandbox_s,
            sandbox_level=self.sandbox_level,
            error=error,
            trajectory=tuple(self.events),
            **more,
        )
