"""The REPL as an engine uses it: Python, host calls, output, interrupts, restored state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rlm_eval.errors import ConfigError, SandboxError
from rlm_eval.repl.commands import CommandLauncher
from rlm_eval.repl.levels import candidates, make_policy
from rlm_eval.repl.session import (
    BlockResult,
    HostError,
    HostFunction,
    Limits,
    ReplSession,
    Sandbox,
    Variable,
    host_error_value,
)

LIMITS = Limits(block_seconds=15.0, memory_mb=1024, output_chars=2000)
HASTY = Limits(block_seconds=0.4, grace_seconds=1.0, memory_mb=1024, output_chars=2000)


def ask(prompt: str, **options: Any) -> str:
    return f"<{prompt}>"


def ask_all(prompts: list[str]) -> list[Any]:
    failed = host_error_value("context_overflow", "too long", {"excess_tokens": 7})
    return [failed if len(p) > 100 else ask(p) for p in prompts]


def refuse(kind: str) -> str:
    raise HostError(kind, "no more", {"left": 0})


HOST: dict[str, HostFunction] = {"llm_query": ask, "llm_query_batched": ask_all, "refuse": refuse}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("auto", LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def hasty() -> Iterator[Sandbox]:
    with Sandbox("auto", HASTY) as made:
        yield made


@pytest.fixture
def hasty_repl(hasty: Sandbox) -> Iterator[ReplSession]:
    with hasty.session(HOST) as session:
        yield session


@pytest.fixture
def repl(sandbox: Sandbox) -> Iterator[ReplSession]:
    with sandbox.session(HOST) as session:
        yield session


def names(result: BlockResult) -> set[str]:
    return {variable.name for variable in result.variables}


# -- Python ------------------------------------------------------------------------------------

PROGRAMS = {
    "classes and super": (
        "class A:\n  def f(self): return 1\nclass B(A):\n  def f(self): return super().f() + 1\n"
        "B().f()",
        "2",
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n  x: int\n  y: 'int' = 2\nP(1)",
        "P(x=1, y=2)",
    ),
    "a function sees later globals": ("def f(): return late\nlate = 5\nf()", "5"),
    "a comprehension sees globals": ("k = 3\n[k * i for i in range(3)]", "[0, 3, 6]"),
    "a comprehension calls": ("[llm_query(str(i)) for i in range(3)]", "['<0>', '<1>', '<2>']"),
    "a nested function calls": (
        "def f(x):\n  return llm_query(x)\n[f(c) for c in 'ab']",
        "['<a>', '<b>']",
    ),
    "a generator": (
        "def g():\n  yield from (llm_query(c) for c in 'ab')\nlist(g())",
        "['<a>', '<b>']",
    ),
    "threads call": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: r = list(pool.map(llm_query, map(str, range(20))))\n"
        "r == [f'<{i}>' for i in range(20)]",
        "True",
    ),
    "asyncio": (
        "import asyncio\nasync def one(i): return await asyncio.to_thread(llm_query, str(i))\n"
        "async def main(): return await asyncio.gather(*map(one, range(3)))\nasyncio.run(main())",
        "['<0>', '<1>', '<2>']",
    ),
    "recursion": ("fib = lambda n: n if n < 2 else fib(n-1) + fib(n-2)\nfib(15)", "610"),
    "del, with, try": (
        "import io\nwith io.StringIO('a,b') as f:\n  import csv\n  r = list(csv.reader(f))\n"
        "try:\n  1/0\nexcept ZeroDivisionError as e:\n  r.append(str(e))\ns = r\ndel r\ns",
        "[['a', 'b'], 'division by zero']",
    ),
    "pickle of a class of the block": (
        "import pickle\nclass C: pass\ntype(pickle.loads(pickle.dumps(C()))) is C",
        "True",
    ),
    "match": ("match [1, 2]:\n  case [a, b]: r = a + b\nr", "3"),
    "no trailing value": ("x = 1", None),
    "None is not shown": ("None", None),
    "only a comment": ("# nothing", None),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_python(repl: ReplSession, name: str) -> None:
    code, value = PROGRAMS[name]
    result = repl.run(code)
    assert (result.error, result.value) == (None, value)


MODULES = (
    "re json math statistics collections itertools functools datetime string textwrap difflib heapq"
    " random csv io bisect decimal fractions dataclasses typing enum copy operator time hashlib"
    " base64 unicodedata html urllib.parse calendar zoneinfo graphlib xml.dom.minidom configparser"
)


@pytest.mark.parametrize("name", MODULES.split())
def test_import(repl: ReplSession, name: str) -> None:
    assert repl.run(f"import {name}").error is None


def test_names_live_on_from_block_to_block(repl: ReplSession) -> None:
    repl.run("import math\ndef area(r): return math.pi * r * r * scale")
    repl.run("scale = 0")
    assert repl.run("area(1)").value == "0.0"


def test_variables_are_listed_with_sizes_and_without_what_the_harness_put_there(
    repl: ReplSession,
) -> None:
    repl.load("context", "x" * 5000)
    result = repl.run("import re\ndocs = ['a'] * 120\n_hidden = 1\nn = 7\nd = {1: 2}")
    assert set(result.variables) == {
        Variable("context", "str", "5,000 chars"),
        Variable("docs", "list", "120 items"),
        Variable("n", "int", ""),
        Variable("d", "dict", "1 items"),
    }


def test_a_len_of_the_models_own_is_not_called_for_the_listing(repl: ReplSession) -> None:
    code = "class L(list):\n  def __len__(self): raise SystemExit\nx = L()"
    result = repl.run(code)
    assert result.error is None
    assert Variable("x", "L", "") in result.variables


# -- errors ------------------------------------------------------------------------------------


def test_assignments_before_an_exception_are_kept_and_the_models_line_is_shown(
    repl: ReplSession,
) -> None:
    result = repl.run("kept = 1\ndef f(x):\n    return x['key']\nf({})\nnever = 2")
    assert result.error == (
        "Traceback (most recent call last):\n"
        "  block 1, line 4\n"
        "    f({})\n"
        "  block 1, line 3, in f\n"
        "    return x['key']\n"
        "KeyError: 'key'"
    )
    assert (result.error_type, result.state) == ("KeyError", "kept")
    assert "kept" in names(result)
    assert "never" not in names(result)


def test_library_frames_are_left_out(repl: ReplSession) -> None:
    error = repl.run("import json\njson.loads('{')").error
    assert error is not None
    assert error.count("line") == 2  # the model's, and the one in the JSON error's own words
    assert "site-packages" not in error
    assert "/json/" not in error


def test_a_syntax_error_keeps_the_state(repl: ReplSession) -> None:
    repl.run("x = 1")
    result = repl.run("def f(:\n  pass")
    assert result.error_type == "SyntaxError"
    assert result.error is not None
    assert "block 2" in result.error
    assert repl.run("x").value == "1"


@pytest.mark.parametrize(
    "code",
    [
        "\0",
        "(" * 10_000,
        "x = " + "-" * 100_000 + "1",
        "'\\ud800'.encode()",
        "raise type('E', (Exception,), {'__str__': lambda s: 1/0})()",
        "raise type('E', (BaseException,), {})()",
        "class R:\n  def __repr__(self): raise ValueError('r')\nR()",
        "def f(): f()\nf()",
        "raise SystemExit",
        "import sys; sys.exit(3)",
        "exit()",
        "input()",
        "a = []\na.append(a)\na[0][0][0].x",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
    ],
)
def test_odd_errors_are_reported_and_the_session_goes_on(repl: ReplSession, code: str) -> None:
    repl.run("x = 1")
    result = repl.run(code)
    assert result.error is not None
    assert len(result.error) < 5000
    assert (result.interrupted, result.state) == ("", "kept")
    assert repl.run("x").value == "1"


def test_memory_exhaustion_is_a_memory_error_and_keeps_the_state() -> None:
    with Sandbox("auto", {"memory_mb": 256}) as sandbox, sandbox.session({}) as repl:
        repl.run("x = 1")
        assert repl.run("b = bytearray(1 << 30)").error_type == "MemoryError"
        result = repl.run("grown = []\nwhile True: grown.append(bytearray(1 << 20))")
        assert (result.error_type, result.state) == ("MemoryError", "kept")
        many = repl.run("del grown\nsmall = []\nwhile True: small.append(object())")
        assert (many.error_type, many.state) == ("MemoryError", "kept")
        assert repl.run("del small\nx").value == "1"
        with pytest.raises(SandboxError, match="raise sandbox"):
            repl.load("context", "x" * (300 << 20))


def test_deep_recursion_beyond_the_interpreters_own_limit() -> None:
    limits = {"memory_mb": 256, "block_seconds": 2}
    with Sandbox("auto", limits) as sandbox, sandbox.session({}) as repl:
        repl.run("x = 1")
        result = repl.run("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): f(n+1)\nf(0)")
        assert result.error is not None  # a MemoryError, the time limit, or the process's death
        assert len(result.error) < 5000
        assert result.state in ("kept", "restored")
        assert repl.run("x").value == "1"


# -- output ------------------------------------------------------------------------------------


def test_stdout_stderr_and_the_value_are_apart(repl: ReplSession) -> None:
    result = repl.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n'value'")
    assert (result.stdout, result.stderr, result.value) == ("out\n", "err\n", "'value'")


def test_long_output_keeps_head_and_tail_and_tells_the_full_length(repl: ReplSession) -> None:
    result = repl.run("for i in range(100_000): print(i)")
    assert result.stdout_chars == sum(len(str(i)) + 1 for i in range(100_000))
    assert result.stdout.startswith("0\n1\n2\n")
    assert result.stdout.endswith("99998\n99999\n")
    assert len(result.stdout) < LIMITS.output_chars + 100
    dropped = result.stdout_chars - LIMITS.output_chars
    assert f"[... {dropped:,} characters dropped ...]" in result.stdout


def test_output_of_exactly_the_cap_is_whole(repl: ReplSession) -> None:
    text = "ab" * (LIMITS.output_chars // 2)
    result = repl.run(f"print({text!r}, end='')")
    assert result.stdout == text


def test_a_gigabyte_of_output(repl: ReplSession) -> None:
    code = "line = 'x' * (1 << 20)\nfor _ in range(1024): print(line, end='')\nprint('end')"
    result = repl.run(code)
    assert result.stdout_chars == (1 << 30) + 4
    assert result.stdout.endswith("end\n")
    assert repl.run("print(1)").stdout == "1\n"


def test_a_long_value_is_cut(repl: ReplSession) -> None:
    result = repl.run("'a' * 10_000_000")
    assert result.value is not None
    assert len(result.value) < 2 * LIMITS.output_chars
    assert len(repl.run("list(range(100_000))").value or "") < LIMITS.output_chars + 100


def test_redirected_output_is_the_models_own(repl: ReplSession) -> None:
    code = (
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f: print('a')\n"
    )
    result = repl.run(code + "print(f.getvalue() * 2, end='')")
    assert result.stdout == "a\na\n"
    repl.run("import sys\nsys.stdout = None")
    assert repl.run("print('back')").stdout == "back\n"


# -- host calls --------------------------------------------------------------------------------


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
    together = threading.Barrier(16, timeout=5)
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


def test_a_session_goes_on_after_such_an_exception_and_says_what_is_lost(hasty: Sandbox) -> None:
    def broken() -> None:
        raise LookupError("not the model's fault")

    stubborn = "try: f()\nexcept BaseException: pass\nsum(range(10**12))"
    with hasty.session({"f": broken}) as repl:
        repl.load("context", "c")
        for code, state in (("f()", "kept"), (stubborn, "lost")):
            repl.run("x = 1")
            with pytest.raises(LookupError, match="not the model"):
                repl.run(code)
            result = repl.run("context")
            assert (result.value, result.state) == ("'c'", state)


# -- submit ------------------------------------------------------------------------------------


def test_submit_ends_the_block(repl: ReplSession) -> None:
    result = repl.run("x = 1\ntry:\n  submit('the answer')\nexcept Exception:\n  x = 2\nx = 3")
    assert (result.submitted, result.error) == ("the answer", None)
    assert repl.run("x").value == "1"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("submit(42)", "42"),
        ("submit([1, 'ü'])", '[1, "ü"]'),
        ("submit({1, })", "{1}"),
        ("submit('')", ""),
        ("submit('\\ud800')", "\ud800"),
    ],
)
def test_submitted_values_become_text(repl: ReplSession, code: str, text: str) -> None:
    assert repl.run(code).submitted == text


def test_a_submission_of_30_million_characters(repl: ReplSession) -> None:
    assert repl.run("submit('ä' * 30_000_000)").submitted == "ä" * 30_000_000


@pytest.mark.parametrize(
    "code",
    [
        "print('FINAL(42)')",
        "'FINAL_VAR(x)'",
        "try:\n  submit('a')\nexcept BaseException: pass",
        "try:\n  submit('a')\nfinally:\n  raise ValueError",
        "import threading\nt = threading.Thread(target=lambda: submit('a'))\nt.start()\nt.join()",
        "answer = {'content': 'a', 'ready': True}",
    ],
)
def test_nothing_else_submits(repl: ReplSession, code: str) -> None:
    assert repl.run(code).submitted is None


def test_submit_can_be_left_out(sandbox: Sandbox) -> None:
    with sandbox.session({}, submit=False) as repl:
        assert repl.run("submit('a')").error_type == "NameError"


# -- variables in and out ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "",
        "plain",
        "ü😀" * 300,
        "lone \ud800 surrogate",
        ("a", "", "ß" * 10),
        (),
        {"k": "v", "ключ": "значение"},
        {},
    ],
)
def test_load_and_read_back(repl: ReplSession, content: Any) -> None:
    repl.load("context", content)
    expected = list(content) if isinstance(content, tuple) else content
    assert repl.run("context").value == repr(expected)
    assert isinstance(content, str) is (repl.read("context") == expected)


def test_read(repl: ReplSession) -> None:
    repl.run("a = 'text'\nb = {'content': 'ä' * 20_000_000, 'n': None}\nc = {1, 2}\nd = None")
    assert repl.read("a") == "text"
    assert repl.read_item("b", "content") == "ä" * 20_000_000
    assert repl.read_item("b", "n") is None
    assert repl.read_item("b", "missing") is None
    assert repl.read_item("a", "content") is None
    assert repl.read("c") == "{1, 2}"
    assert repl.read("d") is None
    assert repl.read("__import__('os')") is None


def test_read_of_a_value_whose_repr_never_ends(hasty_repl: ReplSession) -> None:
    hasty_repl.run("class R:\n  def __repr__(self):\n    while True: pass\nr = R()\nx = 'kept'")
    assert hasty_repl.read("r") is None
    assert hasty_repl.read("x") == "kept"


def test_a_context_is_written_to_shared_memory_once(sandbox: Sandbox) -> None:
    text = "shared " * 1000
    assert sandbox.share(text) is sandbox.share(text)
    with sandbox.session({}) as one, sandbox.session({}) as two:
        for repl in (one, two):
            repl.load("context", text)
            assert repl.run("len(context)").value == "7000"


# -- interrupts and death ----------------------------------------------------------------------

STOPPABLE = {
    "a loop": "while True: pass",
    "a sleep": "import time; time.sleep(100)",
    "a catastrophic regex": "import re; re.match('(a+)+b', 'a' * 60)",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "except Exception": "while True:\n  try:\n    while True: pass\n  except Exception: pass",
    "a repr": "class R:\n  def __repr__(self):\n    while True: pass\nR()",
}


@pytest.mark.parametrize("name", STOPPABLE)
def test_the_time_limit_interrupts_and_keeps_the_state(hasty_repl: ReplSession, name: str) -> None:
    result = hasty_repl.run("x = 1\nprint('before')\n" + STOPPABLE[name])
    assert (result.interrupted, result.state, result.error_type) == (
        "time_limit",
        "kept",
        "TimeLimit",
    )
    assert result.stdout == "before\n"
    assert result.error is not None
    assert "limit of 0.4 s" in result.error
    assert 0.4 <= result.exec_s < 0.8
    assert hasty_repl.run("x").value == "1"


UNSTOPPABLE = {
    "a C loop": "sum(range(10**12))",
    "ignores SIGINT": "from signal import *\nsignal(SIGINT, SIG_IGN)\nwhile True: pass",
    "swallows the interrupt": (
        "import time\nwhile True:\n  try: time.sleep(9)\n  except BaseException: pass"
    ),
}


@pytest.mark.parametrize("name", UNSTOPPABLE)
def test_what_will_not_stop_is_killed_and_the_state_restored(
    hasty_repl: ReplSession, name: str
) -> None:
    hasty_repl.load("context", "ctx")
    hasty_repl.run("x = [llm_query('a')]")
    result = hasty_repl.run("x.append(2)\n" + UNSTOPPABLE[name])
    assert (result.interrupted, result.state) == ("killed", "restored")
    assert result.error is not None
    assert "as they were before this block" in result.error
    assert hasty_repl.run("x, context").value == "(['<a>'], 'ctx')"


def test_the_cpu_time_of_a_session_is_limited() -> None:
    limits = {"cpu_seconds": 1, "block_seconds": 10}
    with Sandbox("auto", limits) as sandbox, sandbox.session({}) as repl:
        repl.run("x = 1")
        result = repl.run("while True: pass")
        assert (result.interrupted, result.state) == ("killed", "restored")
        assert "CPU time" in (result.error or "")
        assert repl.run("x").value == "1"


DEATHS = {
    "os._exit": ("import os; os._exit(3)", "exited", "exit code 3"),
    "SIGSEGV": ("import signal; signal.raise_signal(signal.SIGSEGV)", "crashed", "SIGSEGV"),
    "a wild pointer": ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "abort": ("import os; os.abort()", "crashed", "SIGABRT"),
    "a closed channel": (
        "import os; os.closerange(3, 100)\nwhile True: pass",
        "crashed",
        "channel",
    ),
    "SIGKILL to itself": ("import os; os.kill(os.getpid(), 9)", "memory", "memory"),
}


@pytest.mark.parametrize("name", DEATHS)
def test_a_dead_worker_is_replaced_and_the_state_restored(repl: ReplSession, name: str) -> None:
    code, interrupted, words = DEATHS[name]
    repl.run("x = 1\n1/0")
    result = repl.run("x = 2\n" + code)
    assert (result.interrupted, result.state) == (interrupted, "restored")
    assert names(result) == {"x"}
    assert result.error is not None
    assert words in result.error
    assert repl.run("x").value == "1"


def test_replay_asks_the_host_nothing_again(sandbox: Sandbox) -> None:
    asked: list[str] = []

    def count(prompt: str) -> str:
        asked.append(prompt)
        if prompt == "fail":
            raise HostError("refused", "no")
        return f"answer {len(asked)}"

    with sandbox.session({"ask": count}) as repl:
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(4) as p: r = list(p.map(ask, 'abcd'))\n"
            "r += [ask('same'), ask('same')]\n"
            "try: ask('fail')\nexcept QueryError as e: r.append(e.kind)"
        )
        repl.run(code)
        before = repl.read("r")
        assert len(asked) == 7
        assert repl.run("import os; os._exit(0)").state == "restored"
        assert repl.read("r") == before
        assert len(asked) == 7


@pytest.mark.parametrize(
    ("first", "replayable"),
    [
        ("x = 1", False),
        ("import time\nx = time.time_ns()\nllm_query(str(x))", True),  # differs when replayed
        ("x = 1\nwhile True: pass", True),  # interrupted, so never finished
    ],
)
def test_state_that_cannot_be_restored_is_said_to_be_lost(
    hasty_repl: ReplSession, first: str, replayable: bool
) -> None:
    hasty_repl.load("context", "ctx")
    hasty_repl.run(first, replayable=replayable)
    result = hasty_repl.run("import os; os._exit(0)")
    assert result.state == "lost"
    assert result.error is not None
    assert "All variables are gone; set again: context." in result.error
    assert result.variables == (Variable("context", "str", "3 chars"),)
    assert hasty_repl.run("x").error_type == "NameError"
    assert hasty_repl.run("context").value == "'ctx'"


def test_random_numbers_are_the_same_in_every_session_and_after_a_replay(
    sandbox: Sandbox,
) -> None:
    seen = set()
    for _ in range(2):
        with sandbox.session({}) as repl:
            repl.run("import random\nx = random.random()")
            repl.run("import os; os._exit(0)")
            seen.add(repl.run("(x, {'b', 'a', 'c', 'd', 'e'})").value)
    assert len(seen) == 1


def test_time_in_host_calls_does_not_count(hasty: Sandbox) -> None:
    def slow() -> int:
        time.sleep(0.7)
        return 1

    with hasty.session({"slow": slow}) as repl:
        result = repl.run("slow()")
        assert (result.value, result.interrupted) == ("1", "")
        assert result.exec_s < 0.4
        assert 0.7 <= result.callback_s < 1.2
        threads = "import threading\nt = [threading.Thread(target=slow) for _ in range(5)]\n"
        result = repl.run(threads + "[i.start() for i in t]\n[i.join() for i in t]\n0")
        assert result.interrupted == ""
        assert 0.7 <= result.callback_s < 1.4  # five at once, not one after another
        result = repl.run("slow()\nwhile True: pass")
        assert result.interrupted == "time_limit"
        assert 0.4 <= result.exec_s < 0.8


def test_threads_that_outlive_their_block(sandbox: Sandbox) -> None:
    release = threading.Event()

    def hold() -> str:
        release.wait(5)
        return "held"

    with sandbox.session({"hold": hold, "llm_query": ask}) as repl:
        threading.Timer(0.3, release.set).start()
        code = (
            "import threading, time\nseen = []\ngo = threading.Event()\n"
            "def late():\n"
            "  seen.append(hold())\n"
            "  go.wait()\n"
            "  print('late')\n"
            "threading.Thread(target=late, daemon=True).start()\n"
            "def early():\n"
            "  time.sleep(0.2)\n"
            "  try: llm_query('x')\n"
            "  except QueryError as e: seen.append(e.kind)\n"
            "threading.Thread(target=early, daemon=True).start()\n"
            "time.sleep(0.05)"
        )
        first = repl.run(code)  # ends when the calls begun in it are answered
        assert first.callback_s > 0.1
        time.sleep(0.3)
        result = repl.run("go.set()\ntime.sleep(0.2)\nsorted(seen)")
        assert result.value == "['held', 'stopped']"  # a call between blocks is refused
        assert result.stdout == "late\n"


def test_spinning_threads_left_behind_do_not_stop_the_session(repl: ReplSession) -> None:
    code = "import threading\ndef spin():\n  while True: pass\n"
    repl.run(code + "[threading.Thread(target=spin).start() for _ in range(2)]")
    assert repl.run("1 + 1").value == "2"


# -- many at once, and the end -----------------------------------------------------------------


def session_transcript(sandbox: Sandbox, i: int) -> list[BlockResult]:
    with sandbox.session(HOST) as repl:
        repl.load("context", f"context {i} " * 100)
        return [
            repl.run(
                f"import random\nprint('session', {i})\nx = {{c: random.random() for c in 'ab'}}"
            ),
            repl.run("r = [llm_query(w) for w in context.split()[:5]]\nprint(r)\nset(context)"),
            repl.run("import sys\nprint(x, file=sys.stderr)\nundefined"),
            repl.run(f"submit('answer {i}')"),
        ]


def plain(results: list[BlockResult]) -> list[tuple[Any, ...]]:
    return [(r.stdout, r.stderr, r.value, r.error, r.variables, r.submitted) for r in results]


def test_64_sessions_at_once_give_what_one_after_another_gives(sandbox: Sandbox) -> None:
    alone = [plain(session_transcript(sandbox, i)) for i in range(64)]
    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda i: plain(session_transcript(sandbox, i)), range(64)))
    assert together == alone
    assert alone[3][0][0] == "session 3\n"
    assert alone[3][3][5] == "answer 3"


KILLED = """
import os, sys, time
from rlm_eval.repl.session import Sandbox
sandbox = Sandbox(sys.argv[1])
sessions = [sandbox.session({}) for _ in range(3)]
print("ready", flush=True)
sessions[0].run("while True: pass")
"""


def descendants(pid: int) -> set[int]:
    found = {pid}
    while True:
        more = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) in found and state != "Z":
                more.add(int(name))
        if more <= found:
            return found - {pid}
        found |= more


@pytest.mark.parametrize("level", ["auto", "landlock", "none"])
def test_a_killed_harness_leaves_no_process_behind(level: str) -> None:
    harness = subprocess.Popen([sys.executable, "-c", KILLED, level], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"ready\n"
    left = descendants(harness.pid)
    assert len(left) >= 4  # the parent of the workers, and three of them
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in left):
        time.sleep(0.02)
    assert [pid for pid in left if os.path.exists(f"/proc/{pid}")] == []


def test_closing_the_sandbox_ends_its_workers() -> None:
    before = descendants(os.getpid())
    with Sandbox("auto") as sandbox:
        sandbox.session({})
        left = descendants(os.getpid()) - before
        assert len(left) >= 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in left)


def test_a_parent_that_died_is_started_again() -> None:
    before = descendants(os.getpid())
    with Sandbox("auto") as sandbox:
        with sandbox.session({}) as repl:
            for pid in descendants(os.getpid()) - before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with pytest.raises(SandboxError):
                repl.run("1")
        with sandbox.session({}) as repl:
            assert repl.run("1").value == "1"


# -- a worker started by a command, as for containers and on macOS ---------------------------------


def test_a_worker_on_pipes() -> None:
    """No forking parent and no shared memory: the same session by standard input and output."""
    policy = make_policy(candidates("landlock")[0], HASTY, [])
    with Sandbox("landlock", HASTY) as sandbox:
        sandbox.launcher.close()
        sandbox.launcher = CommandLauncher("", policy, 1 << 29)
        with sandbox.session(HOST) as repl:
            repl.load("context", "x" * 10_000_000)
            assert repl.run("x = [llm_query('a'), len(context)]\nx").value == "['<a>', 10000000]"
            assert repl.run("open('/etc/passwd')").error_type == "PermissionError"
            assert repl.run("while True: pass").interrupted == "time_limit"
        with sandbox.session(HOST) as repl:
            repl.run("x = llm_query('a')")
            assert repl.run("sum(range(10**12))").interrupted == "killed"
            result = repl.run("import os; os._exit(7)")
            assert (result.interrupted, result.state) == ("exited", "restored")
            assert repl.run("x").value == "'<a>'"


# -- settings ----------------------------------------------------------------------------------


def test_an_unknown_level_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="choose one of auto"):
        Sandbox("chroot")


def test_a_level_this_machine_lacks_says_what_accepts_none() -> None:
    with pytest.raises(ConfigError, match="sandbox=none"):
        Sandbox("seatbelt")


def test_limits_come_from_a_mapping_too() -> None:
    with Sandbox("none", {"output_chars": 10}) as sandbox, sandbox.session({}) as repl:
        assert repl.level == "none"
        assert repl.run("print('x' * 100)").stdout_chars == 101
    with pytest.raises(ConfigError, match="unknown 'memory'"):
        Sandbox("none", {"memory": 1})
    with pytest.raises(ConfigError, match="at least 256"):
        Sandbox("none", {"memory_mb": 1})
    with pytest.raises(ConfigError, match="block_seconds must be more than 0"):
        Sandbox("none", {"block_seconds": 0})
    with pytest.raises(ConfigError, match="memory_mb must be a whole number"):
        Sandbox("none", {"memory_mb": 512.5})


def test_a_package_is_importable_only_where_allowed(repl: ReplSession) -> None:
    assert repl.run("import numpy").error_type == "ModuleNotFoundError"
    with Sandbox("auto", LIMITS, packages=["numpy"]) as sandbox, sandbox.session({}) as other:
        code = "import numpy as np, numpy.linalg\na = np.ones((2, 3))\nfloat((a @ a.T).sum())"
        assert other.run("import numpy as np\nnp.fft.fft([1, 2])[0]").error is None
        assert other.run("np.random.default_rng(0).random(3).round(2)").error is None
        result = other.run(code)
        assert result.value == "12.0"
        assert Variable("a", "ndarray", "2 x 3") in result.variables
    with pytest.raises(ConfigError, match="not installed"):
        Sandbox("auto", packages=["no_such_package"])


def test_the_harness_is_dumpable_again_afterwards() -> None:
    from rlm_eval.repl import linux

    before = linux.get_dumpable()
    sandbox = Sandbox("none")
    assert linux.get_dumpable() == 0
    sandbox.close()
    sandbox.close()
    assert linux.get_dumpable() == before
