"""Our client against two servers that others wrote: llama.cpp's, with a tiny model, and litellm's
proxy in front of a fake provider and of that one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.fake_provider import CACHED_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS, FakeProvider
from helpers.litellm_proxy import MASTER_KEY, litellm_proxy
from helpers.tiny_gguf import write_tiny_gguf
from rlm_eval.errors import ContextOverflow, ProviderError
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.local.model import _start
from rlm_eval.models.protocol import BilledError, Usage, user

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LLAMA_KEY, WINDOW = "llama-0123456789abcdef", 512


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's server, without ``/v1``."""
    pytest.importorskip("xllamacpp", reason="needs the extra local")
    folder = tmp_path_factory.mktemp("llama")
    settings = {"path": str(write_tiny_gguf(folder / "tiny.gguf")), "api_key": LLAMA_KEY}
    settings |= {"context_window": WINDOW, "slots": 1, "pool_tokens": WINDOW, "threads": 1}
    server, address = _start(
        {**settings, "gpu_layers": 0, "cache_mb": 0, "repack": False}, folder / "log", 120.0
    )
    yield address
    server.kill()
    server.communicate()


def model_at(url: str, name: str = "openai/tiny", key: str = LLAMA_KEY) -> LitellmModel:
    return LitellmModel(name, 100_000, api_base=url, timeout_s=60.0, fixed_api_key=key)


def refused(model: LitellmModel, text: str = "hi") -> ProviderError | ContextOverflow:
    with pytest.raises((ProviderError, ContextOverflow)) as caught:
        model.complete([user(text)], max_tokens=16, temperature=0.0)
    assert not isinstance(caught.value, BilledError)
    assert "\n" not in str(caught.value)
    return caught.value


def kind_of(failure: Any) -> str:
    return failure.kind if isinstance(failure, ProviderError) else failure.outcome


# -- llama.cpp -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai/tiny", "hosted_vllm/tiny", "openai/no-such-model"])
def test_llama_cpp_answers_and_counts(llama: str, name: str) -> None:
    """It serves one model, whatever it is called."""
    reply = model_at(f"{llama}/v1", name).complete([user("hi")], max_tokens=4, temperature=0.0)
    assert reply.usage.completion_tokens == 4
    assert 0 < reply.usage.prompt_tokens < 100
    assert not reply.usage.estimated


@pytest.mark.parametrize("name", ["openai/tiny", "hosted_vllm/tiny"])
def test_llama_cpps_overflow_is_one(llama: str, name: str) -> None:
    failure = refused(model_at(f"{llama}/v1", name), "word " * WINDOW)
    assert kind_of(failure) == "context_overflow"
    assert f"{WINDOW} tokens" in str(failure)


def test_llama_cpps_key_is_asked_for(llama: str) -> None:
    failure = refused(model_at(f"{llama}/v1", key="another"))
    assert kind_of(failure) == "authentication"
    assert "Invalid API Key; is the key right" in str(failure)
    assert "another" not in str(failure)


@pytest.mark.parametrize("path", ["/nowhere", "/v2"])
def test_a_path_that_llama_cpp_does_not_have(llama: str, path: str) -> None:
    failure = refused(model_at(f"{llama}{path}"))
    assert kind_of(failure) == "not_found"
    assert f"404 from {llama}{path}/chat/completions: " in str(failure)
    assert "api_base (which mostly ends in /v1) right?" in str(failure)


def test_a_parameter_that_llama_cpp_does_not_take(llama: str) -> None:
    model = LitellmModel(
        "openai/tiny",
        1000,
        api_base=f"{llama}/v1",
        fixed_api_key=LLAMA_KEY,
        params={"response_format": {"type": "nonsense"}},
    )
    failure = refused(model)
    assert kind_of(failure) == "bad_request"
    assert "response_format" in str(failure)


# -- litellm's proxy -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def proxy(
    llama: str, upstream: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    upstreams = {
        "fake": {"model": "openai/fake", "api_base": upstream.api_base, "api_key": "sk-upstream"},
        "tiny": {"model": "openai/tiny", "api_base": f"{llama}/v1", "api_key": LLAMA_KEY},
    }
    with litellm_proxy(tmp_path_factory.mktemp("proxy"), upstreams) as url:
        yield url


@pytest.mark.parametrize("prefix", ["openai", "litellm_proxy"])
def test_an_answer_through_litellms_proxy_keeps_its_usage(proxy: str, prefix: str) -> None:
    model = model_at(proxy, f"{prefix}/fake", MASTER_KEY)
    reply = model.complete([user("hi")], max_tokens=16, temperature=0.0)
    assert (reply.text, reply.finish_reason) == ("fine", "stop")
    assert reply.usage == Usage(PROMPT_TOKENS, COMPLETION_TOKENS, CACHED_TOKENS)


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ("overflow", "context_overflow", False),
        ("429_later", "rate_limit", True),
        ("429_quota", "quota", False),
        ("401", "authentication", False),
        ("404", "not_found", False),
        ("400", "bad_request", False),
        ("500", "server_error", True),
        ("503", "unavailable", True),
    ],
)
def test_litellms_proxy_hands_on_what_went_wrong(
    proxy: str, upstream: FakeProvider, fault: str, kind: str, retryable: bool
) -> None:
    upstream.plan[:] = [fault] * 9
    failure = refused(model_at(proxy, "openai/fake", MASTER_KEY))
    upstream.plan.clear()
    assert kind_of(failure) == kind
    assert getattr(failure, "retryable", False) == retryable


def test_llama_cpps_overflow_through_litellms_proxy(proxy: str) -> None:
    failure = refused(model_at(proxy, "openai/tiny", MASTER_KEY), "word " * WINDOW)
    assert kind_of(failure) == "context_overflow"


def test_litellms_proxy_refuses_another_key_and_an_unknown_model(proxy: str) -> None:
    assert kind_of(refused(model_at(proxy, "openai/fake", "sk-another"))) == "authentication"
    assert kind_of(refused(model_at(proxy, "openai/nope", MASTER_KEY))) == "not_found"


def test_litellms_proxy_without_v1_answers_too_and_elsewhere_says_where(proxy: str) -> None:
    model = model_at(proxy.removesuffix("/v1"), "openai/fake", MASTER_KEY)
    assert model.complete([user("hi")], max_tokens=16, temperature=0.0).text == "fine"
    failure = refused(model_at(f"{proxy}/v3", "openai/fake", MASTER_KEY))
    assert kind_of(failure) == "not_found"
    assert f"{proxy}/v3/chat/completions" in str(failure)
