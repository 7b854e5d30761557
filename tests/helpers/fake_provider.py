"""A provider of language models that lives on loopback, bills, and misbehaves on demand.

It speaks enough of the OpenAI chat API for litellm. Every request takes the next behaviour of the
plan (``ok`` once the plan is used up), is counted and, where the provider would bill it, billed.
As a program it serves until its standard input closes: ``python fake_provider.py LATENCY_S``.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

#: What a good request costs, in tokens.
PROMPT_TOKENS, CACHED_TOKENS, COMPLETION_TOKENS = 40, 8, 5
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
}

#: What the behaviour ``thinks`` takes of a reply's tokens before its text.
HIDDEN_TOKENS = 200

NEGATIVE_USAGE = {"prompt_tokens": -9000, "completion_tokens": -9000, "total_tokens": -18000}

HUGE_USAGE = {"prompt_tokens": 10**20, "completion_tokens": 10**20, "total_tokens": 2 * 10**20}
TEXT_USAGE = {"prompt_tokens": "many", "completion_tokens": float("nan"), "total_tokens": None}
CACHED_USAGE = USAGE | {"prompt_tokens_details": {"cached_tokens": 9000}}
TOOL_CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
FILTERED = {"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}

Behaviour = Callable[["_Handler"], None]


class FakeProvider:
    """A server on a free loopback port, up inside a ``with`` block.

    ``plan`` has behaviours (or their keys in :data:`BEHAVIOURS`) for the first requests in order.
    ``received`` holds the request bodies, ``billed`` the (prompt, completion) tokens charged.
    A run's first contact is no part of either: it meets the behaviour ``contact``, and is in
    ``contacts``. ``models`` is what the server lists.
    """

    def __init__(
        self,
        plan: Iterable[str | Behaviour] = (),
        *,
        latency_s: float = 0.0,
        host: str = "127.0.0.1",
        contact: str | Behaviour = "ok",
        models: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.latency_s = latency_s
        self.contact, self.models = contact, [*models]
        self.contacts: list[Mapping[str, Any]] = []
        self.received: list[Mapping[str, Any]] = []
        self.arrivals: list[float] = []
        self.billed: list[tuple[int, int]] = []
        self.at_once = self.most_at_once = 0
        self.busy = 0  # handlers between the first byte of a request and the last of its answer
        self.closing = threading.Event()
        self.plan = list(plan)
        self._lock = threading.Lock()
        server = _Server6 if ":" in host else _Server
        self._server = server((host, 0), _Handler)
        self._server.provider = self
        name = f"[{host}]" if ":" in host else host
        self.api_base = f"http://{name}:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def requests(self) -> int:
        return len(self.received)

    @property
    def gaps(self) -> list[float]:
        """Seconds between requests."""
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def take(self, body: Mapping[str, Any]) -> Behaviour:
        """Note a request down; what to do with it."""
        with self._lock:
            self.received.append(body)
            self.arrivals.append(time.monotonic())
            step = self.plan.pop(0) if self.plan else "ok"
        return BEHAVIOURS[step] if isinstance(step, str) else step

    def meet(self, body: Mapping[str, Any]) -> Behaviour:
        """What to do with a run's first contact."""
        self.contacts.append(body)
        return BEHAVIOURS[self.contact] if isinstance(self.contact, str) else self.contact

    def enter(self, change: int) -> None:
        with self._lock:
            self.at_once += change
            self.most_at_once = max(self.most_at_once, self.at_once)

    @contextmanager
    def busier(self, by: int = 1) -> Iterator[None]:
        with self._lock:
            self.busy += by
        try:
            yield
        finally:
            with self._lock:
                self.busy -= by

    def bill(self, prompt: int = PROMPT_TOKENS, completion: int = COMPLETION_TOKENS) -> None:
        with self._lock:
            self.billed.append((prompt, completion))


def is_contact(body: Mapping[str, Any]) -> bool:
    """Whether a request is a run's first contact."""
    return body.get("input") == ["Say ok."] or body.get("messages") == [
        {"role": "user", "content": "Say ok."}
    ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    provider: FakeProvider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server
    body: Mapping[str, Any]

    def handle_one_request(self) -> None:
        """Busy before the socket is read: until then it shows that something is there."""
        arriving = select.poll()
        arriving.register(self.connection, select.POLLIN)
        arriving.poll()
        if self.server.provider.closing.is_set():  # a kept connection is no server
            self.close_connection = True
            return
        with self.server.provider.busier():
            super().handle_one_request()

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.send_json(200, {"object": "list", "data": self.server.provider.models})
        else:
            self.send_json(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        provider = self.server.provider
        with provider.busier(-1):  # a client that was stopped sends the rest when it goes on
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.body = json.loads(body)
        take = provider.meet if is_contact(self.body) else provider.take
        behaviour = take(self.body)
        provider.enter(+1)
        try:
            provider.closing.wait(provider.latency_s) if provider.latency_s else None
            behaviour(self)
            self.wfile.flush()
        finally:
            provider.enter(-1)

    def send(
        self,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, body: object, **more: Any) -> None:
        self.send(status, json.dumps(body).encode(), **more)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def chat_reply(
    content: str | None = "fine", *, finish: str = "stop", usage: object = USAGE
) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    return reply if usage is None else reply | {"usage": usage}


def message_reply(content: Any, *, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    """A reply whose message has more than text in it, or its content in another form."""
    reply = chat_reply(finish=finish)
    reply["choices"][0]["message"] = {"role": "assistant", "content": content, **fields}
    return reply


def _ok(handler: _Handler) -> None:
    handler.server.provider.bill()
    handler.send_json(200, chat_reply())


def _echo(handler: _Handler) -> None:
    """The last message back, so that a caller can see which answer is whose."""
    handler.server.provider.bill()
    handler.send_json(200, chat_reply(handler.body["messages"][-1]["content"]))


def _thinks(handler: _Handler) -> None:
    """Hidden tokens first, out of those that the request allows; what is left is for the text."""
    body = handler.body
    allowed = body.get("max_completion_tokens") or body["max_tokens"]
    hidden = min(HIDDEN_TOKENS, allowed)
    completion = min(hidden + COMPLETION_TOKENS, allowed)
    handler.server.provider.bill(completion=completion)
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
        "completion_tokens_details": {"reasoning_tokens": hidden},
    }
    whole = completion == hidden + COMPLETION_TOKENS
    finish = "stop" if whole else "length"
    handler.send_json(200, chat_reply("fine" if whole else "", finish=finish, usage=usage))


def _thoughts_beside(handler: _Handler) -> None:
    """Thoughts that are billed beside the completion, as the total alone tells."""
    handler.server.provider.bill(completion=HIDDEN_TOKENS + COMPLETION_TOKENS)
    usage = USAGE | {"total_tokens": PROMPT_TOKENS + HIDDEN_TOKENS + COMPLETION_TOKENS}
    handler.send_json(200, chat_reply(usage=usage))


def _own_temperature(handler: _Handler) -> None:
    """A good reply, unless a temperature is asked for."""
    if "temperature" in handler.body:
        return _error(400, "unsupported_value", "'temperature' does not support that")(handler)
    return _ok(handler)


def _billed(body: object) -> Behaviour:
    def behaviour(handler: _Handler) -> None:
        handler.server.provider.bill()
        handler.send_json(200, body)

    return behaviour


def _error(status: int, code: str, message: str, **headers: str) -> Behaviour:
    def behaviour(handler: _Handler) -> None:
        key = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        text = message.replace("<key>", key)
        body = {"error": {"message": text, "type": code, "param": None, "code": code}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.send_json(status, body, headers=named)

    return behaviour


def saying(status: int, body: object) -> Behaviour:
    """An error of this status and body: a text as it is, all else as JSON."""

    def behaviour(handler: _Handler) -> None:
        if isinstance(body, str):
            return handler.send(status, body.encode(), kind="text/plain")
        return handler.send_json(status, body)

    return behaviour


def limit_of(name: str) -> Behaviour:
    """A good reply to who bounds it by the parameter ``name``."""

    def behaviour(handler: _Handler) -> None:
        if name in handler.body:
            return _ok(handler)
        other = "max_tokens" if name != "max_tokens" else "max_completion_tokens"
        told = f"Unsupported parameter: '{other}' is not supported. Use '{name}' instead."
        return _error(400, "unsupported_parameter", told)(handler)

    return behaviour


def _html(handler: _Handler) -> None:
    handler.server.provider.bill()
    handler.send(
        200, b"<html><body>Please log in to the hotel wifi</body></html>", kind="text/html"
    )


def _empty_body(handler: _Handler) -> None:
    handler.server.provider.bill()
    handler.send(200, b"")


def _torn_json(handler: _Handler) -> None:
    handler.server.provider.bill()
    handler.send(200, json.dumps(chat_reply()).encode()[:60])


def _short_body(handler: _Handler) -> None:
    """Fewer bytes than promised, then the end of the connection."""
    handler.server.provider.bill()
    body = json.dumps(chat_reply()).encode()
    handler.send(200, body[:60], length=len(body))
    handler.close_connection = True


def _short_chunks(handler: _Handler) -> None:
    """The first chunk of a body in chunks, then the end of the connection."""
    handler.server.provider.bill()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"20\r\n" + json.dumps(chat_reply()).encode()[:32] + b"\r\n")
    handler.close_connection = True


def _hang(handler: _Handler) -> None:
    handler.server.provider.bill()
    handler.server.provider.closing.wait(30)
    handler.close_connection = True


def _drip(handler: _Handler) -> None:
    """A space every 50 ms, for ever: no single read times out."""
    handler.server.provider.bill()
    handler.send(200, b"", length=100_000)
    while not handler.server.provider.closing.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def _reset(handler: _Handler) -> None:
    """RST in the middle of the work."""
    handler.server.provider.bill()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


BEHAVIOURS: Mapping[str, Behaviour] = {
    "ok": _ok,
    "echo": _echo,
    "thinks": _thinks,
    "own_temperature": _own_temperature,
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "html": _html,
    "torn_json": _torn_json,
    "empty_body": _empty_body,
    "short_body": _short_body,
    "short_chunks": _short_chunks,
    "error_in_200": _billed({"error": {"message": "Provider returned error", "code": 502}}),
    "empty_choices": _billed(chat_reply() | {"choices": []}),
    "null_content": _billed(chat_reply(None)),
    "empty_string": _billed(chat_reply("")),
    "out_of_tokens": _billed(chat_reply(None, finish="length")),
    "filtered": _billed(chat_reply(None, finish="content_filter")),
    "broken_off": _billed(chat_reply("one two", finish="error")),
    "missing_usage": _billed(chat_reply("one two three", usage=None)),
    "half_usage": _billed(chat_reply("one two three", usage={"prompt_tokens": PROMPT_TOKENS})),
    "only_thoughts": _billed(message_reply(None, reasoning_content="A, B or C")),
    "refusal": _billed(message_reply(None, refusal="I can't help with that.")),
    "tool_call": _billed(message_reply(None, tool_calls=[TOOL_CALL], finish="tool_calls")),
    "unclosed_thought": _billed(chat_reply("<think>It may be A, B or C", finish="length")),
    "parts": _billed(
        message_reply([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}])
    ),
    "filtered_text": _billed(chat_reply("It is", finish="content_filter")),
    "filtered_prompt": _billed(chat_reply() | {"choices": [], "prompt_filter_results": [FILTERED]}),
    "400_filter": lambda handler: _error(
        400,
        "content_filter",
        "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
    )(handler),
    "thoughts_beside": lambda handler: _thoughts_beside(handler),
    "huge_usage": _billed(chat_reply("one two three", usage=HUGE_USAGE)),
    "text_usage": _billed(chat_reply("one two three", usage=TEXT_USAGE)),
    "cached_usage": _billed(chat_reply("one two three", usage=CACHED_USAGE)),
    "negative_usage": _billed(chat_reply("one two three", usage=NEGATIVE_USAGE)),
    "400": _error(400, "invalid_request_error", "unknown field"),
    "401": _error(401, "invalid_api_key", "Incorrect API key provided: <key>"),
    "402": _error(402, "billing", "Payment required"),
    "403": _error(403, "forbidden", "no access for <key>"),
    "404": _error(404, "model_not_found", "no such model"),
    "408": _error(408, "timeout", "Request timed out"),
    "413": _error(413, "request_too_large", "request too large"),
    "422": _error(422, "unprocessable", "unprocessable"),
    "429": _error(429, "rate_limit_exceeded", "slow down"),
    "429_later": _error(429, "rate_limit_exceeded", "slow down", Retry_After="1"),
    "429_tomorrow": _error(429, "rate_limit_exceeded", "daily limit", Retry_After="86400"),
    "429_quota": _error(429, "insufficient_quota", "You exceeded your current quota"),
    "overflow": _error(
        400,
        "context_length_exceeded",
        "This model's maximum context length is 100 tokens. Your messages have 120 tokens.",
    ),
    "500": _error(500, "server_error", "internal error with <key>"),
    "502": _error(502, "bad_gateway", "bad gateway"),
    "503": _error(503, "overloaded", "overloaded"),
    "504": _error(504, "gateway_timeout", "gateway timeout"),
    "529": _error(529, "overloaded_error", "overloaded"),
}


def main() -> None:
    with FakeProvider(latency_s=float(sys.argv[1])) as provider:
        print(provider.api_base, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
