"""The proxy's connections: kept, given up, cut off, and never in the way of the end."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helpers.chat import scripted
from helpers.proxied import HELLO, Served, post, served
from helpers.waiting import eventually
from rlm_eval.models import proxy as proxy_module
from rlm_eval.models.protocol import Reply, Usage
from rlm_eval.models.scripted import ScriptedModel


class Slow(ScriptedModel):
    """Answers once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def complete(self, *args: Any, **kwargs: Any) -> Reply:
        self.asked.set()
        assert self.go.wait(20)
        return Reply("late", Usage(5, 1))


def test_the_end_waits_for_a_call_whose_client_is_gone() -> None:
    model = Slow()
    it = Served(model)
    with it.proxy:
        connection = http.client.HTTPConnection(it.proxy.url.split("/")[2])
        body = json.dumps({"model": "root", "messages": HELLO})
        headers = {"Authorization": f"Bearer {it.proxy.token}"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        assert model.asked.wait(5)
        connection.close()
        threading.Timer(0.3, model.go.set).start()
    assert it.ledger.spent.tokens == 6, "settled and written down before the block's end"
    assert len(it.table.calls) == 1
    assert it.proxy.ending is None, "a client that hangs up is no failure"


def test_what_waits_when_the_engine_ends_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "_AT_ONCE", 1)
    model = Slow()
    it = Served(model)
    body = json.dumps({"model": "root", "messages": HELLO}).encode()
    with ThreadPoolExecutor(3) as pool, it.proxy:
        asked = [pool.submit(post, it.proxy.url, it.proxy.token, body) for _ in range(3)]
        assert model.asked.wait(5)
        assert eventually(lambda: len(it.proxy._connections) == 3)
        threading.Timer(0.5, model.go.set).start()
    assert sorted(future.result()[0] for future in asked) == [200, 424, 424]
    assert len(it.table.calls) == 1


def test_more_connections_than_there_may_be_are_answered_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_module, "_MOST_CONNECTIONS", 20)
    body = json.dumps({"model": "root", "messages": HELLO}).encode()
    with served() as it, ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(post, it.proxy.url, it.proxy.token, body) for _ in range(100)]
        assert [future.result()[0] for future in asked] == [200] * 100


def test_connections_are_kept_and_idle_ones_do_not_hold_up_the_end() -> None:
    it = Served(scripted(lambda m: "ok"))
    with it.proxy:
        connection = http.client.HTTPConnection(it.proxy.url.split("/")[2], timeout=20)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            body = json.dumps({"model": "root", "messages": HELLO})
            headers = {"Authorization": f"Bearer {it.proxy.token}"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            assert connection.getresponse().read()
            assert connection.sock is first
        began = time.perf_counter()
    assert time.perf_counter() - began < 20
    connection.close()
    with pytest.raises(ConnectionError):
        post(it.proxy.url, it.proxy.token, b"{}")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "-5"}, 411),
        ({"Content-Length": str(1 << 40)}, 413),
    ],
)
def test_a_body_of_no_or_too_great_length_is_refused(
    headers: Mapping[str, str], status: int
) -> None:
    with served() as it:
        connection = http.client.HTTPConnection(it.proxy.url.split("/")[2], timeout=20)
        connection.putrequest("POST", "/v1/chat/completions")
        for name, value in {**headers, "Authorization": f"Bearer {it.proxy.token}"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.sock.shutdown(1)  # nothing more will be written
        assert connection.getresponse().status == status
        connection.close()
    assert it.proxy.ending is None
