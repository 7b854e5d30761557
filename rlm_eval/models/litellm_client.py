"""Any provider litellm knows, and every OpenAI-compatible server, as a ChatModel.

The only file that imports litellm: lazily (it takes seconds) and without its look-up of prices on
the network. litellm's own retries are off; the door retries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply, Usage
from rlm_eval.tokens import load_tokenizer

#: Environment variables that hold the key, by litellm provider prefix.
KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "groq": "GROQ_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "fireworks_ai": "FIREWORKS_AI_API_KEY",
    "xai": "XAI_API_KEY",
    "azure": "AZURE_API_KEY",
}


@lru_cache(maxsize=1)
def _litellm() -> ModuleType:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = False
    return litellm


@dataclass
class LitellmModel:
    """A hosted or self-served model, spoken to through ``litellm.completion``.

    ``name`` is litellm's, with the provider first (``openai/gpt-5-mini``). ``api_base`` points to
    a server of your own. The key comes from the environment variable ``api_key_env`` (by default
    the provider's usual one) and is read at each call, never stored. ``params`` go into each
    request as they are. ``context_window`` in the model's tokens. ``tokenizer`` sizes prompts
    offline, so counts are estimates for models with another vocabulary: ``token_margin``
    multiplies them. ``price``: US dollars per million tokens (input, output, cached_input) and
    as_of, its date.
    """

    name: str
    context_window: int
    api_base: str | None = None
    api_key_env: str | None = None
    price: Mapping[str, float | str | None] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 300.0
    tokenizer: str = "o200k_base"
    token_margin: float = 1.1
    fixed_api_key: str = field(default="", repr=False)

    @property
    def info(self) -> ModelInfo:
        endpoint = self.api_base or self.name.partition("/")[0]
        return ModelInfo(self.name, endpoint, self.context_window, self._price)

    @property
    def _price(self) -> Price | None:
        """None, which is "unpriced" and never 0, unless input and output both have a price."""
        rates = [self.price.get(k) for k in ("input", "output", "cached_input")]
        if rates[0] is None or rates[1] is None:
            return None
        cached = None if rates[2] is None else float(rates[2])
        as_of = str(self.price.get("as_of") or "")
        return Price(float(rates[0]), float(rates[1]), cached, as_of)

    @property
    def _key_variable(self) -> str | None:
        if self.api_key_env or self.fixed_api_key:
            return self.api_key_env
        provider, slash, _ = self.name.partition("/")
        return KEY_VARIABLES.get(provider if slash else "openai")

    def check(self) -> None:
        if self.context_window < 1:
            raise ConfigError("model.context_window must be at least 1 token")
        load_tokenizer(self.tokenizer)
        variable = self._key_variable
        if variable and not os.environ.get(variable) and self.api_base is None:
            raise ConfigError(
                f"model {self.name} needs a key: set the environment variable {variable}, "
                "or model.api_key_env to the variable that holds it"
            )

    def open(self) -> None:
        _litellm()

    def close(self) -> None:
        pass

    def count_tokens(self, messages: Sequence[Message]) -> int:
        count = load_tokenizer(self.tokenizer).count
        tokens = sum(count(m["content"]) + 4 for m in messages) + 3
        return int(tokens * self.token_margin + 0.999)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        litellm = _litellm()
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [dict(m) for m in messages],
            "max_tokens": max_tokens,
            "timeout": self.timeout_s,
            "max_retries": 0,
            "num_retries": 0,
        }
        if temperature is not None:
            request["temperature"] = temperature
        if self.api_base:
            request["api_base"] = self.api_base
        key = self.fixed_api_key or os.environ.get(self._key_variable or "", "")
        if key or self.api_base:
            request["api_key"] = key or "none"
        try:
            response = litellm.completion(**(request | dict(self.params)))
        except litellm.openai.OpenAIError as error:
            raise _classified(litellm, error, self.name) from error
        return _reply(response, self.count_tokens(messages) if _lacks_usage(response) else 0)


def _lacks_usage(response: Any) -> bool:
    usage = getattr(response, "usage", None)
    return usage is None or not usage.prompt_tokens


def _reply(response: Any, estimated_prompt_tokens: int) -> Reply:
    """A usable reply, or ProviderError for one that only looks like success."""
    if not getattr(response, "choices", None):
        raise ProviderError("the reply has no choices", kind="empty_choices", retryable=True)
    choice = response.choices[0]
    text = choice.message.content
    finish = choice.finish_reason or "stop"
    if text is None and finish != "length":
        raise ProviderError("the reply has no content", kind="null_content", retryable=True)
    text = text or ""
    if estimated_prompt_tokens:
        usage = Usage(estimated_prompt_tokens, len(text) // 4 + 1, estimated=True)
    else:
        usage = _usage(response.usage)
    return Reply(text=text, usage=usage, finish_reason=finish)


def _usage(raw: Any) -> Usage:
    prompt_details = getattr(raw, "prompt_tokens_details", None)
    completion_details = getattr(raw, "completion_tokens_details", None)
    return Usage(
        prompt_tokens=raw.prompt_tokens,
        completion_tokens=raw.completion_tokens or 0,
        cached_tokens=getattr(prompt_details, "cached_tokens", None) or 0,
        reasoning_tokens=getattr(completion_details, "reasoning_tokens", None) or 0,
    )


def _classified(
    litellm: ModuleType, error: Exception, model: str
) -> ProviderError | ContextOverflow:
    """The harness's own error for one of litellm's. Only passing faults are worth a retry."""
    first_line = (str(error).splitlines() or [type(error).__name__])[0][:300]
    message = f"{model}: {first_line}"
    if isinstance(error, litellm.ContextWindowExceededError):
        return ContextOverflow(message)
    passing: tuple[tuple[type[Exception], str], ...] = (
        (litellm.Timeout, "timeout"),
        (litellm.RateLimitError, "rate_limit"),
        (litellm.InternalServerError, "server_error"),
        (litellm.ServiceUnavailableError, "unavailable"),
        (litellm.BadGatewayError, "unavailable"),
        (litellm.APIConnectionError, "connection"),
    )
    final: tuple[tuple[type[Exception], str], ...] = (
        (litellm.AuthenticationError, "authentication"),
        (litellm.PermissionDeniedError, "authentication"),
        (litellm.NotFoundError, "not_found"),
        (litellm.BadRequestError, "bad_request"),
    )
    for kinds, retryable in ((passing, True), (final, False)):
        for cls, kind in kinds:
            if isinstance(error, cls):
                return ProviderError(
                    message, kind=kind, retryable=retryable, retry_after_s=_retry_after(error)
                )
    return ProviderError(message, kind="bad_response", retryable=True)


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    value = getattr(response, "headers", {}).get("retry-after") if response is not None else None
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
