"""Worker side: the channel to the harness, shared by the threads of the model's code."""

from __future__ import annotations

import os
import socket
import threading
from array import array

from rlm_eval.repl.frames import Decoder, Frame

#: Who waits for the frames that answer no call.
MAIN = -1


class Channel:
    """Blocking frames over a socket (which may bring descriptors), or over a pair of pipes."""

    def __init__(self, reader: int, writer: int, sock: socket.socket | None) -> None:
        self._reader, self._writer, self._socket = reader, writer, sock
        self._decoder = Decoder(1 << 40)
        self._lock = threading.Lock()
        self.descriptors: list[int] = []

    def send(self, frame: bytes) -> None:
        data = memoryview(frame)
        with self._lock:
            while data:
                data = data[os.write(self._writer, data) :]

    def receive(self) -> Frame:
        while (frame := self._decoder.next()) is None:
            size = min(max(self._decoder.missing(), 1 << 16), 1 << 22)
            if self._socket is None:
                data = os.read(self._reader, size)
            else:
                data, ancillary, _, _ = self._socket.recvmsg(size, socket.CMSG_SPACE(4))
                for _, _, payload in ancillary:
                    self.descriptors += array("i", payload)
            if not data:
                os._exit(0)  # the harness is gone
            self._decoder.feed(data)
        return frame


class Inbox:
    """Hands each frame to the thread that waits for it; whichever thread waits, reads."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ready: dict[int, Frame] = {}
        self._changed = threading.Condition()
        self._reading = False

    def wait(self, key: int) -> Frame:
        """The answer to call ``key``, or for MAIN the next frame that is no answer."""
        with self._changed:
            while True:
                if key in self._ready:
                    return self._ready.pop(key)
                if not self._reading:
                    self._reading = True
                    break
                self._changed.wait()
        try:
            while True:
                frame = self._channel.receive()
                owner = frame.head["id"] if frame.head["op"] == "answer" else MAIN
                if owner == key:
                    return frame
                with self._changed:
                    self._ready[owner] = frame
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()
