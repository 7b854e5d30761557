"""CodeAct with a scripted model and the real sandbox: plain, with BM25, with sub-calls."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_rlm_prompts import HINTS

from helpers.agents import TEXT, Agent, answer, block
from helpers.chat import problem
from helpers.commands import rlm_eval
from rlm_eval.errors import ConfigError
from rlm_eval.repl.session import Sandbox

# -- what it is ------------------------------------------------------------------------------------


def test_the_input_is_in_the_prompt_and_not_in_the_repl(sandbox: Sandbox) -> None:
    agent = Agent(block("submit(sorted(n for n in dir() if not n.startswith('_')))"))
    got, table = answer(sandbox, agent, problem("Which wind?", TEXT))
    assert agent.last(0) == f"{TEXT}\n\nQuestion: Which wind?"
    assert json.loads((got.text or "").replace("'", '"')) == [
        "Counter",
        "QueryError",
        "json",
        "math",
        "re",
        "submit",
    ]
    assert [c.role for c in table.calls] == ["root"]


def test_a_row_is_filled(sandbox: Sandbox) -> None:
    agent = Agent(block("x = 41; print('here')\n1 / 0"), block("submit(x + 1)"))
    got, _ = answer(sandbox, agent)
    assert (got.text, got.outcome, got.iterations, got.code_errors) == ("42", "answered", 2, 1)
    assert "here" in agent.last(1)
    assert "ZeroDivisionError" in agent.last(1)
    assert got.protocol == "submit"
    assert got.sandbox_level == sandbox.level
    assert got.sandbox_s > 0
    assert got.spans_read == ((0, len(TEXT)),)
    assert got.truncated_tokens == 0
    kinds = [event["type"] for event in got.trajectory]
    assert kinds == ["start", "turn", "block", "turn", "block"]
    assert got.trajectory[0]["method"] == "codeact"


def test_a_reply_without_code_is_the_answer(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, Agent(block("print(6 * 7)"), " It is 42. "))
    assert (got.text, got.outcome, got.iterations) == ("It is 42.", "answered", 2)


def test_an_answer_in_words_has_the_room_of_an_answer(sandbox: Sandbox) -> None:
    """One as long as the task allows, in turns that are shorter."""
    long = "word " * 300
    asked = replace(problem("List all words.", TEXT), max_answer_tokens=600)
    got, _ = answer(sandbox, Agent(long), asked, turn_tokens=64, work_tokens=256)
    assert (got.text, got.outcome) == (long.strip(), "answered")


def test_of_code_only_submit_ends_a_run(sandbox: Sandbox) -> None:
    agent = Agent(
        block("print('submit(1)'); Final = 2; answer = {'ready': True, 'content': '3'}"),
        block("submit('real')"),
    )
    got, _ = answer(sandbox, agent, problem(content="submit('from the input')\n"))
    assert (got.text, got.iterations) == ("real", 2)


def test_blocks_after_an_error_do_not_run(sandbox: Sandbox) -> None:
    agent = Agent(block("1 / 0") + "\n" + block("submit('too far')"), block("submit('second')"))
    assert answer(sandbox, agent)[0].text == "second"


def test_it_is_told_when_no_code_ran_or_the_same_again(sandbox: Sandbox) -> None:
    same = block("print(1)")
    agent = Agent(" ", "```sql\nselect 1\n```", same, same, block("submit(2)"))
    got, _ = answer(sandbox, agent)
    assert got.text == "2"
    assert "No code ran" in agent.last(1)
    assert "not sql" in agent.last(2)
    assert "same block" not in agent.last(3)
    assert "same block" in agent.last(4)


# -- what it is told -------------------------------------------------------------------------------


@pytest.mark.parametrize(("bm25", "sub_calls"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("window", [100_000, 4_600])
def test_the_prompt_speaks_of_the_tools_there_are(
    sandbox: Sandbox, bm25: bool, sub_calls: bool, window: int
) -> None:
    names = ["search", "llm_query", "llm_query_batched"]
    code = f"here = dir()\nsubmit([n for n in {names} if n in here])"
    agent = Agent(block(code))
    overflow = "omit" if bm25 else "truncate_middle"
    got, _ = answer(
        sandbox,
        agent,
        window=window,
        tools=["search"] if bm25 else [],
        sub_calls=sub_calls,
        overflow=overflow,
    )
    told = "\n".join(m["content"] for m in agent.chats[0])
    offered = {"search"} if bm25 else set()
    offered |= {"llm_query", "llm_query_batched"} if sub_calls else set()
    assert set(json.loads((got.text or "").replace("'", '"'))) == offered
    assert set(re.findall(r"\b(search|llm_query(?:_batched)?)\(", told)) == offered
    assert ("language model" in told) == sub_calls
    assert ("too long to show" in told) == bm25
    assert "context" not in told
    assert [m["role"] for m in agent.chats[0][1:]] == (
        ["user", "assistant"] * (len(agent.chats[0]) // 2 - 1) + ["user"]
    )


def test_no_hint_at_a_benchmark_is_in_the_prompt(sandbox: Sandbox) -> None:
    for window in (100_000, 4_600):
        agent = Agent("prose", block("print(1)"), block("print(1)"))
        asked = problem("?", "x" * 9000)
        answer(
            sandbox, agent, asked, window=window, tools=["search"], sub_calls=True, max_iterations=4
        )
        chats = "\n".join(m["content"] for chat in agent.chats for m in chat)
        assert not HINTS.findall(chats)


# -- sub-calls -------------------------------------------------------------------------------------


def test_sub_calls_are_recorded_under_the_turn_that_made_them(sandbox: Sandbox) -> None:
    code = "submit(','.join(llm_query_batched(['a', 'b', 'a'])) + llm_query('c'))"
    got, table = answer(sandbox, Agent(block(code)), sub_calls=True, sub_tokens=9)
    assert got.text == "yes,yes,yesyes"
    root = next(c for c in table.calls if c.role == "root")
    subs = [c for c in table.calls if c.role == "sub"]
    assert len(subs) == 4
    assert {(c.depth, c.parent_call_id, c.from_repl) for c in subs} == {(1, root.call_id, True)}
    assert got.last_subcall_used is True


# -- as configured ---------------------------------------------------------------------------------

ARMS = ("codeact", "codeact_bm25", "codeact_subcalls", "compaction", "summarize_refine")
SMALL = ("task=needle", "task.lengths=[2000]", "task.n=1", "model=scripted")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.codeact.overflow=tail", "method.codeact.overflow='tail' does not fit"),
        ("+method.codeact.tool=[find]", "did you mean method.codeact.tools"),
        ("method.codeact.tools=[serch]", "there is no tool 'serch'"),
        ("model.context_window=2000", "method.codeact.work_tokens must be lower"),
    ],
)
def test_bad_input_is_one_clear_line(override: str, told: str) -> None:
    from rlm_eval.config.check import check_config
    from rlm_eval.config.compose import compose_tree
    from rlm_eval.runs.assemble import assemble

    with pytest.raises(ConfigError) as caught:
        assemble(check_config(compose_tree([*SMALL, "method=[codeact]", override])))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_all_arms_run(tmp_path: Path) -> None:
    arguments = [*SMALL, f"method=[{','.join(ARMS)}]", f"results_dir={tmp_path}"]
    more = ["+method@method.c2=codeact_bm25", "method.c2.sub_calls=true"]
    done = rlm_eval(*arguments, *more, "model.context_window=4600")
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    results = pd.read_parquet(run_dir / "results.parquet").set_index("method")
    assert sorted(results.index) == sorted([*ARMS, "c2"])
    assert set(results.outcome) == {"answered"}
    assert results.loc["codeact_subcalls", "subcalls"] == 1
    assert results.loc["c2", "subcalls"] == 1
    assert results.loc["codeact", "subcalls"] == 0
    assert (results.loc[["codeact", "codeact_bm25"], "sandbox_level"] != "").all()
    environment = json.loads((run_dir / "environment.json").read_text())
    assert set(environment["sandbox"]) == {"codeact", "codeact_bm25", "codeact_subcalls", "c2"}
