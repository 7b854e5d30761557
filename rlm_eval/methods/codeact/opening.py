"""The chat before the first turn: worked examples, as much of the input as has room, the question.

An input that has no room is cut as ``direct`` cuts it, refused, or left to ``search`` alone. The
RLM paper's CodeAct ran into the limit (refuse) or, on BrowseComp-Plus, only searched (omit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rlm_eval.errors import ContextOverflow
from rlm_eval.methods.fitting import fitting_spans, marked
from rlm_eval.models.protocol import Message
from rlm_eval.records import Span

Overflow = Literal["refuse", "omit", "truncate_head", "truncate_middle", "truncate_tail"]
How = Literal["whole", "part", "none"]
#: The chat with this much of the input in it.
Render = Callable[[How, str], list[Message]]


@dataclass(frozen=True)
class Opening:
    """The chat, ``how`` the input is shown in it, the stretches of its text that are, and how many
    tokens of it were left out."""

    messages: list[Message]
    how: How
    spans: tuple[Span, ...]
    truncated_tokens: int


def open_chat(
    text: str, overflow: Overflow, room: int, render: Render, count: Callable[[list[Message]], int]
) -> Opening:
    """The chat that fits ``room`` tokens. Raises ContextOverflow."""
    chat = render("whole", text)
    whole = count(chat)
    if whole <= room:
        return Opening(chat, "whole", ((0, len(text)),), 0)
    told = f"the prompt has {whole:,} tokens, the window room for {room:,} beside the turns"
    if overflow == "refuse":
        raise ContextOverflow(told, whole - room)
    spans: list[Span] = []
    chat = render("none", "")
    if overflow != "omit":
        spans = fitting_spans(text, overflow, lambda part: count(render("part", part)) <= room)
        chat = render("part", marked(text, spans))
    if count(chat) > room or (overflow != "omit" and not spans):
        raise ContextOverflow(f"{told}, too little even for the question", whole - room)
    return Opening(chat, "part" if spans else "none", tuple(spans), whole - count(chat))
