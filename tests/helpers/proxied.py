"""A proxy over a scripted model, and ways to ask it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from helpers.chat import Table, scripted
from rlm_eval.ledger import Ledger
from rlm_eval.models.proxy import Proxy


def loopback_listener() -> socket.socket:
    """As a foreign engine's starter opens one."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)


HELLO = [{"role": "user", "content": "Hello there."}]


class Served:
    """A proxy over a scripted model, with what it logged."""

    def __init__(self, model: Any, ledger: Ledger | None = None) -> None:
        self.table = Table(model)
        self.ledger = ledger or self.table.ledger()
        self.logged: list[tuple[Any, Any, Any]] = []
        self.stopped = threading.Event()
        self.proxy = Proxy(
            self.table.lm(),
            self.ledger,
            loopback_listener(),
            default_max_tokens=50,
            log=lambda *call: self.logged.append(call),
            stop=self.stopped.set,
        )

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.proxy.url, api_key=self.proxy.token, **options)

    def ask(self, model: str = "root", text: str = "Hello there.", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self.client().chat.completions.create(model=model, messages=messages, **more)

    def raw(
        self, body: Any, *, token: str | None = None, path: str = "/v1/chat/completions"
    ) -> Any:
        """Status and JSON of a plain POST."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return post(self.proxy.url, token or self.proxy.token, data, path)


def post(url: str, token: str, data: bytes, path: str = "/v1/chat/completions") -> Any:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    connection.request("POST", path, data, {"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    answered = response.status, json.loads(response.read())
    connection.close()
    return answered


@contextmanager
def served(model: Any = None, ledger: Ledger | None = None) -> Iterator[Served]:
    out = Served(model or scripted(lambda messages: "General Kenobi."), ledger)
    with out.proxy:
        yield out
