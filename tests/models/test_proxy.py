"""The loopback proxy: a foreign engine asks through the sample's client alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any

import openai
import pytest

from helpers.chat import Table, scripted
from helpers.proxied import HELLO, loopback_listener, served
from rlm_eval.models.protocol import Message
from rlm_eval.models.proxy import Proxy


def test_a_reply_and_its_usage_are_the_clients() -> None:
    with served() as it:
        reply = it.ask()
        call = it.table.calls[0]
    assert reply.choices[0].message.content == "General Kenobi."
    assert reply.choices[0].finish_reason == "stop"
    # one token for four characters and four for a message: 12 // 4 + 4, and 15 // 4 + 1
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, 4)
    assert (call.prompt_tokens, call.completion_tokens) == (7, 4)
    assert reply.id == f"chatcmpl-{call.call_id}"
    assert it.ledger.spent.tokens == 11
    assert it.ledger.spent.calls == 1


def test_a_models_name_says_who_speaks() -> None:
    with served() as it:
        for model in ("root", "sub", "root@1", "sub@1", "root@2"):
            it.ask(model, f"from {model}")
    tags = {
        c.prompt_sha256: (c.role, c.depth, c.from_repl, c.parent_call_id) for c in it.table.calls
    }
    turn = it.table.calls[0].call_id
    assert list(tags.values()) == [
        ("root", 0, False, None),
        ("sub", 1, True, turn),
        ("root", 1, True, turn),
        ("sub", 2, True, None),
        ("root", 2, True, None),
    ]


def test_sub_calls_go_to_the_sub_model() -> None:
    table = Table(scripted(lambda m: "root says"), scripted(lambda m: "sub says", window=5000))
    with Proxy(table.lm(), table.ledger(), loopback_listener(), default_max_tokens=9) as proxy:
        client = openai.OpenAI(base_url=proxy.url, api_key=proxy.token)
        said = {
            name: client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]
            for name in ("root", "sub")
        }
        windows = {m.id: m.model_extra["max_model_len"] for m in client.models.list()}  # type: ignore[index]
    assert {name: r.choices[0].message.content for name, r in said.items()} == {
        "root": "root says",
        "sub": "sub says",
    }
    assert windows == {"root": 100_000, "sub": 5000}


@pytest.mark.parametrize(
    ("given", "words"),
    [({}, 50), ({"max_tokens": 3}, 3), ({"max_completion_tokens": 2}, 2)],
)
def test_the_longest_reply_is_the_clients_or_the_default(given: dict[str, int], words: int) -> None:
    with served(scripted(lambda m: "four" * 100)) as it:
        reply = it.ask(**given)
    assert reply.usage.completion_tokens == words
    assert reply.choices[0].finish_reason == "length"


def test_streaming_gives_the_same_text_and_usage() -> None:
    with served(scripted(lambda m: "Grüße, \ud83d und mehr")) as it:
        whole = it.ask()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(it.ask(**options))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert {c.model for c in chunks} == {"root"}
    assert [c.completion_tokens for c in it.table.calls] == [whole.usage.completion_tokens] * 2


def test_text_parts_and_developer_messages_are_carried() -> None:
    seen: list[Sequence[Message]] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(messages)
        return "ok"

    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    with served(scripted(script)) as it:
        assert it.raw({"model": "root", "messages": messages})[0] == 200
    assert seen == [
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two"}]
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.9, "top_p": 0.5, "seed": 7, "user": "me", "presence_penalty": 1},
        {"n": 1, "logprobs": False, "tools": [], "response_format": {"type": "text"}},
        {"stop": None, "tools": None, "tool_choice": "auto"},
    ],
)
def test_what_the_run_holds_or_changes_nothing_is_taken(more: Mapping[str, Any]) -> None:
    with served() as it:
        assert it.raw({"model": "root", "messages": HELLO, **more})[0] == 200


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tools": [{"type": "web_search"}]},
        {"functions": [{"name": "f"}]},
        {"logprobs": True},
        {"logit_bias": {"50256": -100}},
        {"guided_json": {}},
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(more: Mapping[str, Any]) -> None:
    with served() as it:
        status, body = it.raw({"model": "root", "messages": HELLO, **more})
    (name,) = more
    assert (status, body["error"]["code"]) == (400, "unsupported_parameter")
    assert body["error"]["param"] == name
    assert name in body["error"]["message"]
    assert not it.table.calls


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "function", "content": "42", "name": "x"}],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [],
        "Hello",
        None,
    ],
)
def test_messages_that_are_no_text_are_refused(messages: Any) -> None:
    with served() as it:
        status, body = it.raw({"model": "root", "messages": messages})
    assert status == 400
    assert body["error"]["param"].startswith("messages")
    assert not it.table.calls


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"messages": [], "model": 3}']
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with served() as it:
        assert it.raw(body)[0] == 400
        assert it.ask().choices, "and the server lives on"


@pytest.mark.parametrize("max_tokens", [0, -1, 2.5, "9", True])
def test_a_longest_reply_must_be_a_whole_number(max_tokens: Any) -> None:
    with served() as it:
        status, body = it.raw({"model": "root", "messages": HELLO, "max_tokens": max_tokens})
    assert (status, body["error"]["param"]) == (400, "max_tokens")


def test_unknown_models_and_paths_are_not_found() -> None:
    with served() as it:
        status, body = it.raw({"model": "gpt-5", "messages": HELLO})
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert it.raw({"model": "root", "messages": HELLO}, path="/v1/responses")[0] == 404
        with pytest.raises(openai.NotFoundError):
            it.client().models.retrieve("root")


def test_only_the_samples_own_token_is_let_in() -> None:
    with served() as one, served() as other:
        asked = {"model": "root", "messages": HELLO}
        for token in ("", "x", "é", other.proxy.token, one.proxy.token[:-1]):
            connection = http.client.HTTPConnection(one.proxy.url.split("/")[2], timeout=20)
            headers = {"Authorization": f"Bearer {token}".encode()}
            body = json.dumps(asked | {"user": "x" * 300_000})
            connection.request("POST", "/v1/chat/completions", body, headers)  # type: ignore[arg-type]
            response = connection.getresponse()
            assert response.status == 401, token
            assert json.loads(response.read())["error"]["code"] == "invalid_api_key"
            connection.close()
        assert one.raw(asked)[0] == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=one.proxy.url, api_key="x").models.list()
    assert (len(one.table.calls), len(other.table.calls)) == (1, 0)
