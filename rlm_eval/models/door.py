"""The one door to any language model: caps, retries, memory and records for every call.

A method holds an :class:`LM` bound to its sample's result. Each call names the ledger that pays.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from rlm_eval.errors import BudgetExceeded, ContextOverflow, ProviderError, SampleFailure
from rlm_eval.ledger import Ledger, Reservation, Spend
from rlm_eval.models.protocol import ChatModel, Message, ModelInfo, Reply, Usage
from rlm_eval.records import Call, Role

#: Template tokens a message costs beside its text, assumed when nothing better is known.
MESSAGE_OVERHEAD_TOKENS = 8

CallSink = Callable[[Call, str], None]


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter; a provider's Retry-After wins when it is longer."""

    attempts: int = 4
    base_s: float = 1.0
    max_s: float = 30.0

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        ceiling = min(self.max_s, self.base_s * 2 ** (attempt - 1))
        return max(random.uniform(0, ceiling), retry_after_s or 0.0)


@dataclass(frozen=True)
class CallTags:
    """Where a call stands in the tree of one result."""

    role: Role = "root"
    depth: int = 0
    parent_call_id: str | None = None
    from_repl: bool = False


@dataclass(frozen=True)
class Completion:
    """A reply with the id its call is recorded under."""

    text: str
    call_id: str
    finish_reason: str
    usage: Usage
    cached_response: bool = False


class ModelDoor:
    """Holds the run's models by role and the sink that writes every call down.

    A role without a model of its own speaks through ``root``. With ``memoize``, sub-calls that are
    identical within one arm and repeat are answered once at temperature 0, and counted as cached.
    """

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        record: CallSink,
        *,
        temperature: float | None = 0.0,
        retry: RetryPolicy | None = None,
        memoize: bool = True,
    ) -> None:
        self._models = dict(models)
        self._record = record
        self.temperature = temperature
        self.retry = retry or RetryPolicy()
        self._memory = _Memory() if memoize and temperature == 0 else None

    def model(self, role: Role) -> ChatModel:
        return self._models.get(role) or self._models["root"]

    def lm(self, result_key: str, *, memory_scope: str, episode: int = 0) -> LM:
        """The door as one result's method sees it. ``memory_scope`` names arm and repeat."""
        return LM(self, result_key, memory_scope, episode)

    def record(self, call: Call, reply_text: str) -> None:
        self._record(call, reply_text)

    @property
    def memory(self) -> _Memory | None:
        return self._memory


class LM:
    """What a method calls models with."""

    def __init__(self, door: ModelDoor, result_key: str, memory_scope: str, episode: int) -> None:
        self._door = door
        self._result_key = result_key
        self._memory_scope = memory_scope
        self._episode = episode

    def info(self, role: Role = "root") -> ModelInfo:
        return self._door.model(role).info

    def count_tokens(self, text: str, role: Role = "root") -> int:
        """Tokens of ``text`` as a message of its own, in the served model's tokenizer."""
        return self._door.model(role).count_tokens([{"role": "user", "content": text}])

    def prompt_tokens(self, messages: Sequence[Message], role: Role = "root") -> int:
        return self._door.model(role).count_tokens(messages)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        ledger: Ledger,
        max_tokens: int,
        tags: CallTags = CallTags(),
    ) -> Completion:
        """One answered call. Raises BudgetExceeded, ContextOverflow, ProviderError."""
        outcome = self.complete_batch([messages], ledger=ledger, max_tokens=max_tokens, tags=tags)
        if isinstance(outcome[0], SampleFailure):
            raise outcome[0]
        return outcome[0]

    def complete_batch(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        ledger: Ledger,
        max_tokens: int,
        tags: CallTags = CallTags(),
        concurrency: int = 64,
    ) -> list[Completion | SampleFailure]:
        """Calls side by side, answers in the order of ``prompts``; a failed one is an error value.

        The batch is reserved as a whole: when it doesn't fit the budget, BudgetExceeded is raised
        and nothing is sent.
        """
        requests = [_Request(self._door, messages, max_tokens, tags) for messages in prompts]
        sendable = [r for r in requests if r.overflow is None]
        fresh = [r for r in sendable if not self._remembers(r)]
        held = ledger.reserve_all([r.worst_case(ledger.counts_tokens) for r in fresh])
        reservations = dict(zip(map(id, fresh), held, strict=True))

        def run(request: _Request) -> Completion | SampleFailure:
            if request.overflow is not None:
                return request.overflow
            try:
                return self._answer(request, ledger, reservations.get(id(request)))
            except SampleFailure as failure:
                return failure

        if len(requests) == 1:
            return [run(requests[0])]
        with ThreadPoolExecutor(max_workers=min(concurrency, len(requests)) or 1) as pool:
            return list(pool.map(run, requests))

    def _remembers(self, request: _Request) -> bool:
        memory = self._door.memory
        if memory is None or request.tags.role != "sub":
            return False
        return memory.has(request.memory_key(self._memory_scope))

    def _answer(
        self, request: _Request, ledger: Ledger, reservation: Reservation | None
    ) -> Completion:
        memory = self._door.memory if request.tags.role == "sub" else None
        if memory is None:
            return self._send(request, ledger, reservation)
        first, future = memory.claim(request.memory_key(self._memory_scope))
        if not first:
            if reservation is not None:
                ledger.settle(reservation, Spend())
            return self._from_memory(request, future.result())
        try:
            completion = self._send(request, ledger, reservation)
        except BaseException as failure:
            memory.forget(request.memory_key(self._memory_scope), failure)
            raise
        future.set_result(completion)
        return completion

    def _from_memory(self, request: _Request, known: Completion) -> Completion:
        call_id = uuid.uuid4().hex[:16]
        call = self._call(request, call_id, Usage(), 0.0, 1, time.time(), known.finish_reason)
        self._door.record(replace(call, cached_response=True, cost_usd=0.0), known.text)
        return replace(known, call_id=call_id, usage=Usage(), cached_response=True)

    def _send(
        self, request: _Request, ledger: Ledger, reservation: Reservation | None
    ) -> Completion:
        """Send until answered, refused for good, or out of attempts; every attempt is recorded."""
        policy, call_id = self._door.retry, uuid.uuid4().hex[:16]
        for attempt in range(1, policy.attempts + 1):
            if reservation is None:
                reservation = ledger.reserve(request.worst_case(ledger.counts_tokens))
            started, clock = time.time(), time.perf_counter()
            usage, failure, reply = Usage(), None, None
            try:
                reply = request.model.complete(
                    request.messages,
                    max_tokens=request.max_tokens,
                    temperature=self._door.temperature,
                )
                usage = reply.usage
            except (ProviderError, ContextOverflow) as error:
                failure = error
            finally:
                cost = request.cost(usage)
                tokens = usage.prompt_tokens + usage.completion_tokens
                ledger.settle(reservation, Spend(1, tokens, cost))
                reservation = None
            latency = time.perf_counter() - clock
            self._record_attempt(request, call_id, attempt, started, latency, reply, failure)
            if reply is not None:
                return Completion(reply.text, call_id, reply.finish_reason, usage)
            assert failure is not None
            wait = self._wait_before_retry(failure, attempt, ledger)
            if wait is None:
                raise failure
            time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait_before_retry(
        self, failure: SampleFailure, attempt: int, ledger: Ledger
    ) -> float | None:
        """Seconds to wait, or None when the failure is final."""
        if not isinstance(failure, ProviderError) or not failure.retryable:
            return None
        if attempt >= self._door.retry.attempts:
            return None
        wait = self._door.retry.wait_s(attempt, failure.retry_after_s)
        left = ledger.seconds_left()
        if left is not None and wait >= left:
            raise BudgetExceeded(f"no time left to retry after: {failure}") from failure
        return wait

    def _record_attempt(
        self,
        request: _Request,
        call_id: str,
        attempt: int,
        started: float,
        latency: float,
        reply: Reply | None,
        failure: SampleFailure | None,
    ) -> None:
        usage = reply.usage if reply else Usage()
        finish = reply.finish_reason if reply else ""
        call = self._call(request, call_id, usage, latency, attempt, started, finish)
        if failure is not None:
            kind = failure.kind if isinstance(failure, ProviderError) else failure.outcome
            call = replace(call, error=f"{kind}: {failure}")
        self._door.record(call, reply.text if reply else "")

    def _call(
        self,
        request: _Request,
        call_id: str,
        usage: Usage,
        latency: float,
        attempt: int,
        started: float,
        finish_reason: str,
    ) -> Call:
        return Call(
            call_id=call_id,
            parent_call_id=request.tags.parent_call_id,
            result_key=self._result_key,
            episode=self._episode,
            role=request.tags.role,
            depth=request.tags.depth,
            model=request.model.info.name,
            endpoint=request.model.info.endpoint,
            prompt_sha256=request.sha256,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=request.cost(usage),
            latency_s=round(latency, 6),
            attempt=attempt,
            cached_response=False,
            from_repl=request.tags.from_repl,
            finish_reason=finish_reason,
            usage_estimated=usage.estimated,
            started_at=started,
        )


class _Request:
    """One prompt on its way: its hash, its size, what it may cost."""

    def __init__(
        self, door: ModelDoor, messages: Sequence[Message], max_tokens: int, tags: CallTags
    ) -> None:
        self.messages = messages
        self.max_tokens = max_tokens
        self.tags = tags
        self.model = door.model(tags.role)
        blob = json.dumps([dict(m) for m in messages], ensure_ascii=False)
        data = blob.encode("utf-8", "surrogatepass")
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._bytes = len(data) + MESSAGE_OVERHEAD_TOKENS * len(messages)
        self._temperature = door.temperature
        self.overflow = self._check_window()

    def _check_window(self) -> ContextOverflow | None:
        """A token is at least one byte, so most prompts need no counting to be known to fit."""
        window = self.model.info.context_window
        if self._bytes + self.max_tokens <= window:
            return None
        needed = self.model.count_tokens(self.messages) + self.max_tokens
        if needed <= window:
            return None
        return ContextOverflow(
            f"the prompt and its answer need {needed:,} tokens, {needed - window:,} more than "
            f"the window of {window:,} of {self.model.info.name}",
            excess_tokens=needed - window,
        )

    def memory_key(self, scope: str) -> str:
        info = self.model.info
        return f"{scope}|{info.name}|{info.endpoint}|{self.max_tokens}|{self.sha256}"

    def worst_case(self, exact: bool) -> Spend:
        prompt = self.model.count_tokens(self.messages) if exact else self._bytes // 3
        usage = Usage(prompt_tokens=prompt, completion_tokens=self.max_tokens)
        return Spend(1, prompt + self.max_tokens, self.cost(usage))

    def cost(self, usage: Usage) -> float | None:
        price = self.model.info.price
        return None if price is None else price.cost(usage)


class _Memory:
    """Answers already given, each asked for once even when two callers come together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Future[Completion]] = {}

    def has(self, key: str) -> bool:
        return key in self._known

    def claim(self, key: str) -> tuple[bool, Future[Completion]]:
        """(whether the caller must answer, the future that will hold the answer)."""
        with self._lock:
            future = self._known.get(key)
            if future is not None:
                return False, future
            future = self._known[key] = Future()
            return True, future

    def forget(self, key: str, failure: BaseException) -> None:
        """Errors are not remembered; those who waited get the same failure."""
        with self._lock:
            future = self._known.pop(key)
        future.set_exception(failure)
