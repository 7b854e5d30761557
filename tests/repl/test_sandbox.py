"""Many sessions at once, how processes end, and how a sandbox is set up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.attempts import descendants, still_there
from helpers.repl_host import HOST, LANDLOCK, LIMITS, hurried, needs_landlock
from rlm_eval.errors import ConfigError, SandboxError
from rlm_eval.repl import levels, zygote
from rlm_eval.repl.launch import CommandLauncher, Launcher
from rlm_eval.repl.levels import make_policy
from rlm_eval.repl.results import BlockResult, Limits, Variable
from rlm_eval.repl.session import ReplSession, Sandbox

# -- many at once, and the end -------------------------------------------------------------------


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("level", ["auto", LANDLOCK, "none"])
def test_a_killed_harness_leaves_no_process_behind(level: str) -> None:
    harness = subprocess.Popen([sys.executable, "-c", KILLED, level], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"ready\n"
    left = descendants(harness.pid)
    assert len(left) >= 4  # the parent of the workers, and three of them
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    assert still_there(left) == 0


def test_closing_the_sandbox_ends_its_workers() -> None:
    before = descendants(os.getpid())
    with Sandbox("auto") as sandbox:
        sandbox.session({})
        left = descendants(os.getpid()) - before
        assert len(left) >= 2
    assert still_there(left) == 0


def test_a_parent_that_died_is_started_again() -> None:
    before = descendants(os.getpid())
    with Sandbox("auto") as sandbox:
        with sandbox.session({}) as repl:
            for pid, _ in descendants(os.getpid()) - before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with pytest.raises(SandboxError):
                repl.run("1")
        with sandbox.session({}) as repl:
            assert repl.run("1").value == "1"


def test_no_process_is_started_before_the_first_session() -> None:
    before = descendants(os.getpid())
    sandbox = Sandbox()
    assert descendants(os.getpid()) == before
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        sandbox.session({})
    assert descendants(os.getpid()) == before


def test_first_sessions_at_once_start_one_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[levels.Way] = []
    launch = levels.launch

    def counted(way: levels.Way, *rest: Any) -> Launcher:
        started.append(way)
        return launch(way, *rest)

    monkeypatch.setattr(levels, "launch", counted)
    with Sandbox("none") as sandbox, ThreadPoolExecutor(8) as pool:

        def answer(i: int) -> str | None:
            with sandbox.session({}) as repl:
                return repl.run(f"x = {i}\nx").value

        assert list(pool.map(answer, range(8))) == [str(i) for i in range(8)]
    assert len(started) == 1


def test_a_failed_fork_is_one_sessions_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent of the workers goes on."""

    def no_fork() -> int:
        raise BlockingIOError(11, "no more processes")

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(os, "fork", no_fork)
    policy = make_policy(Limits(), [])
    arguments = theirs, policy
    serving = threading.Thread(target=zygote.serve, args=arguments)
    serving.start()
    with ours:
        for passed in ([ours.fileno()], []):
            socket.send_fds(ours, [json.dumps({"op": "fork", "id": 1}).encode()], passed)
            assert "can't fork" in json.loads(ours.recv(1000))["error"]
    serving.join()
    theirs.close()


#: A harness for which, and for whose sandbox, the system has no process or thread left.
EXHAUSTED = """
import contextlib, os, resource, sys
from helpers.attempts import descendants
from rlm_eval.errors import SandboxError
from rlm_eval.repl.isolation import be_no_root
from rlm_eval.repl.session import Sandbox

be_no_root()  # whom the kernel refuses nothing
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
def allow(number):
    for pid in [os.getpid(), *(pid for pid, _ in descendants(os.getpid()))]:
        with contextlib.suppress(OSError, ValueError):  # a worker's limit is its own already
            resource.prlimit(pid, resource.RLIMIT_NPROC, (number, most))

with Sandbox(sys.argv[1]) as sandbox, sandbox.session({"ask": str}) as session:
    session.run("mine = 'mine'")
    allow(1)
    for _ in range(3):
        try:
            sandbox.session({}).close()
        except SandboxError as error:
            print(error)
    print(session.run("ask(mine)").value)
    allow(most)
    with sandbox.session({}) as other:
        print(other.run("'another'").value, session.run("mine").value)
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", ["auto"] if os.geteuid() == 0 else ["auto", "landlock", "none"])
def test_with_no_process_left_only_a_new_session_fails(level: str) -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", EXHAUSTED, level]
    environment = {**os.environ, "PYTHONPATH": tests}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "can't isolate" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    *refused, said, after = done.stdout.splitlines() or [done.stderr]
    assert len(refused) == 3
    assert all("can't fork" in line for line in refused)
    assert said == "'mine'"
    assert after == "'another' 'mine'"


def test_the_threads_of_a_block_are_limited_and_no_other_sessions(sandbox: Sandbox) -> None:
    code = """
import threading
threading.stack_size(1 << 16)
over, threads = threading.Event(), []
def more(most):
    while len(threads) < most:
        threads.append(threading.Thread(target=over.wait, daemon=True))
        threads[-1].start()
"""
    with sandbox.session({}) as one, sandbox.session({}) as other:
        one.run(code)
        other.run(code)
        assert one.run("more(200)").error is None
        assert one.run("more(3000)").error_type == "RuntimeError"
        assert one.run("len(threads)").value == "256"  # its main one, and the last did not start
        assert other.run("more(200)").error is None
        assert sandbox.session({}).run("1").value == "1"


@needs_landlock
def test_modules_load_from_a_library_that_can_not_be_listed() -> None:
    with Sandbox("landlock") as sandbox, sandbox.session({}) as session:
        result = session.run("import graphlib, tomllib, wave, email.message, xml.dom.minidom")
        assert result.error is None
        assert session.run("import os\nos.listdir(os.path.dirname(os.__file__))").error_type == (
            "PermissionError"
        )


def test_under_bwrap_alone_code_leaves_nothing_for_others() -> None:
    """Where the kernel has no Landlock, all workers see the one /dev of bubblewrap."""
    limits = Limits.of(LIMITS)
    try:
        launcher = levels.launch(levels.Way("bwrap", ("seccomp",)), make_policy(limits, []), limits)
    except SandboxError as error:
        pytest.skip(str(error))
    with contextlib.closing(launcher), ReplSession(launcher.spawn, limits, HOST) as repl:
        assert repl.run("open('/dev/null', 'w').write('x')").error is None
        for folder in ("/dev", "/dev/shm", "/"):
            assert repl.run(f"open('{folder}/n', 'w')").error_type == "OSError"


# -- a worker started by a command, as on macOS ---------------------------------------------------


@pytest.mark.slow
@needs_landlock
def test_a_worker_on_pipes() -> None:
    """No forking parent: the same session by standard input and output."""
    policy = replace(make_policy(Limits.of(LIMITS), []), features=("landlock", "seccomp"))
    launcher = CommandLauncher((), policy, 1 << 29)

    def session() -> ReplSession:
        return ReplSession(launcher.spawn, Limits.of(LIMITS), HOST)

    with session() as repl:
        repl.load("context", "x" * 10_000_000)
        assert repl.run("x = [llm_query('a'), len(context)]\nx").value == "['<a>', 10000000]"
        assert repl.run("open('/etc/passwd')").error_type == "PermissionError"
        with hurried(repl):
            assert repl.run("while True: pass").interrupted == "time_limit"
    with session() as repl:
        with hurried(repl, grace_s=1.0):
            assert repl.run("sum(range(10**12))").interrupted == "killed"
        result = repl.run("import os; os._exit(7)")
        assert (result.interrupted, result.state) == ("exited", "lost")
        assert repl.run("llm_query('a')").value == "'<a>'"


# -- settings ------------------------------------------------------------------------------------


def test_an_unknown_level_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="level must be one of auto"):
        Sandbox("chroot")


def test_a_level_this_machine_lacks_says_what_accepts_none() -> None:
    with Sandbox("seatbelt") as sandbox, pytest.raises(ConfigError, match="sandbox=none"):
        sandbox.session({})


def test_limits() -> None:
    with Sandbox("none", {"output_chars": 10}) as sandbox, sandbox.session({}) as repl:
        assert sandbox.level == "none"
        assert repl.run("print('x' * 100)").stdout_chars == 101


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory": 1}, "limits.memory is unknown"),
        ({"memory_mb": 1}, "limits.memory_mb must be at least 256"),
        ({"block_seconds": 0}, "limits.block_seconds must be more than 0"),
        ({"memory_mb": 512.5}, "limits.memory_mb must be a whole number"),
    ],
)
def test_limits_that_can_not_be(limits: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Sandbox("none", limits)


def test_a_package_is_importable_only_where_allowed(repl: ReplSession) -> None:
    assert repl.run("import numpy").error_type == "ModuleNotFoundError"
    with Sandbox("auto", LIMITS, packages=["numpy"]) as sandbox, sandbox.session({}) as other:
        code = "import numpy as np, numpy.linalg\na = np.ones((2, 3))\nfloat((a @ a.T).sum())"
        assert other.run("import numpy as np\nnp.fft.fft([1, 2])[0]").error is None
        assert other.run("np.random.default_rng(0).random(3).round(2)").error is None
        result = other.run(code)
        assert result.value == "12.0"
        assert Variable("a", "ndarray", "2 x 3") in result.variables


def test_numpys_values_are_handed_in_and_read_as_plain_ones() -> None:
    values = {
        "np.int64(3)": "3",
        "np.bool_(True)": "true",
        "np.arange(4).reshape(2, 2)": "[[0, 1], [2, 3]]",
        "{'n': np.float64(0.5), 'k': np.int64(3)}": '{"n": 0.5, "k": 3}',
        "np.float32(0.1)": "0.1",
        "np.array([0.1, 2], np.float32)": "[0.1, 2.0]",
    }
    with Sandbox("auto", LIMITS, packages=["numpy"]) as sandbox, sandbox.session({}) as repl:
        for value, text in values.items():
            assert repl.run(f"import numpy as np\nv = {value}\nsubmit(v)").submitted == text
            assert repl.read("v") == text


def test_packages_may_lie_in_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from mine.part import seven\n")
    (tmp_path / "mine" / "part.py").write_text("seven = 7\n")
    (tmp_path / "secret.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with Sandbox("auto", LIMITS, ["numpy", "mine"]) as sandbox, sandbox.session({}) as session:
        assert session.run("import mine, numpy\nmine.seven + int(numpy.int64(1))").value == "8"
        assert session.run("import secret").error_type == "ModuleNotFoundError"


@pytest.mark.parametrize("name", ["no_such", "no_such.part", "xml.dom", "textwrap", "sys", ""])
def test_a_package_is_a_folder_that_an_import_finds(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^packages names '{name}', which is no installed"):
        Sandbox("auto", packages=["numpy", name])
