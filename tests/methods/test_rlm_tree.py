"""Trees of RLMs: children side by side, the trajectory, the room for a forced answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from helpers.chat import Script, Table, block, problem, scripted, turns
from rlm_eval.analysis.report.trajectory import tree
from rlm_eval.errors import SandboxError
from rlm_eval.ledger import MOST_REFUSED, Budget, Ledger, Spend, hold_back
from rlm_eval.methods.agent.subcalls import SubCalls
from rlm_eval.methods.agent.trace import Trace
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply, Usage
from rlm_eval.records import Answer
from rlm_eval.repl.session import Sandbox


def answer(
    sandbox: Sandbox, script: Script, budget: Budget | None = None, **settings: object
) -> tuple[Answer, Table]:
    table = Table(scripted(script))
    rlm = replace(Rlm(sandbox=sandbox, prompt="orchestrator"), **settings)  # type: ignore[arg-type]
    return rlm.answer(problem(), table.lm(), table.ledger(budget)), table


def family(root: str, child: str, leaf: str = "leaf") -> Script:
    """The root runs ``root``, every child (asked 'inner …') ``child``, a sub-call says ``leaf``."""

    def script(messages: Sequence[Message]) -> str:
        if "`context`" not in messages[0]["content"]:
            return leaf
        return block(child if "Question: inner" in messages[1]["content"] else root)

    return script


def test_children_run_side_by_side_and_keep_their_order(sandbox: Sandbox) -> None:
    root = "submit(rlm_query_batched([('inner', str(i)) for i in range(6)]))"
    child = "import time; time.sleep(0.3 - 0.05 * int(context)); submit(context)"
    script, together = family(root, child), threading.Barrier(6, timeout=60)

    def meeting(messages: Sequence[Message]) -> str:
        if "Question: inner" in messages[1]["content"]:
            together.wait()
        return script(messages)

    got, table = answer(sandbox, meeting, max_depth=2)
    assert json.loads(got.text or "") == [str(i) for i in range(6)]
    first, *children = table.calls
    assert {c.parent_call_id for c in children} == {first.call_id}


def test_no_more_children_at_once_than_allowed(sandbox: Sandbox) -> None:
    root = "submit(len(rlm_query_batched([('inner', 'x')] * 4)))"
    child = "import time; time.sleep(0.1); submit(1)"
    _, table = answer(sandbox, family(root, child), max_depth=2, concurrency=1)
    begun = sorted(c.started_at for c in table.calls[1:])
    assert all(later - sooner >= 0.1 for sooner, later in pairwise(begun))


def test_a_failed_child_is_a_typed_value_among_the_others(sandbox: Sandbox) -> None:
    root = """
good, bad, other = rlm_query_batched([('inner', 'a'), ('inner', ''), ('inner', 'b')])
submit([good, isinstance(bad, QueryError), bool(bad), bad.kind, other])
"""
    child = "submit(context) if context else print('no idea')"
    got, _ = answer(sandbox, family(root, child), max_depth=2, max_iterations=2, force_answer=False)
    assert json.loads(got.text or "") == ["a", True, False, "no_answer", "b"]


def test_a_childs_sandbox_that_fails_ends_the_answer_as_a_provider_does() -> None:
    def failing(*_: object) -> str:
        raise SandboxError("the worker did not start")

    table = Table(scripted(turns()))
    calls = SubCalls(table.lm(), table.ledger(), Trace(), 8, 2, run_child=failing)
    for ask in (lambda: calls.rlm_query("q", "a"), lambda: calls.rlm_query_batched([["q", "a"]])):
        with pytest.raises(SandboxError, match="did not start"):
            ask()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("rlm_query_batched('inner')", "list of (question, context) pairs"),
        ("rlm_query_batched([('inner',)])", "list of (question, context) pairs"),
        ("rlm_query_batched([(1, 'text')])", "must be a string, got int"),
        ("rlm_query('inner', 7)", "must be a string, got int"),
        ("rlm_query('inner', {'a': 7})", "must be a string, got int"),
        ("rlm_query('inner', ['a', None])", "must be a string, got NoneType"),
        ("llm_query_batched('one')", "takes a list"),
    ],
)
def test_what_is_no_task_is_refused_before_anything_is_spent(
    sandbox: Sandbox, call: str, told: str
) -> None:
    code = f"try:\n    {call}\nexcept QueryError as e:\n    submit(e.kind + ': ' + e.message)"
    got, table = answer(sandbox, family(code, "submit(1)"), max_depth=2)
    assert (got.text or "").startswith("bad_request")
    assert told in (got.text or "")
    assert len(table.calls) == 1


def test_an_empty_batch_is_an_empty_list(sandbox: Sandbox) -> None:
    code = "submit([rlm_query_batched([]), llm_query_batched([])])"
    got, _ = answer(sandbox, family(code, "submit(1)"), max_depth=2)
    assert got.text == "[[], []]"


@pytest.mark.parametrize(
    ("context", "seen"),
    [
        ("'plain'", "str plain"),
        ("['a', 'b']", "list ['a', 'b']"),
        ("{'x': 'a', 'y': 'b'}", "dict {'x': 'a', 'y': 'b'}"),
    ],
)
def test_a_childs_context_keeps_its_type(sandbox: Sandbox, context: str, seen: str) -> None:
    child = "submit(f'{type(context).__name__} {context}')"
    got, _ = answer(sandbox, family(f"submit(rlm_query('inner', {context}))", child), max_depth=2)
    assert got.text == seen


def test_a_childs_prompt_tells_of_its_dict(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        inner = "Question: inner" in messages[1]["content"]
        return block("submit(1)" if inner else "submit(rlm_query('inner', {'x': 'ab', 'y': 'c'}))")

    answer(sandbox, script, max_depth=2)
    assert "context: dict of str, 2 items" in seen[1]
    assert "Characters per item: 2, 1" in seen[1]


def test_a_sub_reply_cut_before_it_began_is_an_error_value(sandbox: Sandbox) -> None:
    class Thinker:
        """Answers as root; as a sub-model it thinks until its tokens are gone."""

        info = ModelInfo("thinker", "here", 100_000, Price(1, 1))

        def complete(self, messages: Sequence[Message], **_: Any) -> Reply:
            if "`context`" not in messages[0]["content"]:
                return Reply("", Usage(10, 64), "length")
            code = "(v,) = llm_query_batched(['a' * 5000])\nsubmit([type(v).__name__, v.kind])"
            return Reply(block(code), Usage(10, 10))

        def count_tokens(self, messages: Sequence[Message]) -> int:
            return 10

        def check(self) -> None: ...
        def open(self) -> None: ...
        def close(self) -> None: ...

    table = Table(Thinker())
    got = Rlm(sandbox=sandbox).answer(problem(), table.lm(), table.ledger())
    assert json.loads(got.text or "") == ["QueryError", "no_answer"]
    assert [c.completion_tokens for c in table.calls] == [10, 64], "it was paid all the same"
    (event,) = [event for event in got.trajectory if event["type"] == "call"]
    assert (event["prompt"], event["outcome"]) == ("a" * 5000, "no_answer")
    assert event["call_id"] == table.calls[1].call_id


def test_an_empty_reply_is_told_so_and_an_empty_forced_one_is_no_answer(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns("", block("submit(1)")))
    assert (got.text, got.iterations) == ("1", 2)
    got, _ = answer(sandbox, turns("", "  "), max_iterations=1)
    assert (got.text, got.outcome) == (None, "no_answer")


@pytest.mark.parametrize("reply", ["I think " * 300, "```repl\nx = '" + "word " * 300])
def test_a_reply_cut_off_before_its_code_was_whole_is_told_to_be_shorter(
    sandbox: Sandbox, reply: str
) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return reply if len(seen) == 1 else block("submit(1)")

    answer(sandbox, script, turn_tokens=64)
    assert "cut off at its token limit before its code was whole. Be shorter" in seen[1]


def test_a_worker_that_dies_between_blocks_is_told_of_and_set_up_again(sandbox: Sandbox) -> None:
    noise = [block(f"print({n}, 'word ' * 300)") for n in range(20)]
    dies = block("import os, threading\nx = threading.Timer(0.1, os._exit, [0])\nx.start()")
    look = block("submit([len(earlier_turns) > 9, 'x' in dir(), Counter('aa')])")
    play, chats = turns(*noise, dies, "Let me think.", look), list[Sequence[Message]]()

    def script(messages: Sequence[Message]) -> str:
        chats.append(messages)
        time.sleep(len(chats) == len(noise) + 2)  # meanwhile it dies
        return play(messages)

    table = Table(scripted(script, window=2500))
    rlm = Rlm(sandbox=sandbox, max_iterations=24, turn_tokens=300, output_chars=4000)
    got = rlm.answer(problem(), table.lm(), table.ledger())
    assert got.text == '[true, false, {"a": 2}]'
    told = "All variables but the context are gone"
    assert any(told in chat[-1]["content"] for chat in chats[-2:])


# -- the trajectory --------------------------------------------------------------------------------


def test_the_trajectory_begins_with_its_version_and_settings(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, family("submit(1)", ""), Budget(calls=9), max_depth=2)
    start, *_ = got.trajectory
    assert (start["type"], start["version"], start["depth"]) == ("start", 1, 0)
    assert start["prompt"] == "orchestrator"
    assert len(start["prompt_hash"]) == 16
    assert start["settings"]["max_depth"] == 2
    assert start["budget"]["calls"] == 9
    json.dumps(got.trajectory)


def test_a_turn_holds_its_prompts_size_and_the_budget_left(sandbox: Sandbox) -> None:
    sizes: list[int] = []

    def script(messages: Sequence[Message]) -> str:
        sizes.append(sum(len(m["content"]) for m in messages))
        return block("print(1)") if len(sizes) == 1 else block("submit(1)")

    got, _ = answer(sandbox, script, Budget(calls=9))
    turned = [e for e in got.trajectory if e["type"] == "turn"]
    assert [e["prompt_chars"] for e in turned] == sizes
    assert [e["messages"] for e in turned] == [2, 4]
    assert [e["budget_left"]["calls"] for e in turned] == [7, 6], "of 9, one is held back"
    assert turned[0]["at_s"] <= turned[1]["at_s"]


def test_events_of_children_are_together_and_name_their_parent(sandbox: Sandbox) -> None:
    root = "submit(rlm_query_batched([('inner', str(i)) for i in range(4)]))"
    child = "import random, time; time.sleep(random.random() / 10); submit(llm_query(context))"
    got, table = answer(sandbox, family(root, child), max_depth=2)
    inner = [e for e in got.trajectory if e["depth"] > 0]
    assert [e["type"] for e in inner] == ["turn", "call", "block", "answer"] * 4
    root_call = table.calls[0].call_id
    for turn, call, ran, ended in zip(*(inner[i::4] for i in range(4)), strict=True):
        assert turn["parent_call_id"] == ended["parent_call_id"] == root_call
        assert call["parent_call_id"] == ran["call_id"] == turn["call_id"]
    assert got.trajectory[-1]["type"] == "block", "the root's own block ended last"


def test_the_reports_reader_shows_the_tree(sandbox: Sandbox) -> None:
    root = "submit(rlm_query_batched([('inner', 'a'), ('inner', 'b')]))"
    got, table = answer(sandbox, family(root, "submit(llm_query(context))"), max_depth=2)
    rows = [vars(call) for call in table.calls]
    start, turn = tree(got.trajectory, rows)
    assert (start.title, turn.title) == ("start", "Turn 1")
    (code,) = turn.children
    assert [c.title for c in code.children] == ["Child RLM, depth 1"] * 2
    for child in code.children:
        assert child.parts[0] == ("question", "inner")
        ((ran,),) = [inside.children for inside in child.children]
        assert [c.title for c in ran.children] == ["sub-call, depth 2"]


def test_a_childs_work_is_counted_in_its_parents_row(sandbox: Sandbox) -> None:
    child = "try:\n    n\nexcept NameError:\n    n = 1; 1 / 0\nsubmit(n)"
    got, _ = answer(sandbox, family("submit(rlm_query('inner', 'x'))", child), max_depth=2)
    assert (got.text, got.code_errors, got.iterations) == ("1", 1, 1)
    assert got.last_subcall_used is True


# -- room for the forced answer --------------------------------------------------------------------


def test_a_spent_cap_on_calls_leaves_room_for_a_forced_answer(sandbox: Sandbox) -> None:
    script = turns(block("print(1)"), block("print(2)"), "forced out")
    got, table = answer(sandbox, script, Budget(calls=3))
    assert (got.text, got.outcome, len(table.calls)) == ("forced out", "forced", 3)


def test_a_spent_cap_on_tokens_leaves_room_for_a_forced_answer(sandbox: Sandbox) -> None:
    script = turns(*[block(f"print('{'x' * 900}', {i})") for i in range(30)])

    def asked(messages: Sequence[Message]) -> str:
        forced = "no turns left" in messages[-1]["content"]
        return "forced out" if forced else script(messages)

    cap = 9000
    got, table = answer(sandbox, asked, Budget(tokens=cap), max_iterations=30, turn_tokens=300)
    assert (got.text, got.outcome) == ("forced out", "forced")
    assert table.tokens <= cap
    assert len(table.calls) > 3


@pytest.mark.parametrize("share", [2.4, 2.9])
def test_a_cap_too_small_to_hold_back_leaves_the_last_turn_it_pays(
    sandbox: Sandbox, share: float
) -> None:
    def script(messages: Sequence[Message]) -> str:
        return "forced out" if "no turns left" in messages[-1]["content"] else block("print(1)")

    settings = {"turn_tokens": 100, "max_iterations": 30}
    _, first = answer(sandbox, script, Budget(calls=1), force_answer=False, **settings)
    cap = int(share * first.calls[0].prompt_tokens)
    got, table = answer(sandbox, script, Budget(tokens=cap), **settings)
    assert (got.text, got.outcome, len(table.calls)) == ("forced out", "forced", 2)
    assert table.tokens <= cap
    got, _ = answer(sandbox, script, Budget(tokens=cap), force_answer=False, **settings)
    assert (got.text, got.outcome) == (None, "budget_exceeded")


@pytest.mark.parametrize(
    ("protocol", "code"),
    [
        ("submit", "submit(x + 1)"),
        ("final_variable", "Final = x + 1"),
        ("answer_dict", "answer.update(content=x + 1, ready=True)"),
    ],
)
def test_what_a_forced_replys_code_hands_in_is_the_answer(
    sandbox: Sandbox, protocol: str, code: str
) -> None:
    script = turns(block("x = 41"), block(code))
    got, _ = answer(sandbox, script, protocol=protocol, max_iterations=1)
    assert (got.text, got.outcome, got.trajectory[-1]["type"]) == ("42", "forced", "block")


def test_a_forced_reply_whose_code_spends_too_much_is_the_answer_itself(sandbox: Sandbox) -> None:
    code = "for i in range(10**9):\n    try: llm_query(str(i))\n    except QueryError: pass"
    script = turns(block("print(1)"), block(code))
    got, _ = answer(sandbox, script, Budget(calls=3), max_iterations=1)
    assert (got.text, got.outcome) == (block(code), "forced")


def test_sub_calls_cannot_spend_what_is_held_back(sandbox: Sandbox) -> None:
    code = """
try:
    llm_query_batched(['a', 'b', 'c', 'd'])
except QueryError as error:
    print(error.kind)
for p in 'abc':
    print(llm_query(p))
"""
    got, table = answer(sandbox, turns(block(code), "forced out"), Budget(calls=4))
    assert (got.text, got.outcome) == ("forced out", "forced")
    assert [c.role for c in table.calls] == ["root", "sub", "sub", "root"]


def test_without_force_answer_nothing_is_held_back(sandbox: Sandbox) -> None:
    got, table = answer(
        sandbox, turns(block("print(1)"), block("print(2)")), Budget(calls=2), force_answer=False
    )
    assert (got.outcome, len(table.calls)) == ("budget_exceeded", 2)


def test_hold_back_takes_at_most_half_of_a_cap() -> None:
    one = Spend(1, 100, 0.5)
    ledger = Ledger().child(Budget(calls=10, tokens=200, usd=1.0))
    held = hold_back(ledger, one)
    assert held.budget == Budget(calls=9, tokens=100, usd=0.5)
    assert ledger.remaining()["calls"] == 10, "only the loop is limited"
    for budget in (Budget(calls=1), Budget(tokens=199), Budget(usd=0.9), Budget(seconds=5)):
        node = Ledger().child(budget)
        assert hold_back(node, one) is node
    uncapped = Ledger().child()
    assert hold_back(uncapped, one) is uncapped
    spent = Ledger(Budget(calls=10)).child(Budget(tokens=100))
    spent.settle(spent.reserve(Spend(1, 50)), Spend(1, 50))
    assert hold_back(spent, Spend(1, 20)).budget.tokens == 30, "of what a first try has left"


def test_code_that_asks_on_for_what_nothing_pays_is_ended(sandbox: Sandbox) -> None:
    code = """
for i in range(10**9):
    try: {}
    except QueryError: pass
"""
    batch = "rlm_query_batched([('inner', str(i))])"
    for ask in ("llm_query(str(i))", "rlm_query('inner', str(i))", batch):
        script = turns(block(code.format(ask)), *["forced out"] * 9)
        limits = {"max_depth": 2, "max_iterations": 2}
        got, _ = answer(sandbox, script, Budget(calls=4), **limits)
        assert (got.text, got.outcome) == ("forced out", "forced")
        assert len(got.trajectory) < 3 * MOST_REFUSED
