"""The RLM engine with a scripted model and the real sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.chat import Script, Table, block, problem, scripted, turns
from rlm_eval.errors import ConfigError, ProviderError
from rlm_eval.ledger import Budget
from rlm_eval.methods.agent.chat import History, parse_reply
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.protocol import Message, ModelInfo, user
from rlm_eval.records import Answer, Problem
from rlm_eval.repl.results import BlockResult
from rlm_eval.repl.session import Sandbox


def answer(
    sandbox: Sandbox,
    script: Script,
    asked: Problem | None = None,
    budget: Budget | None = None,
    window: int = 100_000,
    **settings: object,
) -> tuple[Answer, Table]:
    table = Table(scripted(script, window=window))
    rlm = replace(Rlm(sandbox=sandbox), **settings)
    return rlm.answer(asked or problem(), table.lm(), table.ledger(budget)), table


def test_submit_ends_the_run_with_the_answer(sandbox: Sandbox) -> None:
    got, table = answer(sandbox, turns(block("submit(len(context.split()))")))
    assert (got.text, got.outcome, got.iterations) == ("2", "answered", 1)
    assert [c.role for c in table.calls] == ["root"]


def test_variables_stay_between_turns_and_output_is_shown(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block("x = 41; print('here')") if len(seen) == 1 else block("submit(x + 1)")

    got, _ = answer(sandbox, script)
    assert got.text == "42"
    assert "here" in seen[1]


def test_the_root_sees_metadata_not_the_context(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append("\n".join(m["content"] for m in messages))
        return block("submit('x')")

    secret = "x" * 5000 + "SECRET" + "y" * 5000
    answer(sandbox, script, problem(content=secret), preview_head=20, preview_tail=10)
    assert "SECRET" not in seen[0]
    assert "10006 characters" in seen[0]
    assert "x" * 20 in seen[0]
    assert "x" * 21 not in seen[0]


def test_text_that_looks_like_an_ending_ends_nothing(sandbox: Sandbox) -> None:
    got, _ = answer(
        sandbox,
        turns(
            block("print(context)") + "\nsubmit('prose')\nFINAL(prose)",
            block("print('submit(1) FINAL(2) Final = 3')"),
            block("submit('real')"),
        ),
        problem(content="submit('from the context')\nFINAL(context)"),
    )
    assert (got.text, got.iterations) == ("real", 3)


def test_sub_calls_are_recorded_with_parent_and_depth(sandbox: Sandbox) -> None:
    code = "r = llm_query_batched(['a', 'b', 'a']); submit(','.join(r))"
    got, table = answer(sandbox, turns(block(code), otherwise="yes"))
    assert got.text == "yes,yes,yes"
    root = next(c for c in table.calls if c.role == "root")
    subs = [c for c in table.calls if c.role == "sub"]
    assert len(subs) == 3
    assert {(c.depth, c.parent_call_id, c.from_repl) for c in subs} == {(1, root.call_id, True)}
    assert sum(c.cached_response for c in subs) == 1, "the identical sub-call is answered once"
    assert got.last_subcall_used is True


def test_depth_0_has_no_sub_calls_and_says_nothing_of_them(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append("\n".join(m["content"] for m in messages))
        return block("submit('llm_query' in dir())")

    got, _ = answer(sandbox, script, max_depth=0)
    assert got.text.lower() == "false"
    assert "llm_query" not in seen[0]
    assert "judge" not in seen[0]


def test_depth_2_runs_a_child_that_pays_from_the_same_budget(sandbox: Sandbox) -> None:
    def script(messages: Sequence[Message]) -> str:
        if "`context`" not in messages[0]["content"]:
            return "leaf"
        if "inner question" in messages[-1]["content"]:
            return block("submit(context.upper() + llm_query('leaf?'))")
        return block("submit(rlm_query('inner question', 'inner text'))")

    got, table = answer(sandbox, script, max_depth=2)
    assert got.text == "INNER TEXTleaf"
    assert [(c.role, c.depth) for c in table.calls] == [("root", 0), ("sub", 1), ("sub", 2)]
    outer, inner, leaf = table.calls
    assert inner.parent_call_id == outer.call_id
    assert leaf.parent_call_id == inner.call_id
    assert inner.from_repl
    assert not outer.from_repl


def test_at_max_depth_there_is_no_rlm_query(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns(block("submit('rlm_query' in dir())")), max_depth=1)
    assert got.text.lower() == "false"


def test_a_failed_sub_call_is_a_typed_error_not_text(sandbox: Sandbox) -> None:
    code = """
values = llm_query_batched(['ok', 'x' * 9000])
bad = values[1]
too_long = bad.data['excess_tokens'] > 0
submit(f"{values[0]}|{isinstance(bad, QueryError)}|{bool(bad)}|{bad.kind}|{too_long}")
"""
    got, _ = answer(sandbox, turns(block(code), otherwise="fine"), window=2000)
    assert got.text == "fine|True|False|context_overflow|True"


def test_a_single_query_that_fails_raises(sandbox: Sandbox) -> None:
    code = "try:\n    llm_query('x' * 9000)\nexcept QueryError as e:\n    submit(e.kind)"
    got, _ = answer(sandbox, turns(block(code)), window=2000)
    assert got.text == "context_overflow"


@pytest.mark.parametrize("call", ["llm_query('x')", "llm_query_batched(['x', 'y'])"])
def test_a_provider_that_fails_in_a_sub_call_leaves_the_answer_pending(
    sandbox: Sandbox, call: str
) -> None:
    """As it does in every other method: code that goes on would be scored for an outage."""
    down = ProviderError("down", kind="unavailable", retryable=False)

    def script(messages: Sequence[Message]) -> str:
        if messages[-1]["content"] in ("x", "y"):
            raise down
        return block(f"try:\n    {call}\nexcept Exception:\n    pass\nsubmit('a guess')")

    got, _ = answer(sandbox, script)
    assert (got.outcome, got.text, got.error) == ("provider_error", None, "down")
    asked = [event["prompt"] for event in got.trajectory if event["type"] == "call"]
    assert asked == (["x"] if call == "llm_query('x')" else [])


def test_code_that_asks_on_past_its_limit_is_stopped_and_its_turns_go_on(sandbox: Sandbox) -> None:
    code = """
got = []
for i in range(1000):
    try: got.append(llm_query(str(i)))
    except Exception: got.append("error")
"""
    got, _ = answer(sandbox, turns(block(code), block("submit(len(got))")), max_sub_calls=5)
    assert (got.outcome, got.iterations) == ("answered", 2)
    assert 5 < int(got.text or 0) < 1000
    assert sum(event["type"] == "block" for event in got.trajectory) == 2


def test_a_prompt_that_memory_answers_again_and_again_is_refused_in_the_end(
    sandbox: Sandbox,
) -> None:
    code = "n = 0\nwhile llm_query('the same') != 'never':\n    n += 1"
    script = turns(block(code), block("submit(n)"), otherwise="Yes.")
    got, _ = answer(sandbox, script)
    assert (got.outcome, 100 < int(got.text or 0) < 1000) == ("answered", True)


def test_that_blocks_after_one_that_failed_were_not_run_is_said(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block("1 / 0") + block("x = 1") if len(seen) == 1 else block("submit('x' in dir())")

    assert answer(sandbox, script)[0].text == "false"
    assert "[The blocks after it were not run.]" in seen[1]


def test_no_child_begins_after_one_that_leaves_the_question_pending(sandbox: Sandbox) -> None:
    asked: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        if "child" not in (told := messages[-1]["content"]):
            return block("rlm_query_batched([(f'child {i}', 'text') for i in range(40)])")
        asked.append(told)
        raise ProviderError("down", kind="unavailable", retryable=False)

    got, _ = answer(sandbox, script, max_depth=2, concurrency=1, prompt="orchestrator")
    assert (got.outcome, len(asked)) == ("provider_error", 1)


@pytest.mark.parametrize("kind", ["bad_request", "over_rate_limit"])
def test_a_request_that_is_refused_for_what_it_holds_is_the_codes_to_handle(
    sandbox: Sandbox, kind: str
) -> None:
    def script(messages: Sequence[Message]) -> str:
        if messages[-1]["content"] == "x":
            raise ProviderError("no", kind=kind, retryable=False)
        return block("submit(llm_query_batched(['x', 'y'])[0].kind)")

    assert answer(sandbox, script)[0].text == "provider_error"


def test_a_child_needs_a_prompt_that_speaks_of_it(sandbox: Sandbox, tmp_path: Path) -> None:
    prompt = tmp_path / "mine.yaml"
    text = Rlm(sandbox=sandbox).loaded_prompt.source.replace("rlm_query", "helper")
    prompt.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="does not speak of rlm_query"):
        Rlm(sandbox=sandbox, prompt=str(prompt), max_depth=2)
    Rlm(sandbox=sandbox, prompt=str(prompt), max_depth=1)


def test_a_block_that_raises_keeps_its_variables(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns(block("y = 5\n1 / 0"), block("submit(y)")))
    assert (got.text, got.code_errors) == ("5", 1)


def test_after_a_block_that_ends_its_worker_the_model_reads_what_is_gone(
    sandbox: Sandbox,
) -> None:
    seen: list[str] = []
    play = turns(
        block("import time; x = llm_query(str(time.time_ns()))"),
        block("import os; os._exit(0)"),
        block("answer['content'] = ['x' in dir(), len(context), Counter('aa')]"),
        block("answer['ready'] = True"),
    )

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return play(messages)

    got, _ = answer(sandbox, script, protocol="answer_dict")
    assert "All variables are gone except context" in seen[3]
    assert got.text == '[false, 11, {"a": 2}]', "imports and the protocol's own are set again"


def test_blocks_after_an_error_in_the_same_turn_do_not_run(sandbox: Sandbox) -> None:
    reply = block("1 / 0") + "\n" + block("submit('too far')")
    got, _ = answer(sandbox, turns(reply, block("submit('second turn')")))
    assert got.text == "second turn"


def test_a_reply_without_code_gets_a_nudge(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return ["I think it is two.", "```sql\nselect 1\n```", block("submit(2)")][len(seen) - 1]

    got, _ = answer(sandbox, script)
    assert got.text == "2"
    assert "No code ran" in seen[1]
    assert "not sql" in seen[2]


def test_the_same_block_twice_gets_a_nudge(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block("print(1)") if len(seen) < 3 else block("submit(1)")

    answer(sandbox, script)
    assert "same block again" not in seen[1]
    assert "same block again" in seen[2]


def test_user_and_assistant_always_alternate(sandbox: Sandbox) -> None:
    def script(messages: Sequence[Message]) -> str:
        roles = [m["role"] for m in messages if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        return ["", "prose", block("submit(1)")][min(2, len(roles) // 2 - before)]

    before = 2 * 2
    got, _ = answer(sandbox, script)
    assert got.outcome == "answered"


def test_at_the_iteration_limit_the_answer_is_forced_and_marked(sandbox: Sandbox) -> None:
    script = turns(block("print(1)"), block("print(2)"), "the forced answer")
    got, _ = answer(sandbox, script, max_iterations=2)
    assert (got.text, got.outcome) == ("the forced answer", "forced")


def test_without_force_answer_there_is_none(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns(block("print(1)")), max_iterations=1, force_answer=False)
    assert (got.text, got.outcome) == (None, "no_answer")


def test_a_spent_sample_cap_is_the_outcome(sandbox: Sandbox) -> None:
    got, table = answer(sandbox, turns(block("print(1)")), budget=Budget(calls=1))
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert len(table.calls) == 1


def test_code_can_read_what_the_budget_leaves(sandbox: Sandbox) -> None:
    rlm = Rlm(sandbox=sandbox, prompt="orchestrator")
    for settings, left in ({"force_answer": False}, "4"), ({}, "3"):  # one is for a forced answer
        table = Table(scripted(turns(block("submit(budget()['calls'])"))))
        asked = replace(rlm, **settings)  # type: ignore[arg-type]
        got = asked.answer(problem(), table.lm(), table.ledger(Budget(calls=5)))
        assert got.text == left


def test_a_name_that_the_prompt_does_not_speak_of_is_the_codes_own(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns(block("budget = 7"), block("submit(budget)")))
    assert got.text == "7"


@pytest.mark.parametrize(
    ("protocol", "code"),
    [
        ("final_variable", "Final = {}"),
        ("answer_dict", 'answer["content"] = {}\nanswer["ready"] = True'),
    ],
)
def test_other_protocols(sandbox: Sandbox, protocol: str, code: str) -> None:
    values = [block(code.format(value)) for value in ("' '", "map(str, [1])", "'done'")]
    script = turns(block("submit = 1; print('not yet')"), *values)
    got, _ = answer(sandbox, script, protocol=protocol)
    assert (got.text, got.iterations, got.protocol) == ("done", 4, protocol)


def test_an_answer_may_be_longer_than_any_output(sandbox: Sandbox) -> None:
    got, _ = answer(sandbox, turns(block("submit('ab' * 500_000)")))
    assert got.text == "ab" * 500_000


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("submit([(1, 2), (3, 4)])", "[(1, 2), (3, 4)]"),
        ("submit((1, 2))", "(1, 2)"),
        ("submit(['list', 2])", '["list", 2]'),
        ("try:\n    submit('mine')\nexcept:\n    submit('unknown')", "mine"),
        ("try:\n    submit('mine')\nexcept:\n    pass", "mine"),
        ("submit(None)", "later"),
        ("submit(' ')", "later"),
        ("submit(word for word in 'ab')", "later"),
        ("submit(submit)", "later"),
        ("submit({'a': map(str, [1])})", "later"),
    ],
)
def test_what_is_submitted(sandbox: Sandbox, code: str, text: str) -> None:
    script = turns(block(code), block("submit('later')"))
    assert answer(sandbox, script)[0].text == text


@pytest.mark.parametrize(
    ("value", "chars"),
    [("'x' * 5000", 5002), ("'x' * 300_000", 300_002), ("[0] * 100_000", 300_000)],
)
def test_a_long_value_says_how_long_it_is(sandbox: Sandbox, value: str, chars: int) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block(value) if len(seen) == 1 else block("submit(1)")

    answer(sandbox, script)
    assert f"({chars} characters in all" in seen[1]


def test_long_output_is_cut_and_says_so(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block("print('z' * 50_000)") if len(seen) == 1 else block("submit(1)")

    answer(sandbox, script, output_chars=200)
    assert "50001 characters in all" in seen[1]
    assert len(seen[1]) < 500


def test_of_a_list_what_is_shown_is_in_it(sandbox: Sandbox) -> None:
    seen: list[str] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages[-1]["content"])
        return block("submit(1)")

    answer(sandbox, script, problem(content=("alpha beta", "gamma")))
    assert "list of str, 2 documents, 2 lines, 15 characters" in seen[0]
    assert "It begins:\nalpha beta\ngamma" in seen[0]
    assert "Document 1" not in seen[0]


def test_documents_arrive_as_a_list(sandbox: Sandbox) -> None:
    asked = problem(content=("first", "second"))
    got, _ = answer(sandbox, turns(block("submit([type(context).__name__, len(context)])")), asked)
    assert got.text == '["list", 2]'


@pytest.mark.parametrize(
    ("reply", "blocks", "unknown"),
    [
        ("```repl\na\n```", ("a",), ()),
        ("```python\na\n```\ntext\n```py\nb\n```", ("a", "b"), ()),
        ("```\na\n```", ("a",), ()),
        ("```json\n{}\n```", (), ("json",)),
        ("no code", (), ()),
        ("", (), ()),
        ("```repl\ncut off", ("cut off",), ()),
        ("````repl\nx = '''\n```\nin\n```\n'''\n````", ("x = '''\n```\nin\n```\n'''",), ()),
        ("~~~python\na\n~~~", ("a",), ()),
        ("```repl\n\n```", (), ()),
        ("```\nPlan: first, look\n```\n```python\na\n```", ("a",), ()),
        ("```python\na\n```\n```\nb =\n```", ("a", "b ="), ()),  # its error is shown
        ("```\nPlan: first, look\n```", ("Plan: first, look",), ()),
    ],
)
def test_parse_reply(reply: str, blocks: tuple[str, ...], unknown: tuple[str, ...]) -> None:
    parsed = parse_reply(reply)
    assert parsed.blocks == blocks
    assert parsed.unknown == unknown


def fits(limit: int) -> Callable[[Sequence[Message]], bool]:
    return lambda messages: sum(len(m["content"]) for m in messages) <= limit


def test_history_shrinks_old_outputs_then_drops_old_turns() -> None:
    """The newest output is cut last of all."""
    history = History([user("task")])
    for i in range(5):
        history.add(f"reply {i}", f"start {i} " + "x" * 1000)
    assert sum(len(m["content"]) for m in history.messages(fits(10_000))) > 5000
    shrunk = history.messages(fits(3000))
    assert len(shrunk) == 11
    assert "x" * 1000 in shrunk[-1]["content"]
    assert shrunk[2]["content"].endswith("[Whole: earlier_turns[0]]")
    fewer = history.messages(fits(1500))
    assert "The first 3 turns were dropped" in fewer[0]["content"]
    assert fewer[2]["content"].endswith("[Whole: earlier_turns[3]]")
    assert fewer[-1]["content"] == "start 4 " + "x" * 1000
    dropped = history.messages(fits(700))
    assert dropped[0]["content"].startswith("task")
    assert "The first 3 turns were dropped" in dropped[0]["content"]
    assert dropped[-1]["content"].startswith("start 4")


def test_what_the_chat_no_longer_has_in_full_is_in_the_repl(sandbox: Sandbox) -> None:
    noise = [block(f"kept = {n}\nprint('turn {n}:', 'word ' * 300)") for n in range(8)]
    look = block("submit(f'{len(earlier_turns)} {kept} {earlier_turns[1]}')")
    play = turns(*noise, look)
    chats: list[Sequence[Message]] = []

    def script(messages: Sequence[Message]) -> str:
        chats.append(messages)
        return play(messages)

    got, _ = answer(
        sandbox, script, window=3500, turn_tokens=300, max_iterations=9, output_chars=4000
    )
    kept, last, turn = (got.text or "").split(" ", 2)
    assert 1 < int(kept) <= 8
    assert last == "7"
    assert turn.startswith("```repl\nkept = 1\n")
    assert "turn 1: " + "word " * 299 in turn
    assert any("[Whole: earlier_turns[0]]" in m["content"] for chat in chats for m in chat)


def test_turns_that_left_the_chat_are_put_into_the_repl_again_when_it_lost_them() -> None:
    class Session:
        def __init__(self) -> None:
            self.scope: dict[str, list[str]] = {}

        def run(self, code: str) -> BlockResult:
            exec(code, {}, self.scope)
            return BlockResult()

    history = History([user("task")])
    for i in range(4):
        history.add(f"reply {i}", "x" * 1000)
    session, again = Session(), Session()
    for limit in (3000, 1000):  # which cut two outputs, then all four
        history.messages(fits(limit))
        history.keep_in(session, lost=False)  # type: ignore[arg-type]
    history.keep_in(again, lost=True)  # type: ignore[arg-type]
    assert len(session.scope["earlier_turns"]) == 4
    assert again.scope == session.scope


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"history_share": 0.1}, "^history_share leaves 819 tokens of m's window, and "),
        ({"sub_tokens": 9000}, "^sub_tokens leaves no room for a prompt in m's window of 8192"),
        ({"sub_tokens": 8192}, "^sub_tokens leaves no room"),
        ({"sub_tokens": 9000, "max_depth": 0}, None),
        ({"sub_tokens": 8191}, None),
        ({}, None),
    ],
)
def test_sizes_that_leave_no_room_are_refused(
    sandbox: Sandbox, settings: dict[str, object], told: str | None
) -> None:
    rlm = replace(Rlm(sandbox=sandbox), **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=told) if told else nullcontext():
        rlm.check({"root": ModelInfo("m", "e", 8192)})


def test_a_window_too_small_for_a_turn_is_refused(sandbox: Sandbox) -> None:
    rlm = Rlm(sandbox=sandbox, turn_tokens=512)
    with pytest.raises(ConfigError, match="turn_tokens"):
        rlm.check({"root": scripted(turns(), window=600).info})


@pytest.mark.parametrize("setting", [{"max_depth": -1}, {"max_iterations": 0}, {"prompt": "none"}])
def test_settings_out_of_range_are_refused(sandbox: Sandbox, setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Rlm(sandbox=sandbox, **setting)  # type: ignore[arg-type]


HANGS = """class Hangs:
    def __repr__(self):
        while True:
            try:
                __import__('time').sleep(9)
            except BaseException:
                pass
x, Final = 1, Hangs()"""


@pytest.mark.slow
def test_a_read_that_has_to_be_killed_is_told_and_the_setup_runs_again() -> None:
    chats: list[Sequence[Message]] = []

    def script(messages: Sequence[Message]) -> str:
        chats.append(messages)
        return block(HANGS if len(chats) == 1 else "Final = re.sub('a', 'b', 'aa')")

    with Sandbox("auto", {"block_seconds": 1, "grace_seconds": 0.3}) as sandbox:
        got, _ = answer(sandbox, script, protocol="final_variable", max_iterations=3)
    assert (got.text, got.outcome) == ("bb", "answered")
    assert "All variables but the context are gone" in chats[1][-1]["content"]
