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
    raise HostError("stopped", f"{call.name}() came too late: its block was over or stopped")


@dataclass(frozen=True)
class Exchange:
    """What came of one request: the worker's frame, or how it died."""

    frame: Frame | None
    death: Death | None
    reason: str
    interrupted: bool
    exec_s: float
    callback_s: float


class _Calls:
    """The host calls of one exchange: how many are owed, and how long any was being answered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._start = time.monotonic()
        self._owed = 0
        self._owed_bytes = 0
        self._active = 0
        self._since = 0.0
        self._waited = 0.0

    def take(self, size: int) -> None:
        """A call came, ``size`` bytes of it."""
        with self._changed:
            self._owed += 1
            self._owed_bytes += size

    def settle(self, size: int) -> None:
        """Its answer is known."""
        with self._changed:
            self._owed -= 1
            self._owed_bytes -= size
            self._changed.notify_all()

    def begin(self) -> None:
        """A host function is being run for one."""
        with self._changed:
            if not self._active:
                self._since = time.monotonic()
            self._active += 1

    def end(self) -> None:
        with self._changed:
            self._active -= 1
            if not self._active:
                self._waited += time.monotonic() - self._since

    def wait_settled(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._owed)

    def wait_room(self, calls: int, size: int, seconds: float) -> bool:
        """Whether fewer than ``calls`` are owed, of less than ``size`` bytes."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._owed < calls and self._owed_bytes < size, seconds
            )

    def read(self) -> tuple[float, float, bool]:
        """Seconds of execution, seconds with a host function running, and whether one is now."""
        with self._changed:
            now = time.monotonic()
            waited = self._waited + (now - self._since if self._active else 0.0)
            return now - self._start - waited, waited, self._active > 0


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
        self._number, self._seconds, self._stopping = 0, 0.0, False
        self._most_calls = 4 * limits.concurrent_calls
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
        self._failure, self._seconds, self._stopping = None, seconds, False
        calls = _Calls()
        try:
            request = encode({**head, "id": self._number}, blob)
            self._process.channel.send(request, descriptor)
            done = self._serve(calls, answer)
        except ChannelClosedError:
            done = self._buried(signalled=False)
        except FrameError as error:
            self._process.kill()
            self._buried(signalled=True)
            done = _Ending(death="crashed", reason=f"{BROKEN}: {error}")
        calls.wait_settled()
        if self._failure is not None:
            raise self._failure
        exec_s, callback_s, _ = calls.read()
        return Exchange(done.frame, done.death, done.reason, done.interrupted, exec_s, callback_s)

    def _serve(self, calls: _Calls, answer: Answer) -> _Ending:
        stop_at: float | None = None  # when an interrupted block is killed
        killed = False
        quiet = True  # no call has come yet
        while True:
            exec_s, _, waiting = calls.read()
            left = self._seconds - exec_s
            if stop_at is None and (self._failure is not None or (left <= 0 and not waiting)):
                self._stopping = True
                self._process.interrupt()
                stop_at = time.monotonic() + self._limits.grace_seconds
            if stop_at is not None and not killed and time.monotonic() >= stop_at:
                self._process.kill()
                killed = True
            if not calls.wait_room(self._most_calls, self._limits.frame_bytes, _TICK):
                continue
            try:
                wait_s = min(left, _TICK) if left > 0 else _TICK
                frame = self._process.channel.receive(wait_s, eager=quiet)
            except ChannelClosedError:
                return self._buried(signalled=killed)
            if frame is None:
                continue
            if frame.head.get("op") == "call":
                quiet = False
                self._take(frame, calls, answer)
            elif frame.head.get("op") == "done" and frame.head.get("id") == self._number:
                return _Ending(frame=frame, interrupted=stop_at is not None)
            else:
                raise FrameError("a frame that nobody asked for")

    # -- calls -----------------------------------------------------------------------------------

    def _take(self, frame: Frame, calls: _Calls, answer: Answer) -> None:
        match frame.head:
            case {"id": int(number), "name": str(name), "args": list(args), "kwargs": dict(kwargs)}:
                call = HostCall(name, args, kwargs)
            case _:
                raise FrameError("a malformed call")
        if name not in self._known:
            raise FrameError("a call of an unknown function")
        if frame.head.get("block") != self._number:
            answer = refuse_call
        calls.take(frame.size)
        self._pool.submit(self._work, number, call, answer, calls, frame.size)

    def _work(self, number: int, call: HostCall, answer: Answer, calls: _Calls, size: int) -> None:
        """One call, in a thread of the pool."""
        reply = {"op": "answer", "id": number}
        calls.begin()
        try:
            frame = encode({**reply, **_told(refuse_call if self._stopping else answer, call)})
        except BaseException as error:  # noqa: BLE001 - raised again by ``exchange``
            self._failure = self._failure or error
            frame = encode({**reply, **_told(refuse_call, call)})
        finally:
            calls.end()
            calls.settle(size)
        # From here on a worker that does not take its answer spends its own time.
        self._send(frame)

    def _send(self, answer: bytes) -> None:
        try:
            self._process.channel.send(answer)
        except ChannelClosedError:
            return  # the worker died meanwhile; the receiving thread sees it too

    # -- the end ---------------------------------------------------------------------------------

    def _buried(self, *, signalled: bool) -> _Ending:
        """The worker's end, read from its exit status. ``signalled``: we killed it."""
        self.alive, self._stopping = False, True
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
        told = {"kind": error.kind, "message": error.message, "data": error.data}
        return {"error": told}


@dataclass(frozen=True)
class _Ending:
    frame: Frame | None = None
    death: Death | None = None
    reason: str = ""
    interrupted: bool = False
