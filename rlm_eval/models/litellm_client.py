"""Any provider litellm knows, and every OpenAI-compatible server, as a ChatModel.

The only file that imports litellm: lazily (it takes seconds) and without its look-up of prices on
the network. litellm's own retries are off; the door retries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from rlm_eval.errors import ConfigError
from rlm_eval.models.faults import classified
from rlm_eval.models.litellm_reply import reply_of
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply, Usage
from rlm_eval.models.traffic import Limits
from rlm_eval.models.workers import Workers
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
#: Parameters the harness decides itself, and where.
RESERVED_PARAMS = {
    "model": "model.name",
    "messages": "a prompt of conf/prompt",
    "max_tokens": "the method's and task's token limits, and model.reasoning_tokens",
    "max_completion_tokens": "the method's and task's token limits, and model.reasoning_tokens",
    "temperature": "temperature (at the top level)",
    "timeout": "model.timeout_s",
    "api_base": "model.api_base",
    "base_url": "model.api_base",
    "api_key": "an environment variable, named by model.api_key_env",
    "max_retries": "nothing: the harness retries by itself",
    "num_retries": "nothing: the harness retries by itself",
    "fallbacks": "nothing: another model is another run",
    "n": "repeats",
    "stream": "nothing: replies are read whole",
    "mock_response": "model=scripted",
}


def check_params(params: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter that would get round the door's caps or records."""
    for name in sorted(RESERVED_PARAMS.keys() & params.keys()):
        raise ConfigError(f"model.params.{name} can't be set; use {RESERVED_PARAMS[name]}")


@lru_cache(maxsize=1)
def _litellm() -> ModuleType:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = False
    # Its embeddings take max_retries=0 for "none given" and fall back to this.
    litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]
    return litellm


@dataclass
class LitellmEndpoint:
    """A hosted or self-served model and how litellm reaches it; a subclass says what it is asked.

    ``name`` is litellm's, with the provider first (``openai/gpt-5-mini``). ``api_base`` points to
    a server of your own. The key comes from the environment variable ``api_key_env`` (by default
    the provider's usual one) and is read at each call, never stored. ``params`` go into each
    request as they are. ``context_window`` in the model's tokens. ``timeout_s`` is the longest a
    request may take, all in all. ``tokenizer`` sizes prompts offline, so counts are estimates for
    models with another vocabulary: ``token_margin`` multiplies them. ``price``: US dollars per
    million tokens (input, output, cached_input) and as_of, its date. ``limits``: what the endpoint
    may be sent (:class:`Limits`); models of one endpoint share the first one's.
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
    limits: Mapping[str, int | None] = field(default_factory=dict)
    fixed_api_key: str = field(default="", repr=False)
    _workers: Workers[Any] = field(default_factory=Workers, init=False, repr=False, compare=False)

    #: Where the model's settings stand.
    group: ClassVar[str] = "model"

    @property
    def info(self) -> ModelInfo:
        endpoint = self.api_base or self.name.partition("/")[0]
        return ModelInfo(self.name, endpoint, self.context_window, self._price, limits=self._limits)

    @cached_property
    def _limits(self) -> Limits:
        unknown = self.limits.keys() - {item.name for item in fields(Limits)}
        if unknown:
            raise ConfigError(
                f"{self.group}.limits has no {min(unknown)}: see conf/model/litellm.yaml"
            )
        return Limits(**self.limits)  # type: ignore[arg-type]

    @cached_property
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

    @property
    def _key(self) -> str:
        return self.fixed_api_key or os.environ.get(self._key_variable or "", "")

    def check(self) -> None:
        if not self.name.strip():
            raise ConfigError(f"{self.group}.name is empty: set it to PROVIDER/MODEL")
        if self.context_window < 1:
            raise ConfigError(f"{self.group}.context_window must be at least 1 token")
        if self.timeout_s <= 0 or self.token_margin <= 0:
            raise ConfigError(f"{self.group}.timeout_s and token_margin must be above 0")
        check_params(self.params)
        self._check_price()
        _ = self._limits
        load_tokenizer(self.tokenizer)
        variable = self._key_variable
        if variable and not variable.isidentifier():
            raise ConfigError(
                "model.api_key_env is the name of an environment variable, never the key itself"
            )
        if variable and not self._key and self.api_base is None:
            raise ConfigError(
                f"model {self.name} needs a key: set the environment variable {variable}, "
                f"or {self.group}.api_key_env to the variable that holds it"
            )

    def _check_price(self) -> None:
        for kind in ("input", "output", "cached_input"):
            rate = self.price.get(kind)
            if rate is not None and (not isinstance(rate, int | float) or rate < 0):
                raise ConfigError(
                    f"{self.group}.price.{kind} must be US dollars per million tokens, got {rate!r}"
                )

    def open(self) -> None:
        _litellm()

    def close(self) -> None:
        self._workers.close()

    def _ask(self, send: Callable[[ModuleType], Any], worst: Callable[[], Usage]) -> Any:
        """What ``send`` gets from litellm within ``timeout_s``. Raises what went wrong instead,
        classified; ``worst`` is the most the attempt may have cost."""
        future = self._workers.start(lambda: send(_litellm()))
        try:
            failure = future.exception(self.timeout_s + 1.0)
        except TimeoutError:
            failure = TimeoutError(f"no whole reply within {self.timeout_s:g} s")
        if failure is None:
            return future.result()
        # Raised here, where no other exception is being handled: litellm's own, which may hold
        # the key, is then no part of this one.
        raise classified(failure, self.name, self._key, worst())

    def _connection(self) -> dict[str, Any]:
        """What a request says beside what it asks: of which model, where, by which key."""
        out: dict[str, Any] = {
            "model": self.name,
            "timeout": self.timeout_s,
            "max_retries": 0,
            "num_retries": 0,
        }
        if self.api_base:
            out["api_base"] = self.api_base
        key = self._key
        if key or self.api_base:
            out["api_key"] = key or "none"
        if self._loopback_client is not None:
            out["client"] = self._loopback_client
        return out

    @cached_property
    def _loopback_client(self) -> Any:
        """For a server on this machine: a client that leaves the environment's proxies aside."""
        host = urlsplit(self.api_base or "").hostname
        if host not in ("127.0.0.1", "localhost", "::1") or not self.name.startswith("openai/"):
            return None
        import httpx

        openai = _litellm().openai
        return openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.api_base,
            max_retries=0,
            http_client=httpx.Client(
                trust_env=False,
                timeout=self.timeout_s,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            ),
        )


@dataclass
class LitellmModel(LitellmEndpoint):
    """A chat model, spoken to through ``litellm.completion``. ``reasoning_tokens`` is what it may
    think unseen in each reply, beside the text that a method asks for; they are set aside of
    ``context_window``."""

    reasoning_tokens: int = 0

    @property
    def info(self) -> ModelInfo:
        info, thought = super().info, self.reasoning_tokens
        window = self.context_window - thought
        return replace(info, context_window=window, reasoning_tokens=thought)

    def check(self) -> None:
        super().check()
        if not 0 <= self.reasoning_tokens < self.context_window:
            raise ConfigError(
                "model.reasoning_tokens must be at least 0 and less than model.context_window "
                f"({self.context_window:,}), got {self.reasoning_tokens:,}"
            )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        count = load_tokenizer(self.tokenizer).count
        tokens = sum(count(m["content"]) + 4 for m in messages) + 3
        return int(tokens * self.token_margin + 0.999)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        request = self._request(messages, max_tokens, temperature)
        response = self._ask(
            lambda litellm: litellm.completion(**request),
            lambda: Usage(self.count_tokens(messages), max_tokens, estimated=True),
        )
        return reply_of(response, lambda text: self._estimate(messages, text))

    def _request(
        self, messages: Sequence[Message], max_tokens: int, temperature: float | None
    ) -> dict[str, Any]:
        request = self._connection()
        request["messages"] = [dict(m) for m in messages]
        request["max_tokens"] = max_tokens
        if temperature is not None:
            request["temperature"] = temperature
        return request | dict(self.params)

    def _estimate(self, messages: Sequence[Message], text: str) -> Usage:
        completion = load_tokenizer(self.tokenizer).count(text)
        return Usage(self.count_tokens(messages), completion, estimated=True)
