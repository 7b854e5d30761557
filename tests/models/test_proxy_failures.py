"""The proxy when a cap is spent, a provider is down, or samples ask side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import openai
import pytest

from helpers.chat import Table, scripted
from helpers.proxied import HELLO, loopback_listener, post, served
from rlm_eval.errors import BudgetExceeded, ContextOverflow, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import ModelClient, RetryPolicy
from rlm_eval.models.protocol import Message, Reply
from rlm_eval.models.proxy import Proxy
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call


def test_a_spent_cap_is_refused_and_not_asked_again() -> None:
    ledger = Ledger().child(Budget(calls=1))
    with served(ledger=ledger) as it:
        it.ask()
        with pytest.raises(openai.APIStatusError) as caught:
            it.ask(text="once more")
        assert isinstance(it.proxy.refused, BudgetExceeded)
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert "calls=1" in caught.value.message
    assert len(it.table.calls) == 1
    assert [type(outcome).__name__ for *_, outcome in it.logged] == ["Completion", "BudgetExceeded"]
    assert it.proxy.ending is None


def test_a_prompt_over_the_window_is_refused_and_later_calls_are_not() -> None:
    with served(scripted(lambda m: "ok", window=200)) as it:
        with pytest.raises(openai.BadRequestError) as caught:
            it.ask(text="word " * 500)
        assert caught.value.code == "context_length_exceeded"
        assert isinstance(it.proxy.refused, ContextOverflow)
        it.ask(text="word")
        assert it.proxy.refused is None
    assert len(it.table.calls) == 1


class Failing(ScriptedModel):
    """Fails with ``error`` at every call."""

    error: BaseException = ProviderError("down", kind="unavailable", retryable=False)

    def complete(self, *args: Any, **kwargs: Any) -> Reply:
        raise self.error


def test_a_providers_failure_ends_the_sample() -> None:
    with served(Failing()) as it:
        with pytest.raises(openai.APIStatusError) as caught:
            it.ask()
        assert (caught.value.status_code, caught.value.code) == (424, "provider_error")
        assert isinstance(it.proxy.ending, ProviderError)
        assert it.stopped.is_set()
    assert len(it.table.calls) == 1, "the client did not ask again"


@pytest.mark.parametrize(
    ("kind", "asked", "ends"),
    [
        ("content_filter", "root", False),
        ("content_filter", "sub", False),
        ("bad_request", "sub", False),
        ("over_rate_limit", "sub", False),
        ("over_rate_limit", "root", True),
        ("quota", "sub", True),
        ("unreadable_call", "root", False),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_prompt_is_refused_for_is_the_engines_to_mend(
    kind: str, asked: str, ends: bool, stream: bool
) -> None:
    """In OpenAI's words, and in Anthropic's."""
    model = Failing()
    model.error = failure = ProviderError("no", kind=kind, retryable=False)
    body = {"model": asked, "max_tokens": 9, "messages": HELLO, "stream": stream}
    with served(model) as it:
        status, openais = it.raw(body)
        status_too, anthropics = it.raw(body, path="/v1/messages")
    assert status == status_too == (424 if ends else 400)
    assert openais["error"]["code"] == failure.outcome
    told = "api_error" if ends else "invalid_request_error"
    assert (anthropics["type"], anthropics["error"]["type"]) == ("error", told)
    assert it.proxy.ending is (failure if ends else None)
    assert it.stopped.is_set() == ends


def test_the_model_client_retries_so_that_engines_need_not() -> None:
    model = Failing()
    model.error = ProviderError("busy", kind="rate_limit", retryable=True)
    calls: list[Call] = []
    retry = RetryPolicy(attempts=3, base_s=0.001)
    client = ModelClient({"root": model}, lambda call, reply: calls.append(call), retry=retry)
    lm = client.lm("key", memory_scope="arm")
    with Proxy(lm, Ledger().child(), loopback_listener(), default_max_tokens=9) as proxy:
        client = openai.OpenAI(base_url=proxy.url, api_key=proxy.token, max_retries=5)
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="root", messages=HELLO)  # type: ignore[arg-type]
    assert [call.attempt for call in calls] == [1, 2, 3]


@pytest.mark.parametrize("which", ["run", "bug"])
def test_what_is_not_the_samples_own_reaches_the_harness(which: str) -> None:
    model = Failing()
    model.error = ValueError("a bug")
    ledger = Ledger(Budget(calls=1)).child()
    with served(model if which == "bug" else None, ledger) as it:
        if which == "run":
            it.ask()
        with pytest.raises(openai.APIConnectionError):
            it.client(max_retries=0).chat.completions.create(model="root", messages=HELLO)  # type: ignore[arg-type]
        assert it.stopped.wait(5)
    assert isinstance(it.proxy.ending, RunBudgetExceeded if which == "run" else ValueError)


def test_samples_side_by_side_do_not_mix() -> None:
    def script(messages: Sequence[Message]) -> str:
        time.sleep(0.01)
        return messages[0]["content"].upper()

    table = Table(scripted(script))
    ledgers = [Ledger().child(Budget(calls=20)) for _ in range(2)]
    lms = [table.client.lm(f"key {i}", memory_scope=str(i)) for i in range(2)]
    proxies = [
        Proxy(lm, ledger, loopback_listener(), default_max_tokens=50)
        for lm, ledger in zip(lms, ledgers, strict=True)
    ]
    wrong: list[str] = []

    def many(number: int) -> None:
        proxy = proxies[number]
        for i in range(5):
            text = f"sample {number} question {i} {threading.get_ident()}"
            asked = {"model": "root", "messages": [{"role": "user", "content": text}]}
            status, body = post(proxy.url, proxy.token, json.dumps(asked).encode())
            if status != 200 or body["choices"][0]["message"]["content"] != text.upper():
                wrong.append(text)

    with proxies[0], proxies[1]:
        threads = [threading.Thread(target=many, args=(i % 2,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert [ledger.spent.calls for ledger in ledgers] == [20, 20]
    for number in range(2):
        mine = [call for call in table.calls if call.result_key == f"key {number}"]
        assert sum(c.prompt_tokens + c.completion_tokens for c in mine) == (
            ledgers[number].spent.tokens
        )
        assert len(mine) == 20
