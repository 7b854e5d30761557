"""Harness side: a worker's report of a block, checked field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlm_eval.repl.frames import ERRORS, Frame, FrameError
from rlm_eval.repl.results import Limits, Variable

_SLACK = 1000  # characters a mark of what was dropped may add
_MOST_VARIABLES = 1000


@dataclass(frozen=True)
class Report:
    """What a worker says its block did."""

    stdout: str
    stderr: str
    stdout_chars: int
    stderr_chars: int
    value: str | None
    error: str | None
    error_type: str
    variables: tuple[Variable, ...]
    submitted: str | None


def parse_report(frame: Frame, limits: Limits, submit: bool) -> Report:
    """Raises FrameError for anything the worker of this harness would not have sent.

    Code in the worker can forge a whole report; what it can claim so is what printing,
    failing or ``submit`` would have given it, and ``submit`` only where the session has it.
    """
    head = frame.head
    keep = limits.output_chars + _SLACK
    error = _text(head, "error", keep) if "error" in head else None
    submitted = None
    if head.get("submitted") is True and submit and error is None:
        submitted = _decode(frame.blob)
        if len(submitted) > limits.read_chars:
            raise FrameError("a submission over its cap")
    return Report(
        stdout=_text(head, "stdout", keep),
        stderr=_text(head, "stderr", keep),
        stdout_chars=_count(head, "stdout_chars"),
        stderr_chars=_count(head, "stderr_chars"),
        value=None if head.get("value") is None else _text(head, "value", 2 * keep),
        error=error,
        error_type=_text(head, "error_type", keep) if "error" in head else "",
        variables=_variables(head.get("variables")),
        submitted=submitted,
    )


def parse_text(frame: Frame, limits: Limits) -> str | None:
    """The text of a variable that was read; None when it is not set."""
    if frame.head.get("found") is not True:
        return None
    return _decode(frame.blob)[: limits.read_chars]


def _decode(blob: bytes) -> str:
    try:
        return blob.decode("utf-8", ERRORS)
    except UnicodeDecodeError:
        raise FrameError("text that is not UTF-8") from None


def _text(head: dict[str, Any], key: str, longest: int) -> str:
    value = head.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise FrameError(f"a malformed {key}")
    return value


def _count(head: dict[str, Any], key: str) -> int:
    value = head.get(key)
    if type(value) is not int or value < 0:
        raise FrameError(f"a malformed {key}")
    return value


def _variables(value: Any) -> tuple[Variable, ...]:
    if not isinstance(value, list) or len(value) > _MOST_VARIABLES:
        raise FrameError("malformed variables")
    found = []
    for item in value:
        match item:
            case [str(name), str(kind), str(size)] if len(name) + len(kind) + len(size) < 1000:
                found.append(Variable(name, kind, size))
            case _:
                raise FrameError("a malformed variable")
    return tuple(found)
