"""Long inputs in shared memory: written once by the harness, mapped by every worker.

A layout (JSON) and one run of UTF-8 bytes hold a string, a list of documents or a dict of strings:
``{"kind": "str" | "list" | "dict", "bytes": [length of each text], "keys": [...]}``. The bytes lie
in a memfd sealed against writing and resizing; where descriptors can't be passed they follow the
frame. A worker needs twice the context's size while it decodes, once the size after.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from rlm_eval.repl.frames import ERRORS

Loadable = str | tuple[str, ...] | Mapping[str, str]
_SLICE = 1 << 16  # characters encoded at once: stays in the processor's cache
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write


@dataclass(eq=False)
class SharedText:
    """A context as the harness holds it: layout, and a sealed memfd or (without memfd) bytes."""

    layout: dict[str, Any]
    descriptor: int | None
    blob: bytes
    source: Loadable

    @classmethod
    def of(cls, content: Loadable, *, share: bool) -> SharedText:
        """``share``: by descriptor, where the system can."""
        if isinstance(content, str):
            layout: dict[str, Any] = {"kind": "str"}
            values: Iterable[str] = (content,)
        elif isinstance(content, Mapping):
            layout = {"kind": "dict", "keys": list(content)}
            values = content.values()
        else:
            layout = {"kind": "list"}
            values = content
        lengths: list[int] = []
        pieces = _pieces(values, lengths)
        if not share or sys.platform != "linux":
            blob = b"".join(pieces)
            return cls({**layout, "bytes": lengths}, None, blob, content)
        descriptor = os.memfd_create("context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb", closefd=False, buffering=_SLICE) as file:
            for piece in pieces:
                file.write(piece)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return cls({**layout, "bytes": lengths}, descriptor, b"", content)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.layout["bytes"])

    def __del__(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class TextStore:
    """Finds the shared text of a content again: while any session holds it, and among the latest
    up to ``recent_bytes``. By identity, since hashing a gigabyte takes a second. Safe for threads.
    """

    def __init__(self, recent_bytes: int = 1 << 30) -> None:
        self._lock = Lock()
        self._recent_bytes = recent_bytes
        # By id of the content, which lives as long as the text that holds it.
        self._held: WeakValueDictionary[int, SharedText] = WeakValueDictionary()
        self._recent: OrderedDict[int, SharedText] = OrderedDict()

    def get(self, content: Loadable, *, share: bool) -> SharedText:
        """The content's shared text, made when there is none. A mapping can change, so it is
        written anew each time."""
        if isinstance(content, Mapping):
            return SharedText.of(content, share=share)
        key = id(content)
        with self._lock:
            text = self._held.get(key)
            if text is None:
                text = self._held[key] = SharedText.of(content, share=share)
            self._recent[key] = text
            self._recent.move_to_end(key)
            while sum(recent.size for recent in self._recent.values()) > self._recent_bytes:
                self._recent.popitem(last=False)
        return text

    def clear(self) -> None:
        with self._lock:
            self._recent.clear()


def _pieces(values: Iterable[str], lengths: list[int]) -> Iterator[bytes]:
    """Each text encoded in slices, so that no second copy of a long one is ever made."""
    for value in values:
        count = 0
        for start in range(0, len(value), _SLICE):
            piece = value[start : start + _SLICE].encode("utf-8", ERRORS)
            count += len(piece)
            yield piece
        lengths.append(count)


def decode(layout: dict[str, Any], blob: bytes, descriptor: int | None) -> Any:
    """Worker side: the str, list or dict. Closes the descriptor."""
    if descriptor is None:
        return _assemble(layout, memoryview(blob))
    try:
        total = sum(layout["bytes"])
        if not total:
            return _assemble(layout, memoryview(b""))
        flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
        mapped = mmap.mmap(descriptor, total, flags=flags, prot=mmap.PROT_READ)
        with mapped, memoryview(mapped) as view:
            return _assemble(layout, view)
    finally:
        os.close(descriptor)


def _assemble(layout: dict[str, Any], view: memoryview) -> Any:
    values, start = [], 0
    for length in layout["bytes"]:
        values.append(str(view[start : start + length], "utf-8", ERRORS))
        start += length
    if layout["kind"] == "str":
        return values[0]
    return dict(zip(layout["keys"], values, strict=True)) if layout["kind"] == "dict" else values
