"""What a session takes and gives back: frozen records, and the errors of its host calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from rlm_eval.errors import ConfigError
from rlm_eval.repl.channel import ERROR_KEY, CallError, Frame, FrameError

#: Answers one call made by model code, in a harness thread, by a value that JSON can hold.
HostFunction = Callable[..., Any]

Interrupted = Literal["", "time_limit", "killed", "memory", "exited", "crashed"]
State = Literal["kept", "lost"]

_SLACK = 1000  # characters a mark of what was dropped may add
_LONGEST_ERROR = 6000  # characters: a message, and the lines of code that led to it
_MOST_VARIABLES = 1000


@dataclass(frozen=True)
class Limits:
    """What one session may use: conf/sandbox/auto.yaml says what each is."""

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

    @classmethod
    def of(cls, given: Mapping[str, float]) -> Self:
        """Limits from a configuration. Raises ConfigError for what is unknown or can't be."""
        known = cls.__dataclass_fields__
        for name, value in given.items():
            key = f"limits.{name}"
            if name not in known:
                raise ConfigError(f"is unknown: there are {', '.join(known)}", key=key)
            integer = isinstance(known[name].default, int)
            if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
                kind = "whole number" if integer else "number"
                raise ConfigError(f"must be a {kind}, not {value!r}", key=key)
            if value <= 0:
                raise ConfigError("must be more than 0", key=key)
        if given.get("memory_mb", 256) < 256:
            raise ConfigError("must be at least 256", key="limits.memory_mb")
        return cls(**given)  # type: ignore[arg-type]

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

    ``interrupted``: ``time_limit`` (stopped), ``killed`` (would not stop), ``memory``, ``exited``
    (``os._exit``), ``crashed`` (a signal, a closed or broken channel); after any but the first what
    the block printed is gone, and the variables are ``lost``, all but the loaded ones.
    ``exec_s`` excludes ``callback_s``, the seconds during which a host call was in flight.
    """

    stdout: str = ""
    stderr: str = ""
    stdout_chars: int = 0
    stderr_chars: int = 0
    value_chars: int = 0
    value: str | None = None
    error: str | None = None
    error_type: str = ""
    variables: tuple[Variable, ...] = ()
    submitted: str | None = None
    interrupted: Interrupted = ""
    state: State = "kept"
    exec_s: float = 0.0
    callback_s: float = 0.0


def checked_result(frame: Frame, limits: Limits, submit: bool, **rest: Any) -> BlockResult:
    """A worker's report of a block, checked field by field; ``rest`` is what the harness knows.

    Raises FrameError for anything the worker of this harness would not have sent. Code in the
    worker can forge a whole report; what it can claim so is what printing, failing or ``submit``
    would have given it, and ``submit`` only where the session has it.
    """
    match frame.head:
        case {
            "stdout": str(stdout),
            "stderr": str(stderr),
            "stdout_chars": int(stdout_chars),
            "stderr_chars": int(stderr_chars),
            "value": None | str() as value,
            "value_chars": int(value_chars),
            "error": None | str() as error,
            "error_type": str(error_type),
            "variables": list(listed),
            "submitted": bool(has_submitted),
        }:
            pass
        case _:
            raise FrameError("a malformed report")
    if max(len(error or ""), len(error_type)) > _LONGEST_ERROR:
        raise FrameError("an error over its cap")
    keep = limits.output_chars + _SLACK
    longest = max(len(stdout), len(stderr))
    counts = stdout_chars, stderr_chars, value_chars
    if longest > keep or len(value or "") > 2 * keep or min(counts) < 0:
        raise FrameError("output over its cap")
    if len(listed) > _MOST_VARIABLES:
        raise FrameError("too many variables")
    variables = []
    for item in listed:
        match item:
            case [str(name), str(kind), str(size)] if len(name) + len(kind) + len(size) < 1000:
                variables.append(Variable(name, kind, size))
            case _:
                raise FrameError("a malformed variable")
    submitted = frame.text() if has_submitted and submit and error is None else None
    if len(submitted or "") > limits.read_chars:
        raise FrameError("a submission over its cap")
    printed = stdout, stderr, *counts, value
    return BlockResult(*printed, error, error_type, tuple(variables), submitted, **rest)


class HostError(CallError):
    """Raised by a host function: appears in the worker as ``QueryError(kind, message, data)``.

    Any other exception of a host function stops the block and leaves ``ReplSession.run``.
    """

    def as_value(self) -> Any:
        """A failed item of a batch: in a list that a host function returns, it becomes a
        ``QueryError`` instance (not raised): code can test it by type, never by its text."""
        return {ERROR_KEY: vars(self)}
