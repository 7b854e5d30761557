"""One llama.cpp server per machine: join the one that runs, or start it.

Two servers at once on one laptop's cores crawl. A run with the same settings shares the server,
one with other settings waits and says so. Who uses it holds a shared lock on ``users.lock``; the
server ends itself when nobody does (see ``llama_server``).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rlm_eval.errors import ConfigError

POLL_S = 2.0


@dataclass(frozen=True)
class Lease:
    """The right to use a server; it lives at least as long as the lease is held."""

    pid: int
    address: str
    api_key: str
    users: TextIO

    def release(self) -> None:
        self.users.close()


def join_or_start(folder: Path, settings: Mapping[str, Any], start_timeout_s: float) -> Lease:
    """A lease on this machine's server with exactly these ``settings``.

    ``folder`` holds its locks, state and log. Waits, and says so, while a server with other
    settings is in use. Raises ConfigError when the server can't be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with _locked(folder / "start.lock"):
            state = read_state(folder)
            if not alive(state.get("pid")):
                return _start(folder, settings, start_timeout_s)
            if state.get("settings") == settings:
                return _lease(state, _share(folder / "users.lock"))
        if not told:
            print(
                f"waiting: another run's local model (pid {state['pid']}) has other settings; "
                "this run starts its own when that one ends",
                file=sys.stderr,
            )
            told = True
        time.sleep(POLL_S)


def read_state(folder: Path) -> dict[str, Any]:
    """What the server that runs wrote of itself; empty when there is none."""
    try:
        state: dict[str, Any] = json.loads((folder / "server.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state


def alive(pid: int | None) -> bool:
    """Whether the process runs and is a server of ours (a killed one that was not yet waited for
    has no command line any more). Without ``/proc``, whether it runs."""
    if pid is None:
        return False
    if Path("/proc/self").exists():
        try:
            return b"llama_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _start(folder: Path, settings: Mapping[str, Any], timeout_s: float) -> Lease:
    """Start the server under a shared ``users.lock``, so that it never finds itself unused."""
    users = _share(folder / "users.lock")
    api_key, log_path = secrets.token_hex(16), folder / "server.log"
    with log_path.open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "rlm_eval.models.llama_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env=_child_environment(),
        )
    hello = json.dumps({**settings, "api_key": api_key, "folder": str(folder)})
    line = _first_line(child, hello, timeout_s)
    if not line:
        child.kill()
        code = child.wait()
        users.close()
        raise ConfigError(_no_start(settings["path"], code, timeout_s, log_path))
    state = {
        "pid": child.pid,
        "address": json.loads(line)["address"],
        "api_key": api_key,
        "settings": dict(settings),
    }
    temporary = folder / f"server.{os.getpid()}.tmp"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(state))
    temporary.replace(folder / "server.json")
    return _lease(state, users)


def _lease(state: Mapping[str, Any], users: TextIO) -> Lease:
    return Lease(state["pid"], state["address"], state["api_key"], users)


def _first_line(child: subprocess.Popen[str], message: str, timeout_s: float) -> str:
    """Tell the child ``message``; its first line of output, empty when it ended or was too slow."""
    assert child.stdin is not None
    assert child.stdout is not None
    timer = threading.Timer(timeout_s, child.kill)
    timer.start()
    try:
        child.stdin.write(message)
        child.stdin.close()
    except BrokenPipeError:
        return ""
    else:
        return child.stdout.readline().strip()
    finally:
        timer.cancel()


def _no_start(path: str, code: int, timeout_s: float, log_path: Path) -> str:
    log = [line for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.partition(" E ")[2] for line in log if " E " in line]
    how = f"not within {timeout_s:g} s" if code == -9 else f"exit code {code}"
    reason = (errors or log[-1:] or ["it said nothing"])[0].strip()[:300]
    return f"llama.cpp could not serve {path} ({how}; log {log_path}): {reason}"


def _child_environment() -> dict[str, str]:
    """No keys, and threads that look for a few microseconds at a barrier before they sleep: waking
    costs generation speed, and OpenMP's own longer spinning costs more as soon as anything else
    runs on the same cores (results/published/benchmarks/waiting.md)."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")
    environment = {k: v for k, v in os.environ.items() if k in kept}
    return environment | {"GOMP_SPINCOUNT": "1000"}


def _share(path: Path) -> TextIO:
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
