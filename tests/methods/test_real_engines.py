"""rlms and dspy.RLM as methods, where they are installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Table, problem, scripted
from helpers.foreign_engines import answer_of, confined_only
from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Ledger
from rlm_eval.methods.foreign.packages import DspyRlm, Rlms
from rlm_eval.methods.foreign.process import why_not_confined
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Content

pytestmark = pytest.mark.slow


class Heard:
    """A script that plays ``turns`` (code) to whoever speaks of a REPL, says "reply to …" to every
    other prompt, and keeps all it was asked."""

    def __init__(self, form: Callable[[str], str], *turns: str) -> None:
        self.prompts: list[Sequence[Message]] = []
        self._form = form
        self._turns = list(turns)

    def __call__(self, messages: Sequence[Message]) -> str:
        self.prompts.append(messages)
        if len(messages) == 1:
            return f"reply to {messages[0]['content']}"
        return self._form(self._turns.pop(0) if len(self._turns) > 1 else self._turns[0])


def fenced(code: str) -> str:
    return f"```repl\n{code}\n```"


def fields(code: str) -> str:
    parts = {"reasoning": "Let me see.", "code": f"```python\n{code}\n```"}
    shown = "".join(f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in parts.items())
    return shown + "[[ ## completed ## ]]"


def rlms_says(text: str) -> str:
    return f"answer['content'] = {text}; answer['ready'] = True"


def dspy_says(text: str) -> str:
    return f"SUBMIT(answer=str({text}))"


@pytest.fixture
def rlms() -> type[Rlms]:
    pytest.importorskip("rlm", reason="needs the extra rlms")
    return Rlms


@pytest.fixture
def dspy_rlm() -> type[DspyRlm]:
    pytest.importorskip("dspy", reason="needs the extra dspy")
    return DspyRlm


@pytest.fixture(params=["rlms", "dspy_rlm"])
def engine(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """A real engine's class, how its turns are written, and how its code answers."""
    forms = {"rlms": (fenced, rlms_says), "dspy_rlm": (fields, dspy_says)}
    return request.getfixturevalue(request.param), *forms[request.param]


def real(kind: Any, **settings: Any) -> Any:
    return kind(isolation="none" if why_not_confined() else "confined", **settings)


@pytest.mark.parametrize(("content", "seen"), [(("a", "b"), "2"), ({"x": "1"}, "1")])
def test_a_real_engine_answers_through_the_proxy(engine: Any, content: Content, seen: str) -> None:
    kind, form, says = engine
    script = Heard(form, "x = llm_query('first'); print(x, len(context))", says("x + '!'"))
    got, table = answer_of(real(kind), script, content)
    assert (got.text, got.outcome, got.error) == ("reply to first!", "answered", "")
    assert [(c.role, c.depth, c.from_repl) for c in table.calls] == [
        ("root", 0, False),
        ("sub", 1, True),
        ("root", 0, False),
    ]
    assert f"reply to first {seen}" in str(script.prompts[-1]), "its REPL held the input"
    assert "How many?" in str(script.prompts[0])
    assert (got.iterations, got.code_errors) == (2, 0)
    kinds = [event["type"] for event in got.trajectory]
    assert kinds == ["start", "turn", "call", "block", "turn", "block"]


def test_a_real_engines_rows_are_what_the_model_was_asked(engine: Any) -> None:
    kind, form, says = engine
    turns = ["print(llm_query_batched(['p %d' % i for i in range(20)]))", "1 / 0", says("7")]
    script = Heard(form, *turns)
    ledger = Ledger().child()
    table = Table(scripted(script))
    got = real(kind).answer(problem(), table.lm(), ledger)
    assert (got.text, got.iterations) == ("7", 3)
    assert got.code_errors == 1
    asked = sorted(sum(len(m["content"]) // 4 + 4 for m in prompt) for prompt in script.prompts)
    assert sorted(call.prompt_tokens for call in table.calls) == asked
    assert len(table.calls) == 23
    turn = table.calls[0].call_id
    assert {c.parent_call_id for c in table.calls if c.role == "sub"} == {turn}
    assert ledger.spent.tokens == table.tokens


def test_a_second_batch_is_answered_as_the_first_was(engine: Any) -> None:
    kind, form, says = engine
    code = "x = llm_query_batched(['a', 'b'])\nx = llm_query_batched(['c', 'd'])"
    got, _ = answer_of(real(kind), Heard(form, code, says("'; '.join(x)")))
    assert got.text == "reply to c; reply to d"


def test_a_real_engine_takes_our_instructions(engine: Any) -> None:
    kind, form, says = engine
    script, own = Heard(form, says("1")), Heard(form, says("1"))
    told = "Say ahoy, then set answer = {'content': 1}."
    answer_of(real(kind, instructions=told), script)
    answer_of(real(kind), own)
    ours, theirs = (heard.prompts[0][0]["content"] for heard in (script, own))
    assert told in ours
    assert ours != theirs
    if kind is Rlms:
        assert ours.strip() == told, "in place of its own"
    else:
        assert "You have access to a Python REPL environment" in ours, "before its own"
        objective = "Given the fields `context`, `query`, produce the fields `answer`."
        assert (objective in theirs, objective in ours) == (True, False)


def test_a_real_engine_is_stopped_by_the_samples_cap(engine: Any) -> None:
    kind, form, _ = engine
    script = Heard(form, "print('still looking')")
    got, table = answer_of(real(kind), script, calls=3)
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert len(table.calls) == len(script.prompts) == 3
    assert got.iterations == 3


def test_at_its_own_limit_a_real_engines_answer_is_forced(engine: Any) -> None:
    kind, form, _ = engine
    heard = Heard(form, "print('still looking')")

    def script(messages: Sequence[Message]) -> str:
        told = str(messages)
        if "Please provide a final answer" in told or "extract the final outputs now" in told:
            return "[[ ## answer ## ]]\nperhaps\n\n[[ ## completed ## ]]"
        return heard(messages)

    got, table = answer_of(real(kind, max_iterations=2), script)
    assert got.outcome == "forced"
    assert "perhaps" in (got.text or "")
    assert len(table.calls) == 3


def test_what_dspys_first_adapter_cannot_read_is_asked_for_anew(dspy_rlm: type[DspyRlm]) -> None:
    said = json.dumps({"reasoning": "Let me see.", "code": "print(1)", "answer": "perhaps"})
    method = real(dspy_rlm, max_iterations=1)
    got, table = answer_of(method, lambda messages: said)
    assert (got.text, got.outcome) == ("perhaps", "forced")
    assert len(table.calls) == method.most_calls()[0] == 4


def test_settings_a_real_engine_does_not_take_end_the_run(engine: Any) -> None:
    kind, _, _ = engine
    with pytest.raises(ConfigError, match="no_such_setting"):
        answer_of(real(kind, kwargs={"no_such_setting": 3}))


def test_two_real_engines_at_once_do_not_mix(engine: Any) -> None:
    kind, form, says = engine
    method = real(kind)
    outcomes: dict[str, tuple[Answer, Table]] = {}

    def one(name: str) -> None:
        script = Heard(form, f"x = llm_query_batched(['{name}'] * 8)", says("[len(set(x)), x[0]]"))
        outcomes[name] = answer_of(method, script)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (got, table) in outcomes.items():
        assert f"reply to {name}" in (got.text or "")
        assert [c.role for c in table.calls].count("sub") == 8


def test_a_child_rlm_of_rlms_is_seen_as_one(rlms: type[Rlms]) -> None:
    script = Heard(
        fenced,
        "print(rlm_query('look closer'))",
        "print(llm_query('inside'))",
        rlms_says("'from the child'"),
        rlms_says("'done'"),
    )
    got, table = answer_of(real(rlms, max_depth=2), script)
    assert got.text == "done"
    assert [(c.role, c.depth, c.from_repl) for c in table.calls] == [
        ("root", 0, False),
        ("root", 1, True),
        ("root", 1, True),  # in a child, rlms asks the root model
        ("root", 1, True),
        ("root", 0, False),
    ]
    assert got.iterations == 2
    assert {c.parent_call_id for c in table.calls[1:4]} == {table.calls[0].call_id}


def test_rlms_waits_for_sub_calls_as_long_as_for_the_sample(rlms: type[Rlms]) -> None:
    code = f"""
from inspect import signature
from rlm.core.comms_utils import send_lm_request, send_lm_request_batched
asks = send_lm_request, send_lm_request_batched
{rlms_says("[signature(ask).parameters['timeout'].default for ask in asks]")}
"""
    got, _ = answer_of(real(rlms, seconds=77.0), Heard(fenced, code))
    assert got.text == "[77.0, 77.0]"


def test_rlms_compacts_at_the_window_that_its_model_has(rlms: type[Rlms]) -> None:
    script = Heard(fenced, "print('word ' * 2000)", rlms_says("1"))
    table = Table(scripted(script, window=8000))
    own = {"compaction": True, "compaction_threshold_pct": 0.2}
    method = real(rlms, instructions="Be brief.", kwargs=own)
    got = method.answer(problem(), table.lm(), table.ledger())
    assert "Summarize your progress" in script.prompts[1][-1]["content"]
    assert got.text == "1"


def test_what_rlms_has_at_another_limit_of_its_own_is_a_forced_answer(rlms: type[Rlms]) -> None:
    got, _ = answer_of(real(rlms, kwargs={"max_errors": 2}), Heard(fenced, "1 / 0"))
    assert (got.text, got.outcome) == (fenced("1 / 0"), "forced")


def test_a_sub_agent_of_dspy_is_a_sub_call(dspy_rlm: type[DspyRlm]) -> None:
    code = "import dspy\nprint(dspy.Predict('question -> answer')(question='deep').answer)"
    heard = Heard(fields, code, dspy_says("'done'"))

    def script(messages: Sequence[Message]) -> str:
        if "repl_history" not in messages[0]["content"]:
            return "[[ ## answer ## ]]\nfrom below\n\n[[ ## completed ## ]]"
        return heard(messages)

    got, table = answer_of(real(dspy_rlm), script)
    assert got.text == "done"
    assert "from below" in str(heard.prompts[-1])
    assert [(c.role, c.from_repl) for c in table.calls] == [
        ("root", False),
        ("sub", True),
        ("root", False),
    ]


def test_a_real_engines_version_is_part_of_the_key(engine: Any) -> None:
    kind, _, _ = engine
    assert kind().prompt_source().startswith(("rlms 0.1.3", "dspy 3.4"))
    assert kind().prompt_name() == kind().version()


@confined_only
def test_code_in_a_real_engine_is_confined(engine: Any, tmp_path: Path) -> None:
    kind, form, says = engine
    (tmp_path / "secret").write_text("the user's")
    code = f"""
import os
def seen(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
found = [seen("{tmp_path}/secret"), os.environ["HOME"].startswith("/tmp/engine")]
{says("found")}
"""
    got, _ = answer_of(real(kind), Heard(form, code))
    assert got.text == "['FileNotFoundError', True]"
