"""What a session takes and gives back: plain frozen records, and the errors of its host calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: A value that JSON can hold. Anything else cannot cross between worker and harness.
JSON = Any
#: Answers one call made by model code. Runs in a harness thread.
HostFunction = Callable[..., JSON]

Interrupted = Literal["", "time_limit", "killed", "memory", "exited", "crashed"]
State = Literal["kept", "restored", "lost"]

#: The kind of a host error that model code sees as a TypeError: arguments that don't fit.
BAD_CALL = "bad_call"
#: The one key of the JSON object that stands for an error inside a list of answers.
ERROR_KEY = "__query_error__"


@dataclass(frozen=True)
class Limits:
    """What one session may use.

    ``block_seconds``: wall time of a block, less the time any host call was in flight.
    ``grace_seconds``: from the interrupt to the kill. ``memory_mb``: address space of the worker,
    contexts included. ``output_chars``: kept of each of stdout, stderr and the shown value.
    ``file_mb``: one file, and the whole scratch directory where there is one.
    ``cpu_seconds``: CPU time of a session. ``open_files``: descriptors.
    ``start_seconds``: for a worker to start, and for a context to load.
    ``read_chars``: longest text taken from a variable or by ``submit``.
    ``concurrent_calls``: host calls of one
    session answered at once; further ones wait. ``replay_seconds``: a history that took longer is
    not replayed after a kill.
    """

    block_seconds: float = 60.0
    grace_seconds: float = 2.0
    memory_mb: int = 4096
    output_chars: int = 100_000
    file_mb: int = 64
    cpu_seconds: int = 3600
    open_files: int = 128
    start_seconds: float = 30.0
    read_chars: int = 50_000_000
    concurrent_calls: int = 64
    replay_seconds: float = 120.0

    @property
    def frame_bytes(self) -> int:
        """The longest message a worker may send: the longest text, at 4 bytes a character."""
        return 4 * self.read_chars + 16 * self.output_chars + (1 << 24)


@dataclass(frozen=True)
class Variable:
    """A name the model's code has set: ``list`` of ``120 items``, ``str`` of ``5,000 chars``."""

    name: str
    type: str
    size: str


@dataclass(frozen=True)
class BlockResult:
    """What one block of code did.

    ``stdout``, ``stderr`` and ``value`` (the repr of a trailing expression) hold at most
    ``Limits.output_chars`` characters, head and tail; ``*_chars`` are the full lengths.
    ``error`` is a short traceback of the model's own lines, ``error_type`` the exception's class.
    ``submitted`` is the text given to ``submit`` in this block.

    ``interrupted``: ``time_limit`` (stopped, variables kept), ``killed`` (would not stop),
    ``memory`` (killed by the kernel for want of memory), ``exited`` (``os._exit``), ``crashed``
    (a signal, a closed or broken channel); what a block printed before any but the first of these
    is gone. ``state`` says what became of the variables: ``kept``,
    ``restored`` to the last finished block by replaying, or ``lost``.
    ``exec_s`` excludes ``callback_s``, the seconds during which a host call was in flight.
    """

    stdout: str
    stderr: str
    stdout_chars: int
    stderr_chars: int
    value: str | None
    error: str | None
    error_type: str
    variables: tuple[Variable, ...]
    submitted: str | None
    interrupted: Interrupted
    state: State
    exec_s: float
    callback_s: float


class HostError(Exception):
    """Raised by a host function: appears in the worker as ``QueryError(kind, message, data)``.

    Any other exception of a host function stops the block and leaves ``ReplSession.run``.
    """

    def __init__(self, kind: str, message: str, data: Mapping[str, JSON] | None = None) -> None:
        super().__init__(f"[{kind}] {message}")
        self.kind = kind
        self.message = message
        self.data = dict(data or {})


def host_error_value(kind: str, message: str, data: Mapping[str, JSON] | None = None) -> JSON:
    """A failed item of a batch: in a list a host function returns, it becomes a ``QueryError``
    instance (a value, not raised), so that code can test it by type and never by its text."""
    return {ERROR_KEY: {"kind": kind, "message": message, "data": dict(data or {})}}
