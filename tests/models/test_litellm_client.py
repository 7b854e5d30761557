"""The litellm client against a provider that really misbehaves over HTTP."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from helpers.fake_provider import (
    CACHED_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    FakeProvider,
    _billed,
)
from helpers.waiting import eventually
from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError
from rlm_eval.models.faults import retry_after_s
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import BilledError, Price, Reply, Usage, assistant, user

CANARY = "sk-canary-0123456789abcdef"
REPORTED = Usage(PROMPT_TOKENS, COMPLETION_TOKENS, CACHED_TOKENS)
ASKED = [user("how are you?")]


def model_at(provider: FakeProvider, **changes: Any) -> LitellmModel:
    settings: dict[str, Any] = {"context_window": 1000, "timeout_s": 60.0} | changes
    return LitellmModel("openai/fake", api_base=provider.api_base, **settings)


def ask(model: LitellmModel, max_tokens: int = 16) -> Reply:
    return model.complete(ASKED, max_tokens=max_tokens, temperature=0.0)


def worst(model: LitellmModel) -> Usage:
    return Usage(model.count_tokens(ASKED), 16, estimated=True)


@pytest.fixture(autouse=True)
def canary_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)


def test_a_good_reply_has_text_and_the_providers_own_usage() -> None:
    with FakeProvider() as provider:
        reply = ask(model_at(provider))
    assert reply == Reply("fine", REPORTED, "stop")
    assert provider.requests == 1
    sent = provider.received[0]
    assert sent["messages"] == ASKED
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("fake", 16, 0.0)


def test_params_go_along_and_no_temperature_is_sent_where_none_is_set() -> None:
    with FakeProvider() as provider:
        model = model_at(provider, params={"seed": 7})
        model.complete(ASKED, max_tokens=16, temperature=None)
    assert provider.received[0]["seed"] == 7
    assert "temperature" not in provider.received[0]


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ("400", "bad_request", False),
        ("401", "authentication", False),
        ("402", "quota", False),
        ("403", "authentication", False),
        ("404", "not_found", False),
        ("408", "timeout", True),
        ("422", "bad_request", False),
        ("429", "rate_limit", True),
        ("429_quota", "quota", False),
        ("500", "server_error", True),
        ("502", "unavailable", True),
        ("503", "unavailable", True),
        ("529", "unavailable", True),
    ],
)
def test_an_error_status_is_one_request_and_costs_nothing(
    fault: str, kind: str, retryable: bool
) -> None:
    with FakeProvider([fault]) as provider, pytest.raises(ProviderError) as caught:
        ask(model_at(provider))
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    assert not isinstance(caught.value, BilledError)
    assert provider.requests == 1
    assert provider.billed == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("reset", "connection"),
        ("short_body", "connection"),
        ("html", "bad_response"),
        ("torn_json", "bad_response"),
        ("hang", "timeout"),
        pytest.param("drip", "timeout", marks=pytest.mark.slow),
    ],
)
def test_a_provider_that_goes_silent_is_assumed_to_bill_the_most(fault: str, kind: str) -> None:
    with FakeProvider([fault]) as provider:
        model = model_at(provider, timeout_s=1.0 if kind == "timeout" else 60.0)
        started = time.monotonic()
        with pytest.raises(BilledError) as caught:
            ask(model)
        assert time.monotonic() - started < 20
        assert eventually(lambda: provider.requests == 1)
    assert (caught.value.kind, caught.value.retryable) == (kind, True)
    assert caught.value.usage == worst(model)


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ("empty_choices", "empty_choices", True),
        ("filtered", "content_filter", False),
    ],
)
def test_a_reply_without_content_is_a_failure_that_was_billed(
    fault: str, kind: str, retryable: bool
) -> None:
    with FakeProvider([fault]) as provider, pytest.raises(BilledError) as caught:
        ask(model_at(provider))
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    assert caught.value.usage == REPORTED
    assert provider.requests == 1


def test_a_model_that_thought_to_its_last_token_said_nothing() -> None:
    with FakeProvider(["out_of_tokens"]) as provider:
        assert ask(model_at(provider)) == Reply("", REPORTED, "length")


def test_an_empty_string_is_what_the_model_said() -> None:
    with FakeProvider(["empty_string"]) as provider:
        assert ask(model_at(provider)).text == ""


def test_missing_usage_is_estimated_and_marked() -> None:
    with FakeProvider(["missing_usage"]) as provider:
        model = model_at(provider)
        reply = ask(model)
    # "one two three" is three tokens of o200k_base.
    assert reply.usage == Usage(model.count_tokens(ASKED), 3, estimated=True)


def test_a_refused_connection_was_never_billed() -> None:
    with FakeProvider() as provider:
        model = model_at(provider)
    with pytest.raises(ProviderError) as caught:
        ask(model)
    assert caught.value.kind == "connection"
    assert not isinstance(caught.value, BilledError)


def test_context_overflow_is_no_provider_error() -> None:
    with FakeProvider(["overflow"]) as provider, pytest.raises(ContextOverflow):
        ask(model_at(provider))
    assert provider.requests == 1


def test_retry_after_is_handed_on() -> None:
    with FakeProvider(["429_later"]) as provider, pytest.raises(ProviderError) as caught:
        ask(model_at(provider))
    assert caught.value.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2.5", 2.5), ("0", 0.0), ("-3", 0.0), ("soon", None), (formatdate(1, usegmt=True), 0.0)],
)
def test_retry_after_forms(header: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": header}) == seconds


def test_retry_after_as_a_date_to_come() -> None:
    wait = retry_after_s({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert wait is not None
    assert 20 <= wait <= 30


@pytest.mark.parametrize("fault", ["401", "403", "500"])
def test_the_key_is_in_nothing_an_error_holds(
    fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """These faults echo the key that was sent."""
    with FakeProvider([fault]) as provider, pytest.raises(ProviderError) as caught:
        ask(model_at(provider))
    assert "[key]" in str(caught.value)
    told = capfd.readouterr()
    step: BaseException | None = caught.value
    while step is not None:
        assert CANARY not in f"{step!r} {step.args} {vars(step)}"
        step = step.__cause__ or step.__context__
    assert CANARY not in told.out + told.err


def test_the_key_is_not_in_the_models_repr() -> None:
    assert CANARY not in repr(LitellmModel("openai/fake", 1000, fixed_api_key=CANARY))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": " "}, "name is empty"),
        ({"name": "ollama/llama3"}, "set it to ollama_chat/NAME"),
        ({"context_window": 0}, "context_window must"),
        ({"reasoning_tokens": -1}, "reasoning_tokens must be at least 0"),
        ({"reasoning_tokens": 1000}, "less than context_window"),
        ({"timeout_s": 0}, "timeout_s must"),
        ({"tokenizer": "gpt9"}, "tokenizer must be one of"),
        ({"price": {"input": "cheap", "output": 1.0}}, "price.input must"),
        ({"price": {"input": 1.0, "output": -1.0}}, "price.output must"),
        ({"params": {"temperature": 1}}, "temperature"),
        ({"params": {"max_retries": 3}}, "params.max_retries"),
        ({"params": {"api_key": "x"}}, "api_key_env"),
        ({"api_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
        ({"api_key_env": "sk-pasted-here"}, "never the key itself"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_sent(
    changes: dict[str, Any], said: str
) -> None:
    settings: dict[str, Any] = {"name": "openai/fake", "context_window": 1000} | changes
    with pytest.raises(ConfigError, match=said) as caught:
        LitellmModel(**settings).check()
    assert "\n" not in str(caught.value)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        LitellmModel("openai/gpt-5-mini", 1000).check()
    LitellmModel("openai/gpt-5-mini", 1000, api_base="http://127.0.0.1:1/v1").check()


@pytest.mark.parametrize(
    ("provider", "key"),
    [("openai", "none"), ("azure", None), ("bedrock", None), ("vertex_ai", None)],
)
def test_no_key_is_made_up_where_there_are_other_ways_to_sign_in(
    monkeypatch: pytest.MonkeyPatch, provider: str, key: str | None
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    model = LitellmModel(f"{provider}/fake", 1000, api_base="http://127.0.0.1:1/v1")
    assert model._connection()["api_key"] == key


def test_a_price_needs_input_and_output() -> None:
    whole = LitellmModel("openai/x", 1000, price={"input": 2.0, "output": 8.0})
    half = LitellmModel("openai/x", 1000, price={"input": 2.0, "output": None})
    assert whole.info.price == Price(2.0, 8.0)
    assert half.info.price is None


def test_cost_prices_cached_tokens_apart() -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)
    # 0.6 M x 2 + 0.4 M x 0.5 + 0.1 M x 8 = 1.2 + 0.2 + 0.8
    assert Price(2.0, 8.0, 0.5).cost(usage) == pytest.approx(2.2)
    # Without a price of their own they cost as others do: 2 + 0.8.
    assert Price(2.0, 8.0).cost(usage) == pytest.approx(2.8)


@pytest.mark.parametrize("name", ["hosted_vllm/fake", "openrouter/fake", "openai/fake"])
@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        ("401", "authentication", False),
        ("429_later", "rate_limit", False),
        ("500", "server_error", False),
        ("reset", "connection", True),
        ("html", "bad_response", True),
        ("hang", "timeout", True),
        pytest.param("drip", "timeout", True, marks=pytest.mark.slow),
        ("empty_choices", "empty_choices", True),
    ],
)
def test_faults_are_the_same_through_litellms_other_ways_to_a_server(
    name: str, fault: str, kind: str, billed: bool
) -> None:
    """Other providers have HTTP clients of their own in litellm; ``127.1`` is this machine under a
    name that keeps ``openai/`` from the client we make for it."""
    with FakeProvider([fault]) as provider:
        base = provider.api_base.replace("127.0.0.1", "127.1")
        timeout = 1.0 if kind == "timeout" else 60.0
        model = LitellmModel(name, 1000, api_base=base, timeout_s=timeout, fixed_api_key=CANARY)
        with pytest.raises(ProviderError) as caught:
            ask(model)
        assert eventually(lambda: provider.requests == 1)
    assert caught.value.kind == kind
    assert isinstance(caught.value, BilledError) == billed
    assert caught.value.retry_after_s == (1.0 if fault == "429_later" else None)
    assert CANARY not in str(caught.value)


#: A reply of Anthropic's own API, which counts what is read from and written into its cache apart.
ANTHROPICS = {
    **{"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"},
    "content": [{"type": "text", "text": "fine"}],
    "usage": {
        **{"input_tokens": 10, "output_tokens": 5},
        **{"cache_read_input_tokens": 300, "cache_creation_input_tokens": 200},
    },
}


@pytest.mark.parametrize("marks", [False, True])
def test_the_prompt_cache_is_asked_for_counted_and_priced(marks: bool) -> None:
    price = {"input": 3.0, "output": 15.0, "cached_input": 0.3, "cache_write": 3.75}
    chat = [{"role": "system", "content": "be brief"}, *ASKED, assistant("well"), *ASKED]
    with FakeProvider([_billed(ANTHROPICS)]) as provider:
        model = model_at(provider, price=price, cache_marks=marks, fixed_api_key=CANARY)
        model.name = "anthropic/claude-sonnet-4-5"
        reply = model.complete(chat, max_tokens=16, temperature=0.0)
    assert reply == Reply("fine", Usage(510, 5, 300, written_tokens=200), "stop")
    assert model.info.price is not None
    assert model.info.price.cost(reply.usage) == pytest.approx((30 + 75 + 90 + 750) / 1e6)
    sent = provider.received[0]
    parts = [*sent["system"], *(part for turn in sent["messages"] for part in turn["content"])]
    assert ["cache_control" in part for part in parts] == [marks, False, False, marks]


def test_what_nobody_will_read_again_is_not_written_into_the_cache() -> None:
    """A prompt that is asked once has no mark but behind its system message."""
    with FakeProvider() as provider:
        model = model_at(provider, cache_marks=True)
        for chat in (ASKED, [{"role": "system", "content": "be brief"}, *ASKED]):
            model.complete(chat, max_tokens=16, temperature=0.0)
    alone, after = map(str, (received["messages"] for received in provider.received))
    assert alone.count("cache_control") == 0
    assert after.count("cache_control") == 1
    assert after.index("cache_control") < after.index("user")
