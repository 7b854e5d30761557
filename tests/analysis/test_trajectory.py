"""The tree of a trajectory, from events and calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.recorded_runs import write_events
from rlm_eval.analysis.report.trajectory import MAX_CHARS, Node, read_events, read_replies, tree
from rlm_eval.errors import ConfigError


def call(call_id: str, parent: str | None = None, **more: Any) -> dict[str, Any]:
    base = {"call_id": call_id, "parent_call_id": parent, "role": "sub", "depth": 0}
    base |= {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 2}
    return base | {"cost_usd": None, "latency_s": 0.5, "attempt": 1, "error": ""} | more


def shape(nodes: list[Node]) -> list[Any]:
    return [(n.title, shape(n.children)) if n.children else n.title for n in nodes]


def test_sub_calls_hang_in_the_block_that_made_them() -> None:
    events = [
        {"type": "turn", "depth": 0, "iteration": 1, "call_id": "t1", "reply": "look"},
        {"type": "call", "role": "sub", "depth": 1, "call_id": "a", "parent_call_id": "t1"},
        {"type": "block", "depth": 0, "iteration": 1, "code": "llm_query(1)", "seconds": 0.1},
        {"type": "call", "role": "sub", "depth": 1, "call_id": "b", "parent_call_id": "t1"},
        {"type": "block", "depth": 0, "iteration": 1, "code": "llm_query(2)", "seconds": 0.1},
        {"type": "turn", "depth": 0, "iteration": 2, "call_id": "t2", "reply": "done"},
    ]
    calls = [call("t1", role="root"), call("a", "t1"), call("b", "t1"), call("t2", role="root")]
    first = "sub call, depth 1"
    assert shape(tree(events, calls)) == [
        ("Turn 1", [("Code", [first]), ("Code", [first])]),
        "Turn 2",
    ]


def test_a_child_rlm_hangs_under_the_turn_that_began_it() -> None:
    events = [
        {"type": "turn", "depth": 0, "iteration": 1, "call_id": "t1"},
        {"type": "turn", "depth": 1, "iteration": 1, "call_id": "c1"},
        {"type": "block", "depth": 1, "iteration": 1, "code": "1"},
        {"type": "answer", "depth": 1, "outcome": "answered", "text": "7"},
        {"type": "block", "depth": 0, "iteration": 1, "code": "2"},
    ]
    calls = [call("t1", role="root"), call("c1", "t1", role="root", depth=1)]
    assert shape(tree(events, calls)) == [
        ("Turn 1", [("Code", [("Turn 1 at depth 1", ["Code", "Answer of the RLM at depth 1"])])])
    ]


def test_calls_without_events_are_shown_and_attempts_are_one_call() -> None:
    calls = [
        call("a", role="root", error="timeout", cost_usd=0.25),
        call("a", role="root", attempt=2, cost_usd=0.25),
        call("b", role="summarize"),
    ]
    first, second = tree([], calls)
    assert first.title == "root call"
    assert first.meta == ["20 (8 cached) → 4 tokens", "$0.50", "1 s", "2 attempts"]
    assert not first.failed  # the last attempt went well
    assert second.meta[1] == "unpriced"


def test_replies_come_from_the_journal_where_no_event_has_them(tmp_path: Path) -> None:
    events = [
        {"type": "begin", "key": "k", "restart": 1},
        {"type": "call", "call_id": "a", "reply": ""},
        {"type": "call", "call_id": "a", "reply": "seven"},
    ]
    write_events(tmp_path, events)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"v": 3, "type": "call", "call_')
    assert read_replies(tmp_path) == {"a": "seven"}
    assert read_replies(tmp_path / "nowhere") == {}
    (node,) = tree([], [call("a", reply="seven")])
    assert node.parts == [("reply", "seven")]


def test_unknown_events_and_odd_parents_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"type": "retrieved", "starts": [3]}\n')
    (node,) = tree(read_events(path), [])
    assert (node.title, node.meta) == ("retrieved", ["starts [3]"])
    assert read_events(tmp_path / "none.jsonl") == []
    # A block without its turn, a call that names itself as its parent.
    odd = tree([{"type": "block", "code": "1"}], [call("a", "a")])
    assert [n.title for n in odd] == ["Code", "sub call"]
    path.write_text('{"type": "turn", "iter')
    with pytest.raises(ConfigError, match=r"t\.jsonl can't be read"):
        read_events(path)


def test_failures_are_marked_and_long_texts_cut() -> None:
    (block,) = tree([{"type": "block", "code": "x" * (MAX_CHARS + 5), "error": "NameError"}], [])
    assert block.failed
    assert block.parts[0][1].endswith("… 5 more characters in the trajectory's file")
    assert block.parts[1] == ("error", "NameError")


def test_what_is_short_stands_beside_an_events_name_and_texts_below_it() -> None:
    votes = [{"call_id": "c", "answer": "7"}]
    event = {"type": "votes", "first_at": 0.7, "notes": ["one\ntwo", "three"], "votes": votes}
    (node,) = tree([event], [])
    assert node.meta == ["first at 0.7"]
    assert node.parts[0] == ("notes", "one\ntwo\n\nthree")
    assert json.loads(node.parts[1][1]) == votes


def test_calls_of_a_method_without_turns_stand_before_its_answer() -> None:
    events = [{"type": "index", "chunks": 3}, {"type": "answer", "text": "7"}]
    nodes = tree(events, [call("j", role="judge"), call("a", role="root")])
    assert [n.title for n in nodes] == ["index", "root call", "Answer", "judge call"]
