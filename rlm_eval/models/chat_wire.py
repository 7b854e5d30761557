"""OpenAI's chat-completions format, as far as the model client carries it: requests read, replies
and errors written, with tools, streams, stop sequences and forced formats. Source: the OpenAI API
reference, "Create chat completion".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_eval.models.protocol import Completion, Message, Options

#: Left to the run, which samples all arms alike, or of no effect on a reply.
_LEFT_OUT = {
    *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"),
    *("reasoning_effort", "user", "metadata", "store", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "verbosity", "function_call"),
}
#: What would change a reply in a way that is not carried, with the values that change nothing.
_NEUTRAL: Mapping[str, Any] = {
    **{"n": 1, "best_of": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}},
    **{"functions": [], "modalities": ["text"]},
}
_NONE: tuple[Any, ...] = (None, "", [], {})
#: What is carried beside the messages.
_OPTIONS = {"tools", "tool_choice", "parallel_tool_calls", "stop", "response_format"}
_READ = {"model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options"}
_FINISH = ("stop", "length", "tool_calls")
_ROLES = {"developer": "system", **{r: r for r in ("system", "user", "assistant", "tool")}}


#: Quotes, commas and opening brackets in one request; what each begins takes up to 100 bytes.
MOST_MARKS = 500_000
#: A string, closed or not, or a mark outside of one. Long ones hold up other threads, as in json.
_MARKED = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[{,]', re.DOTALL)


def marks_in(body: bytes, most: int) -> int:
    """How many quotes, commas and opening brackets a JSON text has outside of strings, before any
    of it is made; no more than ``most`` + 2 are counted."""
    count = 0
    for found in _MARKED.finditer(body):
        count += 2 if found[1] else 1
        if count > most:
            break
    return count


class RefusedError(Exception):
    """A request that gets an error instead of a reply. ``status`` is none that OpenAI's clients
    send again: not 408, 409, 429 or above 499."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status in (400, 404) else self.code
        return {
            "error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        }


@dataclass(frozen=True)
class ChatRequest:
    """``max_tokens`` is None where the client leaves it open."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    stream: bool = False
    stream_usage: bool = False
    options: Options = field(default_factory=dict)


def parse_request(body: bytes) -> ChatRequest:
    """The request in ``body``. Raises RefusedError, naming the parameter, for what can't be
    carried: several choices, log-probabilities, images and sound, tools that the provider runs."""
    data = parse_object(body)
    for name, value in data.items():
        known = name in _READ or name in _LEFT_OUT or name in _OPTIONS or value is None
        if not known and value != _NEUTRAL.get(name):
            raise unsupported(name, f"{name} is not carried by rlm_eval's model client")
    options = data.get("stream_options") or {}
    return ChatRequest(
        model=data["model"],
        messages=tuple(_message(f"messages[{i}]", m) for i, m in enumerate(data["messages"])),
        max_tokens=max_tokens_of(data),
        stream=data.get("stream") is True,
        stream_usage=isinstance(options, dict) and options.get("include_usage") is True,
        options=_options(data),
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """A request's JSON, which names a model and has messages. Raises RefusedError."""
    if marks_in(body, MOST_MARKS) > MOST_MARKS:
        raise RefusedError(413, "too_large", "the request has too many values")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "invalid_json", f"the body is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError(400, "invalid_json", "the body must be a JSON object")
    if not isinstance(data.get("model"), str):
        raise invalid("model", "model must be a string")
    if not isinstance(data.get("messages"), list) or not data["messages"]:
        raise invalid("messages", "messages must be a list with at least one message")
    return data


def _options(data: Mapping[str, Any]) -> Options:
    """Without those that change nothing: not every server takes them."""
    options = {
        name: data[name] for name in sorted(_OPTIONS & data.keys()) if data[name] not in _NONE
    }
    tools = options.get("tools", [])
    if not isinstance(tools, list) or not all(map(_is_function, tools)):
        raise unsupported("tools", "tools: only a list of functions is carried")
    if not tools:
        options = {name: options[name] for name in ("response_format", "stop") if name in options}
    if options.get("response_format") == {"type": "text"}:
        del options["response_format"]
    return options


def _is_function(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def max_tokens_of(data: Mapping[str, Any]) -> int | None:
    newer = data.get("max_completion_tokens") is not None
    name = "max_completion_tokens" if newer else "max_tokens"
    value = data.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise invalid(name, f"{name} must be an integer above 0")
    return value


def _message(where: str, item: Any) -> Message:
    """A message whose content is a string, or parts that are all text."""
    if not isinstance(item, dict):
        raise invalid(where, f"{where} must be an object")
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise unsupported(where, f"{where}: the role {item.get('role')!r} is not carried")
    message = {"role": role, "content": text_of(where, item.get("content"))}
    if role == "tool":
        return message | {"tool_call_id": str(item.get("tool_call_id"))}
    if calls := item.get("tool_calls"):
        if not isinstance(calls, list) or not all(map(_is_function, calls)):
            raise invalid(where, f"{where}: tool_calls must be a list of calls of functions")
        for call in calls:  # not every provider takes what a model wrote that is no object
            made = call["function"]
            made["arguments"] = written(arguments(made.get("arguments")))
        return message | {"tool_calls": written(calls)}
    return message


def text_of(where: str, content: Any, between: str = "") -> str:
    """A string, or the text of parts that are all text. Raises RefusedError for others."""
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise unsupported(f"{where}.content", f"{where}: only text is carried")
    return between.join(map(str, texts))


def arguments(text: object) -> dict[str, Any]:
    """A call's arguments; what a model wrote that is no object is handed on, to be told so."""
    try:
        given = json.loads(text or "{}") if isinstance(text, str) else text
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"not_an_object": text}


def written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=vars)


def as_sent(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it."""
    if "tool_calls" not in message:
        return dict(message)
    told: dict[str, Any] = {**message, "content": message["content"] or None}
    thoughts = json.loads(told.pop("thoughts", "{}"))
    return told | {"tool_calls": json.loads(message["tool_calls"]), **thoughts}


def unsupported(param: str, message: str) -> RefusedError:
    return RefusedError(400, "unsupported_parameter", message, param)


def invalid(param: str, message: str) -> RefusedError:
    return RefusedError(400, "invalid_value", message, param)


def reply_body(request: ChatRequest, reply: Completion, created: int) -> dict[str, Any]:
    """The reply in one object; the token counts are the model client's."""
    usage = reply.usage
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message |= {"content": reply.text or None, "tool_calls": json.loads(reply.tool_calls)}
    finish = reply.finish_reason if reply.finish_reason in _FINISH else "stop"
    ended = {"finish_reason": finish, "logprobs": None}
    return {
        "id": f"chatcmpl-{reply.call_id}",
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [{"index": 0, "message": message, **ended}],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        },
    }


def reply_events(request: ChatRequest, reply: Completion, created: int) -> bytes:
    """The same as server-sent events. The reply is there at once, so its text is one event."""
    head = reply_body(request, reply, created) | {"object": "chat.completion.chunk"}
    usage = head.pop("usage")
    ended = head["choices"][0]["finish_reason"]
    made = head["choices"][0]["message"].get("tool_calls", [])
    called = [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(made)]
    chunks = []
    for delta in ({"role": "assistant", "content": ""}, {"content": reply.text}, *called, {}):
        end = None if delta else ended
        choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
        chunks.append(json.dumps(head | {"choices": [choice]}))
    if request.stream_usage:
        chunks.append(json.dumps(head | {"choices": [], "usage": usage}))
    return "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode()
