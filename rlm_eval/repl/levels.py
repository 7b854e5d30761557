"""Which levels of isolation there are, and how each is reached on this machine."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rlm_eval.errors import ConfigError, SandboxError
from rlm_eval.repl.isolation import Policy
from rlm_eval.repl.launch import CommandLauncher, Launcher, Zygote, bwrap_command, seatbelt_command
from rlm_eval.repl.results import BlockResult, Limits


@dataclass(frozen=True)
class Way:
    """One way to isolate: what wraps the process, and what a worker puts on itself."""

    wrapper: str = ""
    features: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """As rows show it: ``landlock+seccomp+namespaces``, ``bwrap+seccomp``, ``none``."""
        return "+".join(filter(None, (self.wrapper, *self.features))) or "none"


_LANDLOCK, _SEATBELT = Way("", ("landlock", "seccomp")), Way("seatbelt")
_BWRAP = (Way("bwrap", ("landlock", "seccomp")), Way("bwrap", ("seccomp",)))
_ALL = Way("", ("landlock", "seccomp", "namespaces"))
_AUTO = (_ALL, _BWRAP[0], _LANDLOCK, Way("", ("seccomp", "namespaces")), _BWRAP[1])
_WAYS: Mapping[str, Sequence[Way]] = {
    "auto": _AUTO if sys.platform == "linux" else (_SEATBELT,),
    **{"landlock": (_LANDLOCK,), "bwrap": _BWRAP, "seatbelt": (_SEATBELT,), "none": (Way(),)},
}


def ways_of(level: str) -> Sequence[Way]:
    """What ``level`` stands for on this system, strongest first. Raises ConfigError."""
    if level not in _WAYS:
        raise ConfigError(f"must be one of {', '.join(_WAYS)}, not {level!r}", key="level")
    return _WAYS[level]


def make_policy(limits: Limits, packages: Sequence[str]) -> Policy:
    """What a worker may do, less a way's features. Raises ConfigError for a package that is not
    installed."""
    folders = []
    for name in packages:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or spec.origin is None or not spec.submodule_search_locations:
            found = f"(a folder that `import {name}` finds): remove it, or install it as one"
            what = f"names {name!r}, which is no installed package {found}"
            raise ConfigError(what, key="packages")
        folders.append(os.path.dirname(os.path.realpath(spec.origin)))
    return Policy(
        features=(),
        packages=tuple(folders),
        memory_mb=limits.memory_mb,
        file_mb=limits.file_mb,
        cpu_seconds=limits.cpu_seconds,
        open_files=limits.open_files,
    )


def launch(way: Way, policy: Policy, limits: Limits) -> Launcher:
    """Start what workers come from. Raises SandboxError where this machine can't."""
    policy = replace(policy, features=way.features)
    wrapper: Sequence[str] = ()
    if way.wrapper == "bwrap":
        wrapper = bwrap_command(policy)
    elif way.wrapper == "seatbelt":
        wrapper = seatbelt_command(policy)
    if way.wrapper == "seatbelt" or sys.platform != "linux":
        return CommandLauncher(wrapper, policy, limits.frame_bytes)
    return Zygote(policy, wrapper, limits.frame_bytes, limits.start_seconds)


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
    'writes the kernel settings': lambda: open('/proc/sys/kernel/core_pattern', 'r+').close(),
    'opens sockets': lambda: _socket.socket(_socket.AF_INET).close(),
    'starts programs': lambda: _os.posix_spawn('/bin/true', ['true'], {}),
}.items() if _tried(action)])
"""


def reach(
    level: str, policy: Policy, limits: Limits, probe: Callable[[Launcher], BlockResult]
) -> tuple[Way, Launcher]:
    """Start the strongest way of ``level`` that this machine has. ``probe`` runs :data:`PROBE`.
    Raises ConfigError with each way's reason where there is none."""
    reasons: dict[str, list[str]] = {}
    for way in ways_of(level):
        launcher = None
        try:
            launcher = launch(way, policy, limits)
            result = probe(launcher)
            found = result.submitted
            if found == "[]" or (found is not None and way.level == "none"):
                return way, launcher
            reason = f"its check failed: {result.error}" if found is None else f"a worker {found}"
        except SandboxError as error:
            reason = str(error)
        if launcher is not None:
            launcher.close()
        reasons.setdefault(reason, []).append(way.level)
    listed = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    raise ConfigError(
        f"sandbox={level}: this machine can't isolate model-written code ({listed}). "
        "To run it without isolation, with your files and network open to it, set sandbox=none"
    )
