"""What a provider's reply or error really is, in the harness's own words: a usable reply, or a
failure with its kind, whether it is worth a retry, and what it costs.

litellm's class names mix causes up (a refused connection and an unreadable page are both an
``InternalServerError``), so the verdict comes from what lies beneath: the HTTP status where the
provider sent one, else the transport's error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

from rlm_eval.errors import CONTENT_FILTER, ContextOverflow, ProviderError
from rlm_eval.models.protocol import BilledError, Reply, Usage

#: The prompt's tokens, and those of this reply.
Estimate = Callable[[str], Usage]

_OVERFLOW_SIGNS = ("context_length_exceeded", "ContextWindowExceeded", "exceed_context_size")
_QUOTA_SIGNS = ("insufficient_quota", "exceeded your current quota", "credit balance")
#: HTTP status → (kind, retryable). Others: 4xx ``bad_request``, final; 5xx ``server_error``.
_STATUS: Mapping[int, tuple[str, bool]] = {
    **dict.fromkeys((401, 403), ("authentication", False)),
    402: ("quota", False),
    404: ("not_found", False),
    408: ("timeout", True),
    429: ("rate_limit", True),
    **dict.fromkeys((409, 425, 502, 503, 504, 529), ("unavailable", True)),
}
#: Errors from before the request reached anybody.
_NOT_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
} | {"UnicodeEncodeError"}
_SILENT = {"ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "TimeoutError"}
_BROKEN = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError", "LocalProtocolError"}
#: What says that a filter refused the prompt, in the words of several providers.
_FILTER_SIGNS = (
    *("content_filter", "content_policy", "content management policy", "ContentPolicyViolation"),
    *("ResponsibleAIPolicyViolation", "data_inspection_failed", "DataInspectionFailed"),
    *("Content Exists Risk", "your input was flagged", "violates usage guidelines"),
    *("PROHIBITED_CONTENT", "considered high risk", "flagged as potentially violating"),
)
#: The same in a reply without choices.
_FILTERED_SIGNS = ("'filtered': True", "filtered=True", "blockReason", "block_reason")
#: Finish reasons, in lower case, of a reply that a filter cut off.
_WITHHELD = frozenset(
    {
        *("content_filter", "content_filtered", "safety", "recitation", "blocklist"),
        *("prohibited_content", "spii", "sensitive", "guardrail_intervened", "image_safety"),
    }
)
#: Tokens that a provider may count beside what was sent and asked for: its own instructions and
#: template, and what a model thinks beyond max_tokens.
_BESIDE_PROMPT, _BESIDE_REPLY = 10_000, 200_000
#: How providers end a reply that they failed to finish, and litellm calls an ordinary stop.
_BROKEN_OFF = frozenset({"error", "ERROR", "network_error"})


def classified(
    error: BaseException, model: str, secret: str, worst: Usage
) -> ProviderError | ContextOverflow:
    """The harness's error for one that litellm raised, with ``secret`` cut out of its message.

    ``worst`` is the most the attempt may have cost; it is charged when the provider had the
    request and neither answered nor refused it.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    names = {type(e).__name__ for e in chain}
    # Cut to length only after the secret is out, lest half of it stay.
    text = str(error).replace(secret, "[key]") if secret else str(error)
    line = next((line for line in text.splitlines() if line), type(error).__name__)
    message = f"{model}: {line[:300]}"
    signs = " ".join([*map(str, chain[:3]), *names])
    if any(sign in signs for sign in _OVERFLOW_SIGNS):
        return ContextOverflow(message)
    if any(sign in signs for sign in _FILTER_SIGNS):
        return ProviderError(message, kind=CONTENT_FILTER, retryable=False)
    if "UnicodeEncodeError" in names:  # it never left
        return ProviderError(message, kind="bad_request", retryable=False)
    for step in chain:
        if type(step).__name__ == "HTTPStatusError":  # the response a provider really sent
            response: Any = getattr(step, "response", None)
            kind, retryable = _status(int(response.status_code))
            if kind == "rate_limit" and any(sign in signs for sign in _QUOTA_SIGNS):
                kind, retryable = "quota", False
            pause = retry_after_s(response.headers)
            return ProviderError(message, kind=kind, retryable=retryable, retry_after_s=pause)
    if names & _NOT_SENT:
        return ProviderError(message, kind="connection", retryable=True)
    if names & _BROKEN:
        return BilledError(message, kind="connection", retryable=True, usage=worst)
    if names & _SILENT:
        return BilledError(message, kind="timeout", retryable=True, usage=worst)
    stated = getattr(error, "status_code", None)
    if isinstance(stated, int) and 400 <= stated < 500:
        kind, retryable = _status(stated)
        return ProviderError(message, kind=kind, retryable=retryable)
    return BilledError(message, kind="bad_response", retryable=True, usage=worst)


def _status(status: int) -> tuple[str, bool]:
    other = ("server_error", True) if status >= 500 else ("bad_request", False)
    return _STATUS.get(status, other)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds a Retry-After header asks for: a number, or the time until an HTTP date."""
    value = headers.get("retry-after", "")
    for read in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        try:
            return max(0.0, read(value))
        except ValueError:
            continue
    return None


def reply_of(response: Any, max_tokens: int, prompt_chars: int, estimate: Estimate) -> Reply:
    """A response, litellm's or :func:`raw_response`, as a usable reply to a prompt of so many
    characters. Raises BilledError for one that only looks like success."""
    choice = next(iter(getattr(response, "choices", None) or ()), None)
    message = getattr(choice, "message", None)
    text, thoughts, refusal = _content(getattr(message, "content", None))
    thoughts = getattr(message, "reasoning_content", None) or thoughts
    refusal = getattr(message, "refusal", None) or refusal
    calls = getattr(message, "tool_calls", None) or getattr(message, "function_call", None)
    beside = [f"<think>\n{thoughts}\n</think>"] if thoughts else []
    beside += [str(part) for part in (refusal, calls) if part]
    largest = Usage(4 * prompt_chars + _BESIDE_PROMPT, 8 * max_tokens + _BESIDE_REPLY)
    usage = _usage(
        getattr(response, "usage", None), largest, lambda: estimate("".join([*beside, text]))
    )
    ended = getattr(choice, "finish_reason", None) or "stop"
    details = getattr(choice, "provider_specific_fields", None)
    native = str(details.get("native_finish_reason") or ended if details else ended)
    finish, whole = "length" if ended == "length" else "stop", "\n\n".join(filter(None, beside))
    kind = ""
    if native.lower() == "refusal":
        finish, text, whole = "refusal", "", f"{whole}\n\n{text}".strip()
    elif native.lower() in _WITHHELD or ended == CONTENT_FILTER:
        kind, why = CONTENT_FILTER, "the provider's content filter withheld the reply"
    elif native in _BROKEN_OFF:
        kind, why = "broken_off", "the provider broke off in the middle"
    elif choice is None and any(sign in str(response) for sign in _FILTERED_SIGNS):
        kind, why = CONTENT_FILTER, "the provider's content filter refused the prompt"
    elif choice is None:
        kind, why = "empty_choices", "the reply has no choices"
    elif not text.strip() and finish == "stop":
        finish = "refusal" if refusal else "tool_call" if calls else finish
        finish = "thoughts_only" if thoughts and finish == "stop" else finish
    reply = Reply(text, usage, finish, whole)
    if kind:
        retryable = kind != CONTENT_FILTER
        raise BilledError(why, kind=kind, retryable=retryable, usage=usage, text=reply.whole)
    return reply


def raw_response(bodies: Iterable[object]) -> Any:
    """The last of the ``bodies`` that is a chat completion with a choice, for :func:`reply_of`;
    None where none is. litellm refuses replies whose content is in parts or whose usage is no
    number, paid though they are."""
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
        fields = {} if part is None or isinstance(part, str | int | float) else _fields(part)
        if not fields:
            texts.append("" if part is None else str(part))
        elif (thought := fields.get("thinking") or fields.get("reasoning")) is not None:
            thoughts.append(_content(thought)[0])
        elif isinstance(fields.get("refusal"), str):
            refusals.append(fields["refusal"])
        else:
            texts.append(_content(fields.get("text"))[0])
    return "".join(texts), "".join(thoughts), "".join(refusals)


def _fields(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, Mapping) else vars(part)


def _usage(raw: Any, largest: Usage, estimate: Callable[[], Usage]) -> Usage:
    """What the provider reports. Estimated is what it leaves out or what can't be true: less than
    nothing, no whole number, or more than the ``largest``. What its total has beyond prompt and
    completion was thought, and some don't count that with the rest (xAI, Gemini); more tokens from
    the cache than were sent are the other way to count (Anthropic's) where the total agrees, and
    else none."""

    odd = False

    def read(part: str, name: str, most: int) -> int | None:
        nonlocal odd
        value: Any = getattr(getattr(raw, part, None) if part else raw, name, None)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        can_be = whole and 0 <= value <= most
        odd = odd or (value is not None and not can_be)
        return int(value) if can_be else None

    most_prompt, most_completion = largest.prompt_tokens, largest.completion_tokens
    prompt = read("", "prompt_tokens", most_prompt)
    completion = read("", "completion_tokens", most_completion)
    cached = read("prompt_tokens_details", "cached_tokens", most_prompt)
    estimated = odd or not prompt
    total = read("", "total_tokens", most_prompt + most_completion)
    reasoning = read("completion_tokens_details", "reasoning_tokens", most_completion)
    beyond = max(0, (total or 0) - prompt - (completion or 0)) if prompt else 0
    thought = beyond if completion else 0
    if prompt and cached and prompt < cached == beyond:
        prompt, beyond, thought = prompt + cached, 0, 0
    completion = (completion or 0) + beyond
    if not (prompt and completion):
        guess = estimate()
        estimated = estimated or guess.completion_tokens > 0
        prompt, completion = prompt or guess.prompt_tokens, completion or guess.completion_tokens
    if cached and cached > prompt:
        cached, estimated = 0, True
    return Usage(prompt, completion, cached or 0, max(reasoning or 0, thought), estimated)
