"""An RLM's trajectories as chats: what root, sub-calls and children were shown and said.

For fine-tuning (``rlm-eval export RUN --to sft``). Nothing of the gold is in a trajectory, so none
is in a chat, but for what the input itself says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.journal.journal import read_events
from rlm_eval.journal.past import read_trajectory
from rlm_eval.records import content_hash

Message = Mapping[str, str]


@dataclass(frozen=True)
class Conversation:
    """What one model was shown for a ``result``, turn by turn, with its replies: the first of them
    is at the place ``first``, the last is the last message. ``role`` is root, child or sub. Where
    old turns left the window it begins with what was left."""

    result: Mapping[str, Any]
    role: str
    depth: int
    model: str
    messages: tuple[Message, ...]
    first: int


def conversations(run_dir: Path) -> Iterator[Conversation]:
    """Those of a run's results, each result's root first; of methods without a trajectory none."""
    last = {event["key"]: event for event in read_events(run_dir, ("result",))}
    for result in last.values():
        if events := read_trajectory(run_dir, result["key"]):
            events = _of_its_try(events, result["answer"]["text"])
            yield from sorted(_of(result, events), key=lambda chat: chat.role != "root")


def training_rows(run_dir: Path, least: float) -> Iterator[dict[str, Any]]:
    """A row for each conversation of an answer with at least this score, each chat once."""
    seen: set[str] = set()
    for chat in conversations(run_dir):
        score = (chat.result["score"] or {}).get("value")
        digest = content_hash(chat.messages)
        if score is not None and score >= least and digest not in seen:
            seen.add(digest)
            about = {"role": chat.role, "depth": chat.depth, "model": chat.model}
            about |= {"score": score, "key": chat.result["key"]}
            yield {"messages": list(chat.messages), **about}


def _of_its_try(events: list[dict[str, Any]], text: str | None) -> list[dict[str, Any]]:
    """Of an answer that several tries were made for, the events of the first that gave it."""
    begun = 0
    for i, event in enumerate(events):
        if event["type"] == "try":
            if event["answer"] == text:
                return events[begun:i]
            begun = i + 1
    return events


def _of(result: Mapping[str, Any], events: list[dict[str, Any]]) -> Iterator[Conversation]:
    """``kept`` and ``sent`` of each turn give its prompt; an agent's first turn keeps nothing, so
    that a new chat at its depth begins there. Sub-calls have their prompts."""
    calls = (e for e in events if e["type"] == "call" and "prompt_hash" in e)
    whole = (event for event in calls if len(event["prompt"]) == event["prompt_chars"])
    prompts = {event["prompt_hash"]: event["prompt"] for event in whole}
    started = next((e for e in events if e["type"] == "start"), {})
    same = (started.get("settings") or {}).get("child_model") == "root"
    chats: dict[int, list[Message]] = {}
    first: dict[int, int] = {}

    def ended(depth: int) -> Iterator[Conversation]:
        if messages := chats.pop(depth, None):
            model = result["sub_model"] if depth and not same else result["model"]
            role = "child" if depth else "root"
            yield Conversation(result, role, depth, model, tuple(messages), first[depth])

    for event in events:
        depth = int(event.get("depth") or 0)
        if event["type"] == "turn" and "sent" in event:
            if not event["kept"]:
                yield from ended(depth)
                first[depth] = len(event["sent"])
            said = {"role": "assistant", "content": event["reply"]}
            chats[depth] = [*chats.get(depth, [])[: event["kept"]], *event["sent"], said]
        elif event["type"] == "call" and event.get("role") == "sub" and event.get("reply"):
            prompt = prompts.get(event.get("prompt_hash", ""), event.get("prompt", ""))
            asked = {"role": "user", "content": prompt}
            said = {"role": "assistant", "content": event["reply"]}
            chat = (asked, said)
            yield Conversation(result, "sub", depth, result["sub_model"], chat, 1)
    for depth in sorted(chats, reverse=True):
        yield from ended(depth)
