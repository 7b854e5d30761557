"""The model client: each call of a run is reserved, answered, settled and recorded here.

A method holds an :class:`LM` and says which ledger pays. A call's worst case is reserved; then the
answer comes from the run's memory, else from the model, retried where that helps; what was billed
is settled, and each attempt is recorded before anyone sees its reply.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rlm_eval.errors import (
    BudgetExceeded,
    ConfigError,
    ContextOverflow,
    ProviderError,
    SampleFailure,
)
from rlm_eval.ledger import Ledger, Reservation, Spend
from rlm_eval.models.memory import Memory
from rlm_eval.models.protocol import (
    NO_OPTIONS,
    BilledError,
    CallTags,
    ChatModel,
    Completion,
    Message,
    ModelInfo,
    Options,
    Prefixes,
    Reply,
    Request,
    Usage,
    shown,
    user,
)
from rlm_eval.models.traffic import RetryPolicy, Traffic
from rlm_eval.records import Call, Role, now, storable

if TYPE_CHECKING:
    from rlm_eval.models.embedding import EmbeddingModel, Vectors

__all__ = ["LM", "CallSink", "CallTags", "Completion", "ModelClient", "RetryPolicy", "Temperature"]

#: What is given every attempt, and the reply's text (empty where there is none).
CallSink = Callable[[Call, str], None]
Failure = ProviderError | ContextOverflow
#: The sampling temperature a call asks for: the run's, one of its own, or None for the provider's.
Temperature = float | Literal["run"] | None
T = TypeVar("T")
ROOT, EMBED = CallTags(), CallTags(role="embed")


@dataclass(eq=False, repr=False)
class ModelClient:
    """Holds the run's models by role and the sink that writes every call down. A role without a
    model of its own speaks through ``root``. With ``memoize``, sub-calls that are the same within
    one arm and repeat are answered once at temperature 0."""

    models: Mapping[Role, ChatModel]
    record: CallSink
    _: KW_ONLY
    embedder: EmbeddingModel | None = None
    temperature: float | None = 0.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    memoize: bool = True

    def __post_init__(self) -> None:
        self.memory: Memory[Completion] = Memory()
        self.prefixes = Prefixes()
        infos = [model.info for model in self.models.values()]
        infos += [self.embedder.info] if self.embedder else []
        longest = self.retry.deadline_s
        self.gates = {i.endpoint: Traffic(i.limits, longest) for i in reversed(infos) if i.limits}

    def model(self, role: Role) -> ChatModel:
        return self.models.get(role) or self.models["root"]

    def lm(self, result_key: str, *, memory_scope: str, restart: int = 0) -> LM:
        """The client as one result's method sees it. ``memory_scope`` names arm and repeat."""
        return LM(self, result_key, memory_scope, restart)


@dataclass(eq=False)
class LM:
    """What a method calls models with, on behalf of one restart of one result."""

    _client: ModelClient
    _result_key: str
    _memory_scope: str
    _restart: int
    _sampled: Temperature = "run"

    def __post_init__(self) -> None:
        #: What the method's own last call came to; in a batch, that of its last prompt.
        self.last: Completion | SampleFailure | None = None

    def info(self, role: Role = "root") -> ModelInfo:
        return self._embedder.info if role == "embed" else self._client.model(role).info

    @property
    def _embedder(self) -> EmbeddingModel:
        if self._client.embedder is None:
            raise ConfigError("no embedding model: set embed_model=minilm, say")
        return self._client.embedder

    def count_tokens(self, text: str, role: Role = "root") -> int:
        """Tokens of ``text`` as a message of its own, in the served model's tokenizer."""
        if role == "embed":
            return self._embedder.count_tokens(storable(text))
        return self.prompt_tokens([user(text)], role)

    def prompt_tokens(self, messages: Sequence[Message], role: Role = "root") -> int:
        return self._client.model(role).count_tokens(sendable(messages))

    def temperature(self, asked: Temperature, role: Role = "root") -> float | None:
        """What a call that asks for this temperature is sent at; None sends none. Where the run
        leaves it to the provider no call names one, for some providers refuse any."""
        run, own = self._client.temperature, self._client.model(role).info.own_temperature
        asked = self._sampled if asked == "run" else asked
        return None if own or run is None else run if asked == "run" else asked

    def sampled(self, temperature: float | None) -> LM:
        """The same, with its calls at ``temperature`` where they ask for the run's."""
        return replace(self, _sampled=temperature)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        ledger: Ledger,
        max_tokens: int,
        tags: CallTags = ROOT,
        temperature: Temperature = "run",
        options: Options = NO_OPTIONS,
    ) -> Completion:
        """One answered call; ``options`` go to the model with it. Raises BudgetExceeded,
        ContextOverflow, ProviderError; and RunBudgetExceeded, which is the runner's to catch."""
        asked: dict[str, Any] = {"tags": tags, "temperature": temperature, "options": options}
        outcome = self.complete_batch([messages], ledger=ledger, max_tokens=max_tokens, **asked)
        if isinstance(outcome[0], SampleFailure):
            raise outcome[0]
        return outcome[0]

    def complete_batch(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        ledger: Ledger,
        max_tokens: int,
        tags: CallTags = ROOT,
        temperature: Temperature = "run",
        concurrency: int = 64,
        options: Options = NO_OPTIONS,
    ) -> list[Completion | SampleFailure]:
        """Calls side by side, answers in the order of ``prompts``; a failed one is an error value.

        The batch is reserved as one: when it doesn't fit the budget, BudgetExceeded is raised and
        nothing is sent. A prompt that can't fit the window, is known already or comes twice needs
        no budget. RunBudgetExceeded ends the batch, and so does a failure that leaves the question
        pending.
        """
        if not prompts:
            return []
        model, chosen = self._client.model(tags.role), self.temperature(temperature, tags.role)
        requests = [self._request(model, m, max_tokens, tags, chosen, options) for m in prompts]

        def answer(request: Request) -> Completion | SampleFailure:
            try:
                if len(requests) > 1 and ledger.seconds_left() == 0:
                    ledger.release([ledger.reserve(Spend(), wait=False)])  # which raises
                return self._answer(request, ledger)
            except SampleFailure as failure:
                if failure.leaves_pending:
                    raise
                return failure
            finally:
                if request.held is not None:
                    ledger.release([request.held])

        outcomes = self._side_by_side(answer, requests, ledger, concurrency)
        if not tags.depth and tags.role != "judge":
            self.last = outcomes[-1]
        return outcomes

    def embed(self, texts: Sequence[str], *, ledger: Ledger, query: bool = False) -> Vectors:
        """Rows of unit length for ``texts``, float32 of shape (texts, d), as of documents or of
        what is looked for in them (``query``), in requests of the embedding model's batch size,
        each a call of role ``embed``. Reserved as one, as a batch is; the first failure is raised
        and ends it. Nothing is remembered."""
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        model, size = self._embedder, self._embedder.batch_texts
        rows: dict[str, Vectors] = {}

        def request(batch: Sequence[str]) -> Request:
            def ask() -> Reply:
                rows[made.call_id], usage = model.embed(batch, query=query)
                return Reply("", usage)

            messages, count = [user(text) for text in batch], model.count_tokens
            made = Request(model.info, messages, 0, EMBED, ask, lambda: sum(map(count, batch)))
            return made

        texts = [storable(text) for text in texts]
        requests = [request(texts[i : i + size]) for i in range(0, len(texts), size)]
        self._side_by_side(lambda r: self._send(r, ledger), requests, ledger, model.at_once)
        return np.vstack([rows[request.call_id] for request in requests])

    def _side_by_side(
        self, work: Callable[[Request], T], requests: list[Request], ledger: Ledger, at_once: int
    ) -> list[T]:
        """``work`` on each request, with all that will be sent, as far as one can tell beforehand,
        reserved as one. Nothing is sent after a failure, which is the one that is raised."""
        unknown, seen = [], set()
        for request in requests:
            key = request.memory_key
            known = key is not None and (key in seen or self._client.memory.has(key))
            if request.overflow is None and not known:
                seen.add(key)
                unknown.append(request)
        held = ledger.reserve_all([request.worst_case(ledger) for request in unknown])
        for request, reservation in zip(unknown, held, strict=True):
            request.held = reservation
        failed = threading.Event()

        def unless_failed(request: Request) -> list[T]:
            try:
                return [] if failed.is_set() else [work(request)]
            except BaseException:
                failed.set()
                raise

        try:
            if len(requests) == 1:
                return [work(requests[0])]
            with ThreadPoolExecutor(min(at_once, len(requests))) as pool:
                return [done for one in pool.map(unless_failed, requests) for done in one]
        finally:
            ledger.release(held)

    def _request(
        self,
        model: ChatModel,
        messages: Sequence[Message],
        max_tokens: int,
        tags: CallTags,
        temperature: float | None,
        options: Options,
    ) -> Request:
        """``max_tokens`` bounds the reply's text; what the model may think unseen is sent,
        reserved and paid on top."""
        info, messages = model.info, sendable(messages)
        tokens = max_tokens + info.reasoning_tokens
        asked: dict[str, Any] = {"max_tokens": tokens, "temperature": temperature}
        asked |= {"options": options} if options else {}
        counted = shown(messages, options)
        ask = partial(model.complete, messages, **asked)
        count = partial(model.count_tokens, counted)
        request = Request(info, counted, tokens, tags, ask, count)
        request.measure(max_tokens, model.count_tokens)
        if self._client.memoize and tags.role == "sub" and temperature == 0:
            which = (self._memory_scope, info.name, info.endpoint, max_tokens)
            request.memory_key = (*which, request.sha256)
        return request

    def _answer(self, request: Request, ledger: Ledger) -> Completion:
        """The answer where it is known, else the model's. A known one is written down as a call of
        its own that cost nothing."""
        if request.overflow is not None:
            ledger.count_refused()
            raise request.overflow
        if (key := request.memory_key) is None:
            return self._send(request, ledger)
        answer, known = self._client.memory.get(key, lambda: self._send(request, ledger))
        if not known:
            return answer
        call = request.call(self._result_key, self._restart, Usage())
        call = replace(call, cost_usd=0.0, list_usd=0.0, own_usd=0.0, cached_response=True)
        call = replace(call, finish_reason=answer.finish_reason)
        self._client.record(call, Reply(answer.text, Usage(), tool_calls=answer.tool_calls).whole)
        return replace(answer, call_id=request.call_id, usage=Usage(), cached_response=True)

    def _send(self, request: Request, ledger: Ledger) -> Completion:
        """The model's answer, or the last attempt's failure; the reservation is settled.

        A failed attempt counts as a call and costs what its :class:`BilledError` says, else
        nothing. Where no budget or time is left for a retry, the provider's failure is raised: the
        question is pending, not out of budget. A run's spent cap stops the run.
        """
        if request.held is None:
            # Its answer was known, and then was not. It must not wait for a reservation: the rest
            # of its own batch may hold what it would wait for.
            request.held = ledger.reserve(request.worst_case(ledger), wait=False)
        if request.tags.role != "embed":
            whose = (self._memory_scope, request.info.name, request.info.endpoint)
            request.reused = self._client.prefixes.reused(
                whose, request.messages, by_message=request.info.cached_by_message
            )
        held, begun, attempt = request.held, 0.0, 1
        failed: Failure | None = None
        while True:
            asked = now()
            try:
                outcome, call = self._attempt(request, attempt, held, ledger)
            except BudgetExceeded as late:
                raise failed or late from None
            spent = Spend(1, call.prompt_tokens + call.completion_tokens, call.cost_usd)
            if isinstance(outcome, Reply):
                ledger.settle(held, spent)
                completion, call = outcome.answering(call)
                self._client.record(call, outcome.whole)
                return completion
            # Past the gate, where each attempt may have queued for long.
            begun = begun + call.started_at - asked if begun else call.started_at
            left_s = ledger.seconds_left()
            wait = self._client.retry.wait_s(outcome, attempt, now() - begun, left_s)
            try:
                if wait is None:
                    ledger.settle(held, spent)
                else:
                    ledger.renew(held, spent)
            except BudgetExceeded:
                wait = None
            finally:
                self._client.record(call, outcome.text if isinstance(outcome, BilledError) else "")
            if wait is None:
                raise outcome
            failed = outcome
            time.sleep(wait)
            attempt += 1

    def _attempt(
        self, request: Request, attempt: int, held: Reservation, ledger: Ledger
    ) -> tuple[Reply | Failure, Call]:
        """One attempt, once its endpoint's gate is open, and its record. Raises as the ledger does
        where a cap on seconds passes at the gate. What is no provider's failure passes through,
        counted at its worst."""
        gate, entered = self._client.gates.get(request.info.endpoint), 0.0
        if gate is not None:
            while (place := gate.enter(held.amount.tokens, ledger.seconds_left())) is None:
                ledger.release([ledger.reserve(Spend(), wait=False)])
            entered = place
        started, clock = now(), time.perf_counter()
        outcome: Reply | Failure
        failure: BaseException | None = None
        try:
            outcome = request.ask()
        except (ProviderError, ContextOverflow) as caught:
            outcome = failure = caught
        except BaseException as bug:
            failure = bug
            ledger.settle(held, held.amount)
            raise
        finally:
            latency_s = round(time.perf_counter() - clock, 6)
            if gate is not None:
                gate.leave(entered, failure)
        usage = outcome.usage if isinstance(outcome, Reply | BilledError) else Usage()
        call = request.call(self._result_key, self._restart, usage)
        call = replace(call, attempt=attempt, started_at=started, latency_s=latency_s)
        if isinstance(outcome, Reply):
            return outcome, call
        kind = outcome.kind if isinstance(outcome, ProviderError) else outcome.outcome
        return outcome, replace(call, error=f"{kind}: {outcome}")


def sendable(messages: Sequence[Message]) -> list[Message]:
    """The messages as a request can hold them (:func:`storable`); some servers take no NUL."""
    return [
        {k: v if k == "role" else storable(v).replace("\0", "\ufffd") for k, v in m.items()}
        for m in messages
    ]
