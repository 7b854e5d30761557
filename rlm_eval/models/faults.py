"""What a provider's reply or error really is, in the harness's own words: a usable reply, or a
failure with its kind, whether it is worth a retry, and what it costs.

litellm's class names mix causes up (a refused connection and an unreadable page are both an
``InternalServerError``), so the verdict comes from what lies beneath: the HTTP status where the
provider sent one, else the transport's error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from rlm_eval.errors import ContextOverflow, ProviderError
from rlm_eval.models.protocol import BilledError, Reply, Usage

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
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_SILENT = {"ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "TimeoutError"}
_BROKEN = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError", "LocalProtocolError"}
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


def reply_of(response: Any, estimate: Callable[[str], Usage]) -> Reply:
    """litellm's response as a usable reply. Raises BilledError for one that only looks like
    success."""
    choice = next(iter(getattr(response, "choices", None) or ()), None)
    text = choice.message.content if choice else None
    finish = (choice.finish_reason if choice else None) or "stop"
    details = getattr(choice, "provider_specific_fields", None) or {}
    usage = _usage(getattr(response, "usage", None), text or "", estimate)
    kind = ""
    if not choice:
        kind, message = "empty_choices", "the reply has no choices"
    elif details.get("native_finish_reason") in _BROKEN_OFF:
        kind, message = "broken_off", "the provider broke off in the middle"
    elif text is None and finish == "content_filter":
        kind, message = "content_filter", "the provider withheld the reply"
    elif text is None and finish != "length":
        kind, message = "null_content", "the reply has no content"
    if kind:
        retryable = kind != "content_filter"
        raise BilledError(message, kind=kind, retryable=retryable, usage=usage)
    return Reply(text=text or "", usage=usage, finish_reason=finish)


def _usage(raw: Any, text: str, estimate: Callable[[str], Usage]) -> Usage:
    """What the provider reports for ``text``. Estimated is what it leaves out, and all of it where
    it reports less than nothing."""
    prompt = getattr(raw, "prompt_tokens", None) or 0
    completion = getattr(raw, "completion_tokens", None) or 0
    if prompt <= 0 or completion < 0:
        return estimate(text)
    prompt_details = getattr(raw, "prompt_tokens_details", None)
    completion_details = getattr(raw, "completion_tokens_details", None)
    left_out = bool(text) and not completion
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=estimate(text).completion_tokens if left_out else completion,
        cached_tokens=max(0, getattr(prompt_details, "cached_tokens", None) or 0),
        reasoning_tokens=max(0, getattr(completion_details, "reasoning_tokens", None) or 0),
        estimated=left_out,
    )
