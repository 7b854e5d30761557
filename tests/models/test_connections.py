"""Where requests really go: the environment's addresses and proxies, and what a server wants to be
asked by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any
from urllib.request import proxy_bypass_environment

import pytest

from helpers.clients import open_client, prompts
from helpers.fake_provider import BEHAVIOURS, FakeProvider, limit_of
from rlm_eval.errors import ConfigError, ProviderError
from rlm_eval.ledger import Ledger
from rlm_eval.models.litellm_client import LitellmEmbedding, LitellmModel, _is_here
from rlm_eval.models.protocol import user

ASKED = [user("how are you?")]


def ask(model: LitellmModel) -> str:
    return model.complete(ASKED, max_tokens=16, temperature=0.0).text


# -- proxies of the environment --------------------------------------------------------------------


class RecordingProxy:
    """Takes connections, notes their first line and hangs up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(300).decode().partition("\r\n")[0])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingProxy]:
    recording = RecordingProxy()
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, recording.url)
        monkeypatch.setenv(variable.upper(), recording.url)
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "")  # which has it put back at the end
        monkeypatch.delenv(variable)
    yield recording
    recording.close()


CHAT = (
    *("openai", "hosted_vllm", "custom_openai", "lm_studio", "text-completion-openai"),
    *("llamafile", "openrouter", "litellm_proxy", "ollama", "ollama_chat"),
)


@pytest.mark.parametrize("provider_name", CHAT)
def test_a_server_on_this_machine_is_asked_without_a_proxy(
    provider_name: str, proxy: RecordingProxy
) -> None:
    with FakeProvider() as provider:
        model = LitellmModel(f"{provider_name}/fake", 1000, api_base=provider.api_base)
        with suppress(ProviderError):  # some want another form of reply
            ask(model)
        assert provider.requests >= 1
    assert proxy.asked == []


@pytest.mark.parametrize("provider_name", ["openai", "hosted_vllm", "lm_studio", "ollama"])
def test_embeddings_neither(provider_name: str, proxy: RecordingProxy) -> None:
    with FakeProvider() as provider:
        model = LitellmEmbedding(f"{provider_name}/fake", 1000, api_base=provider.api_base)
        with pytest.raises(ProviderError):  # this server has chat replies alone
            model.embed(["a"])
        assert provider.requests == 1
    assert proxy.asked == []


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.2", "0.0.0.0", "127.1", "my.localhost", socket.gethostname()]
)
def test_this_machine_has_many_names(host: str, proxy: RecordingProxy) -> None:
    with FakeProvider(host="0.0.0.0") as provider:
        base = provider.api_base.replace("0.0.0.0", host)
        for name in ("openai/fake", "hosted_vllm/fake"):
            with suppress(ProviderError):  # the system may not know the name
                ask(LitellmModel(name, 1000, api_base=base))
    assert proxy.asked == []


def test_this_machine_by_its_other_address(proxy: RecordingProxy) -> None:
    try:
        provider = FakeProvider(host="::1")
    except OSError:
        pytest.skip("this machine has no ::1")
    with provider:
        for name in ("openai/fake", "hosted_vllm/fake"):
            assert ask(LitellmModel(name, 1000, api_base=provider.api_base)) == "fine"
    assert proxy.asked == []


def test_another_machine_is_asked_through_the_proxy(proxy: RecordingProxy) -> None:
    for name in ("openai/fake", "hosted_vllm/fake"):
        with pytest.raises(ProviderError):
            ask(LitellmModel(name, 1000, api_base="http://llm.example:8000/v1"))
    assert len(proxy.asked) == 2
    assert not any(
        map(_is_here, ("llm.example", "10.0.0.1", "128.0.0.1", "localhost.example", "notlocalhost"))
    )


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    ("exceptions", "passed_by"),
    [("gpu-node, .corp", {"gpu-node", "a.corp"}), ("*", {"gpu-node", "a.corp", "llm.example"})],
)
def test_the_users_own_exceptions_stay(
    variable: str,
    exceptions: str,
    passed_by: set[str],
    proxy: RecordingProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, exceptions)
    with FakeProvider() as provider:
        assert ask(LitellmModel("openai/fake", 1000, api_base=provider.api_base)) == "fine"
    hosts = ("gpu-node", "a.corp", "llm.example")
    assert {host for host in hosts if proxy_bypass_environment(host)} == passed_by
    assert all(map(proxy_bypass_environment, ("localhost", "127.0.0.1")))
    assert proxy.asked == []


# -- addresses of the environment ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai/fake", "OPENAI_BASE_URL"),
        ("openai/fake", "OPENAI_API_BASE"),
        ("text-completion-openai/fake", "OPENAI_API_BASE"),
        ("hosted_vllm/fake", "HOSTED_VLLM_API_BASE"),
        ("lm_studio/fake", "LM_STUDIO_API_BASE"),
        ("openrouter/fake", "OPENROUTER_API_BASE"),
        ("deepseek/fake", "DEEPSEEK_API_BASE"),
        ("groq/fake", "GROQ_API_BASE"),
        ("mistral/fake", "MISTRAL_API_BASE"),
        ("fireworks_ai/fake", "FIREWORKS_API_BASE"),
        ("together_ai/fake", "TOGETHER_AI_API_BASE"),
        ("nvidia_nim/fake", "NVIDIA_NIM_API_BASE"),
    ],
)
def test_an_address_in_the_environment_is_asked_and_told(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeProvider() as provider:
        monkeypatch.setenv(variable, provider.api_base)
        model = LitellmModel(name, 1000)
        model.check()
        assert model.info.endpoint == provider.api_base
        with suppress(ProviderError):  # some want another form of reply
            ask(model)
        assert provider.requests == 1


def test_what_is_configured_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with FakeProvider() as provider:
        model = LitellmModel("openai/fake", 1000, api_base=provider.api_base)
        assert model.info.endpoint == provider.api_base
        assert ask(model) == "fine"


@pytest.mark.parametrize("where", ["api_base", "environment"])
def test_the_user_in_an_address_is_sent_and_no_part_of_the_endpoint(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = []

    def noticing(handler: Any) -> None:
        logins.append(handler.headers["Authorization"])
        BEHAVIOURS["ok"](handler)

    with FakeProvider([noticing]) as provider:
        base = provider.api_base.replace("://", "://me:canary@")
        monkeypatch.setenv("OPENAI_BASE_URL", base)
        model = LitellmModel("openai/fake", 1000, api_base=base if where == "api_base" else None)
        model.check()
        assert model.info.endpoint == provider.api_base
        assert ask(model) == "fine"
    assert logins == ["Basic bWU6Y2FuYXJ5"]


def test_without_any_address_the_provider_is_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(variable, raising=False)
    assert LitellmModel("openai/fake", 1000).info.endpoint == "openai"


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("localhost:8000/v1", "must be an address like http://localhost:8000/v1, got localhost:80"),
        ("127.0.0.1:8000", "must be an address like"),
        ("ws://localhost/v1", "must be an address like"),
        ("http:///v1", "must be an address like"),
        ("ws://me:canary@localhost/v1", "must be an address like .* got localhost/v1"),
        ("http://localhost:8000v1", "must be an address like .* got http://localhost:8000v1"),
        ("http://localhost:99999/v1", "must be an address like"),
        ("http://[::1/v1", "must be an address like"),
        ("http://local host:8000/v1", "must be an address like"),
    ],
)
def test_what_is_no_address_is_refused_before_the_run(
    base: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=said) as configured:
        LitellmModel("openai/fake", 1000, api_base=base).check()
    monkeypatch.setenv("OPENAI_BASE_URL", base)
    with pytest.raises(ConfigError, match=rf"\(from OPENAI_BASE_URL\) {said}") as found:
        LitellmModel("openai/fake", 1000).check()
    assert "canary" not in f"{configured.value} {found.value}"


# -- keys and names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("hosted_vllm/fake", "HOSTED_VLLM_API_KEY"),
        ("litellm_proxy/fake", "LITELLM_PROXY_API_KEY"),
        ("databricks/fake", "DATABRICKS_API_KEY"),
        ("nvidia_nim/fake", "NVIDIA_NIM_API_KEY"),
        ("azure_ai/fake", "AZURE_AI_API_KEY"),
    ],
)
def test_a_providers_usual_key_goes_to_an_address_of_ones_own(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []

    def noticing(handler: Any) -> None:
        heads.append(str(handler.headers))
        BEHAVIOURS["ok"](handler)

    with FakeProvider([noticing] * 2) as provider:
        model = LitellmModel(name, 1000, api_base=provider.api_base)
        monkeypatch.delenv(variable, raising=False)
        model.check()
        assert ask(model) == "fine"
        monkeypatch.setenv(variable, "sk-canary-0123456789")
        model.check()
        assert ask(model) == "fine"
    assert ["sk-canary-0123456789" in head for head in heads] == [False, True]


def test_a_name_without_a_provider_is_openais_whatever_litellm_makes_of_it() -> None:
    """It would know whose this one is, and send it OpenAI's key."""
    paths = []

    def noticing(handler: Any) -> None:
        paths.append(handler.path)
        BEHAVIOURS["ok"](handler)

    with FakeProvider([noticing]) as provider:
        model = LitellmModel("claude-sonnet-4-5", 1000, api_base=provider.api_base)
        assert ask(model) == "fine"
    assert (paths, provider.received[0]["model"]) == (["/v1/chat/completions"], "claude-sonnet-4-5")


def test_no_env_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm reads one when it is imported, of which this is the part."""
    dotenv, defaults = (import_module(name) for name in ("dotenv", "litellm._process_defaults"))
    LitellmModel("openai/fake", 1000).open()
    read: list[object] = []
    monkeypatch.setattr(dotenv, "load_dotenv", lambda **options: read.append(options))
    defaults.apply_process_defaults()
    assert read == []


# -- the parameter that bounds a reply -------------------------------------------------------------


def test_the_other_parameter_is_learned_once_and_costs_no_attempt() -> None:
    newer = limit_of("max_completion_tokens")
    with FakeProvider([newer] * 9) as provider:
        model = LitellmModel("openai/fake", 1000, api_base=provider.api_base)
        lm, notebook = open_client(model)
        for _ in range(3):
            assert lm.complete(prompts("hi")[0], ledger=Ledger(), max_tokens=16).text == "fine"
    limits = [
        request.keys() & {"max_tokens", "max_completion_tokens"} for request in provider.received
    ]
    assert limits == [{"max_tokens"}, *[{"max_completion_tokens"}] * 3]
    assert notebook.column("attempt") == [1, 1, 1]
    assert notebook.column("error") == ["", "", ""]
    assert all(body.get("max_completion_tokens", 16) == 16 for body in provider.received)


def test_it_is_learned_by_many_at_once() -> None:
    newer = limit_of("max_completion_tokens")
    with FakeProvider([newer] * 99, latency_s=0.05) as provider:
        model = LitellmModel("hosted_vllm/fake", 1000, api_base=provider.api_base)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: ask(model), range(16))) == ["fine"] * 16
    refused = [body for body in provider.received if "max_tokens" in body]
    assert 1 <= len(refused) <= 8
    assert provider.requests == 16 + len(refused)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_it_may_be_set(name: Any) -> None:
    with FakeProvider([limit_of(name)]) as provider:
        model = LitellmModel("openai/fake", 1000, api_base=provider.api_base, limit_name=name)
        assert ask(model) == "fine"
    assert provider.received[0][name] == 16


def test_another_refusal_teaches_nothing() -> None:
    with FakeProvider(["400", "ok"]) as provider:
        model = LitellmModel("openai/fake", 1000, api_base=provider.api_base)
        with pytest.raises(ProviderError):
            ask(model)
        ask(model)
    assert [body["max_tokens"] for body in provider.received] == [16, 16]
