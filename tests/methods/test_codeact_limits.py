"""CodeAct at its limits: turns, caps, the window; its forecast, and settings that can't work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.agents import TEXT, Agent, answer, block
from helpers.chat import Table, problem, scripted
from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.codeact import CodeAct
from rlm_eval.methods.method import Forecast, Shape
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role
from rlm_eval.repl.session import Sandbox
from rlm_eval.tokens import load_tokenizer


def test_at_the_limit_the_answer_is_forced_and_marked(sandbox: Sandbox) -> None:
    got, table = answer(sandbox, Agent(otherwise=block("print(1)")), max_iterations=3)
    assert (got.text, got.outcome, got.iterations) == ("forced out", "forced", 4)
    assert len(table.calls) == 4
    agent = Agent(otherwise=block("print(1)"))
    got, table = answer(sandbox, agent, max_iterations=3, force_answer=False)
    assert (got.text, got.outcome, len(table.calls)) == (None, "no_answer", 3)


def test_a_cap_leaves_the_forced_turn(sandbox: Sandbox) -> None:
    """A turn takes about 4,400 tokens; its reply may take 384."""
    cap = 20_000
    got, table = answer(sandbox, Agent(otherwise=block("print(1)")), budget=Budget(tokens=cap))
    assert (got.outcome, got.text) == ("forced", "forced out")
    assert table.tokens <= cap < table.tokens + 2 * table.calls[-1].prompt_tokens
    agent = Agent(otherwise=block("print(1)"))
    got, table = answer(
        sandbox, agent, budget=Budget(tokens=cap), force_answer=False, max_iterations=20
    )
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert "tokens=20000" in got.error


@pytest.mark.parametrize("tokens", [64, 2048, 4096])
def test_a_long_answer_takes_no_room_from_what_code_printed(sandbox: Sandbox, tokens: int) -> None:
    """The input fills the window; outputs are shown all the same, and the forced turn fits."""
    agent = Agent(block("print('row ' * 200)"), block("print('line ' * 200)"))
    asked = replace(problem(content=TEXT * 15), max_answer_tokens=tokens)
    got, _ = answer(sandbox, agent, asked, window=20_000, max_iterations=2)
    assert got.truncated_tokens > 0
    assert agent.last(1).count("row") == 200
    assert got.outcome == "forced"


def test_after_a_turn_as_long_as_an_answer_the_forced_one_has_what_is_left(
    sandbox: Sandbox,
) -> None:
    agent = Agent(block(f"# {'y' * 5_000}\nprint(1)"))
    asked = replace(problem(content=TEXT), max_answer_tokens=1_500)
    got, table = answer(sandbox, agent, asked, window=6_000, max_iterations=1)
    assert table.calls[-1].prompt_tokens + 1_500 > 6_000
    assert (got.outcome, got.text) == ("forced", "forced out")


@pytest.mark.parametrize("more", [500, 1_000])
def test_a_cap_of_two_turns_leaves_the_second_to_the_forced_one(
    sandbox: Sandbox, more: int
) -> None:
    """Too little to hold a forced turn back from the first on."""
    _, first = answer(sandbox, Agent(otherwise="enough"))
    cap = 2 * first.calls[0].prompt_tokens + more
    got, table = answer(sandbox, Agent(otherwise=block("print(1)")), budget=Budget(tokens=cap))
    assert (got.outcome, got.text, len(table.calls)) == ("forced", "forced out", 2)
    assert table.tokens <= cap


@pytest.mark.parametrize("cap", [30_000, 60_000])
def test_matched_takes_turns_up_to_the_cap(sandbox: Sandbox, cap: int) -> None:
    agent = Agent(otherwise=block("print(1)"))
    got, table = answer(sandbox, agent, budget=Budget(tokens=cap), matched=True, max_iterations=2)
    assert got.outcome == "forced"
    assert got.iterations > 3
    assert table.tokens <= cap < table.tokens + 2 * table.calls[-1].prompt_tokens


@pytest.mark.parametrize("run_cap", [None, 60_000])
def test_matched_without_a_cap_of_the_sample_changes_nothing(
    sandbox: Sandbox, run_cap: int | None
) -> None:
    table = Table(scripted(Agent(otherwise=block("print(1)"))))
    ledger = Ledger(Budget(tokens=run_cap)).child(Budget(calls=50))
    method = CodeAct(sandbox=sandbox, matched=True, max_iterations=2)
    got = method.answer(problem(content=TEXT), table.lm(), ledger)
    assert (got.outcome, got.iterations) == ("forced", 3)


@pytest.mark.parametrize("cap", range(18_000, 24_000, 1_500))
def test_the_forced_turn_is_shortened_to_what_is_left(sandbox: Sandbox, cap: int) -> None:
    agent = Agent(otherwise=block("print('word ' * 900)"))
    got, table = answer(sandbox, agent, budget=Budget(tokens=cap), output_chars=4_400)
    assert (got.outcome, got.text) == ("forced", "forced out")
    assert table.tokens <= cap


def test_the_history_is_kept_within_the_window(sandbox: Sandbox) -> None:
    agent = Agent(otherwise=block(f"# {'y' * 900}\nprint('word ' * 900)"))
    _, table = answer(
        sandbox, agent, window=4_600, max_iterations=12, output_chars=4000, turn_tokens=300
    )
    assert len(table.calls) == 13
    assert all(c.prompt_tokens + 300 <= 4_600 for c in table.calls[:-1])
    opening = agent.chats[0]
    assert all(chat[: len(opening) - 1] == opening[:-1] for chat in agent.chats)
    assert all("Question: How many?" in chat[len(opening) - 1]["content"] for chat in agent.chats)
    assert "turns were dropped" in agent.chats[-1][len(opening) - 1]["content"]


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        (100_000, {}),
        (4_600, {}),
        (100_000, {"tools": ["search"], "overflow": "omit"}),
        (4_600, {"tools": ["search"], "overflow": "omit"}),
    ],
)
def test_a_run_takes_what_lies_within_its_bounds(
    sandbox: Sandbox, window: int, settings: dict[str, object]
) -> None:
    text = "".join(f"On day {i} the crew repaired the rigging once more.\n" for i in range(300))
    full = block("#" * (4 * 384 - 40) + "\nprint(1)")
    agent = Agent(full, full.replace("print", "submit"))
    got, table = answer(sandbox, agent, problem("Which day?", text), window=window, **settings)
    assert got.outcome == "answered"
    method = CodeAct(sandbox=sandbox, **settings)  # type: ignore[arg-type]
    count = load_tokenizer().count
    shape = Shape(count(text), count("Which day?"), 32)
    (least,), most = method.bounds(shape, {"root": scripted(agent, window=window).info})
    (turns,) = most or ()
    prompts = [c.prompt_tokens for c in table.calls]
    assert (least.calls, len(prompts), turns.calls) == (1, 2, 8 + 1)
    assert least.prompt_tokens == pytest.approx(prompts[0], rel=0.25)
    assert sum(prompts) < turns.prompt_tokens == 9 * window
    assert sum(c.completion_tokens for c in table.calls) < turns.completion_tokens


def test_turns_have_room_for_what_was_not_thought(sandbox: Sandbox) -> None:
    """What a model does not think away it may write, and the next turn shows it again."""
    method, plain = CodeAct(sandbox=sandbox), scripted(Agent()).info
    shape = Shape(plain.context_window - 4096, 10, 32)
    assert method.kept(shape, {"root": plain}) == 1
    assert 0.9 < method.kept(shape, {"root": replace(plain, reasoning_tokens=4096)}) < 1
    small = replace(plain, context_window=4096, reasoning_tokens=4096)
    assert method.kept(Shape(2000, 10, 32), {"root": small}) > 0.1, "half of the rest is kept"


def test_bounds_have_all_sub_calls_with_full_windows(sandbox: Sandbox) -> None:
    models: dict[Role, ModelInfo] = {"root": scripted(Agent()).info}
    window = models["root"].context_window
    limits: tuple[tuple[int | None, int], ...] = ((None, 8 * 64), (5, 5))
    for limit, calls in limits:
        method = CodeAct(sandbox=sandbox, sub_calls=True, max_sub_calls=limit)
        _, most = method.bounds(Shape(1000, 10, 32), models)
        tokens = calls * window, calls * 64
        assert (most or ())[1] == Forecast(calls, *tokens, role="sub", assumed=limit is None)
    refused = CodeAct(sandbox=sandbox, overflow="refuse")
    assert refused.bounds(Shape(200_000, 10, 32), models) == ((), ())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"turn_tokens": 0}, "turn_tokens must be at least 1"),
        ({"piece_tokens": 4}, "piece_tokens must be at least 8"),
        ({"work_tokens": 700}, "work_tokens must hold at least two turns"),
        ({"overflow": "omit"}, "overflow must not be omit without tools"),
        ({"prompt": "fancy"}, "no prompt 'fancy'; choose plain"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    sandbox: Sandbox, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        CodeAct(sandbox=sandbox, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_window_without_room_for_the_work_is_refused(sandbox: Sandbox) -> None:
    method = CodeAct(sandbox=sandbox)
    with pytest.raises(ConfigError, match="work_tokens must be lower"):
        method.check({"root": scripted(Agent(), window=2_300).info})
    method.check({"root": scripted(Agent(), window=4_600).info})
    replies = CodeAct(sandbox=sandbox, sub_calls=True, sub_tokens=4_600)
    with pytest.raises(ConfigError, match="sub_tokens leaves no room"):
        replies.check({"root": scripted(Agent(), window=4_600).info})
