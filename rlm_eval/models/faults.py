"""What a provider's reply or error really is, in the harness's own words: a usable reply, or a
failure with its kind, whether it is worth a retry, and what it costs.

litellm's class names mix causes up (a refused connection and an unreadable page are both an
``InternalServerError``), so the verdict comes from what lies beneath: the HTTP status where the
provider sent one, else the transport's error.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http.client import responses
from types import SimpleNamespace
from typing import Any

from rlm_eval.errors import CONTENT_FILTER, ContextOverflow, ProviderError
from rlm_eval.models.chat_wire import written
from rlm_eval.models.protocol import BilledError, Reply, Usage

#: The prompt's tokens, and those of this reply.
Estimate = Callable[[str], Usage]

#: HTTP status → (kind, retryable). Others: 4xx ``bad_request``, final; 5xx ``server_error``.
_STATUS: Mapping[int, tuple[str, bool]] = {
    **dict.fromkeys((401, 403), ("authentication", False)),
    402: ("quota", False),
    **dict.fromkeys((404, 405), ("not_found", False)),
    408: ("timeout", True),
    429: ("rate_limit", True),
    **dict.fromkeys((409, 425, 502, 503, 504, 529), ("unavailable", True)),
}
#: From before the request reached anybody.
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_SILENT = {"ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "TimeoutError"}
_BROKEN = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError", "LocalProtocolError"}
#: What says that a filter refused the prompt, in a reply without choices.
_FILTERED_SIGNS = ("'filtered': True", "filtered=True", "blockReason", "block_reason")
#: Finish reasons, in lower case, of a reply that a filter cut off.
_WITHHELD = {
    *("content_filter", "content_filtered", "safety", "recitation", "blocklist"),
    *("prohibited_content", "spii", "sensitive", "guardrail_intervened", "image_safety"),
}
#: Tokens that may be counted beside what was sent and asked for: templates, unlimited thoughts.
_BESIDE_PROMPT, _BESIDE_REPLY = 10_000, 200_000
#: How providers end a reply that they failed to finish, and litellm calls an ordinary stop.
_BROKEN_OFF = {"error", "network_error", "insufficient_system_resource", "abort"}
_CALLED_NOTHING = {"malformed_function_call", "unexpected_tool_call"}  # that was offered
_UNSIGNED = {"NoCredentialsError", "DefaultCredentialsError"}


def _signs(lines: str, **words: str) -> re.Pattern[str]:
    """Any of these patterns, one a line, with ``words`` for the names in capitals."""
    for name, pattern in words.items():
        lines = lines.replace(name, pattern)
    return re.compile("|".join(line.strip() for line in lines.strip().splitlines()))


# What servers write, in lower case and in one line. tests/models/provider_errors.jsonl has each.

#: The prompt is larger than the model takes. ``_`` is a space here.
_OVERFLOW = _signs(
    r"""
    context ?(?:length|window|size) ?exceeded|exceed context size|tokens limit reached
    string above max length|request too large|code 1261\b|range of input length
    max(?:imum)? (?:allowed )?(?:total )?KIND (?:length|window|size|tokens)
    max tokens of [\d,]+ exceeded|n keep.{0,40}n ctx|> session len|\+ `?max new tokens`? must be
    context (?:length|window|size|limit)s?\b.{0,40}?(?:exceed|too small|overflow|of only|reached)
    out of context|context (?:is )?full|INPUT.{0,60}> ?(?:\d|limit|max)
    (?:token|length|prompt|input) (?:limit|length|size)s? (?:has been |is |was )?exceeded
    \b(?:exceed|longer|larger|greater|more|over|beyond|fit)\w*\b.{0,60}?\b(?:context|model) SIZE
    INPUT.{0,50}?\btoo (?:long|large|big)\b|too many (?:(?:in|con|prom)\w+ )?tokens
    INPUT.{0,80}?\b(?:exceed(?:s|ed|ing)?|(?:longer|larger|greater|more) than)\b.{0,60}?MOST
    INPUT.{0,40}? (?:must|should|can|may|cannot|only).{0,40}?LESS ?`?[\d,]+.{0,12}?(?:tokens|given)
    INPUT.{0,80}?(?:only supports|supports (?:only|up to|at most)) (?:up to )?[\d,]+
    (?:reduc|shorten|decreas|trunc)\w* (?:the |your )?(?:length |size |number )?(?:of )?OURS
    shorter (?:prompt|input|message)|超长|过长|(?:长度|上下文|输入|tokens?).{0,12}(?:超过|超出|超限)
    """,
    INPUT=r"\b(?:prompts?|inputs?|messages?|contexts?|conversation|history|query|sequence|texts?|"
    r"contents?|request(?: body)?|payload|total (?:number of )?tokens?|tokens? count|"
    r"number of tokens)\b",
    KIND="(?:context|prompt|input|sequence|model|session)",
    SIZE="(?:length|window|size|limit|token limit)",
    MOST=r"\b(?:tokens?|lengths?|max|maximum|limit|allowed|window|session len|size)\b",
    LESS="(?:less than|at most|up to|shorter|<=?|exceed)",
    OURS="(?:the |your )?(?:prompt|input|message)",
)
#: It speaks of the reply's length, of a rate, of time or of money, and so not of the prompt.
_OUTPUT = _signs(
    r"""max_?(?:completion|new|output)?_?tokens|(?:output|completion) tokens
    maximum tokens (?:you|value)"""
)
_PROMPT = re.compile(r"\b(?:prompt|inputs?|messages?|context)\b")
_RATE = _signs(
    r"""per ?(?:min|hour|day|sec|month)|\b[tr]p[mdh]\b|rate.?limit|quota|throttl
    time.?out|timed|concurr"""
)
#: The size of a rate limit, and mostly of the request.
_SIZES = re.compile(
    r"\blimit:? ([\d,]+).{0,60}?\brequested:? ([\d,]+)|limit of ([\d,]+) (?:input )?tokens"
)
#: How long to wait, where it is said and no header has it: Gemini's retryDelay and others' words.
_PAUSE = re.compile(
    r"(?:retry|try again) (?:in|after) (?:(\d+)h)?(?:(\d+)m(?!s))?"
    r"(?:(\d+(?:\.\d+)?) ?(m?)s(?:ec(?:ond)?s?)?\b)?"
)
#: Kinds that a status below 500 does not tell, by what is said.
_SAID: Mapping[str, re.Pattern[str]] = {
    "quota": _signs(
        r"""^(?!.*(?:retryinfo|per ?min)).*exceeded[ _](?:\w+[ _])?current[ _]quota
        insufficient_(?:user_)?quota|insufficient.?balance|credit balance|out of credits
        billing_(?:hard_limit|not_active)|余额不足"""
    ),
    CONTENT_FILTER: _signs(
        r"""content_filter|content_policy|content management policy|responsibleaipolicy
        data_?inspection_?failed|\bmoderation|flagged|content exists risk|prohibited_content
        violates usage guidelines|considered high risk|contentpolicyviolation"""
    ),
    "authentication": _signs(
        r"""(?:invalid|incorrect|wrong|missing|no).api.?key|no_db_connection|authentication_?error
        api.?key.{0,12}(?:invalid|incorrect|not valid)"""
    ),
    # The model's own: a call of a tool that its server can't parse (llama.cpp, Ollama, Groq).
    "unreadable_call": _signs("error parsing tool call|failed to parse input at|tool_use_failed"),
    "not_found": _signs(
        r"""model_not_found|(?:invalid|unknown|no such) model\b|unexpected endpoint|invalid url
        error in response object
        \bmodels?\b.{0,80}?\b(?:not found|(?:does ?n.?o?t|not) exist|not (?:available|loaded))"""
    ),
}
_ADVICE: Mapping[str, str] = {
    "over_rate_limit": "; the request alone is larger than the limit: have it raised, or send less",
    "authentication": "; is the key right, and this server's?",
    "quota": "; the account has to be topped up",
    "not_found": "; are the model's name and api_base (which mostly ends in /v1) right?",
    "bad_response": "; is api_base (which mostly ends in /v1) right?",
}
#: Parts of an error's body that repeat the request, and those that are for people.
_ECHOES = frozenset({"input", "loc", "ctx", "url", "request", "messages", "headers", "body"})
_SENTENCES = frozenset({"message", "msg", "error", "detail", "error_msg", "status_msg", "raw", ""})


def classified(
    error: BaseException, model: str, secret: str, worst: Usage, url: str = ""
) -> ProviderError | ContextOverflow:
    """The harness's error for one that litellm raised, with ``secret`` cut out. ``worst``, the most
    the attempt may have cost, is charged when the provider had the request and neither answered nor
    refused it. ``url`` is where the model is asked."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    names = {type(e).__name__ for e in chain}
    # An error object in a reply of status 200 is a plain Exception of litellm's with its message.
    told_by = chain[-1] if type(chain[-1]) is Exception else error
    status, answered = getattr(told_by, "status_code", None), False
    body = getattr(told_by, "body", None) or getattr(told_by, "message", None) or str(error)
    for step in chain:
        if type(step).__name__ == "HTTPStatusError":  # the response a provider really sent
            response: Any = getattr(step, "response", None)
            status, body, answered = int(response.status_code), response.text, True
            asked = response.request.url  # what may be secret in it stays out: a user, a query
            url = f"{asked.scheme}://{asked.netloc.decode().rpartition('@')[2]}{asked.path}"
    other = "unavailable" if told_by is not error and str(status)[:1] == "5" else "bad_response"
    if not answered and not (isinstance(status, int) and 400 <= status < 500):
        status = None
    # Cut to length only after the secret is out, lest half of it stay.
    parts = [(key, text.replace(secret or "\0", "[key]")) for key, text in _parts(body)]
    told = " ".join(" ".join(text for _, text in parts).lower().split())[:4000]
    line = _sentence(parts) or responses.get(status or 0, type(error).__name__)
    where = f"{model}: {f'{status} from ' if answered else ''}{url}: "
    litellms = "ContextWindowExceededError" in names and not answered
    if status is not None and (litellms or _overflows(status, told)):
        return ContextOverflow(where + line)
    if "UnicodeEncodeError" in names:  # it never left
        return ProviderError(where + line, kind="bad_request", retryable=False)
    if not answered and (names & _UNSIGNED or "missing credentials" in told):  # nor did this
        said = where + line + _ADVICE["authentication"]
        return ProviderError(said, kind="authentication", retryable=False)
    if names & _NOT_SENT and not answered:
        said = f"no connection ({chain[-1]}); is the server up, and is api_base right?"
        return ProviderError(where + said, kind="connection", retryable=True)
    if status is not None and (answered or not names & (_BROKEN | _SILENT)):
        kind, retryable = _verdict(status, told, worst)
        pause = retry_after_s(response.headers) if answered else None
        pause = _said_pause_s(parts) if pause is None else pause
        said = where + line + _ADVICE.get(kind, "")
        return ProviderError(said, kind=kind, retryable=retryable, retry_after_s=pause)
    kind = "connection" if names & _BROKEN else "timeout" if names & _SILENT else other
    return BilledError(where + line + _ADVICE.get(kind, ""), kind=kind, retryable=True, usage=worst)


def _overflows(status: int, told: str) -> bool:
    """Whether an error says that the prompt is larger than the model takes."""
    if _SAID["unreadable_call"].search(told):  # which it quotes
        return False
    if status in (401, 402, 403, 429) or status > 501 or _RATE.search(told):
        return "context_length_exceeded" in told
    if _OUTPUT.search(told) and not _PROMPT.search(told):
        return False
    plain = re.sub(r"(?:input )?validation error|input should be", "", told).replace("_", " ")
    return status == 413 or bool(_OVERFLOW.search(plain))


def _verdict(status: int, told: str, worst: Usage) -> tuple[str, bool]:
    """The kind of an error of this status that says this, and whether to send again."""
    if status in (413, 429) and _RATE.search(told):
        found = _SIZES.search(told)
        numbers = [int((n or "0").replace(",", "")) for n in found.groups()] if found else [0, 0, 0]
        if numbers[1] > numbers[0] or 0 < 1.35 * numbers[2] < worst.prompt_tokens:  # any margin
            return "over_rate_limit", False
    for kind, signs in _SAID.items():
        if (status < 500 or kind == "unreadable_call") and signs.search(told):
            return kind, False
    other = ("server_error", True) if status >= 500 else ("bad_request", False)
    return _STATUS.get(status, other)


def _parts(body: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts in an error's body with the keys they stand under: JSON, JSON in strings (a
    gateway hands on what it got), lists, or a text as it is."""
    if depth > 8:
        return
    if isinstance(body, str):
        try:
            inner = json.loads(body) if body.lstrip()[:1] in ("{", "[", '"') else None
        except (ValueError, RecursionError):
            inner = None
        yield from ((key, body),) if inner is None else _parts(inner, key, depth + 1)
    elif isinstance(body, Mapping):
        for name, value in body.items():
            if name not in _ECHOES:
                yield from _parts(value, str(name), depth + 1)
    elif isinstance(body, Sequence):
        for item in body:
            yield from _parts(item, key, depth + 1)
    elif isinstance(body, int):
        yield "code", f"{key} {body}"


def _sentence(parts: Sequence[tuple[str, str]]) -> str:
    """What an error's body says for people, in one line."""
    found = [re.sub(r"<[^<>]*>", " ", text) for key, text in parts if key in _SENTENCES]
    return "; ".join(dict.fromkeys(" ".join(text.split()) for text in found if text.strip()))[:300]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds a Retry-After header asks for: a number, or the time until an HTTP date."""
    value = headers.get("retry-after", "")
    for read in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        try:
            return max(0.0, read(value))
        except ValueError:
            continue
    return None


def _said_pause_s(parts: Sequence[tuple[str, str]]) -> float | None:
    for key, text in parts:
        said = f"retry in {text}" if key == "retryDelay" else text.lower()
        if found := next((m for m in _PAUSE.finditer(said) if any(m.groups())), None):
            hours, minutes, seconds, milli = found.groups(default="0")
            part = float(seconds) / (1000 if milli == "m" else 1)
            return 3600 * int(hours) + 60 * int(minutes) + part
    return None


def reply_of(
    response: Any, max_tokens: int, prompt_chars: int, estimate: Estimate, *, tools: bool = False
) -> Reply:
    """A response, litellm's or :func:`raw_response`, as a usable reply to a prompt of so many
    characters, with ``tools`` offered or not. Raises BilledError for one that only looks like
    success."""
    choice = next(iter(getattr(response, "choices", None) or ()), None)
    message = getattr(choice, "message", None)
    text, thoughts, refusal = _content(getattr(message, "content", None))
    thoughts = getattr(message, "reasoning_content", None) or thoughts
    refusal = getattr(message, "refusal", None) or refusal
    calls = getattr(message, "tool_calls", None) or getattr(message, "function_call", None)
    made = _tool_calls(calls) if tools and isinstance(calls, list) else ""
    beside = [f"<think>\n{thoughts}\n</think>"] if thoughts else []
    beside += [str(part) for part in (refusal, None if made else calls) if part]
    largest = Usage(4 * prompt_chars + _BESIDE_PROMPT, 8 * max_tokens + _BESIDE_REPLY)
    usage = _usage(
        getattr(response, "usage", None), largest, lambda: estimate("".join([*beside, made, text]))
    )
    ended = getattr(choice, "finish_reason", None) or "stop"
    outer, inner = (getattr(x, "provider_specific_fields", None) or {} for x in (choice, message))
    native = str(outer.get("native_finish_reason") or inner.get("stop_reason") or ended)
    finish = "length" if ended == "length" or native.lower() == "model_length" else "stop"
    if finish == "length" and not usage.completion_tokens:  # litellm's answer to OpenAI's 400
        usage = replace(usage, completion_tokens=max_tokens, estimated=True)
    kind = ""
    if native.lower() == "refusal":
        finish, beside, text = "refusal", [*beside, text], ""
    elif native.lower() in _BROKEN_OFF:
        kind, why = "broken_off", "the provider broke off in the middle"
    elif native.lower() in _WITHHELD or ended == CONTENT_FILTER:
        kind, why = CONTENT_FILTER, "the provider's content filter withheld the reply"
    elif choice is None and any(sign in str(response) for sign in _FILTERED_SIGNS):
        kind, why = CONTENT_FILTER, "the provider's content filter refused the prompt"
    elif choice is None:
        kind, why = "empty_choices", "the reply has no choices"
    elif made and finish == "stop":
        finish = "tool_calls"
    elif not text.strip() and finish == "stop":
        other = "thoughts_only" if thoughts else "stop"
        called = calls or native.lower() in _CALLED_NOTHING
        finish = "refusal" if refusal else "tool_call" if called else other
    own = {name: getattr(message, name, None) for name in ("thinking_blocks", "reasoning_content")}
    back = next((written({name: told}) for name, told in own.items() if made and told), "")
    reply = Reply(text, usage, finish, "\n\n".join(filter(None, beside)), made, back)
    if kind:
        retryable = kind != CONTENT_FILTER
        raise BilledError(why, kind=kind, retryable=retryable, usage=usage, text=reply.whole)
    return reply


def _tool_calls(calls: Sequence[Any]) -> str:
    """A reply's calls of functions, as OpenAI's list in JSON; some lack ids, or send objects."""
    out = []
    for number, call in enumerate(calls):
        function = getattr(call, "function", None)
        given: Any = getattr(function, "arguments", None)
        text = given if isinstance(given, str) else written(given or {})
        named = {"name": str(getattr(function, "name", None) or ""), "arguments": text}
        made = getattr(call, "id", None) or f"call_{number}_{secrets.token_hex(6)}"
        out.append({"id": str(made), "type": "function", "function": named})
    return written(out) if out else ""


def raw_response(bodies: Iterable[object]) -> Any:
    """The last of the ``bodies`` that is a chat completion with a choice, or None. litellm refuses
    replies whose content is in parts or whose usage is no number, paid though they are."""
    for body in reversed([body for body in bodies if isinstance(body, str)]):
        try:
            found = json.loads(body, object_hook=lambda fields: SimpleNamespace(**fields))
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(getattr(found, "choices", None), list) and found.choices:
            return found
    return None


def _content(content: Any) -> tuple[str, str, str]:
    """The text in a message's content, be it in parts; the thoughts and the refusal in it."""
    texts, thoughts, refusals = [], [], []
    for part in content if isinstance(content, list) else [content]:
        fields = part if isinstance(part, Mapping) else getattr(part, "__dict__", None)
        if not fields:
            texts.append("" if part is None else str(part))
        elif (thought := fields.get("thinking") or fields.get("reasoning")) is not None:
            thoughts.append(_content(thought)[0])
        elif isinstance(fields.get("refusal"), str):
            refusals.append(fields["refusal"])
        else:
            texts.append(_content(fields.get("text"))[0])
    return "".join(texts), "".join(thoughts), "".join(refusals)


def _usage(raw: Any, largest: Usage, estimate: Callable[[], Usage]) -> Usage:
    """What the provider reports. Estimated is what it leaves out or what can't be: no whole number,
    or more than the ``largest``. What its total has beyond prompt and completion was thought, and
    some don't count that with the rest (xAI, Gemini); more tokens of the cache than of the prompt
    are the other way to count (Anthropic's) where the total agrees, and else none."""
    odd = False

    def read(part: str, name: str, most: int) -> int | None:
        nonlocal odd
        value: Any = getattr(getattr(raw, part, None) if part else raw, name, None)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        can_be = whole and 0 <= value <= most
        odd = odd or (value is not None and not can_be)
        return int(value) if can_be else None

    most, longest = largest.prompt_tokens, largest.completion_tokens
    prompt, completion = read("", "prompt_tokens", most), read("", "completion_tokens", longest)
    top = read("", "cached_tokens", most) or 0  # where Moonshot has it
    cached = read("prompt_tokens_details", "cached_tokens", most) or top
    top = read("", "cache_creation_input_tokens", most) or 0
    written = read("prompt_tokens_details", "cache_creation_tokens", most) or top
    estimated = odd or not prompt
    total = read("", "total_tokens", most + longest)
    reasoning = read("completion_tokens_details", "reasoning_tokens", longest)
    beyond = max(0, (total or 0) - prompt - (completion or 0)) if prompt else 0
    thought = beyond if completion else 0
    if prompt and prompt < cached + written == beyond:
        prompt, beyond, thought = prompt + beyond, 0, 0
    completion = (completion or 0) + beyond
    if not (prompt and completion):
        guess = estimate()
        estimated = estimated or guess.completion_tokens > 0
        prompt, completion = prompt or guess.prompt_tokens, completion or guess.completion_tokens
    if cached + written > prompt:
        cached, written, estimated = 0, 0, True
    return Usage(prompt, completion, cached, max(reasoning or 0, thought), estimated, written)
