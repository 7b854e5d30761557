"""Worker side: what is kept and shown of output, values, variables and errors of model code."""

from __future__ import annotations

import io
import re
import traceback
import types
from collections import deque
from itertools import islice
from threading import RLock
from typing import Any

#: How Python shows an object that has no text of its own. Each line is read once.
ADDRESS = re.compile(r"^[^<\n]*<.* at 0x[0-9a-f]+>", re.MULTILINE)
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, range, deque)
_MESSAGE_CHARS, _LINE_CHARS, _FRAMES, _VARIABLES, _NAME_CHARS = 2000, 200, 5, 300, 200


def join(head: str, tail: str, total: int) -> str:
    """Head and tail of a text of ``total`` characters, and how many are dropped between."""
    dropped = total - len(head) - len(tail)
    if not dropped:
        return head + tail
    return f"{head}\n[... {dropped:,} characters dropped ...]\n{tail}"


def ends(text: str, keep: int) -> tuple[str, str]:
    """The head and the tail of ``text``, together ``keep`` characters of it at most."""
    head = keep // 2
    return text[:head], text[max(head, len(text) - (keep - head)) :]


def cut(text: str, keep: int) -> str:
    """``text`` with its middle dropped when it is longer than ``keep`` characters."""
    return text if len(text) <= keep else join(*ends(text, keep), len(text))


class Capture(io.TextIOBase):
    """Stands in for stdout or stderr. Memory stays below about four times ``keep``."""

    encoding = "utf-8"
    errors = "surrogatepass"

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lock = RLock()
        self._pieces: list[str] = []  # whose ends are those of all that was written
        self._chars = self.total = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            self.total += len(text)
            self._chars += len(text)
            self._pieces += ends(text, self._keep)
            if self._chars > 2 * self._keep or len(self._pieces) > 10_000:
                self._pieces, self._chars = [*ends("".join(self._pieces), self._keep)], 0
        return len(text)

    def take(self) -> tuple[str, int]:
        """What was kept since the last call, and how many characters were written in all."""
        with self._lock:
            taken = join(*ends("".join(self._pieces), self._keep), self.total), self.total
            self._pieces, self._chars, self.total = [], 0, 0
        return taken


def list_variables(names: dict[str, Any], provided: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, type, size) of what model code has set: no modules, no private or provided names."""
    found = []
    for name, value in list(names.items()):
        if not isinstance(name, str) or name.startswith("_") or name in provided:
            continue  # a private name, or the harness's own
        if isinstance(value, types.ModuleType):
            continue
        found.append((name[:_NAME_CHARS], type(value).__name__[:_NAME_CHARS], size(value)))
    return found[-_VARIABLES:]


def size(value: Any) -> str:
    """``5,000 chars``, ``120 items``, ``3 x 4`` of an array; empty where there is none.
    Runs no code of the model's."""
    kind = type(value)
    if kind in _SIZED:
        unit = "chars" if kind is str else "bytes" if kind in (bytes, bytearray) else "items"
        try:
            return f"{len(value):,} {unit}"
        except OverflowError:  # of a range
            return ""
    if (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
        return " x ".join(f"{n:,}" for n in value.shape)
    return ""


def describe_error(error: BaseException, sources: dict[str, str]) -> str:
    """A short traceback: the model's own lines and the last line of the exception."""
    try:
        last = "".join(traceback.format_exception_only(error)).rstrip()
    except BaseException:  # noqa: BLE001 - a model's own __str__ may raise anything
        last = type(error).__name__
    if error.__cause__ is not None:
        last += f"\n(caused by {type(error.__cause__).__name__})"
    last = cut(last, _MESSAGE_CHARS)
    frames = _frames(error, sources)
    return "\n".join(["Traceback (most recent call last):", *frames, last] if frames else [last])


def _frames(error: BaseException, sources: dict[str, str]) -> list[str]:
    """The first and the last calls; there may be millions between."""
    calls = (
        (step.f_code.co_filename, line, step.f_code.co_name)
        for step, line in traceback.walk_tb(error.__traceback__)
        if step.f_code.co_filename in sources
    )
    first = [_frame(*call, sources) for call in islice(calls, _FRAMES)]
    last = deque(enumerate(calls, 1), maxlen=_FRAMES)
    more = last[-1][0] - _FRAMES if last else 0
    dropped = [f"  ... {more:,} more calls ..."] if more > 0 else []
    return [*first, *dropped, *(_frame(*call, sources) for _, call in last)]


def _frame(name: str, line: int, function: str, sources: dict[str, str]) -> str:
    lines = sources[name].splitlines()
    text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    place = "" if function == "<module>" else f", in {function}"
    return f"  {name.strip('<>')}, line {line}{place}\n    {cut(text, _LINE_CHARS)}"
