"""What happened in one sample's tree of RLMs: the events of its trajectory and its row's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.methods.rlm.coverage import ContextCoverage
from rlm_eval.models.door import Completion
from rlm_eval.repl.results import BlockResult


class Trace:
    """What happened in one sample's tree of RLMs, for its row and its trajectory."""

    def __init__(self, context: str) -> None:
        self.coverage = ContextCoverage(context)
        self.events: list[Mapping[str, Any]] = []
        self.iterations = 0
        self.code_errors = 0
        self.sandbox_s = 0.0
        self.last_subcall_used: bool | None = None

    def sub_call(
        self, outcome: Completion | SampleFailure, prompt: str, depth: int, parent: str | None
    ) -> None:
        event: dict[str, Any] = {
            "type": "call",
            "role": "sub",
            "depth": depth,
            "parent_call_id": parent,
            "prompt": prompt,
        }
        if isinstance(outcome, SampleFailure):
            event |= {"error": str(outcome), "outcome": outcome.outcome}
        else:
            event |= {"call_id": outcome.call_id, "reply": outcome.text}
            event |= {"cached_response": outcome.cached_response}
            event |= {"prompt_tokens": outcome.usage.prompt_tokens}
            event |= {"completion_tokens": outcome.usage.completion_tokens}
            self.last_subcall_used = False
        self.events.append(event)

    def turn(self, depth: int, number: int, reply: Completion) -> None:
        if depth == 0:
            self.iterations = number
        self.events.append(
            {
                "type": "turn",
                "depth": depth,
                "iteration": number,
                "call_id": reply.call_id,
                "reply": reply.text,
                "prompt_tokens": reply.usage.prompt_tokens,
                "completion_tokens": reply.usage.completion_tokens,
            }
        )

    def block(self, depth: int, number: int, code: str, shown: str, result: BlockResult) -> None:
        self.sandbox_s += result.exec_s
        self.code_errors += result.error is not None
        self.events.append(
            {
                "type": "block",
                "depth": depth,
                "iteration": number,
                "code": code,
                "output": shown,
                "output_chars": result.stdout_chars + result.stderr_chars,
                "error": result.error,
                "seconds": round(result.exec_s, 6),
                "callback_seconds": round(result.callback_s, 6),
            }
        )
