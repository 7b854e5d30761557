"""The tree of a trajectory, from events and calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.recorded_runs import write_events
from rlm_eval.analysis.report.trajectory import MAX_CHARS, Node, read_replies, tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.past import read_trajectory


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
    nodes = tree(events, calls)
    assert shape(nodes) == [
        ("Turn 1", ["", ("Code", ["sub-call"]), ("Code", ["sub-call"])]),
        ("Turn 2", [""]),
    ]
    assert nodes[0].children[0].parts == [("reply", "look")]


def turn(reply: str, *codes: str) -> list[str]:
    """What a turn shows: its words, and ``*`` for each of the blocks of code that ran."""
    events = [{"type": "turn", "depth": 0, "iteration": 1, "call_id": "t", "reply": reply}]
    events += [{"type": "block", "depth": 0, "iteration": 1, "code": code} for code in codes]
    (node,) = tree(events, [])
    return ["*" if n.kind == "block" else n.parts[0][1] for n in node.children]


def test_code_is_shown_once_between_the_words_around_it() -> None:
    one, two = 'a = 1\n\nprint("`")', "b = 2"
    reply = f"First:\n```python\n{one}\n```\nThen:\n\n~~~repl\n{two}\n~~~\nDone."
    assert turn(reply, one, two) == ["First:", "*", "Then:", "*", "Done."]
    assert turn(f"```python\n{one}\n```", one) == ["*"]
    # What did not run stays in the words, as do words around code without a fence.
    assert turn(f"```python\n{one}\n```\n```python\n{two}\n```", one) == [
        "*",
        f"```python\n{two}\n```",
    ]
    assert turn(f"I run {two} now", two) == ["I run", "*", "now"]
    # In a list the fence has a margin, and the code that ran has none.
    listed = "1. So:\n   ```python\n   if a:\n     b()\n   ```"
    assert turn(listed, "if a:\n  b()") == ["1. So:", "*"]
    assert turn("So", "never = 'said'") == ["So", "*"]


def test_child_rlms_hang_in_the_block_that_began_them() -> None:
    began = {"depth": 1, "parent_call_id": "t1"}
    events = [
        {"type": "turn", "depth": 0, "iteration": 1, "call_id": "t1"},
        {"type": "turn", "iteration": 1, "call_id": "c1", **began},
        {"type": "block", "depth": 1, "iteration": 1, "code": "1"},
        {"type": "turn", "iteration": 2, "call_id": "c2", **began},
        {"type": "answer", "outcome": "answered", "question": "How many?", "text": "7", **began},
        {"type": "turn", "iteration": 1, "call_id": "d1", **began},
        {"type": "answer", "outcome": "no_answer", "error": "gave up", **began},
        {"type": "answer", "outcome": "budget_exceeded", "error": "no money", **began},
        {"type": "block", "depth": 0, "iteration": 1, "code": "2"},
    ]
    calls = [call("t1", role="root"), call("c1", "t1", role="root", depth=1)]
    nodes, child = tree(events, calls), "Child RLM, depth 1"
    inside = [(child, [("Turn 1", ["Code"]), "Turn 2"]), (child, ["Turn 1"]), child]
    assert shape(nodes) == [("Turn 1", [("Code", inside)])]
    first, second, third = nodes[0].children[0].children
    assert first.parts == [("question", "How many?"), ("answer", "7")]
    assert (second.meta, second.failed, third.failed) == (["no_answer"], True, True)


def test_turns_that_a_foreign_engine_does_not_count_are_shown() -> None:
    events = [
        {"type": "turn", "depth": 0, "iteration": 1, "call_id": "t1"},
        {"type": "turn", "depth": 1, "call_id": "c1", "parent_call_id": "t1"},
        {"type": "turn", "depth": 1, "call_id": "c2", "parent_call_id": "t1"},
        {"type": "turn", "depth": 0, "iteration": 2, "call_id": "t2"},
        {"type": "turn", "depth": 1, "call_id": "c3", "parent_call_id": "t2"},
    ]
    child = "Child RLM, depth 1"
    assert shape(tree(events, [])) == [
        ("Turn 1", [(child, ["Turn", "Turn"])]),
        ("Turn 2", [(child, ["Turn"])]),
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
    path = tmp_path / "trajectories/t.jsonl"
    path.parent.mkdir()
    path.write_text('{"type": "retrieved", "starts": [3]}\n')
    (node,) = tree(read_trajectory(tmp_path, "t"), [])
    assert (node.title, node.meta) == ("retrieved", ["starts [3]"])
    assert read_trajectory(tmp_path, "none") == []
    # A block without its turn, a call that names itself as its parent.
    odd = tree([{"type": "block", "code": "1"}], [call("a", "a")])
    assert [n.title for n in odd] == ["Code", "sub-call"]
    path.write_text('{"type": "turn", "iter')
    with pytest.raises(ConfigError, match=r"t\.jsonl can't be read"):
        read_trajectory(tmp_path, "t")


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


def test_a_judges_calls_come_last() -> None:
    events = [{"type": "index", "chunks": 3}, {"type": "answer", "text": "7"}]
    nodes = tree(events, [call("j", role="judge"), call("a", role="root")])
    assert [n.title for n in nodes] == ["index", "root call", "judge call"]
