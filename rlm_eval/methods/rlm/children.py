"""Sub-calls that are RLMs: what REPL code may call from depth 2 on.

    rlm_query(question, context)          the answer of a child RLM with a REPL of its own
    rlm_query_batched(pairs)              many, of (question, context) pairs

A child's context is a str, a list of str, or a dict of str to str. A child that fails is a typed
error in the REPL, as a failed sub-call is (methods/agent/subcalls.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rlm_eval.errors import SampleFailure
from rlm_eval.methods.agent.subcalls import SubCalls, batch_value, host_error, prompt_text
from rlm_eval.methods.agent.view import Enabled
from rlm_eval.repl.results import HostError, HostFunction
from rlm_eval.repl.session import Loadable

#: Starts a child RLM on (question, content, the call whose code asks) and returns its answer.
RunChild = Callable[[str, Loadable, str | None], str]


class Children:
    """The functions that begin child RLMs, at most ``concurrency`` at once; their parent is the
    turn that ``calls`` has."""

    def __init__(self, run_child: RunChild, calls: SubCalls, concurrency: int) -> None:
        self._run_child = run_child
        self._calls = calls
        self._concurrency = concurrency

    def functions(self, enabled: Enabled) -> Mapping[str, HostFunction]:
        """Only what is enabled, beside the plain sub-calls."""
        out: dict[str, HostFunction] = {}
        if enabled.recursive:
            out["rlm_query"] = self.rlm_query
        if enabled.recursive and enabled.batch:
            out["rlm_query_batched"] = self.rlm_query_batched
        return out

    def rlm_query(self, question: Any, context: Any) -> str:
        """Have a child RLM answer ``question`` about ``context``; its answer."""
        outcome = self._child(prompt_text(question), _content(context), self._calls.parent)
        if isinstance(outcome, SampleFailure):
            raise host_error(outcome)
        return outcome

    def rlm_query_batched(self, pairs: Any) -> list[Any]:
        """The same for a list of (question, context), side by side; answers in order, failures
        as error values."""
        if not isinstance(pairs, list) or not all(
            isinstance(p, list) and len(p) == 2 for p in pairs
        ):
            told = "rlm_query_batched takes a list of (question, context) pairs"
            raise HostError("bad_request", told, {})
        tasks = [(prompt_text(question), _content(context)) for question, context in pairs]
        if not tasks:
            return []
        parent = self._calls.parent
        with ThreadPoolExecutor(min(self._concurrency, len(tasks)), "child-rlm") as pool:
            return list(
                pool.map(lambda task: batch_value(self._child(task[0], task[1], parent)), tasks)
            )

    def _child(self, question: str, content: Loadable, parent: str | None) -> str | SampleFailure:
        try:
            return self._run_child(question, content, parent)
        except SampleFailure as failure:
            return failure


def _content(value: Any) -> Loadable:
    """A child's context. A dict crosses from the worker as JSON, so its keys are strings."""
    if isinstance(value, list):
        return tuple(map(prompt_text, value))
    if isinstance(value, dict):
        return {name: prompt_text(text) for name, text in value.items()}
    return prompt_text(value)
