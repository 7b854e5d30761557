"""One prompt on its way: where it stands in the tree of calls, its hash, its size, its cost."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rlm_eval.errors import ContextOverflow
from rlm_eval.ledger import Spend
from rlm_eval.models.protocol import ChatModel, Message, Usage
from rlm_eval.records import Role

#: Template tokens a message costs beside its text, assumed when nothing better is known.
MESSAGE_OVERHEAD_TOKENS = 8


@dataclass(frozen=True)
class CallTags:
    """Where a call stands in the tree of one result."""

    role: Role = "root"
    depth: int = 0
    parent_call_id: str | None = None
    from_repl: bool = False


class Request:
    """A prompt for one model. ``overflow`` is set when it can't fit the model's window.

    ``max_tokens`` bounds the reply's text, ``reply_tokens`` all that the reply may take: what the
    model may think unseen as well. The latter is sent, reserved and paid.
    ``call_id`` is what the call is recorded under; ids sort by when the calls were asked for.
    ``occurrence`` counts how often the result had asked the same role the same before.
    """

    def __init__(
        self,
        model: ChatModel,
        messages: Sequence[Message],
        max_tokens: int,
        tags: CallTags,
        temperature: float | None,
    ) -> None:
        self.model = model
        self.info = model.info
        self.messages = messages
        self.max_tokens = max_tokens
        self.reply_tokens = max_tokens + model.info.reasoning_tokens
        self.tags = tags
        self.temperature = temperature
        self.call_id = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        self.occurrence = 0
        self.sha256, size = _digest(messages)
        self._bytes = size + MESSAGE_OVERHEAD_TOKENS * len(messages)
        self.overflow = self._check_window()

    @cached_property
    def prompt_tokens(self) -> int:
        return self.model.count_tokens(self.messages)

    def _check_window(self) -> ContextOverflow | None:
        """A token is at least one byte, so most prompts need no counting to be known to fit."""
        window = self.info.context_window
        if self._bytes + self.max_tokens <= window:
            return None
        needed = self.prompt_tokens + self.max_tokens
        if needed <= window:
            return None
        return ContextOverflow(
            f"the prompt and its answer need {needed:,} tokens, {needed - window:,} more than "
            f"the window of {window:,} of {self.info.name}",
            excess_tokens=needed - window,
        )

    def memory_key(self, scope: str) -> tuple[str, str, str, int, str]:
        """Equal for requests that a model at temperature 0 answers alike."""
        return scope, self.info.name, self.info.endpoint, self.max_tokens, self.sha256

    def worst_case(self, *, exact: bool) -> Spend:
        """What the call takes at most. Without ``exact`` (no cap on tokens or dollars holds) the
        prompt is not counted, only guessed from its bytes."""
        prompt = self.prompt_tokens if exact else self._bytes // 3
        return self.spend(Usage(prompt_tokens=prompt, completion_tokens=self.reply_tokens))

    def spend(self, usage: Usage) -> Spend:
        return Spend(1, usage.prompt_tokens + usage.completion_tokens, self.cost(usage))

    def cost(self, usage: Usage) -> float | None:
        """US dollars; None when the model has no price."""
        price = self.info.price
        return None if price is None else price.cost(usage)


def prompt_sha256(messages: Sequence[Message]) -> str:
    """The hash that a prompt is recorded under: over each message's fields in their order, a line
    with the field's name and its length in bytes of UTF-8 and then its text, and a line end."""
    return _digest(messages)[0]


def _digest(messages: Sequence[Message]) -> tuple[str, int]:
    """A prompt's hash, and its bytes. As JSON, which looks at each character, it would take longer
    to write than to hash."""
    digest, size = hashlib.sha256(), 0
    for message in messages:
        for name, text in message.items():
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
            size += len(name) + len(data)
        digest.update(b"\n")
    return digest.hexdigest(), size
