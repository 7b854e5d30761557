"""Harness side: the warmed parent of the workers, maybe within bubblewrap, and workers forked from
it; on macOS a program for each, by sandbox-exec, written from its documentation and untested.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from signal import Signals
from typing import Any

from rlm_eval.errors import SandboxError
from rlm_eval.repl import linux
from rlm_eval.repl.channel import HEAD_BYTES, Channel
from rlm_eval.repl.isolation import Policy, installed, library_paths, package_paths

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
_BOOT = "import sys; sys.path.append(sys.argv.pop()); from rlm_eval.repl.zygote import {0}; {0}()"


def channel_pair(max_bytes: int) -> tuple[Channel, socket.socket]:
    """The harness's end of a worker's channel, and the worker's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    descriptor = ours.detach()
    return Channel(descriptor, descriptor, max_bytes, HEAD_BYTES), theirs


@dataclass(frozen=True)
class Process:
    """A worker's process, seen from the harness.

    ``status``, to be asked once and when the channel is closed, is its exit status: negative for a
    signal, None when it lived on (it is killed then). ``leave`` ends it whatever it does, by
    ``end``, which raises SandboxError where it is gone with the sandbox.
    """

    channel: Channel
    signal: Callable[[Signals], object]
    status: Callable[[], int | None]
    end: Callable[[], object]

    def leave(self) -> None:
        with contextlib.suppress(SandboxError):  # then it is gone already
            self.end()
        self.channel.close()


def shut_harness() -> None:
    """From now on no process of the same user can ptrace this one or read its /proc/PID/environ,
    mem or maps, and no core of it is dumped (Linux only)."""
    if sys.platform == "linux":
        linux.set_dumpable(0)


def clean_environment() -> dict[str, str]:
    """All a worker's parent gets: nothing of the user's. A fixed hash seed makes the order of sets
    the same in every session; -I would ignore it, so its parts -s -P are given instead."""
    kept = {k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LANG": "C.UTF-8", "TZ": "UTC"}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # Few arenas, since each takes address space; huge pages, which halve a context's load time.
    memory = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    return {**kept, **fixed, **threads, **memory, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}


def python_command(entry: str, *arguments: str) -> list[str]:
    python = os.path.realpath(sys.executable)
    return [python, "-s", "-S", "-P", "-c", _BOOT.format(entry), *arguments, ROOT]


class Zygote:
    """Forks workers from a parent that has everything imported. Safe for threads.

    Raises SandboxError when the parent can't start, with its own words.
    """

    def __init__(
        self, policy: Policy, wrapper: Sequence[str], max_bytes: int, start_seconds: float
    ) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._broken = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(start_seconds)
        try:
            self._process = subprocess.Popen(
                [*wrapper, *python_command("main", json.dumps(asdict(policy)))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=clean_environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            raise SandboxError(f"can't start the sandbox: {error}") from None
        finally:
            theirs.close()
        try:
            self._receive()  # its greeting
        except SandboxError:
            self.close()
            raise

    def _receive(self) -> dict[str, Any]:
        try:
            data = self._control.recv(1 << 16)
        except OSError as error:
            self._broken = True
            raise SandboxError(f"the sandbox does not answer: {error}") from None
        if data:
            reply: dict[str, Any] = json.loads(data)
            if "error" in reply:
                raise SandboxError(reply["error"])
            return reply
        self._broken = True
        self._process.kill()
        assert self._process.stderr is not None
        words = self._process.stderr.read().decode(errors="replace").strip()
        raise SandboxError(f"the sandbox ended: {words.splitlines()[-1] if words else 'no reason'}")

    def ask(self, op: str, number: int, descriptor: int | None = None) -> dict[str, Any]:
        """What the parent replies. Raises SandboxError where it can't do it or is gone."""
        request = json.dumps({"op": op, "id": number}).encode()
        passed = [] if descriptor is None else [descriptor]
        with self._lock:
            if self._broken:  # what it says now may be for another
                raise SandboxError("the sandbox does not answer")
            try:
                socket.send_fds(self._control, [request], passed)
            except OSError as error:
                self._broken = True
                raise SandboxError(f"the sandbox is gone: {error}") from None
            return self._receive()

    def spawn(self) -> Process:
        channel, theirs = channel_pair(self._max_bytes)
        number = next(self._numbers)
        try:
            with theirs:
                self.ask("fork", number, theirs.fileno())
        except SandboxError:
            channel.close()
            raise
        return Process(
            channel,
            lambda signal: self.ask(signal.name, number),
            lambda: self.ask("status", number)["status"],
            partial(self.ask, "leave", number),
        )

    def alive(self) -> bool:
        return not self._broken and self._process.poll() is None

    def close(self) -> None:
        """End the parent and with it every worker."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _end(self._process)
        if self._process.stderr is not None:
            self._process.stderr.close()


def own_namespaces() -> list[str]:
    """bubblewrap's options for namespaces of its own. For the machine's root none of users: that
    would hold no other user than root, whose files and settings it then still owns."""
    kinds = ["ipc", "pid", "net", "uts", "cgroup-try"]
    kinds += [] if linux.is_machines_root() else ["user-try"]
    return ["bwrap", "--new-session", *(f"--unshare-{kind}" for kind in kinds)]


def bwrap_command(policy: Policy) -> list[str]:
    """bubblewrap around the parent of the workers: own namespaces, and a root that holds the
    interpreter, its libraries and the worker's files, all read-only. Raises SandboxError where
    there is none."""
    if shutil.which("bwrap") is None:
        raise SandboxError("bwrap (bubblewrap) is not installed")
    shown = [os.path.realpath(sys.base_prefix), "/usr/lib", "/usr/lib64", "/lib", "/lib64"]
    shown += ["/etc/ld.so.cache", os.path.realpath(sys.executable)]
    command = [*own_namespaces(), "--dev", "/dev"]
    for path in dict.fromkeys(shown):
        command += ["--ro-bind-try", path, path]
    for library in library_paths():
        command += [part for path in installed(library) for part in ("--tmpfs", path)]
    for path in (HERE, *package_paths(policy)):  # which may lie in these
        command += ["--ro-bind", path, path]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]


def seatbelt_command(policy: Policy) -> list[str]:
    """sandbox-exec with a profile that denies all but reading the interpreter, the standard library
    and the allowed packages. Raises SandboxError where there is none."""
    if shutil.which("sandbox-exec") is None:
        raise SandboxError("sandbox-exec (macOS) is not installed")
    shown = [sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"), HERE]
    shown += ["/usr/lib", "/System/Library", "/Library/Frameworks", *package_paths(policy)]
    readable = " ".join(f'(subpath "{path}")' for path in dict.fromkeys(shown))
    profile = (
        "(version 1)(deny default)"
        f'(allow file-read* {readable} (literal "/dev/null") (literal "/dev/urandom"))'
        '(allow file-read-metadata)(allow file-write-data (literal "/dev/null"))'
        '(allow sysctl-read)(allow process-exec (regex #"/python[0-9.]*$"))'
    )
    return ["sandbox-exec", "-p", profile]


class CommandLauncher:
    """Starts a program for each worker, which speaks frames on its standard input and output."""

    def __init__(self, wrapper: Sequence[str], policy: Policy, max_bytes: int) -> None:
        self._command = [*wrapper, *python_command("solo", json.dumps(asdict(policy)))]
        self._max_bytes = max_bytes

    def spawn(self) -> Process:
        channel, theirs = channel_pair(self._max_bytes)
        with theirs:
            try:
                child = subprocess.Popen(
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    env=clean_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                channel.close()
                raise SandboxError(f"can't start {self._command[0]}: {error}") from None
        return Process(channel, child.send_signal, partial(_status, child), partial(_end, child))

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is shared: each worker ends with its session."""


#: Where workers come from.
Launcher = Zygote | CommandLauncher


def _status(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        _end(child)
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
