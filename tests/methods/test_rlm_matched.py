"""Matched budgets: the sample's cap ends the loop. And why sizes forecast nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from test_rlm_child_model import Priced

from helpers.chat import Script, Table, block, problem, scripted
from rlm_eval.ledger import Budget
from rlm_eval.methods.agent.loop import MATCHED_ITERATIONS
from rlm_eval.methods.method import Shape
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Role
from rlm_eval.repl.session import Sandbox


def answer(
    sandbox: Sandbox, script: Script, budget: Budget | None = None, **settings: object
) -> tuple[Answer, Table]:
    table = Table(scripted(script))
    given = {"prompt": "orchestrator", "matched": True} | settings
    rlm = Rlm(sandbox=sandbox, **given)  # type: ignore[arg-type]
    return rlm.answer(problem(), table.lm(), table.ledger(budget)), table


def endless(messages: Sequence[Message]) -> str:
    if "no turns left" in messages[-1]["content"]:
        return "forced out"
    return block(f"print({len(messages)})")


@pytest.mark.parametrize("cap", [20_000, 40_000])
def test_the_cap_ends_the_loop_and_leaves_the_forced_turn(sandbox: Sandbox, cap: int) -> None:
    got, table = answer(sandbox, endless, Budget(tokens=cap), max_iterations=3)
    assert (got.text, got.outcome) == ("forced out", "forced")
    assert len(table.calls) > 3 + 1
    assert table.tokens <= cap
    last = table.calls[-1]
    worst_turn = last.prompt_tokens + 512
    assert table.tokens + worst_turn + 2 * last.prompt_tokens > cap, "no turn more would have fit"


def test_a_larger_cap_buys_more_turns(sandbox: Sandbox) -> None:
    turns = [
        answer(sandbox, endless, Budget(tokens=cap), max_iterations=3)[0].iterations
        for cap in (15_000, 30_000, 60_000)
    ]
    assert turns == sorted(set(turns))


def test_a_cap_on_dollars_does_the_same(sandbox: Sandbox) -> None:
    table = Table(Priced("paid", script=endless, dollars=10.0))
    rlm = Rlm(sandbox=sandbox, prompt="orchestrator", matched=True, max_iterations=3)
    got = rlm.answer(problem(), table.lm(), table.ledger(Budget(usd=0.2)))
    assert got.outcome == "forced"
    assert len(table.calls) > 4
    assert sum(c.cost_usd or 0 for c in table.calls) <= 0.2


@pytest.mark.parametrize("budget", [None, Budget(calls=90), Budget(seconds=60)])
def test_without_a_cap_that_binds_iterations_do(sandbox: Sandbox, budget: Budget | None) -> None:
    got, table = answer(sandbox, endless, budget, max_iterations=3)
    assert (got.outcome, len(table.calls)) == ("forced", 4)


def test_unmatched_the_cap_changes_nothing(sandbox: Sandbox) -> None:
    _, table = answer(sandbox, endless, Budget(tokens=90_000), max_iterations=3, matched=False)
    assert len(table.calls) == 4


def test_however_large_the_cap_there_is_a_last_turn(sandbox: Sandbox) -> None:
    settings = {"max_iterations": 3, "output_chars": 20, "prompt": "compact"}
    got, table = answer(sandbox, endless_compact, Budget(tokens=10**9), **settings)
    assert (got.outcome, len(table.calls)) == ("forced", MATCHED_ITERATIONS + 1)


def endless_compact(messages: Sequence[Message]) -> str:
    return "out" if "No turns are left" in messages[-1]["content"] else block("print(1)")


def test_what_the_model_does_not_need_is_left(sandbox: Sandbox) -> None:
    got, table = answer(sandbox, lambda m: block("submit(1)"), Budget(tokens=50_000))
    assert (got.outcome, len(table.calls)) == ("answered", 1)


def test_the_prompt_states_the_turns_there_are(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[0]["content"])
        return block("submit(1)")

    answer(sandbox, script, Budget(tokens=50_000), max_iterations=3)
    answer(sandbox, script, None, max_iterations=3)
    assert f"at most {MATCHED_ITERATIONS} turns" in seen[0]
    assert "at most 3 turns" in seen[1]


def test_children_keep_their_number_of_turns(sandbox: Sandbox) -> None:
    def script(messages: Sequence[Message]) -> str:
        if "Question: inner" in messages[1]["content"]:
            return endless(messages)
        return block("submit(rlm_query('inner', 'x'))")

    got, table = answer(sandbox, script, Budget(tokens=90_000), max_depth=2, max_iterations=3)
    assert got.text == "forced out"
    assert [c.depth for c in table.calls] == [0, 1, 1, 1, 1]


def test_one_size_two_costs_so_no_forecast_but_bounds(sandbox: Sandbox) -> None:
    """The same input, answered by a search and by a sub-call for each line."""
    lines = tuple(f"line {i}" for i in range(40))
    search = "submit(sum('7' in line for line in context))"
    judge = "submit(llm_query_batched(['Is it odd? ' + line for line in context])[0])"
    took = []
    for code in (search, judge):
        table = Table(scripted(lambda m, code=code: block(code)))
        rlm = Rlm(sandbox=sandbox, prompt="orchestrator")
        rlm.answer(problem(content=lines), table.lm(), table.ledger())
        took.append(len(table.calls))
    assert took == [1, 41]
    infos: dict[Role, ModelInfo] = {"root": ScriptedModel().info}
    assert Rlm(sandbox=sandbox).forecast(Shape(1000, 20, 32), infos) is None
    for depth, calls in ((0, [9]), (1, [9, 512]), (2, [9, 512])):
        least, most = Rlm(sandbox=sandbox, max_depth=depth).bounds(Shape(1000, 20, 32), infos)
        assert [part.calls for part in least] == [1]
        assert [part.calls for part in most or ()] == calls
        assert not any(part.assumed for part in most or ())


def test_what_the_paper_does_not_limit_is_bounded_by_what_is_assumed(sandbox: Sandbox) -> None:
    infos: dict[Role, ModelInfo] = {"root": ScriptedModel().info}
    free = {"protocol": "paper", "prompt": "paper_qwen"}, {"matched": True}, {"max_sub_calls": None}
    for settings in free:
        rlm = Rlm(sandbox=sandbox, max_depth=2, **settings)  # type: ignore[arg-type]
        assert rlm.most_sub_calls() is None
        sub_calls = (rlm.bounds(Shape(1000, 20, 32), infos)[1] or ())[1]
        assert (sub_calls.calls, sub_calls.assumed) == (512**2, True)
    limited = Rlm(sandbox=sandbox, prompt="paper_gpt5", protocol="paper", max_sub_calls=7)
    assert limited.most_sub_calls() == 7


def test_sub_calls_end_at_their_limit_and_the_code_is_told(sandbox: Sandbox) -> None:
    """Those of children are among them; the root's own turns are not."""
    code = """
        print(llm_query_batched(['a', 'b', 'c', 'd']))
        print(rlm_query('Which?', 'text'))
        print(budget()['calls'])
        print(llm_query('e'), llm_query('f'))
    """
    blocks = [block(line.strip()) for line in code.strip().splitlines()]
    root = [*blocks, block("submit('done')")]

    def script(messages: Sequence[Message]) -> str:
        if "How?" in str(messages):
            return root.pop(0)
        is_child = "`context`" in messages[0]["content"]
        return block("submit(llm_query('from the child'))") if is_child else "yes"

    table = Table(scripted(script))
    rlm = Rlm(sandbox=sandbox, prompt="orchestrator", max_depth=2, max_sub_calls=3)
    got = rlm.answer(problem("How?"), table.lm(), table.ledger())
    outputs = [step["output"] for step in got.trajectory if step["type"] == "block"]
    assert "the REPL's cap calls=3 leaves too little for 4 calls at once" in outputs[0]
    assert "yes" in outputs[2], "after the child's own block"
    assert "1" in outputs[3]
    assert "the REPL's cap calls=3 is spent" in outputs[4]
    assert got.text == "done"
    assert sum(call.from_repl for call in table.calls) == 3
