"""Worker side: a text stream that keeps the head and the tail and counts the rest."""

from __future__ import annotations

import io
from threading import RLock


def join(head: str, tail: str, total: int) -> str:
    """Head and tail of a text of ``total`` characters, with what was dropped said between."""
    dropped = total - len(head) - len(tail)
    if not dropped:
        return head + tail
    return f"{head}\n[... {dropped:,} characters dropped ...]\n{tail}"


def cut(text: str, keep: int) -> str:
    """``text`` with its middle dropped when it is longer than ``keep`` characters."""
    if len(text) <= keep:
        return text
    head = keep // 2
    return join(text[:head], text[len(text) - (keep - head) :], len(text))


class Capture(io.TextIOBase):
    """Stands in for stdout or stderr. Memory stays below about three times ``keep``."""

    encoding = "utf-8"
    errors = "surrogatepass"

    def __init__(self, keep: int) -> None:
        self._head_room = keep // 2
        self._tail_room = keep - self._head_room
        self._lock = RLock()
        self._clear()

    def _clear(self) -> None:
        self.total = 0
        self._head: list[str] = []
        self._head_left = self._head_room
        self._tail: list[str] = []
        self._tail_chars = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        count = len(text)
        with self._lock:
            self.total += count
            if self._head_left:
                taken = text[: self._head_left]
                self._head.append(taken)
                self._head_left -= len(taken)
                text = text[len(taken) :]
            if text:
                self._keep_tail(text[-self._tail_room :] if self._tail_room else "")
        return count

    def _keep_tail(self, text: str) -> None:
        self._tail.append(text)
        self._tail_chars += len(text)
        if self._tail_chars > 2 * self._tail_room or len(self._tail) > 10_000:
            kept = "".join(self._tail)[-self._tail_room :]
            self._tail, self._tail_chars = [kept], len(kept)

    def take(self) -> tuple[str, int]:
        """What was kept since the last call, and how many characters were written in all."""
        with self._lock:
            tail = "".join(self._tail)[-self._tail_room :] if self._tail_room else ""
            taken = join("".join(self._head), tail, self.total), self.total
            self._clear()
        return taken
