"""What REPL code may call in the harness: plain sub-calls, child RLMs, the budget.

    llm_query(prompt)                     one reply of the sub-model
    llm_query_batched(prompts)            many, side by side, in order
    rlm_query(question, context)          the answer of a child RLM with a REPL of its own
    rlm_query_batched(pairs)              many, of (question, context) pairs
    budget()                              what is left: calls, tokens, usd, seconds

A child's context is a str, a list of str, or a dict of str to str.

A failed call is a typed error in the REPL: raised by a single query, an error value in a batch.
Never text that looks like an answer. A spent cap of the run passes through and stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from rlm_eval.errors import ContextOverflow, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.coverage import ContextCoverage
from rlm_eval.methods.rlm.view import Enabled
from rlm_eval.models.door import LM, CallTags, Completion
from rlm_eval.models.protocol import user
from rlm_eval.repl.results import HostError, HostFunction, host_error_value
from rlm_eval.repl.texts import Loadable

#: Starts a child RLM on (question, content, the call whose code asks) and returns its answer.
RunChild = Callable[[str, Loadable, str | None], str]


class CallLog(Protocol):
    """Who wants to know of each sub-call: (completion or failure, prompt, depth)."""

    def __call__(
        self, outcome: Completion | SampleFailure, prompt: str, depth: int, parent: str | None
    ) -> None: ...


class SubCalls:
    """The functions one RLM's REPL is given. ``parent`` names the turn whose code is running."""

    def __init__(
        self,
        lm: LM,
        ledger: Ledger,
        coverage: ContextCoverage,
        log: CallLog,
        run_child: RunChild,
        *,
        depth: int,
        max_tokens: int,
        concurrency: int,
    ) -> None:
        self._lm = lm
        self._ledger = ledger
        self._coverage = coverage
        self._log = log
        self._run_child = run_child
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
        if enabled.recursive:
            out["rlm_query"] = self.rlm_query
        if enabled.recursive and enabled.batch:
            out["rlm_query_batched"] = self.rlm_query_batched
        return out

    def llm_query(self, prompt: Any) -> str:
        """Ask the sub-model ``prompt`` (a string); its reply."""
        outcome = self._ask([_text(prompt)])[0]
        if isinstance(outcome, SampleFailure):
            raise _host_error(outcome)
        return outcome.text

    def llm_query_batched(self, prompts: Any) -> list[Any]:
        """Ask every prompt of a list, side by side; replies in order, failures as error values."""
        if not isinstance(prompts, list):
            raise HostError("bad_request", "llm_query_batched takes a list of strings", {})
        outcomes = self._ask([_text(p) for p in prompts])
        return [_batch_value(outcome) for outcome in outcomes]

    def rlm_query(self, question: Any, context: Any) -> str:
        """Have a child RLM answer ``question`` about ``context``; its answer."""
        outcome = self._child(_text(question), _content(context), self.parent)
        if isinstance(outcome, SampleFailure):
            raise _host_error(outcome)
        return outcome

    def rlm_query_batched(self, pairs: Any) -> list[Any]:
        """The same for a list of (question, context), side by side; answers in order, failures
        as error values."""
        if not isinstance(pairs, list) or not all(
            isinstance(p, list) and len(p) == 2 for p in pairs
        ):
            told = "rlm_query_batched takes a list of (question, context) pairs"
            raise HostError("bad_request", told, {})
        tasks = [(_text(question), _content(context)) for question, context in pairs]
        if not tasks:
            return []
        parent = self.parent
        with ThreadPoolExecutor(min(self._concurrency, len(tasks)), "child-rlm") as pool:
            return list(
                pool.map(lambda task: _batch_value(self._child(task[0], task[1], parent)), tasks)
            )

    def _child(self, question: str, content: Loadable, parent: str | None) -> str | SampleFailure:
        try:
            return self._run_child(question, content, parent)
        except SampleFailure as failure:
            return failure

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
            raise _host_error(failure) from failure
        outcomes = [_checked(outcome) for outcome in outcomes]
        for prompt, outcome in zip(prompts, outcomes, strict=True):
            self._log(outcome, prompt, self._depth + 1, parent)
        return outcomes


def _checked(outcome: Completion | SampleFailure) -> Completion | SampleFailure:
    """A reply that was cut before it said anything is a failure, not an empty answer."""
    if isinstance(outcome, SampleFailure) or outcome.text or outcome.finish_reason != "length":
        return outcome
    return SampleFailure("the sub-model spent all its tokens before it wrote an answer")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise HostError("bad_request", f"a prompt must be a string, got {type(value).__name__}", {})
    return value


def _content(value: Any) -> Loadable:
    """A child's context. A dict crosses from the worker as JSON, so its keys are strings."""
    if isinstance(value, list):
        return tuple(map(_text, value))
    if isinstance(value, dict):
        return {name: _text(text) for name, text in value.items()}
    return _text(value)


def _batch_value(outcome: Completion | SampleFailure | str) -> Any:
    if isinstance(outcome, SampleFailure):
        error = _host_error(outcome)
        return host_error_value(error.kind, error.message, error.data)
    return outcome if isinstance(outcome, str) else outcome.text


def _host_error(failure: SampleFailure) -> HostError:
    data: dict[str, Any] = {}
    if isinstance(failure, ContextOverflow):
        data["excess_tokens"] = failure.excess_tokens
    return HostError(failure.outcome, str(failure), data)
