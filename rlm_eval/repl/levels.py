"""Which levels of isolation there are, and how each is reached on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
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


def check_limits(limits: Limits | Mapping[str, float] | None) -> Limits:
    """Limits from a configuration. Raises ConfigError for what is unknown or can't be."""
    known = Limits.__dataclass_fields__
    if isinstance(limits, Limits):
        made = limits
    else:
        given = {str(name): value for name, value in (limits or {}).items()}
        if unknown := [name for name in given if name not in known]:
            known_names = ", ".join(known)
            raise ConfigError(f"sandbox.limits: unknown {unknown[0]!r}; there are {known_names}")
        made = Limits(**given)  # type: ignore[arg-type]
    for name, field in known.items():
        value, whole = getattr(made, name), isinstance(field.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "whole number" if whole else "number"
            raise ConfigError(f"sandbox.limits.{name} must be a {kind}, not {value!r}")
        if value <= 0:
            raise ConfigError(f"sandbox.limits.{name} must be more than 0")
    if made.memory_mb < 256:
        raise ConfigError("sandbox.limits.memory_mb must be at least 256")
    return made


def launch(candidate: Candidate, policy: Policy, limits: Limits) -> Launcher:
    """Starts what workers come from. Raises SandboxError where this machine can't."""
    from rlm_eval.repl import commands  # most runs need none of these

    max_bytes = limits.frame_bytes
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


@dataclass(frozen=True)
class Reached:
    """A level that works here, and how to start it once more."""

    candidate: Candidate
    policy: Policy
    launcher: Launcher


Probe = Callable[[Reached], str]

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
    reasons: dict[str, list[str]] = {}
    for candidate in candidates(level):
        policy = make_policy(candidate, limits, packages)
        found = _try(candidate, policy, limits, probe)
        if not found:
            return
        reasons.setdefault(found, []).append(candidate.level)
    told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    raise ConfigError(
        f"sandbox={level}: this machine can't isolate model-written code ({told}). "
        "To run it without isolation, with your files and network open to it, set sandbox=none"
    )


def _try(candidate: Candidate, policy: Policy, limits: Limits, probe: Probe) -> str:
    """Empty when the candidate works here, else why not."""
    try:
        launcher = launch(candidate, policy, limits)
    except SandboxError as error:
        return str(error)
    try:
        found = probe(Reached(candidate, policy, launcher))
    except SandboxError as error:
        found = str(error)
    if found and not (candidate.level == "none" and found.startswith("a worker")):
        launcher.close()
        return found
    return ""
