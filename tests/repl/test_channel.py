"""The channel between harness and worker: frames, and long texts in them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_eval.repl.channel import HEADER, Channel, ChannelClosedError, Frame, FrameError, encode
from rlm_eval.repl.session import Sandbox

LONG = 'He said "\\no\u2028" ü😀\ud800 ' * 1000

# -- frames -------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Channel]]:
    """Where to write bytes, and the harness's end of the channel."""
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    descriptor = ours.detach()
    channel = Channel(descriptor, descriptor, 1 << 20)
    with theirs:
        yield theirs, channel
    channel.close()


Ends = tuple[socket.socket, Channel]


def sent(ends: Ends, data: bytes, step: int = 1 << 20) -> Frame | None:
    """What the channel has received when ``data`` came ``step`` bytes at a time."""
    frame = None
    for start in range(0, len(data), step):
        assert frame is None
        ends[0].sendall(data[start : start + step])
        frame = ends[1].receive(0)
    return frame


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
def test_a_frame_arrives_as_it_was_however_it_comes(ends: Ends, step: int) -> None:
    head = {"args": [LONG[:100], 1, None, {"a": ["ü\ud800"]}], "kwargs": {}}
    frame = sent(ends, data := encode(head, LONG[:3000]), step)
    assert frame is not None
    body, blob = HEADER.unpack_from(data)
    assert (frame.head, frame.text(), frame.size) == (head, LONG[:3000], 25 * body + 4 * blob)


def test_many_frames_at_once(ends: Ends) -> None:
    heads = [{"op": "call", "id": i, "text": "x" * (i % 500)} for i in range(500)]
    ends[0].sendall(b"".join(encode(head) for head in heads))
    frames = [ends[1].receive(0) for _ in heads]
    assert [frame.head for frame in frames if frame] == heads
    assert ends[1].receive(0) is None


def test_the_buffer_grows_with_what_came_and_not_with_what_was_announced(ends: Ends) -> None:
    assert sent(ends, HEADER.pack(1 << 18, 1 << 18)) is None
    assert len(ends[1]._buffer) == HEADER.size


BROKEN = {
    "over the cap": HEADER.pack(1 << 20, 1),
    "no JSON": HEADER.pack(3, 0) + b"abc",
    "no UTF-8": HEADER.pack(2, 0) + b"\xff\xfe",
    "NaN": HEADER.pack(10, 0) + b'{"op": NaN}'[:10],
    "no object": HEADER.pack(6, 0) + b"[1, 2]",
}


@pytest.mark.parametrize("step", [7, 1 << 20])
def test_long_strings_come_back_to_their_places(ends: Ends, step: int) -> None:
    args = [LONG[:3000], ["a" * 17, "", "~", "~x", 5], {"ü": ("\ud800" * 20, [LONG[:50]])}]
    head = {"op": "call", "args": args, "kwargs": {}}
    frame = sent(ends, encode(head, "rest", long=("args", "kwargs")), step)
    assert frame is not None
    assert frame.text() == "rest"
    args[2] = {"ü": ["\ud800" * 20, [LONG[:50]]]}
    assert frame.head == {**head, "args": args}


FORGED = {
    "more marks than texts": {"texts": [1], "args": ["~", "~"]},
    "texts that are not there": {"texts": [5, 1], "args": ["~", "~"]},
    "lengths that go back": {"texts": [5, -5, 5], "args": ["~"] * 3},
    "lengths that are none": {"texts": ["a"], "args": ["~"]},
    "half a length": {"texts": [1.5], "args": ["~"]},
    "no list of lengths": {"texts": 5, "args": ["~"]},
    "lengths by name": {"texts": {"a": 1}, "args": ["~"]},
}


@pytest.mark.parametrize("name", FORGED)
def test_texts_that_do_not_fit_are_an_error(ends: Ends, name: str) -> None:
    with pytest.raises(FrameError):
        sent(ends, encode(FORGED[name], "12345"))


def test_a_worker_may_send_little_json_and_much_text() -> None:
    theirs, ours = socket.socketpair()
    channel = Channel(ours.fileno(), ours.fileno(), 1 << 24, 1 << 10)
    with theirs, ours:
        theirs.sendall(data := encode({"args": ["x" * 50_000]}, long=("args",)))
        frame = channel.receive(5)
        assert frame is not None
        assert frame.head == {"args": ["x" * 50_000]}
        assert len(data) < 51_000
        theirs.sendall(encode({"args": ["x"] * 1000}, long=("args",)))
        with pytest.raises(FrameError, match="over the cap"):
            channel.receive(5)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_frame_is_an_error(ends: Ends, name: str) -> None:
    with pytest.raises(FrameError):
        sent(ends, BROKEN[name])


def test_raw_bytes_that_are_no_text_are_an_error(ends: Ends) -> None:
    frame = sent(ends, HEADER.pack(2, 1) + b"{}\xff")
    assert frame is not None
    with pytest.raises(FrameError):
        frame.text()


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), float("inf"), b"bytes"])
def test_what_json_cannot_hold_is_not_encoded(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode({"value": value})


def test_a_closed_end_is_noticed_by_both_who_send_and_who_receive(ends: Ends) -> None:
    theirs, channel = ends
    theirs.close()
    with pytest.raises(ChannelClosedError):
        channel.receive(1)
    with pytest.raises(ChannelClosedError):
        channel.send(encode({}))
    channel.close()
    channel.close()
    with pytest.raises(ChannelClosedError, match="is closed"):
        channel.send(encode({}))


def test_who_waits_for_room_hears_of_the_end(ends: Ends) -> None:
    theirs, channel = ends
    heard = threading.Event()

    def send() -> None:
        with pytest.raises(ChannelClosedError):
            channel.send(bytes(10_000_000))
        heard.set()

    thread = threading.Thread(target=send)
    thread.start()
    theirs.recv(1)
    theirs.close()
    assert heard.wait(10)
    thread.join()


# -- calls --------------------------------------------------------------------------------------


def test_long_texts_cross_both_ways(sandbox: Sandbox) -> None:
    seen: list[Any] = []

    def keep(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return [LONG, {"text": LONG * 50}, "short"]

    with sandbox.session({"keep": keep}) as repl:
        repl.load("text", LONG)
        result = repl.run("r = keep(text * 50, [text, ('a', {'b': text})], key=text)\nlen(r)")
        assert result.error is None
        assert seen == [((LONG * 50, [LONG, ["a", {"b": LONG}]]), {"key": LONG})]
        assert repl.run("r == [text, {'text': text * 50}, 'short']").value == "True"


def test_a_type_error_inside_a_host_function_is_not_the_models(sandbox: Sandbox) -> None:
    def broken(text: str) -> str:
        return text + 1  # type: ignore[operator]

    with sandbox.session({"broken": broken}) as repl:
        with pytest.raises(TypeError, match="can only concatenate"):
            repl.run("broken('x')")
        assert repl.run("broken()").error_type == "TypeError"
