"""The seam every language model stands behind: one request in, one reply or one error out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
    """``text`` is never None: a model that said nothing raises ProviderError instead, unless it
    ran out of tokens while thinking (``finish_reason="length"``, empty text)."""

    text: str
    usage: Usage
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, as of a date that is stored with the run."""

    input: float
    output: float
    cached_input: float | None = None
    as_of: str = ""

    def cost(self, usage: Usage) -> float:
        cached_rate = self.input if self.cached_input is None else self.cached_input
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (
            fresh * self.input
            + usage.cached_tokens * cached_rate
            + usage.completion_tokens * self.output
        ) / 1e6


@dataclass(frozen=True)
class ModelInfo:
    """What the harness knows of a model. ``context_window`` is in the model's own tokens and
    holds prompt and completion together; ``simulated`` is shown in every table and plot."""

    name: str
    endpoint: str
    context_window: int
    price: Price | None = None
    simulated: bool = False


@runtime_checkable
class ChatModel(Protocol):
    """A model behind the door. Safe for threads once opened.

    ``check`` starts nothing and raises ConfigError for what can't work (no key, no file).
    ``open`` makes the model ready; ``info`` is final after it. ``complete`` makes one attempt and
    raises ProviderError or ContextOverflow. Retries, caps and records are the door's business.
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


def system(text: str) -> Message:
    return {"role": "system", "content": text}
