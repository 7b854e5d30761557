"""Harness side: requests to one worker, and the calls that its code makes meanwhile. No byte it
sends is trusted."""

from __future__ import annotations

import contextlib
import inspect
import secrets
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rlm_eval.errors import SandboxError
from rlm_eval.repl.channel import BAD_CALL, ChannelClosedError, Frame, FrameError, encode
from rlm_eval.repl.launch import Process
from rlm_eval.repl.results import HostError, HostFunction, Limits

#: A long input: a text, documents, or documents by name.
Loadable = str | tuple[str, ...] | Mapping[str, str]
Death = Literal["killed", "memory", "exited", "crashed"]
#: How a reason begins when a worker sent what only forging code sends.
BROKEN = "it broke the protocol"
#: The longest list or dict that a host function is given.
MOST_ITEMS = 20_000
_TICK = 0.1
_PIECE_CHARS = 1 << 16  # of a context sent at once


@dataclass(frozen=True)
class Exchange:
    """What came of one request: the worker's frame, or how it died and the reason."""

    frame: Frame | None
    death: Death | Literal[""] = ""
    reason: str = ""
    interrupted: bool = False
    exec_s: float = 0.0
    callback_s: float = 0.0


class _Calls:
    """The host calls of one exchange that are not answered yet, and how long any has been running.
    ``changed`` guards them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pending = self.pending_bytes = self.running = 0
        self._began = time.monotonic()
        self._since = self._ran = 0.0

    def begin(self) -> None:
        """A host function is being run for a pending call."""
        with self.changed:
            if not self.running:
                self._since = time.monotonic()
            self.running += 1

    def end(self, size: int) -> None:
        """The answer to a call of ``size`` bytes is known."""
        with self.changed:
            self.running -= 1
            if not self.running:
                self._ran += time.monotonic() - self._since
            self.pending -= 1
            self.pending_bytes -= size
            self.changed.notify_all()

    def times(self) -> tuple[float, float]:
        """Seconds of execution, and seconds with a host function running."""
        with self.changed:
            now = time.monotonic()
            ran = self._ran + (now - self._since if self.running else 0.0)
            return now - self._began - ran, ran


class Conversation:
    """Request and reply with one worker. Owned by one thread; ``pool`` answers its host calls.
    Raises SandboxError when the worker does not start."""

    def __init__(
        self,
        process: Process,
        pool: ThreadPoolExecutor,
        limits: Limits,
        host: Mapping[str, HostFunction],
        submit: bool,
    ) -> None:
        self._process, self._pool, self._limits, self._host = process, pool, limits, host
        self._number = 0
        self._answering = self._stopping = self._killed = False
        self._failure: BaseException | None = None
        self.alive = True
        given = {**asdict(limits), "frame_bytes": limits.frame_bytes}
        setup = {"op": "setup", "host": list(host), "submit": submit, "limits": given}
        try:
            process.channel.send(encode(setup))
            ready = process.channel.receive(limits.start_seconds)
            if ready is None or ready.head.get("op") != "ready":
                what = ready.head.get("error") if ready else f"after {limits.start_seconds:g} s"
                raise FrameError(what)
        except (ChannelClosedError, FrameError) as error:
            self.close()
            raise SandboxError(f"the worker did not start: {error}") from None

    def load(self, name: str, content: Loadable) -> None:
        """Set a variable to a long input. Raises SandboxError where the worker dies of it."""
        keys: list[str] = []
        texts: Sequence[str]
        match content:
            case str():
                kind, texts = "str", [content]
            case Mapping():
                kind, keys, texts = "dict", list(content), list(content.values())
            case _:
                kind, texts = "list", content
        lengths = [len(text) for text in texts]
        head = {"op": "load", "name": name, "kind": kind, "keys": keys, "lengths": lengths}
        done = self.exchange(head, self._limits.start_seconds, pieces=_pieces(texts))
        if done.frame is None:
            reason = done.reason
            if done.death == "memory":
                megabytes = sum(lengths) >> 20
                reason = f"{megabytes:,} MB of text do not fit: raise sandbox.limits.memory_mb"
            raise SandboxError(f"can't load {name}: {reason}")

    def exchange(
        self,
        head: dict[str, Any],
        seconds: float,
        *,
        text: str = "",
        pieces: Iterable[bytes] = (),
        answering: bool = False,
    ) -> Exchange:
        """Send a request and serve the worker until it is done, stopped after ``seconds``, or dead.

        Its calls are refused unless ``answering``. An exception of a host function other than
        HostError stops the code and is raised here.
        """
        self._number = secrets.randbits(48)  # so that no reply can be forged in advance
        self._failure, self._answering, self._stopping = None, answering, False
        calls = _Calls()
        frame, interrupted = None, False
        ending: tuple[Death | Literal[""], str] = "", ""
        try:
            self._process.channel.send(encode({**head, "id": self._number}, text))
            for piece in pieces:
                self._process.channel.send(piece)
            frame, interrupted = self._serve(calls, seconds)
        except ChannelClosedError:
            ending = self._ended(seconds)
        except FrameError as error:
            self._kill()
            self._ended(seconds)
            ending = "crashed", f"{BROKEN}: {error}"
        with calls.changed:
            calls.changed.wait_for(lambda: not calls.pending)
        if self._failure is not None:
            raise self._failure
        return Exchange(frame, *ending, interrupted, *calls.times())

    def _serve(self, calls: _Calls, seconds: float) -> tuple[Frame, bool]:
        """The worker's frame, and whether it had to be interrupted. Raises ChannelClosedError when
        it dies, FrameError for what only forging code sends."""
        most_calls = 4 * self._limits.concurrent_calls
        stop_at: float | None = None  # when an interrupted worker is killed
        while True:
            left = seconds - calls.times()[0]
            if stop_at is None and (self._failure or (left <= 0 and not calls.running)):
                self._stopping = True
                self._process.signal(signal.SIGINT)
                stop_at = time.monotonic() + self._limits.grace_seconds
            if stop_at is not None and not self._killed and time.monotonic() >= stop_at:
                self._kill()
            if calls.pending >= most_calls or calls.pending_bytes >= self._limits.frame_bytes:
                with calls.changed:
                    calls.changed.wait(_TICK)
                continue
            frame = self._process.channel.receive(min(left, _TICK) if left > 0 else _TICK)
            if frame is None:
                continue
            if frame.head.get("op") == "call":
                self._take(frame, calls)
            elif frame.head.get("op") == "done" and frame.head.get("id") == self._number:
                return frame, stop_at is not None
            else:
                raise FrameError("a frame that nobody asked for")

    def _take(self, frame: Frame, calls: _Calls) -> None:
        match frame.head:
            case {
                "id": int(number),
                "name": str(name),
                "args": list(args),
                "kwargs": dict(kwargs),
            } if name in self._host:
                late = not self._answering or frame.head.get("block") != self._number
                if frame.blob:
                    args[:1] = [frame.text()]
            case _:
                raise FrameError("a malformed call, or one of an unknown function")

        def answer() -> None:
            head = {"op": "answer", "id": number}
            calls.begin()
            try:
                reply = encode(head | self._outcome(name, args, kwargs, late))
            except BaseException as error:  # noqa: BLE001 - raised again by ``exchange``
                self._failure = self._failure or error
                reply = encode(head | _failed("stopped", f"{name}() failed"))
            finally:
                calls.end(frame.size)
            # From here on a worker that does not take the answer spends its own time.
            with contextlib.suppress(ChannelClosedError):  # the receiving thread sees it too
                self._process.channel.send(reply)

        with calls.changed:
            calls.pending += 1
            calls.pending_bytes += frame.size
            alone = calls.pending == 1 and frame.head.get("alone") is True
        if alone:  # nothing else can come meanwhile: no other thread need wake for it
            answer()
        else:
            self._pool.submit(answer)

    def _outcome(
        self, name: str, args: list[Any], kwargs: dict[str, Any], late: bool
    ) -> dict[str, Any]:
        """What the host function returns, or the error that model code is to see."""
        if late or self._stopping:
            return _failed("stopped", f"{name}() came too late: its block was over or stopped")
        function = self._host[name]
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, list | dict)]
        if max(map(len, given), default=0) > MOST_ITEMS:
            return _failed(BAD_CALL, f"{name}() takes at most {MOST_ITEMS:,} items at once")
        try:
            return {"value": function(*args, **kwargs)}
        except HostError as error:
            return {"error": vars(error)}
        except TypeError:
            try:
                inspect.signature(function).bind(*args, **kwargs)
            except TypeError as misfit:
                return _failed(BAD_CALL, f"{name}(): {misfit}")
            raise

    def _kill(self) -> None:
        self._killed = True
        self._process.signal(signal.SIGKILL)

    def _ended(self, seconds: float) -> tuple[Death, str]:
        """How and why a worker ended that has closed its channel, by its exit status."""
        self.alive, self._stopping = False, True
        try:
            status = self._process.status()
        finally:
            self._process.channel.close()
        if self._killed:
            return "killed", f"it ran longer than its limit of {seconds:g} s and would not stop"
        if status is None:
            return "crashed", "it closed its channel to the harness"
        if status >= 0:
            return "exited", f"it ended the process with exit code {status}"
        if status == -signal.SIGKILL:
            return "memory", "the system killed it, most likely for memory"
        if status == -signal.SIGXCPU:
            spent = f"the session's {self._limits.cpu_seconds:,} s of CPU time are spent"
            return "killed", spent
        name = signal.Signals(-status).name if -status in list(signal.Signals) else str(-status)
        return "crashed", f"the process died of {name}"

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        if self.alive:
            self.alive, self._stopping = False, True
            self._process.leave()


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Frames with the texts one after another, so that no second copy of a long one is made."""
    waiting: list[str] = []
    chars = 0
    for text in texts:
        for start in range(0, len(text), _PIECE_CHARS):
            piece = text[start : start + _PIECE_CHARS]
            waiting.append(piece)
            chars += len(piece)
            if chars >= _PIECE_CHARS:
                yield encode({"op": "piece"}, "".join(waiting))
                waiting, chars = [], 0
    if waiting:
        yield encode({"op": "piece"}, "".join(waiting))


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"error": vars(HostError(kind, message))}
