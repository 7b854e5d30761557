"""One call through the client: its caps, retries, roles and record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from helpers.clients import CANARY, QUICK, SUB, Notebook, Plan, at, open_client
from helpers.fake_provider import (
    BEHAVIOURS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    USAGE,
    FakeProvider,
    chat_reply,
    saying,
)
from rlm_eval.errors import ContextOverflow, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.models.client import CallTags, ModelClient
from rlm_eval.models.protocol import Prefixes, user
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call

# -- one call ------------------------------------------------------------------------------


def test_a_call_is_recorded_with_its_place_and_the_providers_bill() -> None:
    with FakeProvider() as provider:
        lm, book = open_client(at(provider))
        ledger = Ledger()
        done = lm.complete([user("hi")], ledger=ledger, max_tokens=16, tags=SUB)
    (call,) = book.calls
    assert done.text == "fine"
    assert call.call_id == done.call_id
    assert (call.result_key, call.restart, call.attempt) == ("result", 2, 1)
    assert (call.role, call.depth, call.parent_call_id, call.from_repl) == ("sub", 1, "turn", True)
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (40, 8, 5)
    # 40 x 100 + 5 x 200 dollars per million.
    assert call.cost_usd == pytest.approx(0.005)
    assert ledger.spent == Spend(1, PROMPT_TOKENS + COMPLETION_TOKENS, pytest.approx(0.005))
    assert book.replies == ["fine"]
    assert not call.usage_estimated


@pytest.mark.parametrize("fault", ["401", "400", "403", "404", "429_quota", "filtered", "overflow"])
def test_what_is_final_is_asked_once(fault: str) -> None:
    with FakeProvider([fault]) as provider:
        lm, book = open_client(at(provider))
        with pytest.raises((ProviderError, ContextOverflow)):
            lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert provider.requests == 1
    assert len(book.calls) == 1
    assert book.calls[0].error != ""
    assert book.replies == [""]


@pytest.mark.parametrize(
    ("fault", "kind", "estimated", "tokens"),
    [
        ("429", "rate_limit", False, 0),
        ("500", "server_error", False, 0),
        ("empty_choices", "empty_choices", False, 45),
        ("reset", "connection", True, None),
        ("html", "bad_response", True, None),
    ],
)
def test_a_passing_fault_is_asked_again_and_both_attempts_are_recorded(
    fault: str, kind: str, estimated: bool, tokens: int | None
) -> None:
    with FakeProvider([fault]) as provider:
        model = at(provider)
        lm, book = open_client(model)
        ledger = Ledger()
        done = lm.complete([user("hi")], ledger=ledger, max_tokens=16)
    failed, good = book.calls
    assert done.text == "fine"
    assert provider.requests == 2
    assert (failed.attempt, good.attempt) == (1, 2)
    assert failed.call_id == good.call_id == done.call_id
    assert failed.error.startswith(f"{kind}: ")
    assert good.error == ""
    assert (failed.usage_estimated, good.usage_estimated) == (estimated, False)
    worst = model.count_tokens([user("hi")]) + 16
    expected = worst if tokens is None else tokens
    assert failed.prompt_tokens + failed.completion_tokens == expected
    # The ledger and the journal agree, and neither is below what the provider charged.
    journal = sum(c.prompt_tokens + c.completion_tokens for c in book.calls)
    assert ledger.spent.tokens == journal >= min(45, expected) + 45
    assert ledger.spent.calls == 2
    assert ledger.spent.usd == pytest.approx(sum(c.cost_usd or 0 for c in book.calls))


def test_a_provider_that_stays_down_is_left_after_the_last_attempt() -> None:
    with FakeProvider(["503"] * 9) as provider:
        lm, book = open_client(at(provider))
        with pytest.raises(ProviderError) as caught:
            lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert caught.value.kind == "unavailable"
    assert provider.requests == QUICK.attempts == 3
    assert book.column("attempt") == [1, 2, 3]


@pytest.mark.parametrize("finish", ["insufficient_system_resource", "abort", "error"])
@pytest.mark.parametrize("name", ["openai/fake", "hosted_vllm/fake"])
def test_a_reply_that_a_server_broke_off_is_asked_for_again(finish: str, name: str) -> None:
    half = saying(200, chat_reply("The answer is", finish=finish))
    with FakeProvider([half]) as provider:
        lm, book = open_client(at(provider, name=name))
        done = lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert done.text == "fine"
    assert book.calls[0].error.startswith("broken_off: ")


def _slow(handler: Any) -> None:
    time.sleep(0.6)
    BEHAVIOURS["ok"](handler)


@pytest.mark.parametrize("replies", [[_slow, "503"], ["503", _slow, "503"]])
def test_what_queued_for_its_first_try_or_another_is_sent_again_all_the_same(
    replies: list[Any],
) -> None:
    with FakeProvider(replies) as provider:
        limits = {"start": 1, "most": 1}
        lm, _ = open_client(at(provider, limits=limits), retry=replace(QUICK, deadline_s=0.4))
        with ThreadPoolExecutor(2) as pool:
            ask = partial(lm.complete, ledger=Ledger(), max_tokens=16)
            done = list(pool.map(ask, ([user("a")], [user("b")])))
    assert [reply.text for reply in done] == ["fine"] * 2
    assert provider.requests == len(replies) + 1


def test_what_is_put_into_a_cache_at_a_price_is_reserved() -> None:
    price = {"input": 100.0, "output": 200.0, "cache_write": 125.0}
    with FakeProvider() as provider:
        model = at(provider, price=price)
        lm, _ = open_client(model)
        tokens = model.count_tokens([user("hi")])
        cheap = (tokens * 100 + 16 * 200) / 1e6
        for usd, asked in ((cheap * 1.001, 0), (cheap + tokens * 25 / 1e6 + 1e-9, 1)):
            ledger = Ledger(Budget(usd=usd))
            with pytest.raises(RunBudgetExceeded) if not asked else nullcontext():
                lm.complete([user("hi")], ledger=ledger, max_tokens=16)
            assert provider.requests == asked


def test_retry_after_is_honoured() -> None:
    with FakeProvider(["429_later"]) as provider:
        lm, _ = open_client(at(provider))
        lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert provider.gaps[0] >= 1.0


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    with FakeProvider(["429_later"]) as provider:
        lm, _ = open_client(at(provider), retry=replace(QUICK, deadline_s=0.5))
        with pytest.raises(ProviderError, match="slow down"):
            lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert provider.requests == 1


@pytest.mark.parametrize("budget", [Budget(seconds=1000), Budget(calls=1)])
def test_a_retry_the_sample_cannot_pay_leaves_the_providers_failure(budget: Budget) -> None:
    """The provider failed, not the method: the question is pending, not out of budget."""
    with FakeProvider(["429_tomorrow"]) as provider:
        lm, book = open_client(at(provider), retry=replace(QUICK, deadline_s=1e6))
        with pytest.raises(ProviderError):
            lm.complete([user("hi")], ledger=Ledger().child(budget), max_tokens=16)
    assert provider.requests == 1
    assert len(book.calls) == 1


def test_a_retry_the_run_cannot_pay_stops_the_run() -> None:
    with FakeProvider(["429"]) as provider:
        lm, book = open_client(at(provider))
        run = Ledger(Budget(calls=1))
        with pytest.raises(RunBudgetExceeded):
            lm.complete([user("hi")], ledger=run.child(), max_tokens=16)
    assert provider.requests == len(book.calls) == 1
    assert run.spent.calls == 1


@pytest.mark.parametrize("fault", ["401", "500"])
def test_the_key_is_in_no_record(fault: str) -> None:
    with FakeProvider([fault] * 3) as provider:
        lm, book = open_client(at(provider))
        with pytest.raises(ProviderError) as caught:
            lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert all(CANARY not in repr(call) for call in book.calls)
    assert "[key]" in book.calls[0].error
    assert CANARY not in repr(caught.value)


def test_an_unforeseen_error_passes_with_its_reservation_settled_at_the_worst() -> None:
    lm, _ = open_client(ScriptedModel(script=Plan([ZeroDivisionError("a bug")])))
    ledger = Ledger(Budget(tokens=10_000))
    with pytest.raises(ZeroDivisionError):
        lm.complete([user("hi")], ledger=ledger, max_tokens=16)
    # Four template tokens and 2 characters // 4 of prompt, 16 of completion.
    assert ledger.spent == Spend(1, 20, 0.0)
    assert ledger.remaining()["tokens"] == 10_000 - 20


# -- windows and caps ----------------------------------------------------------------------


def test_a_prompt_beyond_the_window_is_never_sent() -> None:
    script = Plan([])
    lm, book = open_client(ScriptedModel(context_window=100, script=script))
    with pytest.raises(ContextOverflow) as caught:
        lm.complete([user("x" * 400)], ledger=Ledger(Budget(calls=1)), max_tokens=10)
    # 100 tokens of text, 4 of template, 10 of answer: 14 more than 100.
    assert caught.value.excess_tokens == 14
    assert script.asked == book.calls == []


def test_an_unpriced_call_has_no_cost_in_its_record() -> None:
    with FakeProvider() as provider:
        lm, book = open_client(at(provider, price={}))
        lm.complete([user("hi")], ledger=Ledger(), max_tokens=16)
    assert book.column("cost_usd") == [None]


# -- roles ----------------------------------------------------------------------------------


def test_a_role_without_a_model_speaks_through_root() -> None:
    root = ScriptedModel("big", script=lambda _: "root")
    sub = ScriptedModel("small", context_window=50, script=lambda _: "sub")
    book = Notebook()
    lm = ModelClient({"root": root, "sub": sub}, book).lm("r", memory_scope="s")
    for tags, text in ((SUB, "sub"), (CallTags("summarize"), "root"), (CallTags(), "root")):
        assert lm.complete([user("x")], ledger=Ledger(), max_tokens=8, tags=tags).text == text
    assert book.column("model") == ["small", "big", "big"]
    assert (lm.info("sub").context_window, lm.info("judge").name) == (50, "big")
    assert lm.count_tokens("x" * 40) == lm.prompt_tokens([user("x" * 40)]) == 14


# -- what a prompt cache of the arm's own would give ---------------------------------------


def test_the_arms_own_prefixes_are_priced_whatever_the_bill_says() -> None:
    """The bill depends on who asked before; the arm's own price and the list price don't."""
    text = "".join(f"line {i}\n" for i in range(2000))
    price = {"input": 100.0, "output": 200.0, "cached_input": 10.0}
    prompts = (("a", text + "one"), ("a", text + "two"), ("b", text + "two"))
    first, second, other = sent_to_a_counting_provider(prompts, price)
    tokens, reply = len(text + "one") // 3, COMPLETION_TOKENS * 200e-6
    assert first.reused_tokens == other.reused_tokens == 0
    assert 0.9 * tokens <= second.reused_tokens < tokens
    for call in (first, second, other):
        assert call.list_usd == pytest.approx(tokens * 100e-6 + reply)
        saved = call.reused_tokens * 90e-6
        assert call.own_usd == pytest.approx(tokens * 100e-6 + reply - saved)


@pytest.mark.parametrize(("size", "kept"), [(3_000, False), (3_700, True)])
def test_a_cache_keeps_a_beginning_of_1024_tokens(size: int, kept: bool) -> None:
    """Tokens as the provider counts them, here three bytes each; the prompts' ends differ."""
    prompts = [("a", "x" * size + end) for end in ("one", "two")]
    first, second = sent_to_a_counting_provider(prompts, {"input": 1.0, "output": 1.0})
    assert first.reused_tokens == 0
    assert second.reused_tokens >= 1024 if kept else second.reused_tokens == 0


def sent_to_a_counting_provider(
    prompts: Sequence[tuple[str, str]], price: Mapping[str, float]
) -> list[Call]:
    """The calls of prompts, each with its arm's scope, a token for three characters."""

    def count(handler: Any) -> None:
        tokens = len(handler.body["messages"][-1]["content"]) // 3
        usage = USAGE | {"prompt_tokens": tokens, "total_tokens": tokens + COMPLETION_TOKENS}
        handler.send_json(200, chat_reply(usage=usage))

    with FakeProvider([count] * len(prompts)) as provider:
        book = Notebook()
        model = at(provider, price=price, context_window=100_000)
        client = ModelClient({"root": model}, book, retry=QUICK, memoize=False)
        for scope, prompt in prompts:
            lm = client.lm("result", memory_scope=scope)
            lm.complete([user(prompt)], ledger=Ledger(), max_tokens=16)
    return book.calls


def test_a_prefix_is_one_of_its_arm_and_whole_steps() -> None:
    prefixes = Prefixes()
    long, short = [user("x" * 10_000)], [user("y" * 300)]
    assert [prefixes.reused("arm", m) for m in (long, short)] == [0.0, 0.0]
    assert prefixes.reused("arm", short) == 0.0
    assert prefixes.reused("arm", long) > 0.9
    assert prefixes.reused("other", long) == 0.0


def test_a_cache_of_whole_messages_keeps_no_part_of_one() -> None:
    """Anthropic's: what differs at the end of the only message is written anew."""
    prefixes, text = Prefixes(), "x" * 10_000
    one, other = [user(f"{text}?")], [user(f"{text}!")]
    assert [prefixes.reused("a", m, by_message=True) for m in (one, other)] == [0.0, 0.0]
    assert prefixes.reused("a", one, by_message=True) == 0.0, "nobody asked to keep it"
    chat = [*one, {"role": "assistant", "content": "well"}, user("more")]
    shares = [prefixes.reused("a", [*chat, *more], by_message=True) for more in ([], one)]
    assert shares[0] == 0.0
    assert 0.4 < shares[1] < 0.6, "all but the last message's text"
    instructed = [{"role": "system", "content": text}, user("?")]
    again = [prefixes.reused("b", instructed, by_message=True) for _ in range(2)]
    assert (again[0], again[1] > 0.9) == (0.0, True)
