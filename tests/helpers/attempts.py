"""One attempt at a run, in a process of its own that can be stopped anywhere and killed.

A fork server has everything imported, so an attempt costs what the run itself takes. A
:class:`Stop` names a point of the run's own code where the attempt stops itself (SIGSTOP), whole,
with all its threads, so that whoever watches can look around and then kill it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from rlm_eval.errors import ConfigError


@dataclass(frozen=True)
class Stop:
    """Where to stop: ``where`` is a key of :data:`PLANTS`, or the name of a file that is about to
    be given its name (``NAME``) or removed (``-NAME``). It is passed ``after`` times first."""

    where: str
    after: int = 0

    def __str__(self) -> str:
        if self.where in PLANTS:
            return self.where
        if self.where.startswith("-"):
            return f"before {self.where[1:]} is removed"
        what = f"a file in {self.where}" if self.where.endswith("/") else self.where
        return f"before {what} has its name"


@dataclass(frozen=True)
class Job:
    """What an attempt does: carry out ``tree``, or resume the run in ``run_dir``.
    ``file_limit``: bytes that a file may grow to, as on a disk that is full."""

    what: str
    tree: Mapping[str, Any]
    run_dir: Path
    file_limit: int | None = None


class Attempt:
    """A job under way. What it prints goes to ``log``."""

    def __init__(self, job: Job, log: Path, stop: Stop | None = None) -> None:
        self.log = log
        with _PROCESSES:
            self._process: BaseProcess = _fork_server().Process(
                target=_carry_out, args=(job, log, stop), daemon=True
            )
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        with _PROCESSES:
            return self._process.exitcode

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code once it has ended."""
        if not self.ended_within(seconds):
            self.kill()
            raise TimeoutError(f"no end within {seconds:g} s:\n{self.log.read_text()[-2000:]}")
        code = self.exit_code()
        assert code is not None
        return code

    def ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.exit_code() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    def wait_until(self, ready: Callable[[], bool], seconds: float = 120.0) -> bool:
        """Whether ``ready`` came true before the attempt ended."""
        deadline = time.monotonic() + seconds
        while self.exit_code() is None:
            if ready():
                return True
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing within {seconds:g} s:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.002)
        return False

    def stopped(self) -> bool:
        return _stat(self.pid)[0] == "T"

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> frozenset[tuple[int, str]]:
        """SIGKILL. The processes that stood below it, each by its id and when it was begun; they
        are looked up while it can make no more. Its exit code tells whether it was killed: at any
        of these lines it may have come to its own end, and be gone."""
        below = frozenset[tuple[int, str]]()
        if self.exit_code() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGSTOP)
                below = descendants(self.pid)
                os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return below


#: Guards what multiprocessing keeps of its processes: it is not made for threads.
_PROCESSES = threading.Lock()


@cache
def _fork_server() -> ForkServerContext:
    """The server, started with everything imported (see ``warm``)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.warm"])
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
        forkserver.ensure_running()
    atexit.register(_kill_all)
    return context


def _kill_all() -> None:
    """At the interpreter's end, before multiprocessing waits for them: a stopped one never ends."""
    for process in multiprocessing.active_children():
        process.kill()


def still_there(processes: frozenset[tuple[int, str]], seconds: float = 60.0) -> int:
    """How many of ``processes`` have not ended ``seconds`` from now."""
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        left = frozenset(p for p in left if _stat(p[0])[0] not in "XZ" and _stat(p[0])[2] == p[1])
        time.sleep(0.002)
    return len(left)


def _stat(pid: int) -> tuple[str, int, str]:
    """State, parent and start time of a process; state X where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0, ""
    return fields[0], int(fields[1]), fields[19]


def descendants(pid: int) -> frozenset[tuple[int, str]]:
    known = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found, newest = set[int](), {pid}
    while newest:
        newest = {child for child, (_, parent, _) in known.items() if parent in newest}
        found |= newest
    return frozenset((child, known[child][2]) for child in found)


# -- inside the attempt ----------------------------------------------------------------------------


def _carry_out(job: Job, log: Path, stop: Stop | None) -> None:
    """The attempt's whole life. Figures are left out: they take longest, and hold nothing that a
    kill could lose."""
    from helpers.commands import run_tree
    from rlm_eval.analysis import summary
    from rlm_eval.commands.resume import resume

    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    summary.FIGURES = ()
    if stop is not None:
        _plant(stop)
    if job.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_limit, resource.RLIM_INFINITY))
    try:
        code = run_tree(job.tree) if job.what == "run" else resume(job.run_dir)
    except ConfigError as error:
        print(f"rlm_eval: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


class _Countdown:
    """Stops this process when it has been reached often enough."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self._left = stop.after
        self._lock = threading.Lock()

    def reached(self) -> bool:
        """Whether this time is the one; the caller may do half its work before it stops."""
        with self._lock:
            self._left -= 1
            return self._left == -1

    def __call__(self) -> None:
        if self.reached():
            os.kill(os.getpid(), signal.SIGSTOP)


def _plant(stop: Stop) -> None:
    countdown = _Countdown(stop)
    plant = PLANTS.get(stop.where)
    if plant is not None:
        plant(countdown)
        return
    name = stop.where.removeprefix("-")
    event, position = ("os.rename", 1) if name == stop.where else ("os.remove", 0)

    def hook(happening: str, arguments: tuple[Any, ...]) -> None:
        if happening == event:
            path = Path(os.fsdecode(arguments[position]))
            if name in (path.name, f"{path.parent.name}/"):
                countdown()

    sys.addaudithook(hook)


def _before_a_call(countdown: _Countdown) -> None:
    from rlm_eval.models.litellm_client import LitellmModel

    complete = LitellmModel.complete

    def stopping(self: LitellmModel, *args: Any, **kwargs: Any) -> Any:
        countdown()
        return complete(self, *args, **kwargs)

    LitellmModel.complete = stopping  # type: ignore[method-assign]


def _in_the_journal(method: str, *, after: bool = False) -> Callable[[_Countdown], None]:
    """Stops before, or right after, a method of the run's journal."""

    def plant(countdown: _Countdown) -> None:
        from rlm_eval.journal.journal import Journal

        done = getattr(Journal, method)

        def stopping(self: Journal, *args: Any, **kwargs: Any) -> Any:
            if not after:
                countdown()
            value = done(self, *args, **kwargs)
            if after:
                countdown()
            return value

        setattr(Journal, method, stopping)

    return plant


def _before_a_line(key: str, value: str = "") -> Callable[[_Countdown], None]:
    """Stops before a line of an event that has this ``key``, and the ``value`` if one is given."""

    def plant(countdown: _Countdown) -> None:
        from rlm_eval.journal.journal import Journal

        append = Journal.append

        def appending(self: Journal, event: Mapping[str, Any], **kwargs: Any) -> None:
            if key in event and value in ("", event[key]):
                countdown()
            append(self, event, **kwargs)

        Journal.append = appending  # type: ignore[method-assign]

    return plant


def _in_a_line(kind: str) -> Callable[[_Countdown], None]:
    """Stops with the first half of a line in the file."""

    def plant(countdown: _Countdown) -> None:
        from rlm_eval.journal.journal import Journal

        opened = Journal.__init__

        def opening(self: Journal, *args: Any, **kwargs: Any) -> None:
            opened(self, *args, **kwargs)
            sign = f'"type": "{kind}"'.encode()
            self._file = _TearingFile(self._file, sign, countdown)  # type: ignore[assignment]

        Journal.__init__ = opening  # type: ignore[method-assign]

    return plant


class _TearingFile:
    """A file that gets half of a line with ``sign`` in it."""

    def __init__(self, file: Any, sign: bytes, countdown: _Countdown) -> None:
        self._file = file
        self._sign = sign
        self._countdown = countdown

    def write(self, data: memoryview) -> int:
        if self._sign in bytes(data[:40]) and self._countdown.reached():
            self._file.write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGSTOP)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


#: Points in the run's code by what happens there.
PLANTS: Mapping[str, Callable[[_Countdown], None]] = {
    "before the journal is opened": _in_the_journal("__init__"),
    "before a call": _before_a_call,
    "after an answer, before its line": _in_the_journal("call"),
    "in the middle of a call's line": _in_a_line("call"),
    "in the middle of a result's line": _in_a_line("result"),
    "after a trajectory, before the result's line": _before_a_line("type", "result"),
    "after a result's line": _in_the_journal("result", after=True),
    "while results are reused": _before_a_line("reused_from"),
}
