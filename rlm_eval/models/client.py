"""The one door to any language model: caps, retries, memory and records for every call.

A method holds an :class:`LM` bound to its sample's result. Each call names the ledger that pays.
``request`` knows one prompt, ``sender`` sends it, ``known`` says where its answer may be already.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Literal

from rlm_eval.errors import ConfigError, SampleFailure
from rlm_eval.ledger import Ledger, Reservation
from rlm_eval.models.cache import ResponseCache
from rlm_eval.models.embedding import EmbeddingModel, EmbeddingRequest
from rlm_eval.models.known import Known, SubCallMemory
from rlm_eval.models.memory import Memory
from rlm_eval.models.protocol import ChatModel, Message, ModelInfo
from rlm_eval.models.request import CallTags, Request
from rlm_eval.models.sender import CallSink, Completion, RetryPolicy, Sender
from rlm_eval.models.traffic import Traffic
from rlm_eval.records import Role

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

__all__ = ["LM", "CallSink", "CallTags", "Completion", "ModelClient", "RetryPolicy"]

ROOT = CallTags()
EMBED = CallTags(role="embed")
#: The sampling temperature a call asks for: the run's, one of its own, or None for the provider's.
Temperature = float | Literal["run"] | None


class ModelClient:
    """Holds the run's models by role and the sink that writes every call down.

    A role without a model of its own speaks through ``root``. With ``memoize``, sub-calls that are
    identical within one arm and repeat are answered once at temperature 0, and counted as cached.
    ``cache`` answers what was asked in an earlier run.
    """

    def __init__(
        self,
        models: Mapping[Role, ChatModel],
        record: CallSink,
        *,
        embedder: EmbeddingModel | None = None,
        temperature: float | None = 0.0,
        retry: RetryPolicy | None = None,
        memoize: bool = True,
        cache: ResponseCache | None = None,
    ) -> None:
        self._models = dict(models)
        self._embedder = embedder
        self._record = record
        self._temperature = temperature
        self._retry = retry or RetryPolicy()
        infos = [model.info for model in self._models.values()]
        infos += [embedder.info] if embedder else []
        self._traffic = {i.endpoint: Traffic(i.limits) for i in reversed(infos) if i.limits}
        self._cache = cache
        self._memory: Memory[Completion] | None = None
        if memoize and temperature == 0:
            self._memory = Memory()

    def model(self, role: Role) -> ChatModel:
        return self._models.get(role) or self._models["root"]

    @property
    def embedder(self) -> EmbeddingModel:
        """The run's embedding model. Raises ConfigError without one."""
        if self._embedder is None:
            raise ConfigError("no embedding model: set embed_model=minilm, say")
        return self._embedder

    def lm(self, result_key: str, *, memory_scope: str, repeat: int = 0, restart: int = 0) -> LM:
        """The door as one result's method sees it. ``memory_scope`` names arm and repeat."""
        sender = Sender(
            result_key, restart, self._temperature, self._retry, self._record, self._traffic
        )
        known: list[Known] = []
        if self._memory is not None:
            known.append(SubCallMemory(self._memory, memory_scope))
        if self._cache is not None:
            known.append(self._cache.answers(repeat))
        return LM(self, sender, known)


class LM:
    """What a method calls models with."""

    def __init__(self, door: ModelClient, sender: Sender, known: Sequence[Known]) -> None:
        self._door = door
        self._sender = sender
        self._known = known
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def info(self, role: Role = "root") -> ModelInfo:
        return self._door.embedder.info if role == "embed" else self._door.model(role).info

    def count_tokens(self, text: str, role: Role = "root") -> int:
        """Tokens of ``text`` as a message of its own, in the served model's tokenizer."""
        if role == "embed":
            return self._door.embedder.count_tokens(text)
        return self._door.model(role).count_tokens([{"role": "user", "content": text}])

    def prompt_tokens(self, messages: Sequence[Message], role: Role = "root") -> int:
        return self._door.model(role).count_tokens(messages)

    def temperature(self, asked: Temperature) -> float | None:
        """What a call that asks for this temperature is sent at; None sends none. Where the run
        leaves it to the provider no call names one, for some providers refuse any."""
        run = self._sender.temperature
        return run if asked == "run" or run is None else asked

    def complete(
        self,
        messages: Sequence[Message],
        *,
        ledger: Ledger,
        max_tokens: int,
        tags: CallTags = ROOT,
        temperature: Temperature = "run",
    ) -> Completion:
        """One answered call. Raises BudgetExceeded, ContextOverflow, ProviderError; and
        RunBudgetExceeded, which is the runner's to catch."""
        outcome = self.complete_batch(
            [messages], ledger=ledger, max_tokens=max_tokens, tags=tags, temperature=temperature
        )
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
    ) -> list[Completion | SampleFailure]:
        """Calls side by side, answers in the order of ``prompts``; a failed one is an error value.

        The batch is reserved as a whole: when it doesn't fit the budget, BudgetExceeded is raised
        and nothing is sent. A prompt that can't fit the window, or that is known already or asked
        twice in the batch, needs no budget. RunBudgetExceeded ends the batch.
        """
        if not prompts:
            return []
        model = self._door.model(tags.role)
        chosen = self.temperature(temperature)
        requests = [Request(model, messages, max_tokens, tags, chosen) for messages in prompts]
        self._number(requests)
        exact = ledger.counts_tokens
        paying = self._paying(requests)
        try:
            held = ledger.reserve_all([requests[i].worst_case(exact=exact) for i in paying])
        except BaseException:
            self._unnumber(requests)
            raise
        reservations = dict(zip(paying, held, strict=True))

        def run(index: int) -> Completion | SampleFailure:
            request, reservation = requests[index], reservations.get(index)
            try:
                return self._answer(request, ledger, reservation)
            except SampleFailure as failure:
                return failure
            finally:
                if reservation is not None:
                    ledger.release([reservation])

        try:
            if len(requests) == 1:
                return [run(0)]
            with ThreadPoolExecutor(min(concurrency, len(requests))) as pool:
                return list(pool.map(run, range(len(requests))))
        finally:
            ledger.release(held)

    def embed(self, texts: Sequence[str], *, ledger: Ledger) -> Vectors:
        """Rows of unit length for ``texts``, float32 of shape (texts, d), by the run's embedding
        model, in requests of its batch size, each a call of role ``embed``.

        Reserved as a whole, as a batch is; the first failure is raised and ends it. Nothing is
        remembered: a method keeps the vectors it needs again.
        """
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        model, size = self._door.embedder, self._door.embedder.batch_texts
        asked = [EmbeddingRequest(model, texts[i : i + size]) for i in range(0, len(texts), size)]
        requests = [Request(batch, batch.messages, 0, EMBED, None) for batch in asked]
        self._number(requests)
        exact = ledger.counts_tokens
        try:
            held = ledger.reserve_all([request.worst_case(exact=exact) for request in requests])
        except BaseException:
            self._unnumber(requests)
            raise

        failed = threading.Event()

        def send(request: Request, reservation: Reservation) -> Completion:
            if failed.is_set():  # those behind a failure; it is the one that is raised
                raise CancelledError
            try:
                return self._sender.send(request, ledger, reservation)
            except BaseException:
                failed.set()
                raise

        try:
            with ThreadPoolExecutor(min(model.at_once, len(requests))) as pool:
                list(pool.map(send, requests, held))
        finally:
            ledger.release(held)
        return np.vstack([batch.vectors for batch in asked])

    def _number(self, requests: Sequence[Request]) -> None:
        with self._lock:
            for request in requests:
                if request.overflow is None:
                    request.occurrence = self._asked[request.tags.role, request.sha256]
                    self._asked[request.tags.role, request.sha256] += 1

    def _unnumber(self, requests: Sequence[Request]) -> None:
        """What was not sent after all leaves no gap in the numbers."""
        with self._lock:
            for request in reversed(requests):
                if request.overflow is None:
                    self._asked[request.tags.role, request.sha256] -= 1

    def _paying(self, requests: Sequence[Request]) -> list[int]:
        """The indices of the requests that will be sent, as far as one can tell beforehand."""
        out: list[int] = []
        seen: set[object] = set()
        for index, request in enumerate(requests):
            if request.overflow is not None:
                continue
            keys = {key for known in self._known if (key := known.key(request)) is not None}
            if keys & seen or any(known.has(request) for known in self._known):
                continue
            seen |= keys
            out.append(index)
        return out

    def _answer(
        self, request: Request, ledger: Ledger, reservation: Reservation | None
    ) -> Completion:
        if request.overflow is not None:
            raise request.overflow

        def ask() -> Completion:
            """Without a reservation (its answer was known, and then was not) it must not wait for
            one: the rest of its own batch may hold what it would wait for."""
            exact = ledger.counts_tokens
            held = reservation or ledger.reserve(request.worst_case(exact=exact), wait=False)
            return self._sender.send(request, ledger, held)

        answer: Callable[[], Completion] = ask
        for known in reversed(self._known):
            answer = partial(self._looked_up, known, request, answer)
        return answer()

    def _looked_up(
        self, known: Known, request: Request, ask: Callable[[], Completion]
    ) -> Completion:
        answer, was_known = known.get(request, ask)
        return self._sender.from_memory(request, answer) if was_known else answer
