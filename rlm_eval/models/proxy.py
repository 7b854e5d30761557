"""A loopback server in front of the model client, for engines of other makers, in any language.

It speaks OpenAI's chat completions (``POST /v1/chat/completions``, ``GET /v1/models``) and
Anthropic's messages (``POST /v1/messages``, ``/v1/messages/count_tokens``), plain and streamed,
with tools, to whoever holds its token, and puts every request through the sample's client: budget
reserved before, settled after, written to the journal. One server per sample, so samples that run
side by side can't be confused.

A model's name says who speaks: ``root`` is a turn of the engine's own loop and ``sub`` a call that
its code began; ``root@2`` is a turn of a child engine at depth 2, ``sub@2`` a call of its code.
What steers sampling is the run's own, whatever the engine sends. A client that leaves
``max_tokens`` open gets the method's default.

What is refused has a status that the clients of both don't send again: what helps was retried
already.

    402 budget_exceeded            a cap of the sample is spent, or no turn is left
    400 context_length_exceeded    the prompt doesn't fit the model's window
    424 provider_error             the provider failed for good; the sample ends with it
    400 content_filter             the provider's filter took the prompt or the reply
    400, 401, 404, 411, 413        what the request itself has wrong; 400 also by a provider's word,
                                   of a sub-call, or of a turn after one that was answered

Whoever finds the port may connect, so nothing without the token has any effect but the refusal:
such a connection has one request and a few seconds, and gives way to others when there are many.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Self

from rlm_eval.errors import (
    CONTENT_FILTER,
    THE_PROMPTS,
    BudgetExceeded,
    ContextOverflow,
    ProviderError,
    SampleFailure,
)
from rlm_eval.ledger import Ledger
from rlm_eval.models.chat_wire import (
    ChatRequest,
    RefusedError,
    arguments,
    parse_request,
    reply_body,
    reply_events,
    written,
)
from rlm_eval.models.client import LM, CallTags, Completion
from rlm_eval.models.messages_wire import (
    error_body,
    message_body,
    message_events,
    parse_messages,
    safe_id,
)
from rlm_eval.models.protocol import Message, shown

MAX_BODY_BYTES = 64 << 20
#: Of a body that is refused, what is read for the refusal to be heard.
_READ_REFUSED = 1 << 20
#: Bodies above this are few at once.
_LARGE_BODY, _LARGE_AT_ONCE = 4 << 20, 8
_MOST_CONNECTIONS, _HEADER_BYTES = 256, 64 << 10
#: Calls at once, as our own RLM's sub-calls.
_AT_ONCE = 64
#: Seconds for a first request with the token to come, and for a next one.
_STRANGER_SECONDS, _IDLE_SECONDS = 20.0, 1800.0
_MODEL = re.compile(r"(root|sub)(?:@(\d{1,3}))?")
#: By path: how a request is read, a reply written, and written as a stream.
_DIALECTS = {
    "/v1/chat/completions": (parse_request, reply_body, reply_events),
    "/v1/messages": (parse_messages, message_body, message_events),
}
#: Given each call that reached the model client, and what became of it. Called from many threads.
CallLog = Callable[[CallTags, Sequence[Message], Completion | SampleFailure], None]


class Proxy(ThreadingHTTPServer):
    """The model client of one sample as a server on ``listener``, within a ``with`` block, whose
    end waits for what is in flight. ``ending`` is what ends the sample whatever its engine makes of
    it: a provider's failure, the run's spent cap, a bug; ``stop`` is called when it is set.
    ``refused`` is the failure that the engine got last, None once a later call was answered. Turns
    of the engine's own loop past ``most_turns`` are refused as calls past a cap are."""

    daemon_threads = False  # all connections are waited for

    def __init__(
        self,
        lm: LM,
        ledger: Ledger,
        listener: socket.socket,
        *,
        default_max_tokens: int,
        token: str | None = None,
        most_turns: int | None = None,
        log: CallLog = lambda tags, messages, outcome: None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.token = token or secrets.token_hex(16)
        self.url = "http://{}:{}/v1".format(*listener.getsockname())
        self.ending: BaseException | None = None
        self.refused: SampleFailure | None = None
        self._lm = lm
        self._ledger = ledger
        self._default_max_tokens = default_max_tokens
        self._turns_left = math.inf if most_turns is None else most_turns
        self._log = log
        self._stop = stop
        self._lock = threading.Lock()
        self._last_turn: str | None = None
        #: The ids of calls as they came, by what a client may call them, and their replies.
        self._called: dict[str, tuple[str, Completion]] = {}
        #: The roles whose model answered once.
        self._answered: set[str] = set()
        #: Each connection, and when it is shut: never while the model client works for it.
        self._connections: dict[Any, float] = {}
        self._trusted: set[Any] = set()
        self._closing = False
        self._at_once = threading.Semaphore(_AT_ONCE)
        self.large_bodies = threading.Semaphore(_LARGE_AT_ONCE)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), name="proxy", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing = True
        self.shutdown()
        # Read no more from anyone: idle connections end, replies under way still go out, but for
        # refusals that a stranger doesn't take.
        for connection in tuple(self._connections):
            _shut(connection, socket.SHUT_RD if connection in self._trusted else socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        while len(self._connections) >= _MOST_CONNECTIONS and not self._closing:
            silent = time.monotonic() + _STRANGER_SECONDS - 1.0  # a second after it was accepted
            for other, until in tuple(self._connections.items()):
                if other not in self._trusted and until < silent:
                    _shut(other)
            time.sleep(0.01)
        self._connections[connection] = time.monotonic() + _STRANGER_SECONDS
        return connection, address

    def service_actions(self) -> None:
        now = time.monotonic()
        for connection, until in tuple(self._connections.items()):
            if until < now:
                _shut(connection)

    def trust(self, connection: Any, seconds: float = _IDLE_SECONDS) -> None:
        """It has shown the token, and ``seconds`` for what it has to send."""
        self._trusted.add(connection)
        self._connections[connection] = time.monotonic() + seconds

    def shutdown_request(self, request: Any) -> None:
        self._connections.pop(request, None)
        self._trusted.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if request in self._trusted and not isinstance(error, OSError | None):
            self._end(error)

    def models(self) -> dict[str, Any]:
        """What ``GET /v1/models`` answers; ``max_model_len`` is the window, as vLLM has it."""
        windows = {role: self._lm.info(role).context_window for role in ("root", "sub")}
        named = {"object": "model", "created": 0, "owned_by": "rlm_eval"}
        data = [{"id": role, **named, "max_model_len": windows[role]} for role in windows]
        return {"object": "list", "data": data}

    def chat(self, request: ChatRequest) -> Completion:
        """The model client's reply. Raises RefusedError; what ends the run passes through."""
        with self._at_once:
            if self._closing or self.ending is not None:
                raise RefusedError(424, "ended", "the engine or its question has ended")
            return self._chat(request)

    def _chat(self, request: ChatRequest) -> Completion:
        tags = self._tags(request.model)
        messages = tuple(map(self._as_it_was, request.messages))
        is_turn = tags.role == "root" and tags.depth == 0
        try:
            if is_turn and self._turns_left <= 0:
                raise BudgetExceeded("no turn is left: see max_turns")
            reply = self._lm.complete(
                messages,
                ledger=self._ledger,
                max_tokens=request.max_tokens or self._default_max_tokens,
                tags=tags,
                options=request.options,
            )
        except SampleFailure as failure:
            self.refused = failure
            self._log(tags, request.messages, failure)
            # What an engine asks for may be what its provider never takes.
            kind = getattr(failure, "kind", "")
            known = tags.role == "sub" or tags.role in self._answered
            the_models = kind in (CONTENT_FILTER, "unreadable_call")
            its_own = the_models or (kind in THE_PROMPTS and known)
            with self._lock:
                self._turns_left -= is_turn and the_models
            if isinstance(failure, ProviderError) and not its_own:
                self._end(failure)
            if isinstance(failure, ContextOverflow):
                code, told = "context_length_exceeded", str(failure)
                raise RefusedError(400, code, told, "messages") from failure
            status = 402 if isinstance(failure, BudgetExceeded) else 400 if its_own else 424
            raise RefusedError(status, failure.outcome, str(failure)) from failure
        except BaseException as error:  # the run's: whatever the engine makes of it
            self._end(error)
            raise
        with self._lock:
            self.refused = None
            self._answered.add(tags.role)
            for call in json.loads(reply.tool_calls or "[]"):
                self._called[safe_id(call["id"])] = call["id"], reply
            if is_turn:
                self._last_turn = reply.call_id
                self._turns_left -= 1
        self._log(tags, request.messages, reply)
        return reply

    def count(self, request: ChatRequest) -> int:
        """Tokens of a prompt, asked of nobody."""
        role = self._tags(request.model).role
        return self._lm.prompt_tokens(shown(request.messages, request.options), role)

    def _as_it_was(self, message: Message) -> Message:
        """A message with its calls' ids as they came, and with the thoughts before them, where they
        are still those of a reply: not every client gives both back."""
        if (gave := message.get("tool_call_id")) is not None:
            return {**message, "tool_call_id": self._id(gave)}
        if "tool_calls" not in message:
            return message
        calls = json.loads(message["tool_calls"])
        back = [{**call, "id": self._id(call.get("id"))} for call in calls]
        message = {**message, "tool_calls": written(back)}
        _, reply = self._called.get(safe_id(str(calls[0].get("id"))), ("", None))
        if reply is None or not reply.thoughts:
            return message
        same = [*map(_asked, calls)] == [*map(_asked, json.loads(reply.tool_calls))]
        return message | ({"thoughts": reply.thoughts} if same else {})

    def _id(self, given: Any) -> str:
        return self._called.get(safe_id(str(given)), (str(given), None))[0]

    def _end(self, error: BaseException) -> None:
        """Keep the first ``error`` that ends the sample, and have its engine stopped."""
        with self._lock:
            self.ending = self.ending or error
        self._stop()

    def _tags(self, model: str) -> CallTags:
        """Where a call belongs. Its parent is known only right below the engine's own loop, which
        has one turn at a time."""
        named = _MODEL.fullmatch(model)
        if named is None:
            known = "root and sub (root@DEPTH and sub@DEPTH for a child engine's)"
            raise RefusedError(404, "model_not_found", f"no model {model!r}; there are {known}")
        sub = named[1] == "sub"
        depth = int(named[2] or 0) + sub
        parent = self._last_turn if depth == 1 else None
        return CallTags("sub" if sub else "root", depth, parent, from_repl=depth > 0)


def _asked(call: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return call["function"]["name"], arguments(call["function"].get("arguments"))


def _shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):  # it has just ended
        connection.shutdown(how)


class _Headers:
    """The lines before a request's body, all together not too long: http.server bounds each line
    and their number, but one line may hold thousands of headers."""

    def __init__(self, rfile: BufferedIOBase) -> None:
        self._rfile, self._left = rfile, _HEADER_BYTES

    def readline(self, most: int = -1) -> bytes:
        line = self._rfile.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionAbortedError("headers without end")
        return line


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def parse_request(self) -> bool:
        whole = self.rfile
        self.rfile = _Headers(whole)  # type: ignore[assignment]
        try:
            return super().parse_request()
        finally:
            self.rfile = whole

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the journal is the record."""

    def do_GET(self) -> None:
        status = 200
        try:
            made = self._made()
        except RefusedError as refused:
            status = refused.status
            anthropics = self._route.startswith("/v1/messages")
            made = error_body(refused) if anthropics else refused.body()
        kind, body = "text/event-stream", made
        if not isinstance(body, bytes):
            kind, body = "application/json", json.dumps(made).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if not self.close_connection:
            self.server.trust(self.connection)

    do_POST = do_GET  # noqa: N815  http.server calls it so

    @property
    def _route(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _made(self) -> dict[str, Any] | bytes:
        """The JSON or the events that answer the request. Raises RefusedError."""
        if self.command == "GET":
            self._check_token()
            if self._route == "/v1/models":
                return self.server.models()
        else:
            length = self._length()
            with self.server.large_bodies if length > _LARGE_BODY else contextlib.nullcontext():
                body = self.rfile.read(length)
                if self._route in _DIALECTS:
                    parse, plain, streamed = _DIALECTS[self._route]
                    request = parse(body)
                    del body
                    self.server.trust(self.connection, math.inf)
                    write = streamed if request.stream else plain
                    return write(request, self.server.chat(request), int(time.time()))
                if self._route == "/v1/messages/count_tokens":
                    return {"input_tokens": self.server.count(parse_messages(body))}
        raise RefusedError(404, "not_found", f"there is no {self.command} {self.path}")

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        given = given or self.headers.get("X-Api-Key", "")
        if not secrets.compare_digest(given.encode(), self.server.token.encode()):
            self.close_connection = True
            raise RefusedError(401, "invalid_api_key", "this server has another API key")
        self.server.trust(self.connection)

    def _length(self) -> int:
        """The body's length. Where it is refused a beginning is read, lest the refusal be lost."""
        lengths = self.headers.get_all("Content-Length", [])
        known = len(lengths) == 1 and re.fullmatch("[0-9]{1,18}", lengths[0]) is not None
        try:
            self._check_token()
            if not known or "Transfer-Encoding" in self.headers:
                raise RefusedError(411, "length_required", "send one Content-Length, not chunks")
            if int(lengths[0]) > MAX_BODY_BYTES:
                raise RefusedError(413, "too_large", f"a body is at most {MAX_BODY_BYTES:,} bytes")
        except RefusedError:
            self.close_connection = True
            self.rfile.read(min(int(lengths[0]), _READ_REFUSED) if known else 0)
            raise
        return int(lengths[0])
