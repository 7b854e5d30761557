"""What servers really write when they refuse a request, and what it means.

``provider_errors.jsonl`` has a row per server and wording, gathered from their sources, documents
and issue trackers, each with its expected reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_provider import FakeProvider, saying
from rlm_eval.errors import ContextOverflow, ProviderError
from rlm_eval.models.litellm_client import LitellmEmbedding, LitellmModel
from rlm_eval.models.protocol import BilledError, user

_LINES = Path(__file__).with_name("provider_errors.jsonl").read_text(encoding="utf-8").splitlines()
ROWS = [json.loads(line) for line in _LINES]


def model_at(url: str, name: str = "openai/fake", **changes: Any) -> LitellmModel:
    return LitellmModel(
        name, 100_000, api_base=url, timeout_s=20.0, fixed_api_key="sk-canary-01", **changes
    )


def refused(model: LitellmModel, text: str = "hi") -> ProviderError | ContextOverflow:
    with pytest.raises((ProviderError, ContextOverflow)) as caught:
        model.complete([user(text)], max_tokens=16, temperature=0.0)
    return caught.value


def kind_of(failure: ProviderError | ContextOverflow) -> str:
    return failure.kind if isinstance(failure, ProviderError) else failure.outcome


@pytest.mark.parametrize("name", ["openai/fake", "hosted_vllm/fake"])
@pytest.mark.parametrize("row", ROWS, ids=[row["server"] for row in ROWS])
def test_a_servers_own_words_are_read_as_what_they_mean(row: Mapping[str, Any], name: str) -> None:
    behaviour = saying(row["status"], row["body"])
    with FakeProvider([behaviour] * 2) as provider:
        failure = refused(model_at(provider.api_base, name))
    assert kind_of(failure) == row["expected"]
    assert not isinstance(failure, BilledError)
    if isinstance(failure, ProviderError):
        passing = ("rate_limit", "unavailable", "timeout", "server_error")
        assert failure.retryable == (failure.kind in passing)
    limits = provider.received[-1].keys() & {"max_tokens", "max_completion_tokens"}
    assert provider.requests == (2 if limits == {"max_completion_tokens"} else 1)
    told = str(failure)
    assert f" {row['status']} from {provider.api_base}/chat/completions: " in told
    assert "\n" not in told


@pytest.mark.parametrize("name", ["openrouter/fake", "ollama/fake", "custom_openai/fake"])
@pytest.mark.parametrize("server", ["openai code", "tgi", "lmstudio", "openrouter raw", "nginx"])
def test_overflow_is_read_through_litellms_other_ways_too(server: str, name: str) -> None:
    row = next(row for row in ROWS if row["server"] == server)
    with FakeProvider([saying(row["status"], row["body"])]) as provider:
        assert kind_of(refused(model_at(provider.api_base, name))) == "context_overflow"


OTHER_WAYS = ["openai/fake", "hosted_vllm/fake", "openrouter/fake"]


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_an_error_object_in_a_reply_of_status_200_is_read_too(name: str) -> None:
    body = next(row["body"] for row in ROWS if row["server"] == "openrouter")
    with FakeProvider([saying(200, body)]) as provider:
        assert kind_of(refused(model_at(provider.api_base, name))) == "context_overflow"
    with FakeProvider([saying(200, {"error": "Unexpected endpoint or method."})]) as provider:
        failure = refused(model_at(provider.api_base, name))
    assert kind_of(failure) == "not_found"
    assert "and api_base (which mostly ends in /v1) right?" in str(failure)
    with FakeProvider(["error_in_200"]) as provider:
        failure = refused(model_at(provider.api_base, name))
    assert isinstance(failure, BilledError), "an upstream may have had it"
    assert (failure.kind, failure.retryable) == ("unavailable", True)


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_what_a_model_says_of_its_context_is_no_overflow(name: str) -> None:
    """A reply that breaks off in the middle of its JSON: paid, and not the prompt's fault."""
    torn = '{"choices":[{"message":{"content":"the prompt is too long for the context length'
    with FakeProvider([saying(200, torn)]) as provider:
        failure = refused(model_at(provider.api_base, name))
    assert isinstance(failure, BilledError)
    assert failure.kind == "bad_response"


def test_an_embedding_servers_overflow_is_read_the_same_way() -> None:
    row = next(row for row in ROWS if row["server"] == "llama.cpp embeddings")
    with FakeProvider([saying(row["status"], row["body"])]) as provider:
        model = LitellmEmbedding("openai/fake", 1000, api_base=provider.api_base)
        with pytest.raises(ContextOverflow):
            model.embed(["a"])


def test_a_rate_limit_below_the_prompts_size_is_final_also_where_only_the_limit_is_told() -> None:
    row = next(row for row in ROWS if row["server"] == "anthropic rate")
    with FakeProvider([saying(row["status"], row["body"])] * 2) as provider:
        model = model_at(provider.api_base)
        small, large = refused(model), refused(model, "word " * 50_000)
    assert isinstance(small, ProviderError)
    assert isinstance(large, ProviderError)
    assert (small.kind, small.retryable) == ("rate_limit", True)
    assert (large.kind, large.retryable) == ("over_rate_limit", False)


@pytest.mark.parametrize("of", ["80,000 output tokens", "50 requests"])
def test_a_limit_of_something_else_says_nothing_of_the_prompt(of: str) -> None:
    said = f"This request would exceed your organization's rate limit of {of} per minute."
    with FakeProvider([saying(429, {"error": {"message": said}})]) as provider:
        failure = refused(model_at(provider.api_base), "word " * 90_000)
    assert isinstance(failure, ProviderError)
    assert (failure.kind, failure.retryable) == ("rate_limit", True)


@pytest.mark.parametrize(
    ("said", "pause"),
    [
        ("Rate limit reached. Please try again in 20s.", 20.0),
        ("Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ("Rate limit reached. Please try again in 350ms.", 0.35),
        ("Rate limit reached. Please try again in 1h2m3s.", 3723.0),
        ("Rate limit reached. Please try again in 2m.", 120.0),
        ("Please retry after 26 seconds.", 26.0),
        ("Please retry after a while.", None),
    ],
)
def test_a_pause_that_only_the_text_tells_is_kept(said: str, pause: float | None) -> None:
    with FakeProvider([saying(429, {"error": {"message": said}})]) as provider:
        failure = refused(model_at(provider.api_base))
    assert isinstance(failure, ProviderError)
    assert failure.retry_after_s == pause


def test_geminis_pause_is_a_field_of_its_own() -> None:
    row = next(row for row in ROWS if row["server"] == "gemini per minute")
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22.5s"}]
    body = {"error": {**row["body"]["error"], "message": "Slow down.", "details": details}}
    with FakeProvider([saying(429, body)]) as provider:
        failure = refused(model_at(provider.api_base))
    assert isinstance(failure, ProviderError)
    assert failure.retry_after_s == 22.5


# -- one line that says what, where and what to do -------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, {"detail": "Not Found"}, "Not Found; are the model's name and api_base"),
        (404, "404 page not found", "404 page not found; are"),
        (405, {"detail": "Method Not Allowed"}, "Method Not Allowed; are"),
        (400, "plain words\nand more", "plain words and more"),
        (400, ["first", {"msg": "second"}], "first; second"),
        (400, "", "Bad Request"),
        (400, {"error": None}, "Bad Request"),
        (401, {"error": "no such key"}, "no such key; is the key right"),
        (500, "<html><body><h1>Oops</h1> try <b>later</b></body></html>", "Oops try later"),
        (500, "1 < 2, <b>later</b>", "1 < 2, later"),
    ],
)
def test_an_error_is_one_line_with_its_text_and_address(
    status: int, body: object, said: str
) -> None:
    with FakeProvider([saying(status, body)]) as provider:
        told = str(refused(model_at(provider.api_base)))
    url = f"{provider.api_base}/chat/completions"
    assert told.startswith(f"openai/fake: {status} from {url}: {said}")
    assert "\n" not in told


def test_no_server_at_all_names_the_address_and_what_to_look_at() -> None:
    with FakeProvider() as provider:
        url = provider.api_base
    failure = refused(model_at(url))
    assert kind_of(failure) == "connection"
    assert str(failure).startswith(f"openai/fake: {url}: no connection (")
    assert str(failure).endswith("is the server up, and is api_base right?")


def test_a_page_where_a_reply_should_be_says_that_the_address_may_be_wrong() -> None:
    with FakeProvider(["html"]) as provider:
        failure = refused(model_at(provider.api_base))
    assert provider.api_base in str(failure)
    assert "is api_base (which mostly ends in /v1) right?" in str(failure)


def test_what_is_secret_in_an_address_is_not_repeated() -> None:
    with FakeProvider(["400"]) as provider:
        base = provider.api_base.replace("127.0.0.1", "user:canary@127.0.0.1")
        told = str(refused(model_at(base)))
    assert "canary" not in told
    assert provider.api_base in told
