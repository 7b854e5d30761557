"""What went wrong at a provider, in the harness's own words: kind, worth a retry, billed or not.

litellm's class names mix causes up (a refused connection and an unreadable page are both an
``InternalServerError``), so the verdict comes from what lies beneath: the HTTP status where the
provider sent one, else the transport's error.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from rlm_eval.errors import ContextOverflow, ProviderError
from rlm_eval.models.protocol import BilledError, Usage

_OVERFLOW_SIGNS = ("context_length_exceeded", "ContextWindowExceeded", "exceed_context_size")
_QUOTA_SIGNS = ("insufficient_quota", "exceeded your current quota", "credit balance")
#: HTTP status → (kind, retryable). Others: 4xx ``bad_request``, final; 5xx ``server_error``.
_STATUS: Mapping[int, tuple[str, bool]] = {
    401: ("authentication", False),
    402: ("quota", False),
    403: ("authentication", False),
    404: ("not_found", False),
    408: ("timeout", True),
    409: ("unavailable", True),
    425: ("unavailable", True),
    429: ("rate_limit", True),
    502: ("unavailable", True),
    503: ("unavailable", True),
    504: ("unavailable", True),
    529: ("unavailable", True),
}
#: Errors from before the request reached anybody.
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_SILENT = {"ReadTimeout", "WriteTimeout", "APITimeoutError", "Timeout", "TimeoutError"}
_BROKEN = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError", "LocalProtocolError"}


def classified(
    error: BaseException, model: str, secret: str, worst: Usage
) -> ProviderError | ContextOverflow:
    """The harness's error for one that litellm raised, with ``secret`` cut out of its message.

    ``worst`` is the most the attempt may have cost; it is charged when the provider had the
    request and neither answered nor refused it.
    """
    chain = _causes(error)
    message = f"{model}: {_first_line(error, secret)}"
    told = " ".join(str(e) for e in chain[:3]) + " ".join(type(e).__name__ for e in chain)
    if any(sign in told for sign in _OVERFLOW_SIGNS):
        return ContextOverflow(message)
    status, headers = _response(chain)
    if status is not None:
        kind, retryable = _STATUS.get(
            status, ("server_error", True) if status >= 500 else ("bad_request", False)
        )
        if status == 429 and any(sign in told for sign in _QUOTA_SIGNS):
            kind, retryable = "quota", False
        return ProviderError(
            message, kind=kind, retryable=retryable, retry_after_s=retry_after_s(headers)
        )
    names = {type(e).__name__ for e in chain}
    if names & _NOT_SENT:
        return ProviderError(message, kind="connection", retryable=True)
    if names & _BROKEN:
        return BilledError(message, kind="connection", retryable=True, usage=worst)
    if names & _SILENT:
        return BilledError(message, kind="timeout", retryable=True, usage=worst)
    stated = getattr(error, "status_code", None)
    if isinstance(stated, int) and 400 <= stated < 500:
        kind, retryable = _STATUS.get(stated, ("bad_request", False))
        return ProviderError(message, kind=kind, retryable=retryable)
    return BilledError(message, kind="bad_response", retryable=True, usage=worst)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds a Retry-After header asks for: a number, or the time until an HTTP date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _causes(error: BaseException) -> list[BaseException]:
    out: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in out:
        out.append(step)
        step = step.__cause__ or step.__context__
    return out


def _response(chain: list[BaseException]) -> tuple[int | None, Mapping[str, str]]:
    """Status and headers of the error response a provider really sent, if one did."""
    for error in chain:
        if type(error).__name__ == "HTTPStatusError":
            response: Any = getattr(error, "response", None)
            return int(response.status_code), response.headers
    return None, {}


def _first_line(error: BaseException, secret: str) -> str:
    """Cut to length only after the secret is out, lest half of it stay."""
    text = str(error).replace(secret, "[key]") if secret else str(error)
    return next((line for line in text.splitlines() if line), type(error).__name__)[:300]
