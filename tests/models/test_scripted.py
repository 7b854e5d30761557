"""The scripted stand-in: deterministic, honest about what it is, and an RLM with a sub-call."""

from __future__ import annotations

import time

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.models.protocol import Usage, user
from rlm_eval.models.scripted import ScriptedModel


def reply(model: ScriptedModel, *texts: str, max_tokens: int = 500) -> str:
    return model.complete([user(t) for t in texts], max_tokens=max_tokens, temperature=0.0).text


def test_it_is_a_model_and_says_that_it_is_none() -> None:
    model = ScriptedModel()
    assert model.info.simulated
    assert model.info.name == "scripted"


@pytest.mark.parametrize("changes", [{"latency_s": -1.0}, {"context_window": 0}])
def test_bad_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{min(changes)} must be at least"):
        ScriptedModel(**changes).check()  # type: ignore[arg-type]


def test_the_same_messages_give_the_same_reply() -> None:
    texts = [reply(ScriptedModel(), f"Is item {i} red or blue?") for i in range(20)]
    assert texts == [reply(ScriptedModel(), f"Is item {i} red or blue?") for i in range(20)]
    assert set(texts) == {"red", "blue"}


def test_it_looks_a_fact_up_that_its_messages_hold() -> None:
    facts = "The number for k-1 is: 7654321. The number for k-2 is: 1234567. " + "x" * 700
    assert reply(ScriptedModel(), facts + "What is the number for k-2?") == "1234567"


def test_an_rlm_turn_asks_a_sub_call_only_where_there_are_any() -> None:
    told = "The input is in `context`. Finish with submit(...)."
    plain = reply(ScriptedModel(), told, "Question: which one?")
    sub = reply(ScriptedModel(), told + " llm_query(prompt) asks.", "Question: which one?")
    batch = reply(ScriptedModel(), told + " llm_query_batched(list)", "Question: which one?")
    assert "llm_query" not in plain
    assert "llm_query(prompt)" in sub
    assert "llm_query_batched([prompt])[0]" in batch
    assert "submit(found)" in reply(ScriptedModel(), told, "Output:\n7")


def test_an_agent_without_the_variable_uses_each_tool_once_and_submits() -> None:
    told = "submit(answer) ends the work. search(query, k) finds. llm_query(prompt) asks."
    opening = "The number for k-1 is: 7654321.\n\nQuestion: What is the number for k-1?"
    first = reply(ScriptedModel(), told, opening)
    assert first.count("search('What is the number for k-1?', 3)") == 1
    assert first.count("print(llm_query(") == 1
    assert "\nsubmit(" not in first
    assert "search" not in reply(ScriptedModel(), "submit(answer) ends the work.", opening)
    code = reply(ScriptedModel(), told, opening, first, "Output:\n" + "x" * 900)
    assert code == "```python\nsubmit('7654321')\n```"


@pytest.mark.parametrize("protocol", ["submit(x)", 'answer["content"]', "set Final"])
def test_its_turns_are_python(protocol: str) -> None:
    told = f"`context` holds it. llm_query_batched asks. Finish: {protocol}."
    for last in ('Question: what\'s "it"?\nOr\\not?', "Output: 7"):
        text = reply(ScriptedModel(), told, last)
        assert text.startswith("```repl\n")
        assert text.endswith("\n```")
        compile(text.removeprefix("```repl\n").removesuffix("\n```"), "turn", "exec")


def test_tokens_are_a_quarter_of_the_characters_and_the_limit_holds() -> None:
    model = ScriptedModel(script=lambda _: "x" * 100)
    prompt = [{"role": "system", "content": "y" * 40}, user("z" * 80)]
    whole = model.complete(prompt, max_tokens=1000, temperature=0.0)
    # 40/4 + 4 + 80/4 + 4 of prompt, 100/4 + 1 of reply.
    assert whole.usage == Usage(38, 26)
    assert model.count_tokens(prompt) == 38
    cut = model.complete(prompt, max_tokens=5, temperature=0.0)
    assert (len(cut.text), cut.usage.completion_tokens, cut.finish_reason) == (20, 5, "length")


def test_latency_is_waited() -> None:
    started = time.perf_counter()
    reply(ScriptedModel(latency_s=0.05), "x")
    assert time.perf_counter() - started >= 0.05
