"""The escape suite at every level and for every user this machine offers, and forged frames."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.escape_attempts import ENGINES_OWN
from helpers.repl_host import LANDLOCK, WHEN_OVER, unread
from helpers.waiting import eventually
from rlm_eval.errors import SandboxError
from rlm_eval.repl import isolation, linux
from rlm_eval.repl.session import Sandbox

PATH = Path(__file__).parents[1] / "benchmarks" / "escapes.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("escapes", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


escapes = _load()
USERS = escapes.users()


@cache
def run_once(level: str, uid: int, missing: str) -> Any:
    return escapes.run_as(level, uid, missing)


def outcomes(level: str, uid: int, missing: str = "") -> Any:
    found = run_once(level, uid, missing)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def opened(found: Any) -> set[str]:
    return {name for name, outcome in found["outcomes"].items() if outcome == "open"}


@cache
def possible(name: str) -> bool:
    """Whether an attempt succeeds in a plain process: a container may keep everybody from it."""
    body = textwrap.indent(escapes.ATTEMPTS[name], "  ")
    code = f"{escapes.PREAMBLE}\ndef attempt():\n{body}\nsys.exit(not attempt())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize(
    ("level", "missing"), [way for way in escapes.LEVELS if not way[0].endswith(("none", "engine"))]
)
def test_no_attempt_succeeds(level: str, missing: str, uid: int) -> None:
    found = outcomes(level, uid, missing)
    assert found["uid"] == uid
    assert opened(found) == escapes.ACCEPTED.get(found["level"], set())


@pytest.mark.parametrize("uid", USERS)
def test_an_engine_can_do_in_its_own_place_what_engines_do_and_nothing_elsewhere(uid: int) -> None:
    found = outcomes("engine", uid)
    assert found["uid"] == uid
    assert opened(found) <= ENGINES_OWN
    assert {"fork", "subprocess", "TCP server", "multiprocessing"} <= opened(found)


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("level", ["none", "engine-none"])
def test_the_attempts_are_real_without_isolation_they_succeed(level: str, uid: int) -> None:
    found = opened(outcomes(level, uid))
    assert len(found) > len(escapes.ATTEMPTS) / 2
    assert {
        "read a secret file",
        "append to a file",
        "signal the harness",
        "TCP to loopback",
        "UDP",
        "abstract unix socket",
        "fork",
        "subprocess",
        "writable and executable memory",
        "__builtins__ and subclasses",
        "flock on a library file",
        "fcntl lock on a library file",
    } <= found
    by_root = {"write the kernel's settings", "change a device's mode"} if uid == 0 else set()
    assert {name for name in {"2,000 threads", *by_root} if possible(name)} <= found


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("level", ["auto", "landlock", "bwrap", "none"])
def test_the_harness_keeps_its_keys_at_every_level(level: str, uid: int) -> None:
    kept = {name: o for name, o in outcomes(level, uid)["outcomes"].items() if "canary" in name}
    kept["harness"] = outcomes(level, uid)["outcomes"]["environment of the harness"]
    kept["memory"] = outcomes(level, uid)["outcomes"]["memory of the harness"]
    assert len(kept) == 5
    assert "open" not in kept.values()


# -- machines that offer less --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "level"),
    [
        ("", "landlock+seccomp+namespaces"),
        ("namespaces", "landlock+seccomp"),
        ("landlock", "seccomp+namespaces"),
    ],
)
def test_auto_takes_the_strongest_level_there_is(missing: str, level: str) -> None:
    unshare = shutil.which("unshare") or "unshare"
    allowed = subprocess.run([unshare, "-Urnm", "true"], capture_output=True, check=False)
    if allowed.returncode or not linux.landlock_abi():
        pytest.skip("this kernel has no user namespaces or no Landlock")
    assert outcomes("auto", USERS[0], missing)["level"] == level


@pytest.mark.parametrize("missing", ["landlock namespaces", "seccomp", "landlock seccomp"])
def test_where_auto_can_isolate_nothing_it_says_what_accepts_that(missing: str) -> None:
    message = run_once("auto", USERS[0], missing)
    assert "can't isolate model-written code" in message
    assert "set sandbox=none" in message


# -- the canary ----------------------------------------------------------------------------------

SPILL = """
import os, sys, gc, threading
print(dict(os.environ), sys.argv, sys.path, sys.flags)
for frame in sys._current_frames().values():
    while frame:
        print(frame.f_globals.keys(), {k: str(v)[:500] for k, v in frame.f_locals.items()})
        frame = frame.f_back
for thing in gc.get_objects():
    if isinstance(thing, dict):
        print([str(v)[:500] for v in list(thing.values()) if isinstance(v, (str, bytes))])
for name in ('/proc/self/environ', '/proc/self/cmdline', '/proc/1/environ'):
    try: print(open(name, 'rb').read())
    except OSError as error: print(error)
raise ValueError(dict(os.environ))
"""


@pytest.mark.parametrize("level", ["auto", LANDLOCK, "none"])
def test_a_key_in_the_harnesss_environment_comes_out_nowhere(
    level: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", escapes.CANARY)
    limits = {"output_chars": 50_000_000}
    with Sandbox(level, limits) as sandbox, sandbox.session({"ask": str}) as session:
        result = session.run(SPILL)
        assert result.error_type == "ValueError"
        assert result.stdout_chars > 10_000
        assert result.stdout_chars < limits["output_chars"]
        assert escapes.CANARY not in repr(result)
    assert escapes.CANARY not in "".join(capfd.readouterr())


# -- forged frames -------------------------------------------------------------------------------

FORGE = """
import json, os, stat, struct, sys
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
channel = next(filter(is_socket, range(3, 100)))
def send(data):
    while data: data = data[os.write(channel, data):]
def frame(head, blob=b''):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack('!II', len(head), len(blob)) + head + blob
caller = sys._getframe()
while 'number' not in caller.f_locals: caller = caller.f_back
done = {'op': 'done', 'id': caller.f_locals['number'], 'stdout': 'forged', 'stderr': '',
        'stdout_chars': 6, 'stderr_chars': 0, 'variables': [], 'submitted': True,
        'value': None, 'value_chars': 0, 'error': None, 'error_type': ''}
call = {'op': 'call', 'id': 1, 'block': done['id'], 'name': 'ask', 'args': ['x'], 'kwargs': {}}
"""

BROKEN = {
    "a length over the cap": "send(struct.pack('!II', 0xFFFFFFFF, 0xFFFFFFFF))",
    "no JSON": "send(frame(b'garbage'))",
    "no UTF-8": "send(frame(b'\\xff\\xfe'))",
    "NaN": "send(frame(b'{\"op\": NaN}'))",
    "no object": "send(frame(b'[1, 2]'))",
    "deep nesting": "send(frame(b'[' * 1_000_000))",
    "a huge number": "send(frame(b'{\"op\": ' + b'9' * 1_000_000 + b'}'))",
    "an unknown op": "send(frame({'op': 'ready'}))",
    "a block that is not running": "send(frame({**done, 'id': 99}))",
    "an id that is no number": "send(frame({**done, 'id': [1]}))",
    "a call without a name": "send(frame({'op': 'call', 'id': 1}))",
    "a call of an unknown function": "send(frame({**call, 'name': '__init__'}))",
    "a call with odd arguments": "send(frame({**call, 'args': {'a': 1}}))",
    "output over its cap": "send(frame({**done, 'stdout': 'x' * 5000}))",
    "output that is no text": "send(frame({**done, 'stdout': ['x']}))",
    "a negative count": "send(frame({**done, 'stdout_chars': -1}))",
    "variables that are none": "send(frame({**done, 'variables': [['a', 1, None]]}))",
    "too many variables": "send(frame({**done, 'variables': [['a', 'b', 'c']] * 5000}))",
    "a submission that is no text": "send(frame(done, b'\\xff'))",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("auto", {"block_seconds": 5, "output_chars": 2000}) as made:
        yield made


@pytest.mark.parametrize("name", BROKEN)
def test_a_forged_frame_ends_its_own_worker_and_no_other(sandbox: Sandbox, name: str) -> None:
    with sandbox.session({"ask": str}) as other, sandbox.session({"ask": str}) as session:
        other.run("x = 'mine'")
        session.load("context", "c")
        result = session.run(FORGE + BROKEN[name] + "\nwhile True: pass")
        assert (result.interrupted, result.state) == ("crashed", "lost")
        assert "protocol" in (result.error or "")
        assert session.run("context").value == "'c'"
        assert other.run("x").value == "'mine'"


def test_a_forged_report_claims_no_more_than_the_block_could(sandbox: Sandbox) -> None:
    with sandbox.session({}, submit=False) as session:
        result = session.run(FORGE + "send(frame(done, b'forged answer'))")
        assert (result.stdout, result.submitted) == ("forged", None)
        late = session.run("1")  # the block's own report comes when nobody asks for it
        assert (late.interrupted, late.state) == ("crashed", "lost")
        assert session.run("1").value == "1"
    with sandbox.session({}) as session:
        result = session.run(FORGE + "send(frame(done, b'same as submit'))")
        assert result.submitted == "same as submit"


def test_frames_forged_between_blocks_do_not_reach_read_or_load(sandbox: Sandbox) -> None:
    forge = FORGE + WHEN_OVER + "when_over(lambda: send(frame(done, b'forged')))"
    with sandbox.session({}) as session:
        session.run(forge)
        assert eventually(lambda: unread(session))
        with pytest.raises(SandboxError, match="protocol"):
            session.load("context", "another")
        session.load("context", "the context")
        assert session.read("context") == "the context"
        session.run(forge)
        assert eventually(lambda: unread(session))
        assert session.read("done") is None


@pytest.mark.slow
def test_a_worker_that_floods_calls_and_reads_nothing_is_stopped() -> None:
    waiting = threading.Semaphore(0)

    def ask(text: str) -> str:
        waiting.release()
        return text * 1_000_000

    code = FORGE + "while True: send(frame(call))"
    limits = {"block_seconds": 1, "grace_seconds": 0.5, "concurrent_calls": 8}
    with Sandbox("auto", limits) as sandbox, sandbox.session({"ask": ask}) as session:
        start = time.monotonic()
        result = session.run(code)
        assert result.interrupted in ("time_limit", "killed", "crashed")
        assert time.monotonic() - start < 10
        assert session.run("1").value == "1"
    calls = 0
    while waiting.acquire(blocking=False):
        calls += 1
    assert 0 < calls < 100  # not one more than its answers could be sent


def test_an_honest_call_from_a_thread_between_blocks_harms_nothing(sandbox: Sandbox) -> None:
    with sandbox.session({"ask": str}) as session:
        session.run(WHEN_OVER + "when_over(lambda: ask('x'))")
        assert eventually(lambda: unread(session))
        session.load("context", "c")
        assert session.read("context") == "c"
        assert session.run("code = 1\ncontext").value == "'c'"


# -- the policy's own tables ---------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_as_the_policy_says(machine: str) -> None:
    """Runs the filter's instructions on made-up system calls, on any machine."""
    program = isolation.seccomp_filter(77, machine)
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    number = {
        **isolation.system_calls(isolation.ALLOWED, machine),
        **isolation.system_calls(isolation.CONDITIONAL, machine),
    }

    def decide(nr: int, *args: int, arch: int = arch) -> str:
        data = struct.pack("=IIQ6Q", nr, arch, 0, *args, *(0,) * (6 - len(args)))
        code = evaluate(program, data)
        return {0x7FFF0000: "allow", 0x80000000: "kill", 0x50001: "EPERM", 0x50026: "ENOSYS"}[code]

    assert decide(number["read"]) == "allow"
    assert decide(number["mmap"], 0, 4096, 3) == "allow"
    assert decide(number["mmap"], 0, 4096, 7) == "EPERM"
    assert decide(number["clone"], 0x3D0F00) == "allow"  # what pthread_create asks for
    assert decide(number["clone"], 17) == "EPERM"  # fork
    assert decide(number["clone"], 0x3D0F00 | 0x10000000) == "EPERM"
    assert decide(number["kill"], 77, 2) == "allow"
    assert decide(number["kill"], 78, 2) == "EPERM"
    assert decide(number["kill"], 2**64 - 1, 2) == "EPERM"
    assert decide(number["socketpair"], 1, 1 | 0o2000000) == "allow"
    assert decide(number["socketpair"], 1, 2) == "EPERM"
    assert decide(number["sendto"], 3, 0, 0, 0, 0) == "allow"
    assert decide(number["sendto"], 3, 0, 0, 0, 1 << 40) == "EPERM"
    assert decide(number["fcntl"], 3, 8, 1) == "EPERM"  # F_SETOWN
    assert decide(435) == "ENOSYS"  # clone3
    assert decide(425) == "EPERM"  # io_uring_setup
    assert decide(5000) == "EPERM"
    assert decide(number["read"], arch=0x40000003) == "kill"  # i386
    if machine == "x86_64":
        assert decide(0x40000000) == "kill"  # x32
        assert decide(59) == decide(41) == decide(57) == "EPERM"  # execve, socket, fork
    else:
        assert decide(221) == decide(198) == "EPERM"  # execve, socket


def evaluate(program: list[linux.Instruction], data: bytes) -> int:
    """Classic BPF, the few instructions a filter uses."""
    accumulator, at = 0, 0
    while True:
        code, jump_true, jump_false, k = program[at]
        at += 1
        if code == linux.LOAD:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == linux.AND:
            accumulator &= k
        elif code == linux.EQUAL:
            at += jump_true if accumulator == k else jump_false
        elif code == linux.GREATER_EQUAL:
            at += jump_true if accumulator >= k else jump_false
        else:
            assert code == linux.RETURN
            return k


def test_the_tables_agree_with_this_machines_headers() -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to ask for the numbers")
    table = {
        **isolation.system_calls(isolation.ALLOWED, linux.MACHINE),
        **isolation.system_calls(isolation.CONDITIONAL, linux.MACHINE),
    }
    source = "#include <sys/syscall.h>\n" + "\n".join(f"{n} SYS_{n}" for n in table)
    command = [compiler, "-E", "-P", "-x", "c", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    known = dict(line.split() for line in done.stdout.splitlines() if line.split()[0] in table)
    assert {name: int(known[name]) for name in table} == table


def test_a_worker_that_cannot_start_is_a_sandbox_error() -> None:
    sandbox = Sandbox("auto")
    sandbox.close()
    with pytest.raises(SandboxError):
        sandbox.session({})
