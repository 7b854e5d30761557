"""A run's own turns with its model: one is asked for, and whether a chat leaves room for it."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_eval.ledger import Ledger
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.protocol import Message


class Asker:
    """``tags`` mark the calls. Chats and replies are to fill at most ``share`` of the window."""

    def __init__(self, lm: LM, trace: Trace, tags: CallTags, share: float = 1.0) -> None:
        self._lm = lm
        self._trace = trace
        self._tags = tags
        self._share = share

    def ask(
        self,
        number: int,
        messages: Sequence[Message],
        max_tokens: int,
        ledger: Ledger,
        **noted: bool,
    ) -> Completion:
        """Turn ``number``, paid by ``ledger``, with what the trace is to note of it."""
        reply = self._lm.complete(messages, ledger=ledger, max_tokens=max_tokens, tags=self._tags)
        self._trace.turn(number, reply, messages, ledger.remaining(), **noted)
        return reply

    def fits(self, messages: Sequence[Message], reply_tokens: int) -> bool:
        """A token is at least one byte, so most chats need no counting."""
        role = self._tags.role
        room = self._lm.info(role).context_window * self._share - reply_tokens
        size = sum(len(m["content"].encode("utf-8", "replace")) + 8 for m in messages)
        return size <= room or self._lm.prompt_tokens(messages, role) <= room
