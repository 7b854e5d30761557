"""Anthropic's messages format in front of the same model client: requests are read into OpenAI's
form, which the client speaks to every provider, and replies and errors written back. Source: the
Anthropic API reference, "Messages", "Count tokens" and "Streaming messages".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlm_eval.models.chat_wire import (
    ChatRequest,
    RefusedError,
    arguments,
    invalid,
    max_tokens_of,
    parse_object,
    text_of,
    unsupported,
    written,
)
from rlm_eval.models.protocol import Completion, Message, Options

_READ = {
    *("model", "messages", "system", "max_tokens", "stream", "stop_sequences"),
    *("tools", "tool_choice", "output_config"),
}
#: Left to the run, which samples all arms alike, or of no effect on a reply.
_LEFT_OUT = {
    *("temperature", "top_p", "top_k", "metadata", "thinking", "service_tier", "speed"),
    *("context_management", "cache_control", "betas", "anthropic_beta", "diagnostics"),
    *("inference_geo", "fallbacks", "user_profile_id"),
}
#: A system's message amid a chat is a user's to most providers' templates.
_ROLES = {"user": "user", "assistant": "assistant", "system": "user"}
_CHOICES = {"any": "required", "none": "none"}
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"}
_KINDS = {401: "authentication_error", 402: "billing_error", 404: "not_found_error"}
_KINDS |= {413: "request_too_large", 424: "api_error"}


def parse_messages(body: bytes) -> ChatRequest:
    """The request in ``body``. Raises RefusedError, naming the field, for what can't be carried:
    images and documents, tools that the provider runs."""
    data = parse_object(body)
    for name, value in data.items():
        if name not in _READ | _LEFT_OUT and value:
            raise unsupported(name, f"{name} is not carried by rlm_eval's model client")
    system = text_of("system", data.get("system"), "\n")
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for number, item in enumerate(data["messages"]):
        messages += _messages(f"messages[{number}]", item)
    stream, options = data.get("stream") is True, _options(data)
    most = max_tokens_of(data)
    return ChatRequest(data["model"], tuple(messages), most, stream=stream, options=options)


def _messages(where: str, item: Any) -> Iterator[Message]:
    """What a message is in OpenAI's form: of each tool's output one of its own, then the rest.
    Thoughts that come back are left out: those of its provider the proxy itself puts back."""
    role = _ROLES.get(str(item.get("role"))) if isinstance(item, dict) else None
    if role is None:
        raise unsupported(where, f"{where}: only users, assistants and systems are carried")
    content = item.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts, calls = [], []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(block)
        elif kind == "tool_result":
            out = text_of(where, block.get("content"), "\n")
            told = f"Error: {out}" if block.get("is_error") else out
            yield {"role": "tool", "content": told, "tool_call_id": str(block.get("tool_use_id"))}
        elif kind == "tool_use":
            made = {"name": str(block.get("name")), "arguments": written(block.get("input") or {})}
            calls.append({"id": str(block.get("id")), "type": "function", "function": made})
        elif kind not in ("thinking", "redacted_thinking"):
            raise unsupported(f"{where}.content", f"{where}: {kind} is not carried, only text is")
    if calls:
        text = text_of(where, texts, "\n")
        yield {"role": role, "content": text, "tool_calls": written(calls)}
    elif texts:
        yield {"role": role, "content": text_of(where, texts, "\n")}


def _options(data: Mapping[str, Any]) -> Options:
    options: dict[str, Any] = {}
    tools, choice = data.get("tools") or [], _object(data, "tool_choice")
    if not isinstance(tools, list):
        raise invalid("tools", "tools must be a list")
    if tools:
        options["tools"] = [_tool(tool) for tool in tools]
        if choice.get("type") == "tool":
            options["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        elif wish := _CHOICES.get(str(choice.get("type"))):
            options["tool_choice"] = wish
        if choice.get("disable_parallel_tool_use"):
            options["parallel_tool_calls"] = False
    stops = data.get("stop_sequences") or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop_sequences", "stop_sequences must be a list of strings")
    if stops:
        options["stop"] = stops
    wanted = _object(_object(data, "output_config"), "format")
    if wanted.get("type") == "json_schema":
        schema = {"name": "output", "schema": wanted.get("schema"), "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    return options


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(name, f"{name} must be an object")
    return value


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type", "custom") not in (None, "custom"):
        raise unsupported("tools", "tools: only those that the client runs are carried")
    if not isinstance(tool.get("name"), str):
        raise invalid("tools", "tools: each has a name")
    schema = tool.get("input_schema") or {"type": "object", "properties": {}}
    told = {"name": tool.get("name"), "description": tool.get("description") or ""}
    return {"type": "function", "function": {**told, "parameters": schema}}


def message_body(request: ChatRequest, reply: Completion, created: int) -> dict[str, Any]:
    """The reply in one object; the token counts are the model client's."""
    usage = reply.usage
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    for call in json.loads(reply.tool_calls or "[]"):
        made = safe_id(call["id"])
        given = arguments(call["function"]["arguments"])
        block = {"type": "tool_use", "id": made, "name": call["function"]["name"], "input": given}
        content.append(block)
    return {
        "id": f"msg_{reply.call_id}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": _STOPS.get(reply.finish_reason, "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens - usage.written_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
            "cache_creation_input_tokens": usage.written_tokens,
            "output_tokens": usage.completion_tokens,
        },
    }


def safe_id(call_id: str) -> str:
    """A call's id in the signs that Anthropic's have."""
    return re.sub(r"[^\w-]", "_", call_id, flags=re.ASCII)


def message_events(request: ChatRequest, reply: Completion, created: int) -> bytes:
    """The reply as the stream's events."""
    body = message_body(request, reply, created)
    started = {**body, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    for index, block in enumerate(body["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty, written = {**block, "input": {}}, json.dumps(block["input"])
            delta = {"type": "input_json_delta", "partial_json": written}
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ended = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": body["usage"]})
    events.append({"type": "message_stop"})
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def error_body(refused: RefusedError) -> dict[str, Any]:
    """Anthropic's clients know by its first words that a prompt is too long, and shorten it."""
    told = str(refused)
    if refused.code == "context_length_exceeded":
        told = f"prompt is too long: {told}"
    kind = _KINDS.get(refused.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": told}}
