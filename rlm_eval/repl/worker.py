"""Worker side: runs the model's blocks in one namespace and talks to the harness.

Runs in a process of its own, already under the sandbox's policy, with nothing but the standard
library. What the model's code does here, it does to itself: the harness trusts no byte of it.

Frames from the harness: ``setup``, ``load`` and its ``piece``s, ``exec``, ``read``, ``answer``.
Frames to it: ``ready``, ``call``, ``done`` (and ``failed`` from ``zygote``).
"""

from __future__ import annotations

import ast
import builtins
import itertools
import json
import os
import resource
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from rlm_eval.repl.capture import ADDRESS, Capture, cut, describe_error, list_variables
from rlm_eval.repl.channel import (
    BAD_CALL,
    ERROR_KEY,
    HEAD_BYTES,
    HEADER,
    CallError,
    Channel,
    ChannelClosedError,
    Frame,
    encode,
)
from rlm_eval.repl.isolation import RESERVE_MB

#: Who waits for the frames that answer no call.
MAIN = -1


class QueryError(CallError):
    """A host call that failed, as model code sees it. Always falsy."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"QueryError({self.kind!r}, {self.message!r})"


class TimeLimit(KeyboardInterrupt):
    """The block ran over its time limit."""


class Submitted(BaseException):
    """Ends the block in which ``submit`` was called."""


class Inbox:
    """Hands each frame to the thread that waits for it; whichever thread waits, reads."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ready: dict[int, deque[Frame]] = {}
        self._changed = threading.Condition()
        self._reading = False

    def wait(self, key: int) -> Frame:
        """The answer to call ``key``, or for MAIN the next frame that is no answer."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._ready or not self._reading)
            if key in self._ready:
                frame = self._ready[key].popleft()
                if not self._ready[key]:
                    del self._ready[key]
                return frame
            self._reading = True
        try:
            while True:
                came = self._channel.receive()
                assert came is not None, "it waits for ever"
                owner = came.head["id"] if came.head["op"] == "answer" else MAIN
                if owner == key:
                    return came
                with self._changed:
                    self._ready.setdefault(owner, deque()).append(came)
                    self._changed.notify_all()
        except ChannelClosedError:
            os._exit(0)  # the harness is gone
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()


class Worker:
    """One session's namespace and the loop that serves it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._inbox = Inbox(channel)
        self._main = threading.get_ident()
        self._calls = itertools.count(1)
        self._block = 0
        self._running = False  # model code may be interrupted
        self._shielded = False  # ... but not while it is in a host call
        self._interrupted = False
        self._sources: dict[str, str] = {}
        self._provided: dict[str, Any] = {}
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self._names = module.__dict__
        self._builtins = dict(builtins.__dict__)

    def serve(self) -> None:
        """Answer frames until the harness closes the channel."""
        serve = {"setup": self._setup, "load": self._load, "exec": self._exec, "read": self._read}
        while True:
            frame = self._inbox.wait(MAIN)
            serve[frame.head["op"]](frame)

    def _setup(self, frame: Frame) -> None:
        head = frame.head
        self._limits: dict[str, Any] = head["limits"]
        keep = self._limits["output_chars"]
        self._stdout, self._stderr = Capture(keep), Capture(keep)
        self._provided = {name: self._stub(name) for name in head["host"]}
        self._provided["QueryError"] = QueryError
        QueryError.__module__ = TimeLimit.__module__ = "__main__"
        if head["submit"]:
            self._provided["submit"] = self._submit
        self._channel.send(encode({"op": "ready"}))

    def _load(self, frame: Frame) -> None:
        head = frame.head
        reserve_memory(RESERVE_MB)
        try:
            value: Any = self._receive_texts(head["lengths"])
        except MemoryError:  # half a message may be lost: end as the kernel would end it
            os.kill(os.getpid(), signal.SIGKILL)
        reserve_memory(0)
        if head["kind"] == "str":
            value = value[0]
        elif head["kind"] == "dict":
            value = dict(zip(head["keys"], value, strict=True))
        self._names[head["name"]] = value
        self._channel.send(encode({"op": "done", "id": head["id"]}))

    def _receive_texts(self, lengths: list[int]) -> list[str]:
        """The texts of ``lengths`` characters, which come one after another in pieces."""
        texts = []
        piece, at = "", 0
        for length in lengths:
            text = ""
            for _ in range(length):  # not `while len(text) < length`: each `+=` would copy
                if at == len(piece):
                    piece, at = self._inbox.wait(MAIN).text(), 0
                taken = piece[at : at + length - len(text)]
                text += taken  # grows where it lies: no room for two is needed
                at += len(taken)
                if len(text) == length:
                    break
            texts.append(text)
        return texts

    def _read(self, frame: Frame) -> None:
        head = frame.head

        def look() -> str | None:
            value = self._names[head["name"]]
            value = value if head["key"] is None else value[head["key"]]
            return "" if value is None else as_text(value)[: self._limits["read_chars"]]

        text, _ = self._run(head["id"], look)
        done = {"op": "done", "id": head["id"], "found": text is not None}
        self._channel.send(encode(done, text or ""))

    def _exec(self, frame: Frame) -> None:
        name, self._submitted, self._value_chars = f"<block {frame.head['block']}>", "", 0
        value, failed = self._run(frame.head["id"], lambda: self._evaluate(frame.text(), name))
        if type(failed) is SystemError:  # an interpreter that went wrong inside dies soon
            os.abort()
        failed = None if self._submitted else failed
        stdout, stdout_chars = self._stdout.take()
        stderr, stderr_chars = self._stderr.take()
        done = {
            "op": "done",
            "id": frame.head["id"],
            "value": value,
            "value_chars": self._value_chars,
            "error": None if failed is None else describe_error(failed, self._sources),
            "error_type": "" if failed is None else type(failed).__name__[:200],
            "stdout": stdout,
            "stdout_chars": stdout_chars,
            "stderr": stderr,
            "stderr_chars": stderr_chars,
            "variables": list_variables(self._names, self._provided),
            "submitted": self._submitted != "",
        }
        long = ("value", "error", "stdout", "stderr")
        self._channel.send(encode(done, self._submitted, long=long))

    def _run(
        self, number: int, action: Callable[[], str | None]
    ) -> tuple[str | None, BaseException | None]:
        """What an action that runs model code gives, and what it raised. Before and after it, all
        that such code may have changed is put back."""
        self._names.update(self._provided, __name__="__main__", __builtins__=builtins)
        sys.stdout, sys.stderr = self._stdout, self._stderr
        signal.signal(signal.SIGINT, self._on_interrupt)
        self._block, self._interrupted = number, False
        value: str | None = None
        failed: BaseException | None = None
        reserve_memory(RESERVE_MB)
        try:
            try:
                self._running = True
                value = action()
            finally:
                self._running = False
                signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm ends with its block
        except BaseException as error:  # noqa: BLE001 - model code raises what it likes
            value, failed = None, error
        builtins.__dict__.update(self._builtins)
        reserve_memory(0)
        return value, failed

    def _evaluate(self, code: str, name: str) -> str | None:
        self._sources[name] = code
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            exec(compile(tree, name, "exec", dont_inherit=True), self._names)
            return None
        del tree.body[-1]
        exec(compile(tree, name, "exec", dont_inherit=True), self._names)
        expression = ast.Expression(last.value)
        value = eval(compile(expression, name, "eval", dont_inherit=True), self._names)
        if value is None:
            return None
        text = repr(value)
        self._value_chars = len(text)
        return cut(text, self._limits["output_chars"])

    def _on_interrupt(self, *_: object) -> None:
        if self._shielded:
            self._interrupted = True
        elif self._running:
            self._stop()

    def _stop(self) -> None:
        self._running = self._interrupted = False
        raise TimeLimit(
            f"the block ran longer than its limit of {self._limits['block_seconds']:g} s"
        )

    def _submit(self, answer: Any) -> None:
        """submit(answer): hand in the final answer and end the block."""
        if threading.get_ident() != self._main:
            raise RuntimeError("submit() ends the block: call it outside of threads")
        text, longest = as_text(answer), self._limits["read_chars"]
        if answer is None or not text.strip():
            raise ValueError("submit() takes the final answer, and this is none")
        if not isinstance(answer, str) and ADDRESS.search(text):
            raise ValueError(f"submit() can't take {text[:200]}: make a list or a text of it")
        if len(text) > longest:
            raise ValueError(f"submit() takes at most {longest:,} characters")
        self._submitted = self._submitted or text  # it counts, whatever the block makes of this
        raise Submitted

    def _stub(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        call.__module__ = "__main__"
        return call

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        on_main = threading.get_ident() == self._main
        if on_main:
            self._shielded = True
        try:
            number = next(self._calls)
            call = {"op": "call", "id": number, "block": self._block, "name": name}
            call["alone"] = threading.active_count() == 1
            text = ""
            if args and type(args[0]) is str:  # most often a long prompt
                text, args = args[0], ("", *args[1:])
            call |= {"args": args, "kwargs": kwargs}
            try:
                request = encode(call, text, long=("args", "kwargs"))
            except (TypeError, ValueError, RecursionError) as error:
                raise TypeError(f"{name}() takes text, numbers, lists and dicts: {error}") from None
            if len(request) > (most := self._limits["frame_bytes"]):
                raise ValueError(f"{name}() takes at most {most:,} bytes")
            if HEADER.unpack_from(request)[0] > HEAD_BYTES:
                raise ValueError(f"{name}() takes fewer items at once: call it for a part of them")
            # No handler of the model's may raise in the middle of a frame.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            try:
                self._channel.send(request)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            answer = self._inbox.wait(number).head
        finally:
            if on_main:
                self._shielded = False
                if self._interrupted:
                    self._stop()
        if "error" in answer:
            failed = QueryError(**answer["error"])
            raise TypeError(failed.message) if failed.kind == BAD_CALL else failed
        value = answer["value"]
        for at, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict) and item.keys() == {ERROR_KEY}:
                value[at] = QueryError(**item[ERROR_KEY])
        return value


def as_text(value: Any) -> str:
    """``value`` as text: JSON where it has a form for it (numpy's numbers and arrays are numbers
    and lists), else what ``print`` shows of it; a string, and what holds tuples, as printed too."""
    pairs = isinstance(value, list) and any(isinstance(item, tuple) for item in value)
    if isinstance(value, str | tuple) or pairs:
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=False, default=_plain)
        return str(json.loads(text)) if text.startswith('"') else text
    except (AttributeError, TypeError, ValueError, RecursionError):
        return str(value)


def _plain(part: Any) -> Any:
    """A value of numpy's as Python has it, but for times, of which it would make numbers. Raises
    TypeError for any other: a pandas Series would lose its index."""
    if not type(part).__module__.startswith("numpy"):
        raise TypeError
    if part.dtype.kind == "f":  # as it is printed: a float32 has more digits as Python's
        part = part.astype(str).astype(float)
    return str(part) if part.dtype.kind in ("m", "M") else part.tolist()


def reserve_memory(megabytes: int) -> None:
    """Keep back a part of the limit: model code leaves room to report that the rest is spent."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = hard if hard == resource.RLIM_INFINITY else hard - megabytes * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
