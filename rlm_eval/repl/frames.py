"""Frames between harness and worker: two lengths, strict JSON, raw bytes. Never pickle.

    4 bytes   length of the JSON object, big-endian
    4 bytes   length of the blob, big-endian
    ...       JSON object (UTF-8), then the blob

The worker's code can write to its channel, so a reader trusts nothing: both lengths are capped
before anything is kept, and whatever is not one JSON object raises :class:`FrameError`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct("!II")
#: Lone surrogates are legal in a Python string, and model code makes them.
ERRORS = "surrogatepass"


class FrameError(Exception):
    """Bytes that are no frame, or one over its cap."""


@dataclass(frozen=True)
class Frame:
    """``size``: bytes it took on the channel."""

    head: dict[str, Any]
    blob: bytes
    size: int


def encode(head: dict[str, Any], blob: bytes = b"") -> bytes:
    """One frame. Raises TypeError or ValueError for what JSON cannot hold (NaN included)."""
    body = _encoder.encode(head).encode("utf-8", ERRORS)
    return HEADER.pack(len(body), len(blob)) + body + blob


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant)


class Decoder:
    """Collects received bytes and hands out whole frames of at most ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def missing(self) -> int:
        """How many bytes complete the frame that has begun; at least 1."""
        if len(self._buffer) < HEADER.size:
            return HEADER.size - len(self._buffer)
        total: int = HEADER.size + sum(HEADER.unpack_from(self._buffer))
        return max(1, total - len(self._buffer))

    def next(self) -> Frame | None:
        """The next whole frame, or None until more bytes came. Raises FrameError."""
        if len(self._buffer) < HEADER.size:
            return None
        head_bytes, blob_bytes = HEADER.unpack_from(self._buffer)
        if head_bytes + blob_bytes > self.max_bytes:
            raise FrameError(f"a frame of {head_bytes + blob_bytes:,} bytes is over the cap")
        middle = HEADER.size + head_bytes
        end = middle + blob_bytes
        if len(self._buffer) < end:
            return None
        try:
            head = _decoder.decode(self._buffer[HEADER.size : middle].decode("utf-8", ERRORS))
        except (ValueError, RecursionError) as error:
            raise FrameError(f"not a JSON frame: {error}") from None
        if not isinstance(head, dict):
            raise FrameError("a frame must be a JSON object")
        blob = bytes(self._buffer[middle:end])
        del self._buffer[:end]
        return Frame(head, blob, end)
