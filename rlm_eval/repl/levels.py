"""Which levels of isolation there are, and how each is reached on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.errors import ConfigError, SandboxError
from rlm_eval.repl.isolation import Policy
from rlm_eval.repl.launch import Launcher, Zygote
from rlm_eval.repl.results import Limits

LEVELS = ("auto", "landlock", "bwrap", "container", "seatbelt", "none")


@dataclass(frozen=True)
class Candidate:
    """One way to isolate: what wraps the process, and what a worker puts on itself."""

    wrapper: str
    features: tuple[str, ...]

    @property
    def level(self) -> str:
        """As rows show it: ``landlock+seccomp+namespaces``, ``bwrap+seccomp``, ``none``."""
        parts = ([self.wrapper] if self.wrapper else []) + list(self.features)
        return "+".join(parts) or "none"


_BOTH = ("landlock", "seccomp")
_NAMESPACES = Candidate("", (*_BOTH, "namespaces"))
_LANDLOCK = Candidate("", _BOTH)
_BWRAP = (Candidate("bwrap", _BOTH), Candidate("bwrap", ("seccomp",)))
_CONTAINER = (Candidate("container", _BOTH), Candidate("container", ("seccomp",)))
_SEATBELT = Candidate("seatbelt", ())


def candidates(level: str) -> Sequence[Candidate]:
    """What ``level`` stands for on this system, strongest first. Raises ConfigError."""
    if level not in LEVELS:
        raise ConfigError(f"unknown sandbox {level!r}; choose one of {', '.join(LEVELS)}")
    if level == "none":
        return [Candidate("", ())]
    if level == "auto" and sys.platform == "linux":
        bare = Candidate("", ("seccomp", "namespaces"))
        return [_NAMESPACES, _BWRAP[0], _LANDLOCK, bare, _BWRAP[1], *_CONTAINER]
    if level == "auto":
        return [_SEATBELT, Candidate("container", ())]
    if level == "container":
        return [*_CONTAINER, Candidate("container", ())]
    return {"landlock": [_LANDLOCK], "bwrap": _BWRAP, "seatbelt": [_SEATBELT]}[level]


def make_policy(candidate: Candidate, limits: Limits, packages: Sequence[str]) -> Policy:
    """The policy of a candidate. Raises ConfigError for a package that is not installed."""
    parents = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ConfigError(f"sandbox.packages: {name!r} is not installed; install or remove it")
        parents.append(os.path.dirname(os.path.dirname(os.path.realpath(spec.origin))))
    if len(set(parents)) > 1:
        raise ConfigError("sandbox.packages: all packages must be installed in one directory")
    return Policy(
        features=candidate.features,
        packages=tuple(packages),
        package_path=parents[0] if parents else "",
        memory_mb=limits.memory_mb,
        file_mb=limits.file_mb,
        cpu_seconds=limits.cpu_seconds,
        open_files=limits.open_files,
    )


def launch(candidate: Candidate, policy: Policy, limits: Limits) -> Launcher:
    """Starts what workers come from. Raises SandboxError where this machine can't."""
    from rlm_eval.repl import commands  # most runs need none of these

    max_bytes = limits.frame_mb << 20
    if candidate.wrapper in ("container", "seatbelt"):
        return commands.CommandLauncher(candidate.wrapper, policy, max_bytes)
    if sys.platform != "linux":
        return commands.CommandLauncher("", policy, max_bytes)
    wrapper: Sequence[str] = ()
    if candidate.wrapper == "bwrap":
        if shutil.which("bwrap") is None:
            raise SandboxError("bwrap (bubblewrap) is not installed")
        wrapper = commands.bwrap_command(policy)
    return Zygote(policy, wrapper, max_bytes, limits.start_seconds)


Probe = Callable[[str, Launcher], str]

#: What a worker must not be able to do, tried once before the first session.
PROBE = """
def _tried(action):
    try:
        action()
        return True
    except OSError:
        return False
import os as _os, socket as _socket
submit([name for name, action in {
    'reads files of the harness': lambda: open(_path).read(1),
    'opens sockets': lambda: _socket.socket(_socket.AF_INET).close(),
    'starts programs': lambda: _os.posix_spawn('/bin/true', ['true'], {}),
}.items() if _tried(action)])
"""


def reach(level: str, limits: Limits, packages: Sequence[str], probe: Probe) -> None:
    """Starts the strongest way of ``level`` that this machine has and ``probe`` finds nothing
    open in. Raises ConfigError with each way's reason where there is none."""
    reasons = []
    for candidate in candidates(level):
        policy = make_policy(candidate, limits, packages)
        try:
            launcher = launch(candidate, policy, limits)
        except SandboxError as error:
            reasons.append(f"{candidate.level}: {error}")
            continue
        try:
            found = probe(candidate.level, launcher)
        except SandboxError as error:
            found = str(error)
        if not found or (candidate.level == "none" and found.startswith("a worker")):
            return
        launcher.close()
        reasons.append(f"{candidate.level}: {found}")
    raise ConfigError(
        f"sandbox={level}: this machine can't isolate model-written code ({'; '.join(reasons)}). "
        "To run it without isolation, with your files and network open to it, set sandbox=none"
    )
