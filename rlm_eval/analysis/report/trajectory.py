"""One answer's trajectory as a tree: turns, the code they ran, the calls that code made.

Built from the events of ``trajectories/KEY.jsonl`` and the rows of ``calls.parquet``; either may
be missing. Events of a type unknown here are shown as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_eval.analysis.text import dollars, seconds
from rlm_eval.journal.journal import read_events
from rlm_eval.records import storable

#: Longer texts are cut in the report; the run's files have all of them.
MAX_CHARS = 20_000
#: What of an event that is shown as it is does not stand beside its name: objects, and what has
#: several lines or over 40 characters, as JSON.
LONG = re.compile(r"\{|\\n|.{41}")
Event = Mapping[str, Any]


@dataclass
class Node:
    """A line of the tree, texts to unfold under it, and what happened inside it."""

    kind: str
    title: str
    meta: list[str]
    parts: list[tuple[str, str]]
    children: list[Node] = field(default_factory=list)
    failed: bool = False


def read_replies(run_dir: Path) -> dict[str, str]:
    """Each call's last reply, from the run's journal; empty when there is none."""
    calls = read_events(run_dir, types=("call",))
    return {call["call_id"]: storable(call["reply"]) for call in calls if call["reply"]}


def tree(events: Iterable[Event], calls: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The top nodes. ``calls`` are rows of calls.parquet in order, several attempts to a call.

    A turn holds the model's words and the code blocks that ran, in the order of its reply. A call,
    or a child RLM with its turns, hangs under the turn it names as its parent, inside the block
    that was running. Calls without an event (a method without turns) show what ``reply`` their row
    has; a judge's come last. The answer itself is its row's.
    """
    rows = _merged(calls)
    tops: list[Node] = []
    nodes: dict[str, Node] = {}  # by the call that each shows
    waiting: dict[str, list[Node]] = {}  # by turn, its calls that are in no code block yet
    turns: dict[int, str] = {}  # the last turn at each depth
    children: dict[int, tuple[Any, Node]] = {}  # the child RLM at work at each depth, its parent

    def place(node: Node, parent: Any) -> None:
        if parent in nodes and nodes[parent] is not node:
            waiting.setdefault(str(parent), []).append(node)
        else:
            tops.append(node)

    def begin(depth: int, parent: Any) -> None:
        children[depth] = parent, Node("child", f"Child RLM, depth {depth}", [], [])
        place(children[depth][1], parent)

    for event in events:
        kind, depth = event.get("type"), int(event.get("depth") or 0)
        call_id, failed = str(event.get("call_id")), bool(event.get("error"))
        row = rows.get(call_id, {})
        parent = event.get("parent_call_id") or row.get("parent_call_id")
        if kind == "turn":
            number = event.get("iteration")  # no foreign engine tells that of its children's
            if depth and (number == 1 or depth not in children or children[depth][0] != parent):
                begin(depth, parent)
            said = _words(*(text for _, text in _texts(event, ("reply",))))
            title = f"Turn {number}" if number else "Turn"
            parts = _texts(event, ("prompt", "tool_calls", "error"))
            nodes[call_id] = Node("turn", title, _spent(event, row), parts, said, failed)
            (children[depth][1].children if depth else tops).append(nodes[call_id])
            turns[depth] = call_id
        elif kind == "call":
            nodes[call_id] = _call_node(event, row)
            place(nodes[call_id], parent)
        elif kind == "block":
            meta = [f"{seconds(event['seconds'])} s"] if event.get("seconds") is not None else []
            if event.get("output_chars"):
                meta.append(f"{event['output_chars']:,} characters out")
            inside = waiting.pop(turns.get(depth, ""), [])
            parts = _texts(event, ("code", "output", "error"))
            block = Node("block", "Code", meta, parts, inside, failed)
            into = nodes[turns[depth]].children if depth in turns else tops
            _put_in_place(block, str(event.get("code")), into)
        elif kind == "answer" and depth:
            if depth not in children:  # it ended before its first turn
                begin(depth, parent)
            _, child = children.pop(depth)
            child.meta, child.failed = [event.get("outcome", "")], failed
            told = {**event, "answer": event.get("text")}
            child.parts = _texts(told, ("question", "answer", "error"))
        elif kind == "start":  # its settings are the arm's
            left_out = ("settings", "depth", "at_s", "version")
            tops.append(_as_it_is({k: v for k, v in event.items() if k not in left_out}))
        elif kind != "answer":
            tops.append(_as_it_is(event))
    unseen = [call_id for call_id in rows if call_id not in nodes]
    for call_id in sorted(unseen, key=lambda call_id: rows[call_id]["role"] == "judge"):
        nodes[call_id] = _call_node({}, rows[call_id])
        place(nodes[call_id], rows[call_id]["parent_call_id"])
    for call_id, left in waiting.items():
        nodes[call_id].children += left
    return tops


def _words(text: str = "") -> list[Node]:
    return [Node("words", "", [], [("reply", text.strip())])] if text.strip() else []


def _put_in_place(block: Node, code: str, into: list[Node]) -> None:
    """Add a block to a turn; where the words at the end of ``into`` are the reply that the code is
    in, it takes its place there, and that of the fences around it."""
    lines = [re.escape(line.strip()) for line in code.splitlines() if line.strip()]
    words = into[-1].parts[0][1] if into and into[-1].kind == "words" else ""
    found = re.search(r"[ \t\r]*\n\s*".join(lines), words) if lines else None
    if found is None:
        into.append(block)
        return
    before, after = words[: found.start()].rstrip(), words[found.end() :].lstrip()
    line = before[before.rfind("\n") + 1 :]
    if opening := re.search(r"(?<![`~])[`~]{3,}[ \t]*[\w{.}+-]*$", line):
        before = before[: len(before) - len(line) + opening.start()]
        after = after.lstrip("`~")
    into[-1:] = [*_words(before), block, *_words(after)]


def _as_it_is(event: Event) -> Node:
    """What is short beside the event's name, the rest below it."""
    rest = {key: json.dumps(value) for key, value in event.items() if key != "type"}
    short = [key for key, text in rest.items() if not LONG.search(text)]
    meta = [f"{key.replace('_', ' ')} {event[key]}" for key in short]
    parts = _texts(event, (key for key in rest if key not in short))
    kind = "start" if event["type"] == "start" else "other"
    return Node(kind, str(event["type"]).replace("_", " "), meta, parts)


def _call_node(event: Event, row: Mapping[str, Any]) -> Node:
    depth, role = event.get("depth", row.get("depth")), event.get("role") or row.get("role")
    title = "sub-call" if role == "sub" else f"{role} call"
    title += f", depth {depth}" if depth and depth > 1 else ""
    error = event.get("error") or row.get("error")
    shown = {"reply": row.get("reply")} | dict(event) | {"error": error}
    parts = _texts(shown, ("prompt", "reply", "error"))
    return Node("call", title, _spent(event, row), parts, failed=bool(error))


def _spent(event: Event, row: Mapping[str, Any]) -> list[str]:
    """Tokens, cost, time and attempts of a call, as short phrases."""
    source = row or event
    meta = []
    if source.get("prompt_tokens") is not None:
        cached = f" ({source['cached_tokens']:,} cached)" if source.get("cached_tokens") else ""
        meta.append(f"{source['prompt_tokens']:,}{cached} → {source['completion_tokens']:,} tokens")
    if row:
        meta += [dollars(row["cost_usd"]), f"{seconds(row['latency_s'])} s"]
        meta += [f"{row['attempt']} attempts"] if row["attempt"] > 1 else []
    return meta + (["from memory"] if source.get("cached_response") else [])


def _merged(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """One entry per call: the last attempt, with tokens, cost and time summed over attempts."""
    calls: dict[str, dict[str, Any]] = {}
    for row in rows:
        merged, before = dict(row), calls.get(row["call_id"])
        if before:
            for key in ("prompt_tokens", "cached_tokens", "completion_tokens", "latency_s"):
                merged[key] += before[key]
            costs = [c["cost_usd"] for c in (before, row) if c["cost_usd"] is not None]
            merged["cost_usd"] = sum(costs) if costs else None
        calls[row["call_id"]] = merged
    return calls


def _texts(event: Event, keys: Iterable[str]) -> list[tuple[str, str]]:
    found = []
    for key in keys:
        value = event.get(key)
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = "\n\n".join(value)
        if value is None or value == "":
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        found.append((key, cut(text, "the trajectory's file")))
    return found


def cut(text: str, whole: str) -> str:
    """The text, or of a long one the beginning, and that the rest is in ``whole``."""
    more = len(text) - MAX_CHARS
    return f"{text[:MAX_CHARS]}\n… {more:,} more characters in {whole}" if more > 0 else text
