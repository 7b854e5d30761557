"""What model code calls in the harness: host functions and submit."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rlm_eval.errors import SandboxError
from rlm_eval.repl.session import ReplSession, Sandbox

# -- host calls ----------------------------------------------------------------------------------


def test_arguments_and_values_cross_as_json(sandbox: Sandbox) -> None:
    seen: list[Any] = []

    def keep(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return {"list": [1, 2.5, None, True], "text": "ü😀\ud800"}

    with sandbox.session({"keep": keep}) as repl:
        result = repl.run("keep(1, 'ü😀', [None], key={'a': (1, 2)})")
        assert result.value == repr(keep())
        assert seen[0] == ((1, "ü😀", [None]), {"key": {"a": [1, 2]}})
        assert repl.run("keep({1, 2})").error_type == "TypeError"
        assert repl.run("keep(float('nan'))").error_type == "TypeError"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("llm_query_batched(['x'] * 200_000)", "fewer items at once"),
        ("llm_query_batched(prompts=['some words'] * 20_001)", "at most 20,000 items"),
        ("llm_query([[] for _ in range(200_000)])", "items at once"),
        ("llm_query({i: [] for i in range(200_000)})", "items at once"),
        ("x = []\nx.append(x)\nllm_query(x)", "takes text, numbers, lists and dicts"),
    ],
)
def test_too_many_items_are_refused_before_they_are_made(
    repl: ReplSession, code: str, words: str
) -> None:
    result = repl.run(code)
    assert result.error_type in ("TypeError", "ValueError")
    assert words in (result.error or "")
    assert repl.run("llm_query('a')").value == "'<a>'"


def test_a_batch_of_many_long_prompts_is_no_such_case(repl: ReplSession) -> None:
    code = "r = llm_query_batched(['x' * 90] * 20_000)\nlen(r), r[-1] == '<' + 'x' * 90 + '>'"
    assert repl.run(code).value == "(20000, True)"


def test_arguments_that_do_not_fit_are_the_models_type_error(repl: ReplSession) -> None:
    result = repl.run("llm_query()")
    assert result.error_type == "TypeError"
    assert "missing a required argument: 'prompt'" in (result.error or "")


def test_a_failed_call_is_a_typed_exception(repl: ReplSession) -> None:
    result = repl.run(
        "try:\n  refuse('budget')\nexcept QueryError as error:\n"
        "  print(error.kind, error.message, error.data, bool(error), str(error))"
    )
    assert result.stdout == "budget no more {'left': 0} False [budget] no more\n"
    assert repl.run("refuse('budget')").error_type == "QueryError"


def test_a_failed_item_of_a_batch_is_a_typed_value(repl: ReplSession) -> None:
    code = "r = llm_query_batched(['a', 'x' * 101])\n"
    result = repl.run(code + "[r[0], isinstance(r[1], QueryError), r[1].data, bool(r[1])]")
    assert result.value == "['<a>', True, {'excess_tokens': 7}, False]"


def test_text_that_looks_like_a_failed_item_stays_text(repl: ReplSession) -> None:
    code = 'llm_query_batched([\'{"__query_error__": {"kind": "x"}}\'])[0].__class__'
    assert repl.run(code).value == "<class 'str'>"


def test_host_functions_are_back_in_the_next_block(repl: ReplSession) -> None:
    repl.run("llm_query = 5\ndel submit\nQueryError = None")
    assert repl.run("llm_query('a')").value == "'<a>'"
    assert repl.run("submit('a')").submitted == "a"


def test_calls_from_threads_are_answered_at_once(sandbox: Sandbox) -> None:
    together = threading.Barrier(16, timeout=60)
    with sandbox.session({"meet": lambda i: together.wait() >= 0}) as repl:
        result = repl.run(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(16) as pool: r = all(pool.map(meet, range(16)))\nr"
        )
        assert result.value == "True"


def test_any_other_exception_of_a_host_function_ends_the_run(sandbox: Sandbox) -> None:
    def broken() -> None:
        raise SandboxError("out of budget")

    code = "import time\ntry:\n  f()\nexcept Exception: pass\nwhile True: time.sleep(0.01)"
    with sandbox.session({"f": broken}) as repl, pytest.raises(SandboxError, match="of budget"):
        repl.run(code)


def test_built_in_names_are_back_in_the_next_block(repl: ReplSession) -> None:
    repl.run("import builtins\nbuiltins.len = builtins.isinstance = builtins.print = None")
    assert repl.run("print(len([1]), isinstance(1, int))").stdout == "1 True\n"
    repl.run("__builtins__ = {}\n__name__ = 'x'")
    assert repl.run("print(__name__)").stdout == "__main__\n"


@pytest.mark.slow
def test_a_session_goes_on_after_such_an_exception_and_says_what_is_lost(
    sandbox: Sandbox,
) -> None:
    def broken() -> None:
        raise LookupError("not the model's fault")

    # The interrupt may come in f or, on a busy machine, just before sum, which takes none.
    stubborn = """
try:
    try: f()
    except BaseException: pass
    sum(range(10**12))
except BaseException: pass
sum(range(10**12))
"""
    with sandbox.session({"f": broken}) as repl:
        repl.load("context", "c")
        for code, state in (("f()", "kept"), (stubborn, "lost")):
            repl.run("x = 1")
            with pytest.raises(LookupError, match="not the model"):
                repl.run(code)
            result = repl.run("context")
            assert (result.value, result.state) == ("'c'", state)


# -- submit --------------------------------------------------------------------------------------


def test_submit_ends_the_block(repl: ReplSession) -> None:
    result = repl.run("x = 1\ntry:\n  submit('the answer')\nexcept Exception:\n  x = 2\nx = 3")
    assert (result.submitted, result.error) == ("the answer", None)
    assert repl.run("x").value == "1"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("submit(42)", "42"),
        ("submit(answer=42)", "42"),
        ("submit([1, 'ü'])", '[1, "ü"]'),
        ("submit({1, })", "{1}"),
        ("submit([(1, 2), (3, 4)])", "[(1, 2), (3, 4)]"),
        ("submit('\\ud800')", "\ud800"),
    ],
)
def test_submitted_values_become_text(repl: ReplSession, code: str, text: str) -> None:
    assert repl.run(code).submitted == text


@pytest.mark.parametrize(
    "code",
    [
        "try:\n  submit('a')\nexcept BaseException: pass",
        "try:\n  submit('a')\nexcept:\n  submit('b')",
        "try:\n  submit('a')\nfinally:\n  raise ValueError",
    ],
)
def test_the_first_submission_counts_whatever_the_block_makes_of_its_end(
    repl: ReplSession, code: str
) -> None:
    assert repl.run(code).submitted == "a"
    assert repl.run("1").submitted is None


@pytest.mark.parametrize("value", ["''", "' \\n'", "None"])
def test_nothing_is_no_submission(repl: ReplSession, value: str) -> None:
    result = repl.run(f"submit({value})")
    assert result.submitted is None
    assert "submit() takes the final answer" in (result.error or "")


def test_a_submission_of_30_million_characters(repl: ReplSession) -> None:
    assert repl.run("submit('ä' * 30_000_000)").submitted == "ä" * 30_000_000


@pytest.mark.parametrize(
    "code",
    [
        "print('FINAL(42)')",
        "'FINAL_VAR(x)'",
        "import threading\nt = threading.Thread(target=lambda: submit('a'))\nt.start()\nt.join()",
        "answer = {'content': 'a', 'ready': True}",
    ],
)
def test_nothing_else_submits(repl: ReplSession, code: str) -> None:
    assert repl.run(code).submitted is None


def test_submit_can_be_left_out(sandbox: Sandbox) -> None:
    with sandbox.session({}, submit=False) as repl:
        assert repl.run("submit('a')").error_type == "NameError"
