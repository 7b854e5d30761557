"""Sends a request until it is answered or given up, and writes every attempt down."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rlm_eval.errors import BudgetExceeded, ConfigError, ContextOverflow, ProviderError
from rlm_eval.ledger import Ledger, Reservation, Spend
from rlm_eval.models.protocol import BilledError, Reply, Usage
from rlm_eval.models.request import Request
from rlm_eval.models.traffic import Passage, Traffic
from rlm_eval.records import Call

CallSink = Callable[[Call, str], None]
Failure = ProviderError | ContextOverflow
#: What answers a request's n-th attempt (from 1), or raises as a model does.
Answerer = Callable[[Request, int], Reply]


def ask_model(request: Request, attempt: int) -> Reply:
    """One request to the request's own model."""
    return request.model.complete(
        request.messages, max_tokens=request.reply_tokens, temperature=request.temperature
    )


#: Kinds of failure that say: too many requests.
_TURNED_AWAY = frozenset({"rate_limit", "unavailable"})


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter; a provider's Retry-After wins when it is longer.

    At most ``attempts`` requests for one call, none of them begun more than ``deadline_s`` seconds
    after the first.
    """

    attempts: int = 4
    base_s: float = 1.0
    max_s: float = 30.0
    deadline_s: float = 600.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"retry.attempts must be at least 1, got {self.attempts}")
        for name in ("base_s", "max_s", "deadline_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"retry.{name} must be 0 or more, got {getattr(self, name)}")

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        ceiling = min(self.max_s, self.base_s * 2 ** (attempt - 1))
        return max(random.uniform(0, ceiling), retry_after_s or 0.0)


@dataclass(frozen=True)
class Completion:
    """A reply with the id its call is recorded under."""

    text: str
    call_id: str
    finish_reason: str
    usage: Usage
    cached_response: bool = False


@dataclass(frozen=True)
class Sender:
    """Sends on behalf of one restart of one result; ``record`` is told of every attempt.
    ``temperature`` is the run's, for requests that name none of their own; ``traffic`` has the
    gates of endpoints that have limits; ``answerer`` gives each attempt's reply."""

    result_key: str
    restart: int
    temperature: float | None
    retry: RetryPolicy
    record: CallSink
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    answerer: Answerer = ask_model

    def send(self, request: Request, ledger: Ledger, reservation: Reservation) -> Completion:
        """The answer, or the last attempt's failure. ``reservation`` is settled either way.

        A failed attempt counts as a call. It costs what its :class:`BilledError` says, else
        nothing. Where no budget or no time is left for a retry, the provider's failure stands:
        the question is owed, not scored as out of budget. A run's spent cap stops the run.
        """
        begun, attempt = time.monotonic(), 1
        failed: Failure | None = None
        while True:
            try:
                entered = self._enter(request, ledger, reservation)
            except BudgetExceeded as late:
                raise failed or late from None
            started, clock = time.time(), time.perf_counter()
            outcome = self._attempt(request, attempt, ledger, reservation, entered)
            latency = time.perf_counter() - clock
            usage = outcome.usage if isinstance(outcome, Completion | BilledError) else Usage()
            call = self._call(request, usage, latency, attempt, started)
            if isinstance(outcome, Completion):
                ledger.settle(reservation, request.spend(usage))
                self.record(replace(call, finish_reason=outcome.finish_reason), outcome.text)
                return outcome
            wait = self._wait_s(outcome, attempt, time.monotonic() - begun, ledger)
            try:
                if wait is None:
                    ledger.settle(reservation, request.spend(usage))
                else:
                    ledger.renew(reservation, request.spend(usage))
            except BudgetExceeded:
                wait = None
            finally:
                self.record(replace(call, error=f"{_kind(outcome)}: {outcome}"), "")
            if wait is None:
                raise outcome
            failed = outcome
            time.sleep(wait)
            attempt += 1

    def _enter(self, request: Request, ledger: Ledger, reservation: Reservation) -> float:
        """Wait for the endpoint's gate; when it opened. Where a cap on seconds passes meanwhile,
        raises as the ledger does, with the reservation given back."""
        gate = self._gate(request)
        if gate is None:
            return 0.0
        tokens = reservation.amount.tokens
        while (entered := gate.enter(tokens, ledger.seconds_left())) is None:
            try:
                ledger.release([ledger.reserve(Spend(), wait=False)])
            except BaseException:
                ledger.release([reservation])
                raise
        return entered

    def _gate(self, request: Request) -> Traffic | None:
        return self.traffic.get(request.model.info.endpoint)

    def _attempt(
        self,
        request: Request,
        attempt: int,
        ledger: Ledger,
        reservation: Reservation,
        entered: float,
    ) -> Completion | Failure:
        """One request. What is no provider's failure passes through, counted at its worst."""
        outcome: Completion | Failure | None = None
        try:
            reply = self.answerer(request, attempt)
            outcome = Completion(reply.text, request.call_id, reply.finish_reason, reply.usage)
        except (ProviderError, ContextOverflow) as failure:
            outcome = failure
        except BaseException:
            ledger.settle(reservation, reservation.amount)
            raise
        finally:
            gate = self._gate(request)
            if gate is not None:
                gate.leave(entered, *self._passage(outcome))
        return outcome

    def _passage(self, outcome: Completion | Failure | None) -> tuple[Passage, float | None]:
        """How a request went, as the gate sees it, and for how long the provider wants a pause. One
        beyond the deadline is not made: what is asked meanwhile fails, and the run with it."""
        if isinstance(outcome, ProviderError) and outcome.kind in _TURNED_AWAY:
            pause = outcome.retry_after_s or 0.0
            return "refused", pause if pause <= self.retry.deadline_s else None
        return ("answered" if isinstance(outcome, Completion) else "failed"), None

    def _wait_s(
        self, failure: Failure, attempt: int, elapsed_s: float, ledger: Ledger
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when the failure is final."""
        if not isinstance(failure, ProviderError) or not failure.retryable:
            return None
        if attempt >= self.retry.attempts:
            return None
        wait = self.retry.wait_s(attempt, failure.retry_after_s)
        left = ledger.seconds_left()
        if elapsed_s + wait > self.retry.deadline_s or (left is not None and wait >= left):
            return None
        return wait

    def from_memory(self, request: Request, known: Completion) -> Completion:
        """An answer given before, written down as a call of its own that cost nothing."""
        call = self._call(request, Usage(), 0.0, 1, time.time())
        call = replace(call, cached_response=True, cost_usd=0.0, finish_reason=known.finish_reason)
        self.record(call, known.text)
        return replace(known, call_id=request.call_id, usage=Usage(), cached_response=True)

    def _call(
        self,
        request: Request,
        usage: Usage,
        latency: float,
        attempt: int,
        started: float,
    ) -> Call:
        info, tags = request.model.info, request.tags
        return Call(
            call_id=request.call_id,
            parent_call_id=tags.parent_call_id,
            result_key=self.result_key,
            restart=self.restart,
            role=tags.role,
            depth=tags.depth,
            model=info.name,
            endpoint=info.endpoint,
            prompt_sha256=request.sha256,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=request.cost(usage),
            latency_s=round(latency, 6),
            attempt=attempt,
            cached_response=False,
            from_repl=tags.from_repl,
            finish_reason="",
            usage_estimated=usage.estimated,
            started_at=started,
        )


def _kind(failure: Failure) -> str:
    return failure.kind if isinstance(failure, ProviderError) else failure.outcome
