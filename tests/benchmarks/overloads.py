"""What code in a sandbox or an engine can do to its harness and to others, beside escaping: memory,
stalls, ends, and what it shares with them.

    python tests/benchmarks/overloads.py             this revision, as JSON
    python tests/benchmarks/overloads.py --write     a table with those of the revision below, at
                                                     the end of results/published/…/sandbox_*.md

Each case runs in a process of its own. Memory is what the harness's peak grows by, a stall the
longest time that another thread of the harness had to wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, os.environ.get("REVISION", str(Path(__file__).resolve().parents[2])))

from helpers.proxied import Served, served
from rlm_eval.errors import SandboxError
from rlm_eval.methods.foreign.process import PYTHON, running
from rlm_eval.repl import linux
from rlm_eval.repl.results import HostError
from rlm_eval.repl.session import Sandbox

ROOT = Path(__file__).resolve().parents[2]
#: The last revision in which none of these cases was dealt with.
BEFORE = "4b7ac73"
FRAME = """
import os, stat, struct
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
channel = next(filter(is_socket, range(3, 100)))
def send(head):
    data = struct.pack('!II', len(head), 0) + head
    while data: data = data[os.write(channel, data):]
"""


@contextlib.contextmanager
def watched(found: dict[str, str]) -> Iterator[None]:
    """Says in ``found`` what memory the block took and how long it held up others."""
    over, longest = threading.Event(), [0.0]

    def tick() -> None:
        before = time.perf_counter()
        while not over.wait(0.01):
            now = time.perf_counter()
            longest[0], before = max(longest[0], now - before), now

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))

    ticking = threading.Thread(target=tick)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    first = status("VmRSS")
    ticking.start()
    yield
    over.set()
    ticking.join()
    found["cost"] = f"{status('VmHWM') - first:,} MB, stall {longest[0]:.2f} s"


def block(code: str, **limits: float) -> str:
    """A block's code and what it costs its harness."""

    def refuse(prompts: Any) -> None:  # as llm_query does: it looks at each
        for prompt in [[prompt] for prompt in prompts]:
            if not isinstance(prompt[0], str):
                raise HostError("bad_request", "a prompt must be a string")
        raise HostError("budget_exceeded", "no calls left")

    found: dict[str, str] = {}
    with (
        Sandbox("auto", {"block_seconds": 60, **limits}) as sandbox,
        sandbox.session({"ask": refuse}) as session,
    ):
        with watched(found):
            session.run(code)
        assert session.run("1").value == "1"
    return found["cost"]


def threads() -> str:
    code = """
import threading
threading.stack_size(1 << 16)
over, count = threading.Event(), 0
try:
    for count in range(3000): threading.Thread(target=over.wait, daemon=True).start()
except RuntimeError: pass
count + 1
"""
    with Sandbox("auto") as sandbox, sandbox.session({}) as session:
        return f"{int(session.run(code).value or 0):,} threads"


def lock(level: str, path: str) -> str:
    """Whether a lock put on a file by a session is felt here."""
    code = f"import fcntl\nf = open({path!r})\nfcntl.flock(f, fcntl.LOCK_EX)"
    with Sandbox(level) as sandbox, sandbox.session({}) as session, open(path) as file:
        session.run(code)
        return felt(file)


def felt(file: Any) -> str:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "felt by the host"
    return "not felt"


def engine_lock(path: str) -> str:
    code = f"""
import fcntl, sys, time
f = open({path!r})
try: fcntl.flock(f, fcntl.LOCK_EX)
except OSError: pass
print('locked', flush=True); time.sleep(3)
"""
    with running([PYTHON, "-c", code], {}, {}, []) as engine, open(path) as file:
        engine.listener()
        time.sleep(1.5)
        return felt(file)


def engine_writes(path: str) -> str:
    code = f"import os\ntry: print(os.open({path!r}, os.O_WRONLY) > 0)\nexcept OSError: print(0)"
    with running([PYTHON, "-c", code], {}, {}, []) as engine:
        engine.listener()
        return "open" if engine.wait(20)[1] == b"True\n" else "refused"


def listing() -> str:
    packages = str(Path(contextlib.__file__).parent / "site-packages")
    with Sandbox("landlock") as sandbox, sandbox.session({}) as session:
        names = session.run(f"import os\nlen(os.listdir({packages!r}))").value
        return f"{names} names" if names else "refused"


def stranger(request: bytes) -> str:
    """What a request without the token does to the sample."""
    with served() as it:
        with connected(it) as connection:
            connection.sendall(request)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                connection.recv(100)
        time.sleep(0.3)
        return "the sample ends" if it.proxy.ending else "refused"


@contextlib.contextmanager
def connected(it: Served) -> Iterator[socket.socket]:
    host, port = it.proxy.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), 40) as connection:
        yield connection


def drops() -> str:
    """How long a connection lives that sends a byte now and then, and never the token."""
    began = time.monotonic()
    with served() as it, connected(it) as connection, contextlib.suppress(OSError):
        for _ in range(25):
            connection.sendall(b"x")
            time.sleep(1)
    lived = time.monotonic() - began
    return "for ever" if lived > 24.5 else f"{lived:.0f} s"


def body(data: bytes) -> str:
    found: dict[str, str] = {}
    with served() as it, watched(found):
        status, _ = it.raw(data)
    return f"{found['cost']} (status {status})"


def without_processes() -> str:
    """A session opened where the system has no process left, and one that was open before."""
    group = Path("/sys/fs/cgroup/pids", f"overloads-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        return f"not tried: {error.strerror}"
    home = Path("/sys/fs/cgroup/pids/cgroup.procs")
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        with Sandbox("auto") as sandbox, sandbox.session({"ask": str}) as session:
            session.run("x = 'kept'")
            (group / "pids.max").write_text((group / "pids.current").read_text())
            try:
                sandbox.session({}).close()
                opened = "opens"
            except SandboxError:
                opened = "is refused"
            except RuntimeError as error:
                opened = f"fails with {type(error).__name__}"
            lives = session.run("x").value == "'kept'"
            (group / "pids.max").write_text("max")
        return f"the new one {opened}, the other {'lives' if lives else 'is lost'}"
    finally:
        home.write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            group.rmdir()


AMPLE = {"memory_mb": 8192}
CASES: dict[str, Callable[[], str]] = {
    "confined engine, as root or not: /proc/sys/kernel/core_pattern to write": lambda: (
        engine_writes("/proc/sys/kernel/core_pattern")
    ),
    "confined engine: flock on a library file": lambda: engine_lock(os.__file__),
    "confined engine: flock on /dev/null": lambda: engine_lock(os.devnull),
    "session: flock on a library file": lambda: lock("auto", os.__file__),
    "session: flock on /dev/null": lambda: lock("auto", os.devnull),
    "session, landlock level: list site-packages": listing,
    "block: 60 MB of `[],` forged on the channel": lambda: block(
        FRAME + "send(b'{\"op\": \"call\", \"args\": [' + b'[],' * 20_000_000 + b'[]]}')", **AMPLE
    ),
    "block: `llm_query([[], …])`, 20,000,000 lists": lambda: block(
        "ask([[]] * 20_000_000)", **AMPLE
    ),
    "block: `llm_query_batched` of 200,000 prompts": lambda: block("ask(['x'] * 200_000)"),
    "block: 40 threads, each `llm_query([[], …])` of 0.5 MB": lambda: block(
        "import threading\nx = [[]] * 150_000\n"
        "t = [threading.Thread(target=ask, args=(x,)) for _ in range(40)]\n"
        "for i in t: i.start()\nfor i in t: i.join()"
    ),
    "block: 3,000 threads": threads,
    "no process left: another session": without_processes,
    "proxy, no token: Content-Length of 4,301 digits": lambda: stranger(
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: " + b"9" * 4301 + b"\r\n\r\n"
    ),
    "proxy, no token: a byte a second": drops,
    "proxy, token: a body of 60 MB of `[],`": lambda: body(b"[" + b"[]," * 20_000_000 + b"[]]"),
    "proxy, token: 60 MB of `{},` as messages": lambda: body(
        b'{"model": "root", "messages": [' + b"{}," * 20_000_000 + b"{}]}"
    ),
}


def outcomes(root: Path) -> dict[str, str]:
    """What comes of each case with the code in ``root``."""
    out = {}
    for name in CASES:
        command = [sys.executable, __file__, name]
        environment = {**os.environ, "REVISION": str(root)}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        words = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        out[name] = words[-1] if words else f"ended with {done.returncode}"
    return out


def table() -> str:
    now = outcomes(ROOT)
    with tempfile.TemporaryDirectory() as place:
        packed = subprocess.run(
            ["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", place], input=packed.stdout, check=True)
        before = outcomes(Path(place))
    lines = ["## What they can do to others", ""]
    lines += [
        f"Written by `chrt -r 1 python tests/benchmarks/overloads.py --write`. Before: {BEFORE}.",
        "",
    ]
    lines += ["| case | before | now |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {before[name]} | {now[name]} |" for name in CASES)])


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        path = ROOT / "results" / "published" / "benchmarks" / f"sandbox_{linux.MACHINE}.md"
        first = path.read_text(encoding="utf-8").partition("\n## What they")[0].rstrip()
        path.write_text(f"{first}\n\n{table()}\n", encoding="utf-8")
    elif sys.argv[1:]:
        print(CASES[sys.argv[1]]())
    else:
        print(json.dumps(outcomes(ROOT), indent=1))


if __name__ == "__main__":
    main()
