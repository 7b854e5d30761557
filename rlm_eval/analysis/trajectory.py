"""One answer's trajectory as a tree: turns, the code they ran, the calls that code made.

Built from the events of ``trajectories/KEY.jsonl`` and the rows of ``calls.parquet``; either may
be missing. Events of a type unknown here are shown as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_eval.analysis.text import seconds
from rlm_eval.journal.journal import read_events as journal_events

#: Longer texts are cut in the report; the whole stands in the trajectory's file.
MAX_CHARS = 20_000
#: Texts up to this length stand beside the name of an event that is shown as it is.
SHORT = 40
Event = Mapping[str, Any]


@dataclass
class Node:
    """A line of the tree, texts to unfold under it, and what happened inside it."""

    kind: str
    title: str
    meta: list[str] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    failed: bool = False

    def plain(self) -> dict[str, Any]:
        """As short-keyed JSON data, for the report."""
        data: dict[str, Any] = {"k": self.kind, "t": self.title}
        if self.meta:
            data["m"] = self.meta
        if self.parts:
            data["p"] = self.parts
        if self.children:
            data["c"] = [child.plain() for child in self.children]
        if self.failed:
            data["f"] = 1
        return data


def read_events(path: Path) -> list[Event]:
    """The whole lines of a trajectory's file; none when there is no such file."""
    if not path.is_file():
        return []
    events: list[Event] = []
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError:
            event = {"type": "damaged line"}
        events.append(event if isinstance(event, dict) else {"type": "unknown", "value": event})
    return events


def read_replies(run_dir: Path) -> dict[str, str]:
    """Each call's last reply, from the run's journal; empty when there is none."""
    calls = journal_events(run_dir, types=("call",))
    return {str(call["call_id"]): str(call["reply"]) for call in calls if call.get("reply")}


def tree(events: Iterable[Event], calls: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The top nodes. ``calls`` are rows of calls.parquet in order, several attempts to a call.

    A call hangs under the turn it names as its parent, inside the code block that was running;
    calls without an event (a method without turns) show what ``reply`` their row has, before the
    answer; a judge's come after it.
    """
    return _Builder(_merged(calls)).build(events)


class _Builder:
    def __init__(self, calls: dict[str, dict[str, Any]]) -> None:
        self.calls = calls
        self.tops: list[Node] = []
        self.by_call: dict[str, Node] = {}
        self.waiting: dict[str, list[Node]] = {}
        self.turn_ids: dict[int, str] = {}

    def build(self, events: Iterable[Event]) -> list[Node]:
        steps = {"turn": self._turn, "block": self._block, "call": self._call}
        steps["answer"] = self._answer
        for event in events:
            steps.get(str(event.get("type")), self._other)(event)
        answer = [self.tops.pop()] if self.tops and self.tops[-1].kind == "answer" else []
        unseen = {i: call for i, call in self.calls.items() if i not in self.by_call}
        judged = {i: call for i, call in unseen.items() if call.get("role") == "judge"}
        self._place_calls({i: call for i, call in unseen.items() if i not in judged})
        self.tops += answer
        self._place_calls(judged)
        for call_id, nodes in self.waiting.items():
            self.by_call[call_id].children += nodes
        return self.tops

    def _place_calls(self, calls: Mapping[str, Mapping[str, Any]]) -> None:
        for call_id, call in calls.items():
            self._place(call_id, _call_node({}, call), call.get("parent_call_id"))

    def _place(self, call_id: str | None, node: Node, parent: Any) -> None:
        if call_id is not None:
            self.by_call[call_id] = node
        if parent in self.by_call and parent != call_id:
            self.waiting.setdefault(str(parent), []).append(node)
        else:
            self.tops.append(node)

    def _turn(self, event: Event) -> None:
        depth = int(event.get("depth") or 0)
        call_id = str(event.get("call_id") or f"turn {depth}.{event.get('iteration')}")
        call = self.calls.get(call_id, {})
        where = f" at depth {depth}" if depth else ""
        node = Node("turn", f"Turn {event.get('iteration', '')}{where}", _spent(event, call))
        node.parts = _texts(event, ("reply", "code", "output", "error"))
        node.failed = bool(event.get("error"))
        self.turn_ids[depth] = call_id
        self._place(call_id, node, call.get("parent_call_id"))

    def _block(self, event: Event) -> None:
        meta = [f"{seconds(event['seconds'])} s"] if event.get("seconds") is not None else []
        if event.get("output_chars"):
            meta.append(f"{event['output_chars']:,} characters out")
        node = Node("block", "Code", meta, _texts(event, ("code", "output", "error")))
        node.failed = bool(event.get("error"))
        turn = self.turn_ids.get(int(event.get("depth") or 0))
        if turn is None:
            self.tops.append(node)
            return
        node.children = self.waiting.pop(turn, [])
        self.by_call[turn].children.append(node)

    def _call(self, event: Event) -> None:
        call_id = event.get("call_id")
        call = self.calls.get(str(call_id), {})
        parent = event.get("parent_call_id") or call.get("parent_call_id")
        self._place(str(call_id) if call_id else None, _call_node(event, call), parent)

    def _answer(self, event: Event) -> None:
        depth = int(event.get("depth") or 0)
        title = "Answer" + (f" of the RLM at depth {depth}" if depth else "")
        node = Node("answer", title, [str(event.get("outcome", ""))], _texts(event, ("text",)))
        turn = self.turn_ids.get(depth) if depth else None
        (self.by_call[turn].children if turn else self.tops).append(node)

    def _other(self, event: Event) -> None:
        """An event as it is: what is short beside its name, the rest below it."""
        name = str(event.get("type", "event"))
        rest = {k: v for k, v in event.items() if k != "type"}
        short = [k for k, v in rest.items() if _is_short(v)]
        meta = [f"{key.replace('_', ' ')} {rest[key]}" for key in short]
        parts = _texts(rest, tuple(k for k in rest if k not in short))
        self.tops.append(Node("other", name.replace("_", " "), meta, parts))


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= SHORT and "\n" not in value
    if isinstance(value, list):
        return all(isinstance(v, int | float) for v in value) and len(str(value)) <= SHORT
    return isinstance(value, int | float)


def _call_node(event: Event, call: Mapping[str, Any]) -> Node:
    role = str(event.get("role") or call.get("role") or "call")
    depth = event.get("depth", call.get("depth"))
    node = Node("call", f"{role} call" + (f", depth {depth}" if depth else ""))
    node.meta = _spent(event, call)
    node.parts = _texts({"reply": call.get("reply"), **event}, ("prompt", "reply", "error"))
    error = event.get("error") or call.get("error")
    if call.get("error") and not event.get("error"):
        node.parts.append(("error", _cut(str(call["error"]))))
    node.failed = bool(error)
    return node


def _spent(event: Event, call: Mapping[str, Any]) -> list[str]:
    """Tokens, cost, time and attempts of a call, as short phrases."""
    source = call or event
    meta = []
    if source.get("prompt_tokens") is not None:
        cached = f" ({source['cached_tokens']:,} cached)" if source.get("cached_tokens") else ""
        written = int(source.get("completion_tokens") or 0)
        meta.append(f"{int(source['prompt_tokens']):,}{cached} → {written:,} tokens")
    if call:
        cost = call.get("cost_usd")
        meta.append("unpriced" if cost is None else f"${cost:.4g}")
        meta.append(f"{seconds(call.get('latency_s') or 0)} s")
        if int(call.get("attempt") or 1) > 1:
            meta.append(f"{call['attempt']} attempts")
    if source.get("cached_response"):
        meta.append("from memory")
    return meta


def _merged(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """One entry per call: the last attempt, with tokens, cost and time summed over attempts."""
    calls: dict[str, dict[str, Any]] = {}
    for row in rows:
        call_id = str(row["call_id"])
        before = calls.get(call_id)
        merged = dict(row)
        for key in ("prompt_tokens", "cached_tokens", "completion_tokens", "latency_s"):
            merged[key] = (row.get(key) or 0) + (before[key] if before else 0)
        costs = [c["cost_usd"] for c in (before, row) if c and c.get("cost_usd") is not None]
        merged["cost_usd"] = sum(costs) if costs else None
        calls[call_id] = merged
    return calls


def _texts(event: Event, keys: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for key in keys:
        value = event.get(key)
        if value in (None, "", []):
            continue
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = "\n\n".join(value)
        found.append((key, _cut(value if isinstance(value, str) else _json(value))))
    return found


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARS:
        return text
    return (
        f"{text[:MAX_CHARS]}\n… {len(text) - MAX_CHARS:,} more characters in the trajectory's file"
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)
