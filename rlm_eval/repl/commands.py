"""Ways to start a worker by another program: bubblewrap, and on macOS sandbox-exec, which is
written from its documentation and untested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from rlm_eval.errors import SandboxError
from rlm_eval.repl import linux
from rlm_eval.repl.isolation import Policy, installed, library_paths, package_paths
from rlm_eval.repl.launch import HERE, Process, channel_pair, clean_environment, python_command


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
    shown += ["/etc/ld.so.cache", os.path.realpath(sys.executable), HERE]
    command = [*own_namespaces(), "--dev", "/dev"]
    for path in dict.fromkeys(shown):
        command += ["--ro-bind-try", path, path]
    for library in library_paths():
        command += [part for path in installed(library) for part in ("--tmpfs", path)]
    for path in package_paths(policy):
        command += ["--ro-bind", path, path]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


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


def _status(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        _end(child)
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
