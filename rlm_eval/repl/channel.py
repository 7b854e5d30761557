"""Messages between harness and worker: two lengths, strict JSON, raw bytes. Never pickle.

    4 bytes   length of the JSON object, big-endian
    4 bytes   length of the raw bytes, big-endian
    ...       the JSON object (UTF-8), then the raw bytes

The raw bytes are UTF-8: the long strings of the JSON object (``texts`` has their lengths), since a
byte of JSON can become 25 in memory, then a text of its own. A reader trusts nothing: lengths are
capped before anything is kept, the buffer grows with what has come and not with what was announced,
and whatever is not one JSON object raises :class:`FrameError`.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import iadd
from typing import Any

HEADER = struct.Struct("!II")
#: Lone surrogates are legal in a Python string, and model code makes them.
ERRORS = "surrogatepass"
#: The kind of a host error that model code sees as a TypeError: arguments that don't fit.
BAD_CALL = "bad_call"
#: The one key of the JSON object that stands for an error inside a list of answers.
ERROR_KEY = "__query_error__"
#: The longest JSON object that a worker may send.
HEAD_BYTES = 1 << 19
#: Of a string in it, and how one begins that stands for the next of the texts.
_SHORT, _MARK = 8, "~"
_READ_BYTES = 1 << 16
_SEND_SECONDS = 60


class CallError(Exception):
    """A host call that failed: ``kind``, ``message``, ``data``, which is what crosses of it."""

    def __init__(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"[{kind}] {message}")
        self.kind = kind
        self.message = message
        self.data = dict(data or {})


class FrameError(Exception):
    """Bytes that are no frame, or one over its cap."""


class ChannelClosedError(Exception):
    """The process at the other end is gone, or closed its end."""


@dataclass(frozen=True)
class Frame:
    """One message. ``size``: bytes that it may take in memory."""

    head: dict[str, Any]
    blob: bytes
    size: int

    def text(self) -> str:
        """The raw bytes as text. Raises FrameError."""
        try:
            return self.blob.decode("utf-8", ERRORS)
        except UnicodeDecodeError:
            raise FrameError("text that is not UTF-8") from None


def encode(head: dict[str, Any], text: str = "", *, long: tuple[str, ...] = ()) -> bytes:
    """One frame. ``long``: the keys, in their order, of what may hold long strings. Raises
    TypeError, ValueError or RecursionError for what JSON cannot hold (NaN included)."""
    texts: list[bytes] = []
    for key in long:
        if value := head[key]:
            head = head | {key: _take_out(value, texts)}
    if texts:
        head["texts"] = list(map(len, texts))
    body = _encoder.encode(head).encode("utf-8", ERRORS)
    texts.append(text.encode("utf-8", ERRORS))
    return b"".join([HEADER.pack(len(body), sum(map(len, texts))), body, *texts])


def _take_out(value: Any, texts: list[bytes]) -> Any:
    """``value`` with a mark in the place of each long string, which is added to ``texts``."""
    if isinstance(value, str):
        if len(value) <= _SHORT and not value.startswith(_MARK):
            return value
        texts.append(value.encode("utf-8", ERRORS))
        return _MARK
    if isinstance(value, (list, tuple)):
        return [_take_out(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _take_out(item, texts) for key, item in value.items()}
    return value


def _put_back(value: Any, texts: Iterator[str]) -> Any:
    """The reverse. Each text has one place, in their order."""
    if isinstance(value, str):
        return next(texts) if value == _MARK else value
    if isinstance(value, list):
        return [_put_back(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _put_back(item, texts) for key, item in value.items()}
    return value


def _texts(raw: bytes, lengths: list[int]) -> Iterator[str]:
    """The first texts in ``raw``."""
    view, end = memoryview(raw), 0
    for length in lengths:
        yield str(view[end : (end := end + length)], "utf-8", ERRORS)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _decoded(body: bytearray, raw: bytes, size: int) -> Frame:
    """The frame of these bytes. Raises FrameError."""
    try:
        head = _decoder.decode(body.decode("utf-8", ERRORS))
        if not isinstance(head, dict):
            raise FrameError("a frame must be a JSON object")
        if lengths := head.pop("texts", None):
            if min(lengths) < 0 or sum(lengths) > len(raw):
                raise FrameError("texts that are not there")
            head = _put_back(head, _texts(raw, lengths))
            raw = raw[sum(lengths) :]
        return Frame(head, raw, size)
    except (TypeError, ValueError, RecursionError, StopIteration) as error:
        raise FrameError(f"not a JSON frame: {error}") from None


class Channel:
    """One end, on a socket or a pair of pipes. One thread receives; any may send.

    Where the descriptors do not block, as in the harness, sending waits at most a minute for the
    other end to take something.
    """

    def __init__(self, reader: int, writer: int, max_bytes: int, head_bytes: int = 1 << 32) -> None:
        self._reader, self._writer = reader, writer
        self._max_bytes, self._head_bytes = max_bytes, head_bytes
        self._buffer = bytearray()
        self._lock = threading.Lock()
        self._closed = False
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(reader, select.POLLIN)
        self._writable.register(writer, select.POLLOUT)

    def send(self, data: bytes) -> None:
        """An encoded frame. Raises ChannelClosedError."""
        left = memoryview(data)
        with self._lock:
            while left:
                if self._closed:
                    raise ChannelClosedError("the channel is closed")
                try:
                    left = left[os.write(self._writer, left) :]
                except BlockingIOError:
                    if not self._writable.poll(_SEND_SECONDS * 1000):
                        raise ChannelClosedError("the worker reads nothing") from None
                except OSError as error:
                    raise ChannelClosedError(str(error)) from None

    def receive(self, seconds: float | None = None) -> Frame | None:
        """The next frame; None after ``seconds``. Raises ChannelClosedError, FrameError."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while (frame := self._next()) is None:
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                if not self._readable.poll(left * 1000):
                    return None
            size = len(self._buffer)
            try:  # in one step, between whose parts no signal handler can raise: no byte is lost
                reduce(iadd, map(os.read, [self._reader], [_READ_BYTES]), self._buffer)
            except OSError as error:
                if error.errno is None:  # what a handler of the model's raised
                    raise
                raise ChannelClosedError(str(error)) from None
            if len(self._buffer) == size:
                raise ChannelClosedError("the worker closed its channel")
        return frame

    def _next(self) -> Frame | None:
        """The first frame in the buffer, once all of it is there."""
        if len(self._buffer) < HEADER.size:
            return None
        head_bytes, blob_bytes = HEADER.unpack_from(self._buffer)
        size = HEADER.size + head_bytes + blob_bytes
        if size > self._max_bytes or head_bytes > self._head_bytes:
            raise FrameError(f"a frame of {size:,} bytes is over the cap")
        if len(self._buffer) < size:
            return None
        middle = HEADER.size + head_bytes
        body = self._buffer[HEADER.size : middle]
        with memoryview(self._buffer) as view:
            raw = view[middle:size].tobytes()
        del self._buffer[:size]
        return _decoded(body, raw, 25 * head_bytes + 4 * blob_bytes)

    def close(self) -> None:
        """To be called when the other end is dead: waits for whoever still sends."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for descriptor in {self._reader, self._writer}:
                    os.close(descriptor)
