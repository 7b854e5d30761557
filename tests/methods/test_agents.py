"""Coding agents as methods: the real programs, on needles drawn here, by a provider that bills."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.agent_provider import AgentProvider
from helpers.chat import Table, problem
from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Budget
from rlm_eval.methods.foreign.agents import ClaudeCode, MiniSweAgent, OpenCode
from rlm_eval.methods.foreign.process import why_not_confined
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.records import Answer, Content

pytestmark = pytest.mark.slow


def installed(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program} on PATH")


agents = pytest.mark.parametrize(
    "agent",
    [
        MiniSweAgent,
        pytest.param(OpenCode, marks=installed("opencode")),
        pytest.param(ClaudeCode, marks=installed("claude")),
    ],
)


def needles(count: int = 200) -> dict[str, str]:
    return {f"k{secrets.token_hex(4)}": f"v{secrets.token_hex(4)}" for _ in range(count)}


def answered(
    agent: Any, content: Content, facts: dict[str, str], *plays: str, **settings: Any
) -> tuple[Answer, Table, AgentProvider]:
    """What ``agent`` answers when it is asked for one of the facts, which is right."""
    key, value = secrets.choice([*facts.items()])
    with AgentProvider(**dict.fromkeys(plays, True)) as provider:
        model = LitellmModel("openai/fake", 100_000, provider.api_base, fixed_api_key="k")
        table = Table(model)
        isolation = "none" if why_not_confined() else "confined"
        method = agent(isolation=isolation, seconds=120, **settings)
        method.check({"root": model.info})
        asked = problem(f"What is the code for {key}?", content)
        got = method.answer(asked, table.lm(), table.ledger())
    assert got.text == value, got.error
    assert got.outcome == "answered"
    billed = sorted(provider.bills)
    assert sorted((c.prompt_tokens, c.completion_tokens) for c in table.calls) == billed
    assert not any(call.usage_estimated for call in table.calls)
    assert got.iterations == sum(call.depth == 0 for call in table.calls)
    return got, table, provider


def text_of(facts: dict[str, str]) -> str:
    return "\n".join(f"The code for {key} is {value}." for key, value in facts.items())


@agents
def test_an_agent_finds_a_needle_in_a_file(agent: Any) -> None:
    facts = needles()
    got, _, provider = answered(agent, text_of(facts), facts)
    assert got.iterations >= 3
    first = str(provider.received[0]["messages"])
    assert not any(value in first for value in facts.values()), "they are in a file alone"
    blocks = [event for event in got.trajectory if event["type"] == "block"]
    assert "context.txt" in blocks[0]["output"]
    assert "ls -1" in blocks[0]["code"]
    assert any("grep" in block["code"] and got.text in block["output"] for block in blocks)


@agents
def test_an_agent_finds_it_among_documents(agent: Any) -> None:
    facts = needles(3)
    names = ["a/b: c", "a b c", "長" * 200]
    documents = {name: text_of({key: facts[key]}) for name, key in zip(names, facts, strict=True)}
    got, *_ = answered(agent, documents, facts)
    assert got.iterations >= 3


@agents
def test_an_agent_has_it_in_its_prompt_and_nowhere_else(agent: Any) -> None:
    facts = needles()
    answered(agent, text_of(facts), facts, "hunts", context="prompt")


@agents
def test_a_sub_agents_calls_are_a_depth_of_their_own(agent: Any) -> None:
    if agent is MiniSweAgent:
        pytest.skip("it has none")
    facts = needles()
    _, table, _ = answered(agent, text_of(facts), facts, "delegates")
    below = [call for call in table.calls if (call.role, call.depth) == ("root", 1)]
    assert len(below) >= 3
    assert {call.from_repl for call in below} == {True}


def stopped(
    agent: Any, facts: dict[str, str], budget: Budget | None = None, **settings: Any
) -> Answer:
    """What ``agent`` comes to, asked for the first of the facts, where something ends it early."""
    with AgentProvider() as provider:
        model = LitellmModel("openai/fake", 100_000, provider.api_base, fixed_api_key="k")
        table = Table(model)
        method = agent(isolation="none" if why_not_confined() else "confined", **settings)
        asked = problem(f"What is the code for {min(facts)}?", text_of(facts))
        got: Answer = method.answer(asked, table.lm(), table.ledger(budget))
    return got


@agents
def test_its_turns_are_limited(agent: Any) -> None:
    got = stopped(agent, needles(), max_turns=1)
    assert got.outcome in ("forced", "no_answer", "budget_exceeded")
    assert got.iterations <= 2, "one, and a last word"


def test_what_mini_swe_agent_wrote_is_its_answer_where_a_later_turn_is_refused() -> None:
    facts = needles()
    got = stopped(MiniSweAgent, facts, Budget(calls=3))
    assert (got.text, got.outcome) == (facts[min(facts)], "forced")


def test_a_program_that_is_not_there_is_told_with_the_way_to_get_it() -> None:
    method = ClaudeCode(program="/nowhere/claude")
    with pytest.raises(ConfigError, match="not on PATH: npm install -g @anthropic-ai/claude-code"):
        method.check({})


def test_files_beside_the_input_are_in_its_folder_and_in_the_key(tmp_path: Path) -> None:
    command = tmp_path / "look"
    command.write_text('#!/bin/sh\ngrep -rh "$1" context.txt\n')
    command.chmod(0o755)
    facts = needles()
    _, _, provider = answered(MiniSweAgent, text_of(facts), facts, beside=[str(command)])
    assert "look" in str(provider.received[1]["messages"][-1]["content"]), "as ls says"
    one = MiniSweAgent(beside=[str(command)]).prompt_source()
    command.write_text("#!/bin/sh\n")
    assert MiniSweAgent(beside=[str(command)]).prompt_source() != one
    with pytest.raises(ConfigError, match="must be files: there is no /nowhere"):
        MiniSweAgent(beside=["/nowhere"])
    with pytest.raises(ConfigError, match="there is another look"):
        MiniSweAgent(beside=[str(command)] * 2)
