"""The seam every language model stands behind: one request in, one reply or one error out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rlm_eval.errors import ProviderError
from rlm_eval.models.traffic import Limits

Message = Mapping[str, str]


@dataclass(frozen=True)
class Usage:
    """Tokens of one request as the provider billed them. ``cached_tokens`` of the prompt were
    read from its prefix cache, ``reasoning_tokens`` are part of the completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class Reply:
    """``text`` is never None. A reply without content raises ProviderError instead, unless the
    model ran out of tokens while thinking (``finish_reason="length"``, empty text). An empty
    string sent as content is what the model said: the method judges it."""

    text: str
    usage: Usage
    finish_reason: str = "stop"


class BilledError(ProviderError):
    """A failed attempt that costs: ``usage`` is what the provider reported for a reply nobody can
    use, or, ``estimated``, the most it may bill when it went silent with the work in hand (the
    whole prompt, the largest completion). Failures it answers with an error status are free.
    """

    def __init__(self, message: str, *, kind: str, retryable: bool, usage: Usage) -> None:
        super().__init__(message, kind=kind, retryable=retryable)
        self.usage = usage


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, as of a date that is stored with the run. Tokens read from
    the provider's cache cost ``cached_input``, or ``input`` when that is not given."""

    input: float
    output: float
    cached_input: float | None = None
    as_of: str = ""

    def cost(self, usage: Usage) -> float:
        cached_rate = self.input if self.cached_input is None else self.cached_input
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        return (
            (usage.prompt_tokens - cached) * self.input
            + cached * cached_rate
            + usage.completion_tokens * self.output
        ) / 1e6


@dataclass(frozen=True)
class ModelInfo:
    """What the harness knows of a model. ``context_window`` is in the model's own tokens and
    holds a prompt and the text of its reply together; ``simulated`` is shown in every table and
    plot. ``limits``: what the endpoint may be sent; None for one that orders its own queue.

    ``reasoning_tokens`` is what a reply may take beside its text, for what the model thinks unseen.
    They are not in ``context_window``, so whoever fits a prompt to it need not know of them.
    """

    name: str
    endpoint: str
    context_window: int
    price: Price | None = None
    simulated: bool = False
    limits: Limits | None = None
    reasoning_tokens: int = 0


@runtime_checkable
class ChatModel(Protocol):
    """A model behind the door. Safe for threads once opened.

    ``check`` starts nothing and raises ConfigError for what can't work (no key, no file).
    ``open`` makes the model ready; ``info`` is final after it. ``complete`` makes one attempt and
    raises ProviderError (BilledError when it costs) or ContextOverflow. Retries, caps and records
    are the door's business.
    """

    @property
    def info(self) -> ModelInfo: ...

    def check(self) -> None: ...

    def open(self) -> None: ...

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply: ...

    def count_tokens(self, messages: Sequence[Message]) -> int: ...

    def close(self) -> None: ...


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
