"""What an agent's code may call in the harness: plain sub-calls, the budget.

    llm_query(prompt)                     one reply of the sub-model
    llm_query_batched(prompts)            many, side by side, in order
    budget()                              what is left: calls, tokens, usd, seconds

A failed call is a typed error in the REPL: raised by a single query, an error value in a batch.
Never text that looks like an answer. A spent cap of the run passes through and stops the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rlm_eval.errors import ContextOverflow, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import user
from rlm_eval.repl.results import HostError, HostFunction, host_error_value


class CallLog(Protocol):
    """Who wants to know of each sub-call: (completion or failure, prompt, depth)."""

    def __call__(
        self, outcome: Completion | SampleFailure, prompt: str, depth: int, parent: str | None
    ) -> None: ...


class SubCalls:
    """The functions one agent's REPL is given. ``parent`` names the turn whose code is running."""

    def __init__(
        self,
        lm: LM,
        ledger: Ledger,
        coverage: ContextCoverage,
        log: CallLog,
        *,
        depth: int,
        max_tokens: int,
        concurrency: int,
    ) -> None:
        self._lm = lm
        self._ledger = ledger
        self._coverage = coverage
        self._log = log
        self._depth = depth
        self._max_tokens = max_tokens
        self._concurrency = concurrency
        self.parent: str | None = None

    def functions(self, enabled: Enabled) -> Mapping[str, HostFunction]:
        """Only what is enabled: the names here are the names a prompt may mention."""
        out: dict[str, HostFunction] = {"budget": self._ledger.remaining}
        if enabled.sub_calls:
            out["llm_query"] = self.llm_query
        if enabled.batch:
            out["llm_query_batched"] = self.llm_query_batched
        return out

    def llm_query(self, prompt: Any) -> str:
        """Ask the sub-model ``prompt`` (a string); its reply."""
        outcome = self._ask([prompt_text(prompt)])[0]
        if isinstance(outcome, SampleFailure):
            raise host_error(outcome)
        return outcome.text

    def llm_query_batched(self, prompts: Any) -> list[Any]:
        """Ask every prompt of a list, side by side; replies in order, failures as error values."""
        if not isinstance(prompts, list):
            raise HostError("bad_request", "llm_query_batched takes a list of strings", {})
        outcomes = self._ask([prompt_text(p) for p in prompts])
        return [batch_value(outcome) for outcome in outcomes]

    def _ask(self, prompts: Sequence[str]) -> list[Completion | SampleFailure]:
        parent = self.parent
        for prompt in prompts:
            self._coverage.note(prompt)
        tags = CallTags("sub", self._depth + 1, parent, from_repl=True)
        try:
            outcomes = self._lm.complete_batch(
                [[user(p)] for p in prompts],
                ledger=self._ledger,
                max_tokens=self._max_tokens,
                tags=tags,
                concurrency=self._concurrency,
            )
        except SampleFailure as failure:
            raise host_error(failure) from failure
        outcomes = [_checked(outcome) for outcome in outcomes]
        for prompt, outcome in zip(prompts, outcomes, strict=True):
            self._log(outcome, prompt, self._depth + 1, parent)
        return outcomes


def _checked(outcome: Completion | SampleFailure) -> Completion | SampleFailure:
    """A reply that was cut before it said anything is a failure, not an empty answer."""
    if isinstance(outcome, SampleFailure) or outcome.text or outcome.finish_reason != "length":
        return outcome
    return SampleFailure("the sub-model spent all its tokens before it wrote an answer")


def prompt_text(value: Any) -> str:
    """A string that model code passed. Raises HostError for anything else."""
    if not isinstance(value, str):
        raise HostError("bad_request", f"a prompt must be a string, got {type(value).__name__}", {})
    return value


def batch_value(outcome: Completion | SampleFailure | str) -> Any:
    """What stands for one outcome in a batch's list: its text, or an error value."""
    if isinstance(outcome, SampleFailure):
        error = host_error(outcome)
        return host_error_value(error.kind, error.message, error.data)
    return outcome if isinstance(outcome, str) else outcome.text


def host_error(failure: SampleFailure) -> HostError:
    """The failure as it is raised in the REPL."""
    data: dict[str, Any] = {}
    if isinstance(failure, ContextOverflow):
        data["excess_tokens"] = failure.excess_tokens
    return HostError(failure.outcome, str(failure), data)
