"""Harness side: one worker, from its first frame to its end. No byte it sends is trusted."""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from rlm_eval.errors import SandboxError
from rlm_eval.repl.frames import Frame, FrameError, encode
from rlm_eval.repl.launch import ChannelClosedError, Process
from rlm_eval.repl.results import HostError, Limits
from rlm_eval.repl.texts import SharedText

Death = Literal["killed", "memory", "exited", "crashed"]
#: How a reason begins when a worker sent what only forging code sends.
BROKEN = "it broke the protocol"
_TICK = 0.1
_MOST_CALLS = 4096


@dataclass(frozen=True)
class HostCall:
    """A call made by model code, as JSON brought it."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]

    def key(self) -> str:
        """The same for the same call: what a replay finds the journaled answer by."""
        text = json.dumps([self.name, self.args, self.kwargs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


Answer = Callable[[HostCall], Any]


def refuse_call(call: HostCall) -> Any:
    """The answer to calls while no block runs."""
    raise HostError("stopped", f"{call.name} is answered while a block runs")


@dataclass(frozen=True)
class Exchange:
    """What came of one request: the worker's frame, or how it died."""

    frame: Frame | None
    death: Death | None
    reason: str
    interrupted: bool
    exec_s: float
    callback_s: float


class _Clock:
    """Time since the start, split by whether any host call is in flight."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._start = time.monotonic()
        self._in_flight = 0
        self._since = 0.0
        self._waited = 0.0

    def enter(self) -> int:
        with self._changed:
            if not self._in_flight:
                self._since = time.monotonic()
            self._in_flight += 1
            return self._in_flight

    def leave(self) -> None:
        with self._changed:
            self._in_flight -= 1
            if not self._in_flight:
                self._waited += time.monotonic() - self._since
                self._changed.notify_all()

    def wait_idle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight)

    def read(self) -> tuple[float, float, bool]:
        """Seconds of execution, seconds with a call in flight, and whether one is now."""
        with self._changed:
            now = time.monotonic()
            waited = self._waited + (now - self._since if self._in_flight else 0.0)
            return now - self._start - waited, waited, self._in_flight > 0


class Conversation:
    """Request and reply with one worker. Owned by one thread; ``pool`` answers its host calls."""

    def __init__(
        self,
        process: Process,
        pool: ThreadPoolExecutor,
        limits: Limits,
        names: Collection[str],
        submit: bool,
    ) -> None:
        self._process, self._pool, self._limits = process, pool, limits
        self._known = frozenset(names)
        self._number, self._seconds = 0, 0.0
        self._failure: BaseException | None = None
        self.alive = True
        setup: dict[str, Any] = {
            "op": "setup",
            "host": list(names),
            "submit": submit,
            "output_chars": limits.output_chars,
            "read_chars": limits.read_chars,
            "frame_bytes": limits.frame_bytes,
            "block_seconds": limits.block_seconds,
        }
        try:
            process.channel.send(encode(setup))
            self._expect_ready()
        except SandboxError:
            self.close()
            raise
        except ChannelClosedError as closed:
            self.close()
            raise SandboxError(f"the worker did not start: {closed}") from None

    def _expect_ready(self) -> None:
        """The worker's first frame: no model code has run yet."""
        try:
            frame = self._process.channel.receive(self._limits.start_seconds)
        except (ChannelClosedError, FrameError) as error:
            raise SandboxError(f"the worker did not start: {error}") from None
        if frame is None:
            raise SandboxError(f"no worker started in {self._limits.start_seconds:g} s")
        if frame.head.get("op") != "ready":
            raise SandboxError(f"the worker did not start: {frame.head.get('error')}")

    def load(self, name: str, text: SharedText) -> str:
        """Sets a variable to a long input; empty, or why the worker could not."""
        shared = text.descriptor is not None
        head = {"op": "load", "name": name, "layout": text.layout, "shared": shared}
        seconds = self._limits.start_seconds
        done = self.exchange(head, text.blob, refuse_call, seconds, text.descriptor)
        if done.frame is None:
            return done.reason
        return str(done.frame.head.get("error", ""))

    def exchange(
        self,
        head: dict[str, Any],
        blob: bytes,
        answer: Answer,
        seconds: float,
        descriptor: int | None = None,
    ) -> Exchange:
        """Sends a request and serves the calls of its code until it is done, stopped after
        ``seconds``, or dead. An exception of ``answer`` other than HostError stops the code and is
        raised here."""
        self._number = secrets.randbits(48)  # so that no reply can be forged in advance
        self._failure, self._seconds = None, seconds
        clock = _Clock()
        try:
            request = encode({**head, "id": self._number}, blob)
            self._process.channel.send(request, descriptor)
            done = self._serve(clock, answer)
        except ChannelClosedError:
            done = self._buried(signalled=False)
        except FrameError as error:
            self._process.kill()
            self._buried(signalled=True)
            done = _Ending(death="crashed", reason=f"{BROKEN}: {error}")
        clock.wait_idle()
        if self._failure is not None:
            raise self._failure
        exec_s, callback_s, _ = clock.read()
        return Exchange(done.frame, done.death, done.reason, done.interrupted, exec_s, callback_s)

    def _serve(self, clock: _Clock, answer: Answer) -> _Ending:
        stop_at: float | None = None  # when an interrupted block is killed
        killed = False
        while True:
            exec_s, _, waiting = clock.read()
            left = self._seconds - exec_s
            if stop_at is None and (self._failure is not None or (left <= 0 and not waiting)):
                self._process.interrupt()
                stop_at = time.monotonic() + self._limits.grace_seconds
            if stop_at is not None and not killed and time.monotonic() >= stop_at:
                self._process.kill()
                killed = True
            try:
                frame = self._process.channel.receive(min(left, _TICK) if left > 0 else _TICK)
            except ChannelClosedError:
                return self._buried(signalled=killed)
            if frame is None:
                continue
            if frame.head.get("op") == "call":
                self._take(frame.head, clock, answer, refuse=stop_at is not None)
            elif frame.head.get("op") == "done" and frame.head.get("id") == self._number:
                return _Ending(frame=frame, interrupted=stop_at is not None)
            else:
                raise FrameError("a frame that nobody asked for")

    # -- calls -----------------------------------------------------------------------------------

    def _take(self, head: dict[str, Any], clock: _Clock, answer: Answer, refuse: bool) -> None:
        match head:
            case {"id": int(number), "name": str(name), "args": list(args), "kwargs": dict(kwargs)}:
                call = HostCall(name, args, kwargs)
            case _:
                raise FrameError("a malformed call")
        if name not in self._known:
            raise FrameError("a call of an unknown function")
        if refuse or head.get("block") != self._number:
            late = _error("stopped", "the block that made this call has ended", {})
            self._pool.submit(self._send, encode({"op": "answer", "id": number, **late}))
            return
        if clock.enter() > _MOST_CALLS:
            clock.leave()
            raise FrameError("too many calls at once")
        self._pool.submit(self._work, number, call, answer, clock)

    def _work(self, number: int, call: HostCall, answer: Answer, clock: _Clock) -> None:
        """One call, in a thread of the pool."""
        stopped = {"op": "answer", "id": number, **_error("stopped", "the run was stopped", {})}
        try:
            frame = encode({"op": "answer", "id": number, **_told(answer, call)})
        except BaseException as error:  # noqa: BLE001 - raised again by ``exchange``
            self._failure = self._failure or error
            frame = encode(stopped)
        clock.leave()  # a worker that does not take its answer spends its own time
        self._send(frame)

    def _send(self, answer: bytes) -> None:
        try:
            self._process.channel.send(answer)
        except ChannelClosedError:
            return  # the worker died meanwhile; the receiving thread sees it too

    # -- the end ---------------------------------------------------------------------------------

    def _buried(self, *, signalled: bool) -> _Ending:
        """The worker's end, read from its exit status. ``signalled``: we killed it."""
        self.alive = False
        try:
            status = self._process.status()
        finally:
            self._process.channel.close()
        if signalled:
            limit = f"its limit of {self._seconds:g} s"
            return _Ending(death="killed", reason=f"it ran longer than {limit} and would not stop")
        if status is None:
            return _Ending(death="crashed", reason="it closed its channel to the harness")
        if status >= 0:
            return _Ending(death="exited", reason=f"it ended the process with exit code {status}")
        if status == -signal.SIGKILL:
            return _Ending(death="memory", reason="the system killed it, most likely for memory")
        if status == -signal.SIGXCPU:
            spent = f"the session's {self._limits.cpu_seconds:,} s of CPU time are spent"
            return _Ending(death="killed", reason=spent)
        name = signal.Signals(-status).name if -status in list(signal.Signals) else str(-status)
        return _Ending(death="crashed", reason=f"the process died of {name}")

    def close(self) -> None:
        """Ends the worker, whatever it is doing."""
        if self.alive:
            self.alive = False
            self._process.leave()


def _told(answer: Answer, call: HostCall) -> dict[str, Any]:
    try:
        return {"value": answer(call)}
    except HostError as error:
        return _error(error.kind, error.message, error.data)


def _error(kind: str, message: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message, "data": data}}


@dataclass(frozen=True)
class _Ending:
    frame: Frame | None = None
    death: Death | None = None
    reason: str = ""
    interrupted: bool = False
