"""Blocks that are stopped or take their worker along, and what is left afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from helpers.repl_host import HASTE_S, LIMITS, WHEN_OVER, ask, hurried, names, unread
from helpers.waiting import eventually
from rlm_eval.repl.results import HostFunction
from rlm_eval.repl.session import ReplSession, Sandbox

STOPPABLE = {
    "a loop": "while True: pass",
    "a sleep": "import time; time.sleep(100)",
    "a catastrophic regex": "import re; re.match('(a+)+b', 'a' * 60)",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "except Exception": "while True:\n  try:\n    while True: pass\n  except Exception: pass",
    "a repr": "class R:\n  def __repr__(self):\n    while True: pass\nR()",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPPABLE)
def test_the_time_limit_interrupts_and_keeps_the_state(repl: ReplSession, name: str) -> None:
    with hurried(repl):
        result = repl.run("x = 1\nprint('before')\n" + STOPPABLE[name])
    assert (result.interrupted, result.state, result.error_type) == (
        "time_limit",
        "kept",
        "TimeLimit",
    )
    assert result.stdout == "before\n"
    assert result.exec_s >= HASTE_S
    assert repl.run("x").value == "1"


UNSTOPPABLE = {
    "a C loop": "sum(range(10**12))",
    "ignores SIGINT": "from signal import *\nsignal(SIGINT, SIG_IGN)\nwhile True: pass",
    "swallows the interrupt": (
        "import time\nwhile True:\n  try: time.sleep(9)\n  except BaseException: pass"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSTOPPABLE)
def test_what_will_not_stop_is_killed_and_variables_are_lost(repl: ReplSession, name: str) -> None:
    repl.load("context", "ctx")
    repl.load("docs", ("a", "b"))
    repl.run("x = 1")
    with hurried(repl, grace_s=1.0):
        result = repl.run(UNSTOPPABLE[name])
    assert (result.interrupted, result.state) == ("killed", "lost")
    assert "All variables are gone; set again: context, docs." in (result.error or "")
    after = repl.run("context, docs, llm_query('a')")
    assert (after.value, after.state) == ("('ctx', ['a', 'b'], '<a>')", "kept")
    assert repl.run("x").error_type == "NameError"


@pytest.mark.slow
def test_the_cpu_time_of_a_session_is_limited() -> None:
    limits = {"cpu_seconds": 1, "block_seconds": 120}
    with Sandbox("auto", limits) as sandbox, sandbox.session({}) as repl:
        result = repl.run("while True: pass")
        assert (result.interrupted, result.state) == ("killed", "lost")
        assert "CPU time" in (result.error or "")
        assert repl.run("1").value == "1"


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
def test_a_dead_worker_is_replaced(repl: ReplSession, name: str) -> None:
    code, interrupted, words = DEATHS[name]
    repl.run("x = 1\n1/0")
    result = repl.run("x = 2\n" + code)
    assert (result.interrupted, result.state) == (interrupted, "lost")
    assert (names(result), result.error_type) == (set(), interrupted)
    assert words in (result.error or "")
    assert repl.run("x").error_type == "NameError"


def test_a_worker_that_dies_in_a_read_is_told_of_by_the_next_block(repl: ReplSession) -> None:
    repl.load("context", "ctx")
    repl.run("class R:\n  def __repr__(self): import os; os._exit(1)\nr = R()")
    assert repl.read("r") is None
    assert repl.read("context") == "ctx"
    result = repl.run("context")
    assert (result.value, result.state) == ("'ctx'", "lost")
    assert repl.run("1").state == "kept"


def test_random_numbers_are_the_same_in_every_session_and_after_a_kill(sandbox: Sandbox) -> None:
    seen = set()
    code = "import random\n(random.random(), {'b', 'a', 'c', 'd', 'e'})"
    with sandbox.session({}) as repl:
        seen.add(repl.run(code).value)
        repl.run("import os; os._exit(0)")
        seen.add(repl.run(code).value)
    with sandbox.session({}) as repl:
        seen.add(repl.run(code).value)
    assert len(seen) == 1


def test_a_timeout_that_code_sets_ends_a_call_or_ends_with_its_block(sandbox: Sandbox) -> None:
    def slow(text: str) -> str:
        time.sleep(1.0)
        return text

    code = (
        "import signal\ndef late(*_): raise TimeoutError('late')\n"
        "signal.signal(signal.SIGALRM, late)\n"
        "def alarm(): signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "try:\n  alarm()\n  slow('a')\nexcept TimeoutError as error:\n  print(error)\nalarm()"
    )
    with sandbox.session({"slow": slow}) as repl:
        first, second = repl.run(code), repl.run("slow('b')")
        assert (first.stdout, first.error) == ("late\n", None)
        assert (second.value, second.state) == ("'b'", "kept")


@pytest.mark.slow
def test_time_in_host_calls_does_not_count() -> None:
    slow_s = HASTE_S + 0.3
    together = threading.Barrier(5, timeout=60)

    def slow() -> int:
        time.sleep(slow_s)
        return 1

    def meet() -> int:
        together.wait()
        return slow()

    limits = {**LIMITS, "block_seconds": HASTE_S}
    host: dict[str, HostFunction] = {"slow": slow, "meet": meet}
    with Sandbox("auto", limits) as sandbox, sandbox.session(host) as repl:
        result = repl.run("slow()")
        assert (result.value, result.interrupted) == ("1", "")
        assert result.callback_s >= slow_s
        threads = "import threading\nt = [threading.Thread(target=meet) for _ in range(5)]\n"
        result = repl.run(threads + "[i.start() for i in t]\n[i.join() for i in t]\n0")
        assert result.interrupted == ""
        assert result.callback_s >= slow_s
        assert result.exec_s > 0, "their time is counted once"
        result = repl.run("slow()\nwhile True: pass")
        assert result.interrupted == "time_limit"
        assert result.exec_s >= HASTE_S
        assert f"limit of {HASTE_S:g} s" in (result.error or "")


def test_threads_that_outlive_their_block(sandbox: Sandbox) -> None:
    begun, release = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        threading.Timer(0.3, release.set).start()
        assert release.wait(60)
        return "held"

    host = {"hold": hold, "held": lambda: begun.wait(60), "llm_query": ask}
    with sandbox.session(host) as repl:
        code = WHEN_OVER + (
            "seen = []\ngo = threading.Event()\n"
            "def late():\n"
            "  seen.append(hold())\n"
            "  go.wait()\n"
            "  print('late')\n"
            "def early():\n"
            "  try: llm_query('x')\n"
            "  except QueryError as e: seen.append(e.kind)\n"
            "threads = [threading.Thread(target=late, daemon=True), when_over(early)]\n"
            "threads[0].start()\n"
            "held()"
        )
        first = repl.run(code)  # ends when the calls begun in it are answered
        assert first.callback_s > 0.1
        assert eventually(lambda: unread(repl))
        result = repl.run("go.set()\nfor t in threads: t.join()\nsorted(seen)")
        assert result.value == "['held', 'stopped']"  # a call between blocks is refused
        assert result.stdout == "late\n"


def test_spinning_threads_left_behind_do_not_stop_the_session(repl: ReplSession) -> None:
    code = "import threading\ndef spin():\n  while True: pass\n"
    repl.run(code + "[threading.Thread(target=spin).start() for _ in range(2)]")
    assert repl.run("1 + 1").value == "2"
