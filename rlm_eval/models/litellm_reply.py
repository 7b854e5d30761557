"""What litellm hands back, read: a reply and its tokens, or the failure it really is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlm_eval.errors import ProviderError
from rlm_eval.models.protocol import BilledError, Reply, Usage

#: How providers end a reply that they failed to finish, and litellm calls an ordinary stop.
_BROKEN_OFF = frozenset({"error", "ERROR", "network_error"})


def reply_of(response: Any, estimate: Callable[[str], Usage]) -> Reply:
    """A usable reply, or BilledError for one that only looks like success."""
    choices = getattr(response, "choices", None)
    text = choices[0].message.content if choices else None
    usage = _usage(getattr(response, "usage", None), text or "", estimate)
    if not choices:
        raise _unusable("the reply has no choices", "empty_choices", True, usage)
    finish = choices[0].finish_reason or "stop"
    told = getattr(choices[0], "provider_specific_fields", None) or {}
    if told.get("native_finish_reason") in _BROKEN_OFF:
        raise _unusable("the provider broke off in the middle", "broken_off", True, usage)
    if text is None and finish == "content_filter":
        raise _unusable("the provider withheld the reply", "content_filter", False, usage)
    if text is None and finish != "length":
        raise _unusable("the reply has no content", "null_content", True, usage)
    return Reply(text=text or "", usage=usage, finish_reason=finish)


def _unusable(message: str, kind: str, retryable: bool, usage: Usage) -> ProviderError:
    return BilledError(message, kind=kind, retryable=retryable, usage=usage)


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
