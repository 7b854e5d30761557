"""What an agent's code may call in the harness: sub-calls, child RLMs, the budget.

A failed call is a typed error in the REPL: raised by a single query, an error value in a batch.
Never text that looks like an answer. A provider that failed after all retries ends the answer, and
so does a child's sandbox that failed: it is pending then, as any method's is. A spent cap of the
run passes through and stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlm_eval.errors import BudgetExceeded, ContextOverflow, SampleFailure
from rlm_eval.ledger import MOST_REFUSED, Ledger
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import user
from rlm_eval.records import Content
from rlm_eval.repl.results import HostError, HostFunction


@dataclass(frozen=True)
class Enabled:
    """What an agent may do: all that its prompt speaks of and its REPL offers.

    ``max_iterations`` are turns; ``recursive``: its sub-calls may be RLMs themselves;
    ``sub_window`` and ``sub_tokens``: the sub-model's window and longest reply, in its tokens.
    ``tools``: name → what a prompt says of it.
    """

    protocol: str
    max_iterations: int
    sub_calls: bool
    batch: bool
    recursive: bool
    sub_window: int
    sub_tokens: int
    budget: bool
    tools: Mapping[str, str] = field(default_factory=dict)


#: Starts a child RLM on (question, content, the call whose code asks) and returns its answer.
RunChild = Callable[[str, Content, str | None], str]


@dataclass
class SubCalls:
    """The functions one agent's REPL is given, paid by ``ledger``; at most ``concurrency`` calls or
    children of a batch run at once. ``turn`` is the call whose code is running."""

    lm: LM
    ledger: Ledger
    trace: Trace
    max_tokens: int
    concurrency: int
    run_child: RunChild | None = None
    turn: str | None = None
    #: How often the budget refused what was asked.
    unpaid: int = 0
    #: The last prompts that were answered from memory, and how often in a row.
    again: tuple[Sequence[Any], int] = (), 0

    def functions(self, enabled: Enabled) -> dict[str, HostFunction]:
        """Only what is enabled: the names here are the names a prompt may mention."""
        offered = {
            "budget": enabled.budget,
            "llm_query": enabled.sub_calls,
            "llm_query_batched": enabled.batch,
            "rlm_query": enabled.recursive,
            "rlm_query_batched": enabled.recursive and enabled.batch,
        }
        return {name: getattr(self, name) for name, is_on in offered.items() if is_on}

    def budget(self) -> dict[str, float | int | None]:
        """What is left of calls, tokens, usd and seconds; None: no limit."""
        return self.ledger.remaining()

    def llm_query(self, prompt: Any) -> str:
        """Ask the sub-model ``prompt`` (a string); its reply."""
        return _returned(self._ask([prompt])[0])

    def llm_query_batched(self, prompts: Any) -> list[Any]:
        """Ask every prompt of a list, side by side; replies in order, failures as error values."""
        if not isinstance(prompts, list):
            raise HostError("bad_request", "llm_query_batched takes a list of strings")
        return _in_list(self._ask(prompts))

    def rlm_query(self, question: Any, context: Any) -> str:
        """Have a child RLM answer ``question`` about ``context``; its answer."""
        return _returned(self._ask_children([(question, context)])[0])

    def rlm_query_batched(self, pairs: Any) -> list[Any]:
        """The same for a list of (question, context), side by side; answers in order, failures
        as error values."""
        if not isinstance(pairs, list) or not all(
            isinstance(p, list) and len(p) == 2 for p in pairs
        ):
            wanted = "rlm_query_batched takes a list of (question, context) pairs"
            raise HostError("bad_request", wanted)
        return _in_list(self._ask_children(pairs))

    def _ask(self, prompts: Sequence[Any]) -> list[str | SampleFailure]:
        turn, (known, times) = self.turn, self.again
        chats = [[user(_string(prompt))] for prompt in prompts]
        if prompts == known and times > MOST_REFUSED:
            raise HostError("bad_request", "the same prompt again: its reply does not change")
        try:
            outcomes = self.lm.complete_batch(
                chats,
                ledger=self.ledger,
                max_tokens=self.max_tokens,
                tags=CallTags("sub", self.trace.depth + 1, turn, from_repl=True),
                concurrency=self.concurrency,
            )
        except SampleFailure as failure:
            if len(prompts) == 1 and not isinstance(failure, BudgetExceeded):
                self.trace.sub_call(failure, prompts[0], turn)
            self._raise_fatal([failure])
            raise _host_error(failure) from failure
        for prompt, outcome in zip(prompts, outcomes, strict=True):
            if isinstance(outcome, Completion):
                self.trace.texts.append(prompt)
            if not isinstance(outcome, BudgetExceeded):  # nothing was asked
                self.trace.sub_call(outcome, prompt, turn)
        from_memory = {isinstance(o, Completion) and o.cached_response for o in outcomes} == {True}
        self.again = prompts, (times + 1 if prompts == known else 1) * from_memory
        self._raise_fatal(outcomes)
        return [o if isinstance(o, SampleFailure) else o.no_reply or o.text for o in outcomes]

    def _ask_children(self, pairs: Sequence[Sequence[Any]]) -> list[str | SampleFailure]:
        turn = self.turn
        tasks = [(_string(question), _content(context)) for question, context in pairs]
        ended: list[SampleFailure] = []

        def run(task: tuple[str, Content]) -> str | SampleFailure:
            assert self.run_child is not None
            if ended:
                return ended[0]
            try:
                return self.run_child(*task, turn)
            except SampleFailure as failure:
                ended.extend([failure] if failure.leaves_pending else [])
                return failure

        with ThreadPoolExecutor(min(self.concurrency, len(tasks) or 1), "child-rlm") as pool:
            outcomes = list(pool.map(run, tasks))
        self._raise_fatal(outcomes)
        return outcomes

    def _raise_fatal(self, outcomes: Sequence[object]) -> None:
        """Raise what ends the code: a provider's outage or a sandbox's, and the budget's refusal
        where the code takes no notice of it."""
        for failed in [o for o in outcomes if isinstance(o, SampleFailure)]:
            if failed.leaves_pending:
                raise failed
        for refused in [o for o in outcomes if isinstance(o, BudgetExceeded)][:1]:
            self.unpaid += 1
            if self.unpaid > MOST_REFUSED:
                raise refused


def _string(value: Any) -> str:
    """A string that model code passed. Raises HostError for anything else."""
    if not isinstance(value, str):
        raise HostError("bad_request", f"a prompt must be a string, got {type(value).__name__}")
    return value


def _content(value: Any) -> Content:
    """A child's context. A dict crosses from the worker as JSON, so its keys are strings."""
    if isinstance(value, list):
        return tuple([_string(item) for item in value])
    if isinstance(value, dict):
        return {name: _string(text) for name, text in value.items()}
    return _string(value)


def _host_error(failure: SampleFailure) -> HostError:
    """The failure as it is raised in the REPL."""
    data = {"excess_tokens": failure.excess_tokens} if isinstance(failure, ContextOverflow) else {}
    return HostError(failure.outcome, str(failure), data)


def _returned(outcome: str | SampleFailure) -> str:
    if isinstance(outcome, SampleFailure):
        raise _host_error(outcome)
    return outcome


def _in_list(outcomes: Sequence[str | SampleFailure]) -> list[Any]:
    return [o if isinstance(o, str) else _host_error(o).as_value() for o in outcomes]
