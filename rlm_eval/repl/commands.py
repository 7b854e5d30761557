"""Ways to start a worker by another program: bubblewrap, docker or podman, sandbox-exec.

The container and seatbelt levels are written from those tools' documentation and untested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from signal import SIGKILL, Signals

from rlm_eval.errors import SandboxError
from rlm_eval.repl import linux
from rlm_eval.repl.channel import Channel
from rlm_eval.repl.isolation import Policy, installed, library_paths, package_paths
from rlm_eval.repl.launch import HERE, Process, channel_pair, clean_environment, python_command

IMAGE = "python:3.11-slim"


def own_namespaces() -> list[str]:
    """bubblewrap's options for namespaces of its own. For the machine's root none of users: that
    would hold no other user than root, whose files and settings it then still owns."""
    kinds = ["ipc", "pid", "net", "uts", "cgroup-try"]
    kinds += [] if linux.is_machines_root() else ["user-try"]
    return ["bwrap", "--new-session", *(f"--unshare-{kind}" for kind in kinds)]


def bwrap_command(policy: Policy) -> list[str]:
    """bubblewrap around the parent of the workers: own namespaces, and a root that holds the
    interpreter, its libraries and the worker's files, all read-only."""
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


def container_command(policy: Policy, engine: str, name: str) -> list[str]:
    """One container for one worker: no network, no capability, read-only, limited memory. The
    image's own Python runs the worker's files, mounted read-only."""
    entry = python_command("solo", json.dumps(asdict(replace(policy, packages=()))))[1:]
    entry[-1] = "/harness"
    options = {
        "--network": "none",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--memory": f"{policy.memory_mb + 256}m",
        "--pids-limit": "256",
        "--tmpfs": f"/tmp:size={policy.file_mb}m",
        "--user": "65534:65534",
        "--volume": f"{HERE}:/harness/rlm_eval/repl:ro",
    }
    flat = [part for option in options.items() for part in option]
    environment = clean_environment()
    passed = [part for key in environment for part in ("--env", f"{key}={environment[key]}")]
    return [
        *(engine, "run", "--rm", "--interactive", "--init=false", "--read-only", "--name", name),
        *(*flat, *passed, "--entrypoint", "python3", IMAGE, *entry),
    ]


def seatbelt_command(policy: Policy) -> list[str]:
    """sandbox-exec with a profile that denies all but reading the interpreter, the standard library
    and the allowed packages."""
    shown = [sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"), HERE]
    shown += ["/usr/lib", "/System/Library", "/Library/Frameworks", *package_paths(policy)]
    readable = " ".join(f'(subpath "{path}")' for path in dict.fromkeys(shown))
    profile = (
        "(version 1)(deny default)"
        f'(allow file-read* {readable} (literal "/dev/null") (literal "/dev/urandom"))'
        '(allow file-read-metadata)(allow file-write-data (literal "/dev/null"))'
        '(allow sysctl-read)(allow process-exec (regex #"/python[0-9.]*$"))'
    )
    return ["sandbox-exec", "-p", profile, *python_command("solo", json.dumps(asdict(policy)))]


def find_engine() -> str:
    """docker or podman, whichever answers. Raises SandboxError."""
    tried = []
    for engine in ("docker", "podman"):
        try:
            command = [engine, "info"]
            subprocess.run(command, capture_output=True, timeout=20, check=True, text=True)
        except FileNotFoundError:
            tried.append(f"{engine} is not installed")
        except subprocess.CalledProcessError as error:
            words = (error.stderr or error.stdout).strip().splitlines()
            tried.append(f"{engine}: {words[-1] if words else 'does not answer'}")
        except (OSError, subprocess.TimeoutExpired) as error:
            tried.append(f"{engine}: {error}")
        else:
            return engine
    raise SandboxError("; ".join(tried))


class CommandLauncher:
    """Starts a program for each worker, which speaks frames on its standard input and output."""

    def __init__(self, wrapper: str, policy: Policy, max_bytes: int) -> None:
        self._wrapper, self._policy, self._max_bytes = wrapper, policy, max_bytes
        self._engine = find_engine() if wrapper == "container" else ""
        if wrapper == "seatbelt" and shutil.which("sandbox-exec") is None:
            raise SandboxError("sandbox-exec (macOS) is not installed")

    def spawn(self) -> Process:
        name = f"rlm-eval-{os.urandom(6).hex()}"
        stop: Sequence[str] = ()
        if self._wrapper == "container":
            command = container_command(self._policy, self._engine, name)
            stop = (self._engine, "kill", "--signal", "{}", name)
        elif self._wrapper == "seatbelt":
            command = seatbelt_command(self._policy)
        else:
            command = python_command("solo", json.dumps(asdict(self._policy)))
        channel, theirs = channel_pair(self._max_bytes)
        with theirs:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    env=None if stop else clean_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                channel.close()
                raise SandboxError(f"can't start {command[0]}: {error}") from None
        return _Started(child, channel, tuple(stop))

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is shared: each worker ends with its session."""


@dataclass(frozen=True)
class _Started:
    child: subprocess.Popen[bytes]
    channel: Channel
    stop: tuple[str, ...]

    def signal(self, number: Signals) -> None:
        if self.stop:
            command = [part.format(number.name) for part in self.stop]
            subprocess.run(command, capture_output=True, timeout=30, check=False)
        else:
            self.child.send_signal(number)

    def status(self) -> int | None:
        try:
            code = self.child.wait(timeout=5 if self.stop else 0.05)
        except subprocess.TimeoutExpired:
            self.signal(SIGKILL)
            self.child.wait()
            return None
        return 128 - code if self.stop and code > 128 else code

    def leave(self) -> None:
        self.signal(SIGKILL)
        self.child.wait()
        self.channel.close()
