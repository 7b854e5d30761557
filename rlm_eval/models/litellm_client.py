"""Any provider litellm knows, and every OpenAI-compatible server: chat and embedding models.

The only file that imports litellm: lazily (it takes seconds), without its look-up of prices on the
network and its retries; the model client retries."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError, at_least
from rlm_eval.models.chat_wire import as_sent
from rlm_eval.models.embedding import unit_rows
from rlm_eval.models.faults import classified, raw_response, reply_of
from rlm_eval.models.protocol import (
    NO_OPTIONS,
    BilledError,
    Message,
    ModelInfo,
    Options,
    Price,
    Reply,
    Usage,
    kept_messages,
    shown,
)
from rlm_eval.models.traffic import Limits
from rlm_eval.tokens import load_tokenizer

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

#: Providers, as litellm calls them, that answer nobody without a key.
_WANT_KEYS = {
    *("openai", "anthropic", "gemini", "openrouter", "mistral", "deepseek", "groq", "xai", "azure"),
    *("fireworks_ai", "together_ai"),
}
_SIGN_IN = {"azure", "azure_ai", "bedrock", "sagemaker", "vertex_ai"}  # in other ways than by a key
#: What litellm's variables for an address begin with, where that is not the provider's name.
_ADDRESS_PREFIX = {
    **dict.fromkeys(("text-completion-openai", "custom_openai"), "OPENAI"),
    **{"ollama_chat": "OLLAMA", "fireworks_ai": "FIREWORKS", "vertex_ai": "VERTEXAI"},
    **{"huggingface": "HF", "cohere_chat": "COHERE", "azure_text": "AZURE"},
}
_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # this machine; ``_direct`` adds others
#: How a server refuses the one parameter that bounds a reply, and wants the other.
_OTHER_LIMIT = re.compile(
    r"(?is)(?=.*max_tokens).*(?:n.t support|unsupported|instead|unknown|unexpected|permitted)"
)
LimitName = Literal["max_tokens", "max_completion_tokens"]
#: What keys are made of: signs that a header can carry, without white space and quotes.
_IN_A_KEY = frozenset(map(chr, range(33, 127))) - set("\"'`\\")
#: Parameters the harness decides itself, and what to use instead.
_SIZES = "the method's and task's token limits, and reasoning_tokens"
RESERVED_PARAMS = {
    **{"model": "name", "messages": "a prompt of conf/prompt", "n": "repeats"},
    **{"max_tokens": _SIZES, "max_completion_tokens": _SIZES, "timeout": "timeout_s"},
    **dict.fromkeys(("temperature", "max_retries", "num_retries"), "the run's temperature, retry"),
    **dict.fromkeys(("api_base", "base_url", "api_key"), "api_base, api_key_env beside params"),
    **dict.fromkeys(("fallbacks", "stream", "mock_response"), "nothing in its place"),
}


def check_params(params: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter that would get round the client's caps or records."""
    for name in sorted(RESERVED_PARAMS.keys() & params.keys()):
        raise ConfigError(f"can't be set; use {RESERVED_PARAMS[name]}", key=f"params.{name}")


@lru_cache(maxsize=1)
def _litellm() -> ModuleType:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # Else it reads a .env file, whose keys and addresses no check and no redactor has seen.
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    _direct(_HERE)
    import litellm
    from httpx._config import DEFAULT_LIMITS as LIMITS

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = False
    # Its clients have httpx's limit of 100 connections, and no way to say another: ours is Traffic.
    LIMITS.max_connections = LIMITS.max_keepalive_connections = None
    # Its embeddings take max_retries=0 for "none given" and fall back to this.
    litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]
    return litellm


def _direct(hosts: Sequence[str]) -> bool:
    """Keep requests to ``hosts`` off the environment's proxies; whether they were not yet. NO_PROXY
    is the one way there is for all that litellm sends, by whatever client."""
    told = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    there = [host for host in map(str.strip, told.split(",")) if host]
    wanted = "*" if "*" in there else ",".join(dict.fromkeys([*there, *hosts]))
    changed = any(os.environ.get(name) != wanted for name in ("no_proxy", "NO_PROXY"))
    os.environ.update(no_proxy=wanted, NO_PROXY=wanted)
    return changed


def _texts(messages: Sequence[Message]) -> list[str]:
    return [text for message in messages for name, text in message.items() if name != "role"]


def _is_here(host: str) -> bool:
    """Whether a host name is this machine's."""
    try:
        return socket.inet_aton(host)[0] in (0, 127)  # also for 127.1
    except OSError:
        return host in ("::1", "::", socket.gethostname()) or f".{host}".endswith(".localhost")


def _is_address(base: str) -> bool:
    with suppress(ValueError):  # brackets without an end, a port that is no number
        parts = urlsplit(base)
        web = parts.scheme in ("http", "https") and parts.port != 0
        return web and bool(parts.hostname) and base.split() == [base]
    return False


@dataclass
class LitellmEndpoint:
    """A hosted or self-served model and how litellm reaches it; a subclass says what it is asked.
    Settings: conf/model/litellm.yaml, conf/model/openai_compatible.yaml. The key is read at each
    call, never stored. Models of one endpoint share the first one's ``limits``."""

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
    provider: str | None = None

    @property
    def asked(self) -> tuple[str, str]:
        """The provider, as litellm calls it, and the name that it is asked for."""
        provider, slash, name = self.name.partition("/")
        if slash and self.provider in (None, provider):
            return provider, name
        return self.provider or "openai", self.name

    @property
    def info(self) -> ModelInfo:
        """The endpoint without the user that its address may name: it is written down."""
        endpoint = re.sub(r"(?<=://)[^/?#]*@", "", self.base[0] or "") or self.asked[0]
        price = Price.given(self.price)
        return ModelInfo(self.name, endpoint, self.context_window, price, limits=self._limits)

    @property
    def base(self) -> tuple[str | None, str]:
        """Where requests go, None for the provider's own address, and the setting that says so."""
        if self.api_base:
            return self.api_base.rstrip("/"), "api_base"
        provider, _ = self.asked
        prefix = _ADDRESS_PREFIX.get(provider, provider.upper().replace("-", "_"))
        for variable in (f"{prefix}_BASE_URL", f"{prefix}_API_BASE"):
            if found := os.environ.get(variable):
                return found.rstrip("/"), variable
        return None, "api_base"

    @cached_property
    def _limits(self) -> Limits:
        if unknown := self.limits.keys() - {item.name for item in fields(Limits)}:
            raise ConfigError(f"has no {min(unknown)}: see conf/model/litellm.yaml", key="limits")
        try:
            return Limits(**self.limits)  # type: ignore[arg-type]
        except ConfigError as error:
            raise error.within("limits") from None

    @property
    def key_variable(self) -> str | None:
        if self.api_key_env or self.fixed_api_key:
            return self.api_key_env
        provider = self.asked[0]
        named = "TOGETHERAI" if provider == "together_ai" else provider.upper().replace("-", "_")
        usual = f"{named}_API_KEY"
        return usual if provider in _WANT_KEYS or os.environ.get(usual) else None

    @property
    def _key_variables(self) -> list[str]:
        """Every variable that litellm may read a key from."""
        if self.fixed_api_key or self.key_variable:
            return [self.key_variable] if self.key_variable else []
        provider = self.asked[0].upper()
        prefix = "AWS_" if provider in ("BEDROCK", "SAGEMAKER") else f"{provider}_"
        return [n for n in os.environ if n.startswith(prefix) and n.endswith(("KEY", "TOKEN"))]

    @property
    def key(self) -> str:
        return self.fixed_api_key or os.environ.get(self.key_variable or "", "")

    def check(self) -> None:
        if not self.name.strip():
            raise ConfigError("is empty: set it to PROVIDER/MODEL", key="name")
        at_least(1, context_window=self.context_window)
        at_least(0, above=True, timeout_s=self.timeout_s, token_margin=self.token_margin)
        check_params(self.params)
        _ = Price.given(self.price), self._limits, load_tokenizer(self.tokenizer)
        variable = self.key_variable
        if variable and not variable.isidentifier():
            told = "is the name of an environment variable, never the key itself"
            raise ConfigError(told, key="api_key_env")
        base, where = self.base
        source = "" if where == "api_base" else f"(from {where}) "
        if base is not None and not _is_address(base):
            told = f"like http://localhost:8000/v1, got {base.rpartition('@')[2]}"
            raise ConfigError(f"{source}must be an address {told}", key="api_base")
        for name in self._key_variables:
            if set(key := os.environ.get(name, "")) - _IN_A_KEY:
                raise ConfigError(
                    f"{name} has white space, quotes or other signs in it ({len(key)} characters) "
                    "that no key has: set that environment variable to the key alone"
                )
        if variable and not self.key and base is None:
            wanted = f"the environment variable {variable}, or api_key_env to the one that holds it"
            told = f"{self.name} needs a key: set {wanted}"
            raise ConfigError(told, key="name", unset=variable)

    def open(self) -> None:
        _litellm()

    def close(self) -> None:
        """There is nothing to close."""

    def _count(self, texts: Sequence[str], template_tokens: int) -> int:
        """Tokens of the texts, as far as the tokenizer tells, with those of a template."""
        count = load_tokenizer(self.tokenizer).count
        return int((sum(map(count, texts)) + template_tokens) * self.token_margin + 0.999)

    def _ask(self, send: Callable[[ModuleType], Any], worst: Callable[[], Usage]) -> Any:
        """What ``send`` gets from litellm within ``timeout_s``. Raises what went wrong instead,
        classified; ``worst`` is the most the attempt may have cost.

        A server that drips bytes for ever is ended by no timeout of a single read. So a request has
        a thread of its own, which can be left behind."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(send(_litellm()))
            except Exception as error:  # noqa: BLE001  handed to the caller, nothing swallowed
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            failure = future.exception(self.timeout_s + 1.0)
        except TimeoutError:
            failure = TimeoutError(f"no complete reply within {self.timeout_s:g} s")
        if failure is None:
            return future.result()
        # Raised here, where no other exception is being handled: litellm's own, which may hold
        # the key, is then no part of this one.
        raise classified(failure, self.name, self.key, worst(), self.info.endpoint)

    def _connection(self) -> dict[str, Any]:
        """What a request has beside what it asks: of which model, where, by which key."""
        base, _ = self.base
        host = urlsplit(base or "").hostname or ""
        if _direct([*_HERE, host] if _is_here(host) else _HERE):  # what it made before may not know
            litellm: Any = _litellm()
            litellm.in_memory_llm_clients_cache.flush_cache()
            litellm.module_level_client = litellm.HTTPHandler(timeout=litellm.request_timeout)
        return {
            "model": "/".join(self.asked),
            "timeout": self.timeout_s,
            **dict.fromkeys(("max_retries", "num_retries"), 0),
            "api_base": base,
            "api_key": self.key or ("none" if base and self.asked[0] not in _SIGN_IN else None),
        }


@dataclass
class LitellmModel(LitellmEndpoint):
    """A chat model, spoken to through ``litellm.completion``."""

    reasoning_tokens: int = 0
    own_temperature: bool = False
    limit_name: LimitName | None = None
    cache_marks: bool = False
    _learned: LimitName = field(default="max_tokens", init=False, repr=False, compare=False)

    @property
    def info(self) -> ModelInfo:
        hidden, own, margin = self.reasoning_tokens, self.own_temperature, self.token_margin
        left, marked = self.context_window - hidden, self.cache_marks
        info = replace(super().info, context_window=left, cached_by_message=marked)
        return replace(info, reasoning_tokens=hidden, own_temperature=own, token_margin=margin)

    def open(self) -> None:
        """Raises ConfigError where litellm would leave out the temperature without a word."""
        super().open()
        provider, name = self.asked

        def sent(**given: Any) -> Any:
            given |= {"model": name, "custom_llm_provider": provider}
            return self._ask(lambda litellm: litellm.get_optional_params(**given), Usage)

        with suppress(ProviderError, ContextOverflow):  # which the first request meets as well
            if not self.own_temperature and sent(temperature=0.0) == sent():
                raise ConfigError("must be true: litellm sends it none", key="own_temperature")

    def check(self) -> None:
        super().check()
        if self.asked[0] == "ollama":
            raise ConfigError("ollama/… hides cut replies: set it to ollama_chat/NAME", key="name")
        if not 0 <= (hidden := self.reasoning_tokens) < self.context_window:
            bounds = f"at least 0 and less than context_window ({self.context_window:,})"
            raise ConfigError(f"must be {bounds}, got {hidden:,}", key="reasoning_tokens")

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self._count(_texts(messages), 4 * len(messages) + 3)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        options: Options = NO_OPTIONS,
    ) -> Reply:
        request = self._connection() | {"messages": [as_sent(m) for m in messages], **options}
        if temperature is not None:
            request["temperature"] = temperature
        if self.cache_marks and (kept := kept_messages(messages)):
            marks = [{"location": "message", "index": i} for i in {0, kept - 1}]
            request["cache_control_injection_points"] = marks
        request |= self.params
        whole, tools = shown(messages, options), "tools" in options

        def estimate(completion_tokens: int) -> Usage:
            return Usage(self.count_tokens(whole), completion_tokens, estimated=True)

        bodies: list[object] = []
        request["logger_fn"] = lambda seen: bodies.append(seen.get("original_response"))

        def send(name: LimitName) -> Any:
            bounded, worst = request | {name: max_tokens}, partial(estimate, max_tokens)
            try:
                return self._ask(lambda litellm: litellm.completion(**bounded), worst)
            except BilledError:
                if response := raw_response(bodies):
                    return response
                raise

        name = self.limit_name or self._learned
        try:
            response = send(name)
        except ProviderError as refusal:  # which is free, and no attempt at an answer
            wanted = refusal.kind == "bad_request" and _OTHER_LIMIT.search(str(refusal))
            if self.limit_name or name != "max_tokens" or not wanted:
                raise
            response = send("max_completion_tokens")
            self._learned = "max_completion_tokens"
        count, size = load_tokenizer(self.tokenizer).count, sum(map(len, _texts(whole)))
        return reply_of(response, max_tokens, size, lambda text: estimate(count(text)), tools=tools)


@dataclass
class LitellmEmbedding(LitellmEndpoint):
    """An embedding model, spoken to through ``litellm.embedding``. Its vectors are scaled to unit
    length, whatever the provider does, and an empty text, which providers refuse, is a blank."""

    batch_texts: int = 96
    at_once: int = 4
    query_prefix: str = ""
    query_params: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        at_least(1, batch_texts=self.batch_texts, at_once=self.at_once)
        check_params(self.query_params)
        super().check()

    def count_tokens(self, text: str) -> int:
        return self._count([text], 0)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> tuple[Vectors, Usage]:
        prefix, asked = (self.query_prefix, self.query_params) if query else ("", {})
        said = [f"{prefix}{text}" or " " for text in texts]
        request = {**self._connection(), "input": said, **self.params, **asked}
        worst = Usage(sum(map(self.count_tokens, said)), estimated=True)
        response = self._ask(lambda litellm: litellm.embedding(**request), lambda: worst)
        tokens: Any = getattr(getattr(response, "usage", None), "prompt_tokens", None)
        sane = isinstance(tokens, int) and 0 < tokens <= 10 * worst.prompt_tokens + 10_000
        usage = Usage(prompt_tokens=tokens) if sane else worst
        return unit_rows(response.data, len(texts), usage), usage
