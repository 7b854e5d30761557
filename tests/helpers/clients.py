"""Clients to real servers and scripted models, and what they wrote down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from helpers.fake_provider import FakeProvider
from rlm_eval.errors import ProviderError, SampleFailure
from rlm_eval.models.client import LM, CallTags, Completion, ModelClient, RetryPolicy
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import ChatModel, Message, user
from rlm_eval.records import Call

CANARY = "sk-canary-0123456789abcdef"
SUB = CallTags("sub", depth=1, parent_call_id="turn", from_repl=True)
QUICK = RetryPolicy(attempts=3, base_s=0.001, max_s=0.002)


@dataclass
class Notebook:
    """What a client wrote down."""

    calls: list[Call] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)

    def __call__(self, call: Call, reply: str) -> None:
        self.calls.append(call)
        self.replies.append(reply)

    def column(self, name: str) -> list[object]:
        return [getattr(call, name) for call in self.calls]


def open_client(
    model: ChatModel, *, retry: RetryPolicy = QUICK, temperature: float | None = 0.0
) -> tuple[LM, Notebook]:
    notebook = Notebook()
    client = ModelClient({"root": model}, notebook, retry=retry, temperature=temperature)
    return client.lm("result", memory_scope="arm|0", restart=2), notebook


def at(provider: FakeProvider, **changes: object) -> LitellmModel:
    model = LitellmModel(
        "openai/fake",
        1000,
        api_base=provider.api_base,
        price={"input": 100.0, "output": 200.0},
        timeout_s=60.0,
        fixed_api_key=CANARY,
    )
    return replace(model, **changes)  # type: ignore[arg-type]


def prompts(*texts: str) -> list[list[Message]]:
    return [[user(text)] for text in texts]


def texts(outcomes: Iterable[Completion | SampleFailure]) -> list[str]:
    return [o.text if isinstance(o, Completion) else type(o).__name__ for o in outcomes]


@dataclass
class Plan:
    """A script whose n-th request follows the n-th step: a reply, an error to raise, or what gives
    one of these."""

    steps: list[str | BaseException | Callable[[], str | BaseException]]
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, messages: Sequence[Message]) -> str:
        with self.lock:
            self.asked.append(messages[-1]["content"])
            step = self.steps.pop(0) if self.steps else "fine"
        if callable(step):
            step = step()
        if isinstance(step, BaseException):
            raise step
        return step


def down() -> ProviderError:
    return ProviderError("down", kind="unavailable", retryable=True)
