"""What coding agents send (tools and what they gave, stop sequences, forced formats), in OpenAI's
form and in Anthropic's, through the metered client to the model and back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from helpers.fake_provider import FakeProvider, _billed, chat_reply, message_reply
from helpers.proxied import Served, served
from rlm_eval.errors import ProviderError
from rlm_eval.models.client import ModelClient
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import NO_OPTIONS, Message, Options, Reply, Usage, shown
from rlm_eval.models.scripted import ScriptedModel

LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 3}'}}
#: The same in Anthropic's form.
LOOK_TOO = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}


@dataclass
class Caller(ScriptedModel):
    """Calls ``look``, then says what that gave; keeps what it is sent."""

    sent: list[tuple[Sequence[Message], Options]] = field(default_factory=list)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        options: Options = NO_OPTIONS,
    ) -> Reply:
        self.sent.append((messages, options))
        last = messages[-1]
        if "tools" in options and last["role"] != "tool":
            return Reply(
                "Let me see.", Usage(20, 7, 4), "tool_calls", tool_calls=json.dumps([CALL])
            )
        return Reply(f"It is {last['content']}.", Usage(30, 3))


ASKED: dict[str, Any] = {"role": "user", "content": "What is there?"}


def anthropic(it: Served, body: Any, path: str = "/v1/messages", key: str | None = None) -> Any:
    connection = http.client.HTTPConnection(it.proxy.url.split("/")[2], timeout=20)
    headers = {"X-Api-Key": key or it.proxy.token, "Anthropic-Version": "2023-06-01"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, json.loads(text) if text.startswith("{") else text


def test_an_openai_client_has_its_tools_called_and_says_what_they_gave() -> None:
    with served(model := Caller()) as it:
        client = it.client().chat.completions
        first = client.create(model="root", messages=[ASKED], tools=[LOOK], stop=["END"])  # type: ignore[call-overload]
        said = first.choices[0].message
        (made,) = said.tool_calls
        gave = {"role": "tool", "content": "a bird", "tool_call_id": made.id}
        chat = [ASKED, said.model_dump(exclude_none=True), gave]
        last = client.create(model="root", messages=chat, tools=[LOOK])  # type: ignore[call-overload]
    assert (first.choices[0].finish_reason, said.content) == ("tool_calls", "Let me see.")
    assert (made.id, made.function.name, made.function.arguments) == ("call_1", "look", '{"at": 3}')
    assert last.choices[0].message.content == "It is a bird."
    assert model.sent[0][1] == {"tools": [LOOK], "stop": ["END"]}
    called = model.sent[1][0][1]
    assert (called["content"], json.loads(called["tool_calls"])) == ("Let me see.", [CALL])
    assert [c.prompt_tokens + c.completion_tokens for c in it.table.calls] == [27, 33]
    assert [c.finish_reason for c in it.table.calls] == ["tool_calls", "stop"]
    assert it.table.calls[0].thought_chars == 0


def test_a_stream_has_the_calls_too() -> None:
    with served(Caller()) as it:
        asked = {"model": "root", "messages": [ASKED], "tools": [LOOK], "stream": True}
        chunks = list(it.client().chat.completions.create(**asked))  # type: ignore[call-overload]
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert [(c.index, c.id, c.function.arguments) for c in calls] == [(0, "call_1", '{"at": 3}')]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_an_anthropic_client_has_the_same() -> None:
    asked = {"model": "root", "max_tokens": 99, "tools": [LOOK_TOO], "stop_sequences": ["END"]}
    asked["system"] = [
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    ]
    with served(model := Caller()) as it:
        status, first = anthropic(it, {**asked, "messages": [ASKED]})
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "a bird"}
        thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
        chat = [
            ASKED,
            {"role": "assistant", "content": [thought, *first["content"]]},
            {"role": "user", "content": [result]},
        ]
        _, last = anthropic(it, {**asked, "messages": chat, "thinking": {"type": "adaptive"}})
    assert status == 200
    text, made = first["content"]
    assert text == {"type": "text", "text": "Let me see."}
    assert made == {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": 3}}
    assert first["stop_reason"] == "tool_use"
    # of 20 tokens 4 came from a cache, which Anthropic counts apart
    usage = {"input_tokens": 16, "cache_read_input_tokens": 4, "output_tokens": 7}
    assert first["usage"] == {**usage, "cache_creation_input_tokens": 0}
    assert last["content"] == [{"type": "text", "text": "It is a bird."}]
    assert last["stop_reason"] == "end_turn"
    assert model.sent[0] == (
        [{"role": "system", "content": "Be brief."}, ASKED],
        {"tools": [LOOK], "stop": ["END"]},
    )
    *_, called, gave = model.sent[1][0]
    assert json.loads(called["tool_calls"])[0]["function"]["arguments"] == '{"at": 3}'
    assert gave == {"role": "tool", "content": "a bird", "tool_call_id": "call_1"}
    assert len(it.table.calls) == 2


def test_an_anthropic_stream_adds_up_to_the_reply() -> None:
    asked = {"model": "root", "max_tokens": 99, "tools": [LOOK_TOO], "messages": [ASKED]}
    with served(Caller()) as it:
        _, whole = anthropic(it, asked)
        _, text = anthropic(it, {**asked, "stream": True})
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    named = [line[7:] for line in text.splitlines() if line.startswith("event: ")]
    assert [event["type"] for event in events] == named
    assert (named[0], named[-2:]) == ("message_start", ["message_delta", "message_stop"])
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert deltas[0] == {"type": "text_delta", "text": whole["content"][0]["text"]}
    assert json.loads(deltas[1]["partial_json"]) == whole["content"][1]["input"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert events[-2]["usage"] == whole["usage"]


def test_tokens_are_counted_without_a_call() -> None:
    asked = {"model": "root", "messages": [ASKED], "system": "Be brief."}
    with served(Caller()) as it:
        bare = anthropic(it, asked, "/v1/messages/count_tokens")[1]["input_tokens"]
        tooled = anthropic(it, {**asked, "tools": [LOOK_TOO]}, "/v1/messages/count_tokens")[1]
    # "Be brief." and "What is there?" at four characters a token, and four for each message
    assert bare == 9 // 4 + 14 // 4 + 8
    assert tooled["input_tokens"] > bare + 10
    assert not it.table.calls


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "image"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": 3}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"output_config": {"format": "json"}}, "format"),
        ({"system": [{"type": "document"}]}, "system"),
    ],
)
def test_what_anthropics_form_has_more_is_refused_in_one_line(more: Any, field: str) -> None:
    with served(Caller()) as it:
        status, body = anthropic(it, {"model": "root", "messages": [ASKED], **more})
    assert status == 400
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert field in body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert not it.table.calls


def test_a_stranger_and_a_prompt_too_long_are_told_in_anthropics_words() -> None:
    with served(Caller(context_window=60)) as it:
        status, body = anthropic(it, {"model": "root", "messages": [ASKED]}, key="other")
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        long = {"role": "user", "content": "word " * 200}
        status, body = anthropic(it, {"model": "root", "max_tokens": 9, "messages": [long]})
    assert status == 400
    assert body["error"]["message"].startswith("prompt is too long")


def test_a_provider_is_sent_openais_form_and_its_calls_come_back() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
    reply = chat_reply(None, finish="tool_calls", usage=usage)
    reply["choices"][0]["message"]["tool_calls"] = [CALL]
    with FakeProvider([lambda handler: handler.send_json(200, reply)]) as provider:
        model = LitellmModel("openai/fake", 9000, provider.api_base, fixed_api_key="k")
        with served(model) as it:
            asked = {"model": "root", "messages": [ASKED], "tools": [LOOK], "tool_choice": "auto"}
            shaped = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
            status, body = it.raw({**asked, "response_format": shaped, "stop": "END"})
    assert status == 200
    (sent,) = provider.received
    assert sent["tools"] == [LOOK]
    assert (sent["tool_choice"], sent["stop"]) == ("auto", "END")
    assert sent["response_format"] == shaped
    said = body["choices"][0]
    assert (said["finish_reason"], said["message"]["content"]) == ("tool_calls", None)
    assert said["message"]["tool_calls"] == [CALL]
    (call,) = it.table.calls
    assert (call.prompt_tokens, call.completion_tokens) == (12, 6)


def test_ids_and_thoughts_come_back_to_the_provider_as_they_were() -> None:
    made = {**CALL, "id": "functions.look:0"}
    thoughts = {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s+/="}]}

    class Thinker(Caller):
        def complete(self, *args: Any, **kwargs: Any) -> Reply:
            reply = super().complete(*args, **kwargs)
            called = {"tool_calls": json.dumps([made]), "thoughts": json.dumps(thoughts)}
            return replace(reply, **called) if reply.tool_calls else reply

    asked = {"model": "root", "max_tokens": 99, "tools": [LOOK_TOO]}
    with served(model := Thinker()) as it:
        _, first = anthropic(it, {**asked, "messages": [ASKED]})
        (used,) = [block for block in first["content"] if block["type"] == "tool_use"]
        assert used["id"] == "functions_look_0"
        result = {"type": "tool_result", "tool_use_id": used["id"], "content": "a bird"}
        said = {"role": "assistant", "content": first["content"]}
        chat = [ASKED, said, {"role": "user", "content": [result]}]
        anthropic(it, {**asked, "messages": chat})
        other = {**used, "input": {"at": 4}}  # what the model did not call stays what it is
        chat[1] = {"role": "assistant", "content": [other]}
        anthropic(it, {**asked, "messages": chat})
    called, gave = model.sent[1][0][1:]
    assert json.loads(called["tool_calls"]) == [made]
    assert json.loads(called["thoughts"]) == thoughts
    assert gave["tool_call_id"] == "functions.look:0"
    changed, gave = model.sent[2][0][1:]
    assert "thoughts" not in changed
    assert json.loads(changed["tool_calls"])[0]["id"] == gave["tool_call_id"] == made["id"]


@pytest.mark.parametrize("blocks", [None, [{"type": "thinking", "thinking": "hm"}]])
def test_a_provider_gets_back_what_it_thought_before_it_called(blocks: Any) -> None:
    more = {"thinking_blocks": blocks} if blocks else {}
    thought = message_reply(None, tool_calls=[CALL], reasoning_content="hm", **more)
    with FakeProvider([_billed(thought)]) as provider:
        model = LitellmModel("openai/fake", 9000, provider.api_base, fixed_api_key="k")
        with served(model) as it:
            asked = {"model": "root", "messages": [ASKED], "tools": [LOOK]}
            said = it.raw(asked)[1]["choices"][0]["message"]
            gave = {"role": "tool", "content": "a bird", "tool_call_id": CALL["id"]}
            assert it.raw({**asked, "messages": [ASKED, said, gave]})[0] == 200
    assert said.keys() == {"role", "content", "tool_calls"}
    called = provider.received[1]["messages"][1]
    assert called["tool_calls"] == [CALL]
    kept = {name: called[name] for name in called if name not in said}
    assert kept == (more or {"reasoning_content": "hm"})


def test_what_no_provider_takes_is_the_engines_to_mend() -> None:
    """Where others of its requests were answered; else it is what any request would meet."""
    with FakeProvider(["400", "ok", "400"]) as provider:
        model = LitellmModel("openai/fake", 9000, provider.api_base, fixed_api_key="k")
        body = {"model": "root", "messages": [ASKED]}
        with served(model) as it:
            assert it.raw(body)[0] == 424
            assert isinstance(it.proxy.ending, ProviderError)
        with served(model) as it:
            assert [it.raw(body)[0] for _ in range(3)] == [200, 400, 200]
            assert it.proxy.ending is None


def test_arguments_that_are_no_object_are_handed_on_as_one() -> None:
    bad = {**CALL, "function": {"name": "look", "arguments": '{"at": '}}

    class Bungler(Caller):
        def complete(self, *args: Any, **kwargs: Any) -> Reply:
            reply = super().complete(*args, **kwargs)
            made = Reply("", reply.usage, "tool_calls", tool_calls=json.dumps([bad]))
            return made if reply.tool_calls else reply

    with served(model := Bungler()) as it:
        _, body = it.raw({"model": "root", "messages": [ASKED], "tools": [LOOK]})
        said = body["choices"][0]["message"]
        gave = {"role": "tool", "content": "no", "tool_call_id": said["tool_calls"][0]["id"]}
        chat = [ASKED, said, gave]
        assert it.raw({"model": "root", "messages": chat, "tools": [LOOK]})[0] == 200
    called = json.loads(model.sent[1][0][1]["tool_calls"])
    assert json.loads(called[0]["function"]["arguments"]) == {"not_an_object": '{"at": '}
    assert it.table.calls[0].thought_chars == 0


def test_tools_are_a_prefix_that_turns_share() -> None:
    class Counter(Caller):
        def complete(self, *args: Any, **kwargs: Any) -> Reply:
            return replace(super().complete(*args, **kwargs), usage=Usage(3000, 7))

    tools = [{**LOOK, "function": {**LOOK["function"], "description": "Looks. " * 2000}}]
    with served(Counter()) as it:
        for text in ("one", "another"):
            messages = [{"role": "user", "content": text}]
            it.raw({"model": "root", "messages": messages, "tools": tools})
    first, second = it.table.calls
    assert (first.reused_tokens, second.reused_tokens > 0.9 * second.prompt_tokens) == (0, True)


def test_what_is_offered_is_counted_within_the_first_message() -> None:
    """Chat templates refuse a user before the system."""
    chat = [{"role": "system", "content": "Be brief."}, ASKED]
    first, *rest = shown(chat, {"tools": [LOOK]})
    assert (first["role"], rest) == ("system", [ASKED])
    told, _, text = first["content"].partition("\n\n")
    assert (json.loads(told), text) == ({"tools": [LOOK]}, "Be brief.")
    assert shown([], {"tools": [LOOK]}) == []


def test_what_is_offered_is_part_of_what_is_remembered() -> None:
    """At temperature 0 a sub-call is answered once; with other tools it is another one."""
    with served(model := Caller()) as it:
        for tools in ([LOOK], [LOOK], []):
            it.raw({"model": "sub", "messages": [ASKED], "tools": tools})
    assert len(model.sent) == 2
    assert isinstance(it.table.client, ModelClient)
    assert [c.cached_response for c in it.table.calls] == [False, True, False]
