"""CodeAct with a scripted model and the real sandbox: plain, with BM25, with sub-calls."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from test_rlm_prompts import HINTS

from chat import Script, Table, problem, scripted
from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.codeact.agent import CodeAct
from rlm_eval.methods.method import Shape
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Content, Problem
from rlm_eval.repl.session import Sandbox
from rlm_eval.tokens import load_tokenizer

LINES = tuple(f"Day {i}: the wind stood at {i * 7 % 32} knots.\n" for i in range(400))
TEXT = "".join(LINES)
FOUND = "Day 41: the mast cracked above the second ring.\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def block(code: str) -> str:
    return f"```python\n{code}\n```"


class Agent:
    """A script that plays ``replies`` as the agent, in order, then ``otherwise``; answers
    sub-calls with ``sub``; and keeps the agent's chats."""

    def __init__(self, *replies: str, otherwise: str = "nothing more", sub: str = "yes") -> None:
        self.chats: list[list[Message]] = []
        self._left = list(replies)
        self._otherwise, self._sub = otherwise, sub

    def __call__(self, messages: Sequence[Message]) -> str:
        if messages[0]["role"] != "system":
            return self._sub
        self.chats.append(list(messages))
        if "No turns are left" in messages[-1]["content"]:
            return "forced out"
        return self._left.pop(0) if self._left else self._otherwise

    def last(self, turn: int) -> str:
        """What the agent was shown last before a turn."""
        return self.chats[turn][-1]["content"]


def answer(
    sandbox: Sandbox,
    script: Script,
    asked: Problem | None = None,
    budget: Budget | None = None,
    window: int = 100_000,
    **settings: object,
) -> tuple[Answer, Table]:
    table = Table(scripted(script, window=window))
    method = CodeAct(sandbox=sandbox, **settings)  # type: ignore[arg-type]
    got = method.answer(asked or problem(content=TEXT), table.lm(), table.ledger(budget))
    return got, table


def sent(table: Table) -> int:
    return sum(c.prompt_tokens + c.completion_tokens for c in table.calls)


# -- what it is ------------------------------------------------------------------------------------


def test_the_input_stands_in_the_prompt_and_not_in_the_repl(sandbox: Sandbox) -> None:
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
    assert got.context_chars_read_by_lm == len(TEXT)
    assert got.spans_read == ((0, len(TEXT)),)
    assert got.truncated_tokens == 0
    kinds = [event["type"] for event in got.trajectory]
    assert kinds == ["start", "turn", "block", "turn", "block"]
    assert got.trajectory[0]["method"] == "codeact"


def test_a_reply_without_code_is_the_answer(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, Agent(block("print(6 * 7)"), " It is 42. "))
    assert (got.text, got.outcome, got.iterations) == ("It is 42.", "answered", 2)


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
        sandbox, agent, window=window, bm25=bm25, sub_calls=sub_calls, overflow=overflow
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


def test_no_hint_at_a_benchmark_stands_in_the_prompt(sandbox: Sandbox) -> None:
    for window in (100_000, 4_600):
        agent = Agent("prose", block("print(1)"), block("print(1)"))
        asked = problem("?", "x" * 9000)
        answer(sandbox, agent, asked, window=window, bm25=True, sub_calls=True, max_iterations=4)
        chats = "\n".join(m["content"] for chat in agent.chats for m in chat)
        assert not HINTS.findall(chats)


# -- an input larger than the window ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("overflow", "head", "tail"),
    [
        ("truncate_tail", True, False),
        ("truncate_head", False, True),
        ("truncate_middle", True, True),
    ],
)
@pytest.mark.parametrize("content", [TEXT, LINES], ids=["text", "documents"])
def test_it_is_cut_where_told_and_recorded(
    sandbox: Sandbox, overflow: str, head: bool, tail: bool, content: Content
) -> None:
    agent = Agent(block("submit(1)"))
    asked = problem("Which wind?", content)
    got, table = answer(sandbox, agent, asked, window=4_600, overflow=overflow)
    shown = agent.last(0)
    assert (LINES[0].strip() in shown, LINES[-1].strip() in shown) == (head, tail)
    room = 4_600 - 2048
    prompt = table.calls[0].prompt_tokens
    assert room - 32 <= prompt <= room
    whole = scripted(agent).count_tokens([*agent.chats[0][:-1], {"content": asked.context.text}])
    assert got.truncated_tokens == pytest.approx(whole - prompt, abs=64)
    assert got.context_chars_read_by_lm == len(shown) - len("\n\nQuestion: Which wind?")
    documents = "".join(LINES)
    for start, end in got.spans_read or ():
        assert 0 <= start < end <= len(documents)
        assert all(line in shown for line in documents[start:end].splitlines())
    assert len(got.spans_read or ()) == head + tail


def test_it_is_refused_where_told(sandbox: Sandbox) -> None:
    agent = Agent()
    with pytest.raises(ContextOverflow) as caught:
        answer(sandbox, agent, window=4_600, overflow="refuse")
    assert caught.value.excess_tokens > 0
    assert not agent.chats


def test_left_to_search_alone_it_is_found_there(sandbox: Sandbox) -> None:
    content = TEXT[:6000] + FOUND + TEXT[6000:]
    agent = Agent(
        block("for piece in search('mast cracked', 1): print(piece)"), block("submit(41)")
    )
    asked = problem("When did the mast crack?", content)
    got, _ = answer(
        sandbox, agent, asked, window=4_600, bm25=True, overflow="omit", piece_tokens=32
    )
    assert agent.last(0).startswith(f"(The text has {len(content)} characters")
    assert "wind" not in agent.last(0)
    assert FOUND.strip() in agent.last(1)
    (span,) = got.spans_read or ()
    assert FOUND in content[slice(*span)]
    assert 0 < got.context_chars_read_by_lm <= span[1] - span[0]
    assert got.truncated_tokens > 0


def test_a_window_too_small_for_the_question_is_an_overflow(sandbox: Sandbox) -> None:
    with pytest.raises(ContextOverflow, match="too little even for the question"):
        answer(sandbox, Agent(), problem("why " * 4000, TEXT), window=4_600)


# -- search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("p = search('mast cracked', 1)", False),
        ("p = search('mast cracked', 1)\nprint(p[0])", True),
        ("p = search('mast cracked', 1)\nprint(p)", True),
        ("p = search('mast cracked', 1)\nllm_query(p[0] + 'When?')", True),
        ("p = search('mast cracked', 1)\nprint(p[0][:20])", False),
    ],
)
def test_a_piece_counts_as_read_once_a_model_has_seen_it(
    sandbox: Sandbox, code: str, seen: bool
) -> None:
    content = TEXT[:6000] + FOUND + TEXT[6000:]
    got, _ = answer(
        sandbox,
        Agent(block(code), block("submit(41)")),
        problem("When?", content),
        window=4_600,
        bm25=True,
        sub_calls=True,
        overflow="omit",
        piece_tokens=32,
    )
    assert len(got.spans_read or ()) == seen


@pytest.mark.parametrize("call", ["search(7)", "search('mast', 0)", "search('mast', 'all')"])
def test_a_bad_search_is_a_typed_error(sandbox: Sandbox, call: str) -> None:
    code = f"try:\n    {call}\nexcept QueryError as e:\n    submit(e.kind)"
    assert answer(sandbox, Agent(block(code)), bm25=True)[0].text == "bad_request"


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


# -- limits ----------------------------------------------------------------------------------------


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
    assert sent(table) <= cap < sent(table) + 2 * table.calls[-1].prompt_tokens
    agent = Agent(otherwise=block("print(1)"))
    got, table = answer(
        sandbox, agent, budget=Budget(tokens=cap), force_answer=False, max_iterations=20
    )
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert "tokens=20000" in got.error


@pytest.mark.parametrize("cap", [30_000, 60_000])
def test_matched_takes_turns_up_to_the_cap(sandbox: Sandbox, cap: int) -> None:
    agent = Agent(otherwise=block("print(1)"))
    got, table = answer(sandbox, agent, budget=Budget(tokens=cap), matched=True, max_iterations=2)
    assert got.outcome == "forced"
    assert got.iterations > 3
    assert sent(table) <= cap < sent(table) + 2 * table.calls[-1].prompt_tokens


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
    assert sent(table) <= cap


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


# -- forecast and bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        (100_000, {}),
        (4_600, {}),
        (100_000, {"bm25": True, "overflow": "omit"}),
        (4_600, {"bm25": True, "overflow": "omit"}),
    ],
)
def test_the_forecast_is_what_a_run_of_two_turns_takes(
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
    (expected,) = method.forecast(shape, {"root": scripted(agent, window=window).info}) or ()
    assert expected.calls == len(table.calls) == 2
    prompts, replies = (
        sum(c.prompt_tokens for c in table.calls),
        sum(c.completion_tokens for c in table.calls),
    )
    assert expected.prompt_tokens == pytest.approx(prompts, rel=0.25)
    assert expected.completion_tokens == pytest.approx(replies, rel=0.25)


def test_what_sub_calls_take_is_not_forecast(sandbox: Sandbox) -> None:
    models = {"root": scripted(Agent()).info}
    assert CodeAct(sandbox=sandbox, sub_calls=True).forecast(Shape(1000, 10, 32), models) is None  # type: ignore[arg-type]
    refused = CodeAct(sandbox=sandbox, overflow="refuse")
    assert refused.forecast(Shape(200_000, 10, 32), models) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"turn_tokens": 0}, "turn_tokens must be at least 1"),
        ({"piece_tokens": 4}, "piece_tokens must be at least 8"),
        ({"work_tokens": 700}, "work_tokens=700 must hold at least two turns"),
        ({"overflow": "omit"}, "overflow=omit leaves nothing to read"),
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
    with pytest.raises(ConfigError, match=r"lower method\.codeact\.work_tokens"):
        method.check({"root": scripted(Agent(), window=2_300).info})
    method.check({"root": scripted(Agent(), window=4_600).info})


# -- as configured ---------------------------------------------------------------------------------

ARMS = ("codeact", "codeact_bm25", "codeact_subcalls", "compaction", "summarize_refine")
SMALL = ("task=needle", "task.lengths=[2000]", "task.n=1", "model=scripted")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.codeact.overflow=tail", "method.codeact.overflow='tail' does not fit"),
        ("+method.codeact.bm=true", "did you mean method.codeact.bm25"),
        ("model.context_window=2000", "lower method.codeact.work_tokens"),
    ],
)
def test_bad_input_is_one_clear_line(override: str, told: str) -> None:
    from rlm_eval.assemble import assemble
    from rlm_eval.cli import compose_tree
    from rlm_eval.config import check_config

    with pytest.raises(ConfigError) as caught:
        assemble(check_config(compose_tree([*SMALL, "method=[codeact]", override])))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_arms_run(tmp_path: Path) -> None:
    arguments = [*SMALL, f"method=[{','.join(ARMS)}]", f"results_dir={tmp_path}"]
    more = ["+method@method.c2=codeact_bm25", "method.c2.sub_calls=true"]
    done = subprocess.run(
        [sys.executable, "-m", "rlm_eval", *arguments, *more, "model.context_window=4600"],
        capture_output=True,
        text=True,
        timeout=120,
    )
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
