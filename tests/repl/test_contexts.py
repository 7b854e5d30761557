"""Variables in and out of the REPL: contexts loaded into it, values read from it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from helpers.repl_host import WHEN_OVER, hurried, unread
from helpers.waiting import eventually
from rlm_eval.errors import SandboxError
from rlm_eval.repl.session import ReplSession, Sandbox

MILLION = 1_000_000
LARGEST = {"ascii": "\x7f", "latin-1": "ÿ", "two bytes": "\uffff", "four bytes": "\U0010ffff"}


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
    assert repl.read("b", "content") == "ä" * 20_000_000
    assert repl.read("b", "n") == "", "None, unlike what is not set"
    assert repl.read("b", "missing") is None
    assert repl.read("a", "content") is None
    assert repl.read("c") == "{1, 2}"
    assert repl.read("d") == ""
    assert repl.read("__import__('os')") is None
    repl.run("import datetime, decimal\ne = decimal.Decimal('1.50')\nf = datetime.date(2026, 5, 1)")
    assert (repl.read("e"), repl.read("f")) == ("1.50", "2026-05-01"), "as print shows them"


@pytest.mark.slow
def test_read_of_a_value_whose_repr_never_ends(repl: ReplSession) -> None:
    repl.run("class R:\n  def __repr__(self):\n    while True: pass\nr = R()\nx = 'kept'")
    with hurried(repl):
        assert repl.read("r") is None
    assert repl.read("x") == "kept"


def test_a_load_while_calls_lie_in_the_channel(repl: ReplSession) -> None:
    repl.run(WHEN_OVER + "when_over(lambda: llm_query('x'))")
    assert eventually(lambda: unread(repl))
    repl.load("context", "c" * MILLION)
    assert repl.run("len(context)").value == str(MILLION)


# -- long texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LARGEST)
def test_a_long_text_arrives_in_pieces(repl: ReplSession, kind: str) -> None:
    """The widest character comes last, when most of it is there."""
    repl.load("context", "a\0\n" * MILLION + LARGEST[kind])
    code = f"context == 'a\\0\\n' * {MILLION} + {LARGEST[kind]!r}, type(context) is str"
    assert repl.run(code).value == "(True, True)"


def test_surrogates_side_by_side_stay_two(repl: ReplSession) -> None:
    """As UTF-16 they would be one character."""
    repl.load("context", "\ud83d\ude00" * 100_000)
    code = "len(context), context == '\\ud83d\\ude00' * 100_000, '\\U0001f600' in context"
    assert repl.run(code).value == "(200000, True, False)"


def test_short_and_long_texts_side_by_side(repl: ReplSession) -> None:
    content = ("", "short", "x" * 70_001, "ü" * 80_000, "end", "😀" * 90_001, "ÿ", "y" * 65_536, "")
    repl.load("context", content)
    repl.load("named", {str(i): text for i, text in enumerate(content)})
    repl.run("texts = context + list(named.values())")
    for i in range(2 * len(content)):
        repl.run(f"one = texts[{i}]")
        assert repl.read("one") == content[i % len(content)]


def test_many_documents(repl: ReplSession) -> None:
    content = tuple(f"document {i} " * (i % 20) for i in range(20_000))
    repl.load("context", content)
    code = "len(context), sum(map(len, context)), context[19_999]"
    assert repl.run(code).value == repr((20_000, sum(map(len, content)), content[-1]))


@pytest.mark.slow
def test_a_worker_needs_room_for_one_copy_of_a_text(sandbox: Sandbox) -> None:
    peak = "import resource\nresource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    with sandbox.session({}) as repl:
        before = int(repl.run(peak).value or 0)
        repl.load("context", "0123456789" * (7 * MILLION))
        assert int(repl.run(peak).value or 0) - before < 80_000  # kB, for 70 MB


@pytest.mark.slow
def test_a_context_too_large_for_the_limit_says_what_to_raise() -> None:
    with Sandbox("auto", {"memory_mb": 256}) as small, small.session({}) as repl:
        with pytest.raises(SandboxError, match=r"300 MB of text do not fit: raise sandbox\.limits"):
            repl.load("context", "x" * (300 << 20))
        with pytest.raises(SandboxError, match="300 MB"):
            repl.load("context", ("x" * (30 << 20),) * 10)
        repl.load("other", "x" * (30 << 20))
        assert repl.run("len(other)").value == str(30 << 20)


def test_a_context_loads_while_a_thread_of_the_code_is_in_a_host_call(sandbox: Sandbox) -> None:
    def ask(text: str) -> str:
        time.sleep(0.05)
        return text

    code = """
import threading, time
def work():
    until = time.time() + 0.6
    while time.time() < until:
        ask('q')
for _ in range(3): threading.Thread(target=work, daemon=True).start()
"""
    with sandbox.session({"ask": ask}) as session:
        session.run(code)
        for number in range(6):
            session.load("context", "z" * MILLION + str(number))
            result = session.run("len(context), context[-1], threading.active_count()")
            assert result.state == "kept"
            assert (result.value or "").startswith(f"(1000001, '{number}'")
