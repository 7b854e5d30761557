"""What a connection can do that has not shown the proxy's token, and what one that has: nothing
that ends a sample or takes the machine's memory."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import tracemalloc
from typing import Any

import pytest

from helpers.proxied import HELLO, Served, served
from helpers.waiting import eventually
from rlm_eval.models import chat_wire
from rlm_eval.models import proxy as proxy_module
from rlm_eval.models.chat_wire import MOST_MARKS, RefusedError, marks_in, parse_request

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def said(it: Served, *parts: bytes, seconds: float = 10.0) -> bytes:
    """What comes back for these bytes until the connection is shut, or ``seconds``."""
    host, port = it.proxy.url.split("/")[2].split(":")
    out = b""
    with socket.create_connection((host, int(port)), seconds) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
        with contextlib.suppress(OSError):
            while piece := connection.recv(1 << 16):
                out += piece
    return out


def test_a_stranger_is_told_so_and_its_connection_is_shut() -> None:
    with served() as it:
        request = POST + b"Content-Length: 2\r\n\r\n{}"
        answer = said(it, request * 3)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert it.ask().choices[0].message.content == "General Kenobi."
    assert it.proxy.ending is None


STRANGE = {
    "a length of 4,300 digits": POST + b"Content-Length: " + b"9" * 4300 + b"\r\n\r\n",
    "a length of 5,000 digits": POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length in other digits": POST + "Content-Length: ²\r\n\r\n".encode(),
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "no length": POST + b"\r\n",
    "chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    "another method": b"BREW /v1/chat/completions HTTP/1.1\r\n\r\n",
    "no method": b"\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/9": b"GET /v1/models HTTP/9.9\r\n\r\n",
    "no HTTP": bytes(range(256)) * 100 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600) + b"\n\n",
    "a path of 100 KB": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a header of 100 KB": POST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "10,000 headers": POST + b"X: x\r\n" * 10_000 + b"\r\n",
    "headers in headers": POST + (b"X:\r" * 20_000 + b"\n") * 90 + b"\r\n",
    "a header without a name": POST + b": x\r\nContent-Length: 2\r\n\r\n{}",
    "a key that is not ASCII": POST
    + b"Authorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "a great body": POST + b"Content-Length: 1000000000\r\n\r\n" + bytes(3 << 20),
}


@pytest.mark.parametrize("name", STRANGE)
def test_nothing_that_a_stranger_sends_ends_anything(name: str) -> None:
    with served() as it:
        began = time.monotonic()
        answer = said(it, STRANGE[name])
        assert time.monotonic() - began < 8
        assert b" 200 " not in answer.partition(b"\n")[0]
        assert it.ask().choices[0].message.content == "General Kenobi."
        assert not it.stopped.is_set()
    assert it.proxy.ending is None


@pytest.mark.parametrize("name", STRANGE)
def test_nor_does_it_where_the_token_is_shown(name: str) -> None:
    with served() as it:
        token = f"\r\nAuthorization: Bearer {it.proxy.token}\r\n".encode()
        said(it, STRANGE[name].replace(b"\r\nHost: x\r\n", token), seconds=1)
        assert it.ask().choices[0].message.content == "General Kenobi."
    assert it.proxy.ending is None


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "_STRANGER_SECONDS", 0.5)


def connect(it: Served) -> socket.socket:
    host, port = it.proxy.url.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), 10)


def test_who_sends_drop_by_drop_is_cut_off(hasty: None) -> None:
    with served() as it, connect(it) as slow, connect(it) as silent:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in POST * 10:
                slow.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 5
        assert silent.recv(1) == b""
        assert it.ask().choices[0].message.content == "General Kenobi."
    assert it.proxy.ending is None


def test_one_that_has_shown_the_token_keeps_its_connection(hasty: None) -> None:
    with served() as it:
        client = it.client()
        for _ in range(2):
            client.chat.completions.create(model="root", messages=HELLO)  # type: ignore[call-overload]
            time.sleep(1)
            assert len(it.proxy._connections) == 1


def test_strangers_give_way_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "_MOST_CONNECTIONS", 20)
    with served() as it, contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(it))
        assert it.ask().choices[0].message.content == "General Kenobi."
        assert eventually(lambda: len(it.proxy._connections) <= 20)
    assert it.proxy.ending is None


def test_who_takes_no_refusal_does_not_hold_up_the_end() -> None:
    with served() as it:
        it.proxy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with connect(it) as deaf:
            deaf.sendall(b"GET / " + b"<" * 60_000 + b"\r\n\r\n")  # which its refusal repeats
            time.sleep(0.5)
            began = time.monotonic()
            it.proxy.__exit__()
            assert time.monotonic() - began < 5
    assert it.proxy.ending is None


MANY = 2_000_000
BODIES = {
    "lists": b"[" + b"[]," * MANY + b"[]]",
    "objects": b"[" + b"{}," * MANY + b"{}]",
    "strings": b"[" + b'"",' * MANY + b'""]',
    "names": b"{" + b'"a":1,' * MANY + b'"a":1}',
    "numbers": b"[" + b"1," * MANY + b"1]",
    "in depth": b"[" * MANY,
    "in a message": b'{"model": "root", "messages": [' + b"{}," * MANY + b"{}]}",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_very_many_values_is_refused_before_any_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_wire, "MOST_MARKS", 10_000)
    tracemalloc.start()
    with pytest.raises(RefusedError) as refused:
        parse_request(BODIES[name])
    assert refused.value.status == 413
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        (b"", 0),
        (b'{"a": 1}', 3),
        (b'["a,[{", "\\"[,", ""]', 9),
        (b'["' + b"x" * 1_000_000 + b'"]', 3),
        (b'["' + b'\\"' * 1_000_000 + b'"]', 3),
        (b'["' + b"\\\\" * 1_000_000 + b'"]', 3),
        (b'["' + "ü😀,".encode() * 100_000 + b'"]', 3),
        (b" " * 1_000_000 + b"[]", 1),
        (b'"unclosed', 1),
        (b'"' + b'\\"x' * 1_000_000, 1),
        (b'"ends in an escape\\', 1),
        (b'"' * 1000, 1000),
    ],
)
def test_marks_are_counted_outside_of_strings(body: bytes, marks: int) -> None:
    began = time.monotonic()
    assert marks_in(body, MOST_MARKS) == marks
    assert time.monotonic() - began < 5


def test_a_long_conversation_is_no_such_body() -> None:
    messages: Any = [{"role": "user", "content": 'He said "a, b, [c]". ' * 100}] * 5000
    assert len(parse_request(json.dumps({"model": "root", "messages": messages}).encode()).messages)
