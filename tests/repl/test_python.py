"""Blocks of Python in the REPL: what runs, what is kept, how errors and output are told."""

from __future__ import annotations

import pytest

from helpers.repl_host import OUTPUT_CHARS, names
from rlm_eval.errors import SandboxError
from rlm_eval.repl.results import Variable
from rlm_eval.repl.session import ReplSession, Sandbox

# -- Python --------------------------------------------------------------------------------------


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


def test_a_range_longer_than_any_len_is_listed(repl: ReplSession) -> None:
    result = repl.run("x = range(10**30)")
    assert (result.error, result.variables) == (None, (Variable("x", "range", ""),))


# -- errors --------------------------------------------------------------------------------------


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_deep_recursion_beyond_the_interpreters_own_limit() -> None:
    limits = {"memory_mb": 256, "block_seconds": 2}
    with Sandbox("auto", limits) as sandbox, sandbox.session({}) as repl:
        repl.run("x = 1")
        result = repl.run("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): f(n+1)\nf(0)")
        assert result.error is not None  # a MemoryError, the time limit, or the process's death
        assert len(result.error) < 5000
        assert repl.run("x").value == ("1" if result.state == "kept" else None)


# -- output --------------------------------------------------------------------------------------


def test_stdout_stderr_and_the_value_are_apart(repl: ReplSession) -> None:
    result = repl.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n'value'")
    assert (result.stdout, result.stderr, result.value) == ("out\n", "err\n", "'value'")


def test_long_output_keeps_head_and_tail_and_tells_the_full_length(repl: ReplSession) -> None:
    result = repl.run("for i in range(100_000): print(i)")
    assert result.stdout_chars == sum(len(str(i)) + 1 for i in range(100_000))
    assert result.stdout.startswith("0\n1\n2\n")
    assert result.stdout.endswith("99998\n99999\n")
    assert len(result.stdout) < OUTPUT_CHARS + 100
    dropped = result.stdout_chars - OUTPUT_CHARS
    assert f"[... {dropped:,} characters dropped ...]" in result.stdout


def test_output_of_exactly_the_cap_is_whole(repl: ReplSession) -> None:
    text = "ab" * (OUTPUT_CHARS // 2)
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
    assert len(result.value) < 2 * OUTPUT_CHARS
    assert len(repl.run("list(range(100_000))").value or "") < OUTPUT_CHARS + 100


def test_redirected_output_is_the_models_own(repl: ReplSession) -> None:
    code = (
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f: print('a')\n"
    )
    result = repl.run(code + "print(f.getvalue() * 2, end='')")
    assert result.stdout == "a\na\n"
    repl.run("import sys\nsys.stdout = None")
    assert repl.run("print('back')").stdout == "back\n"


def test_a_long_error_is_cut_however_little_output_is_kept() -> None:
    with Sandbox("auto", {"output_chars": 500}) as sandbox, sandbox.session({}) as session:
        result = session.run("kept = 1\nraise ValueError('m' * 5000)")
        assert (result.error_type, result.state) == ("ValueError", "kept")
