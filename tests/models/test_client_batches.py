"""Many calls at once through the client: order, failures, caps that hold."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from helpers.clients import SUB, Plan, at, down, open_client, prompts, texts
from helpers.fake_provider import FakeProvider
from rlm_eval.errors import BudgetExceeded, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.models.protocol import BilledError, Usage
from rlm_eval.models.scripted import ScriptedModel


def test_no_prompts_no_calls() -> None:
    lm, book = open_client(ScriptedModel())
    spent = Ledger(Budget(calls=1))
    spent.settle(spent.reserve(Spend(1)), Spend(1))
    assert lm.complete_batch([], ledger=spent, max_tokens=16) == []
    assert book.calls == []


def test_answers_come_in_the_order_of_the_prompts_and_side_by_side() -> None:
    words = [f"word {i}" for i in range(24)]
    with FakeProvider(["echo"] * 24, latency_s=0.1) as provider:
        lm, book = open_client(at(provider))
        outcomes = lm.complete_batch(
            prompts(*words), ledger=Ledger(), max_tokens=16, tags=SUB, concurrency=8
        )
    # The echo is of the newest request, so only the multiset and the count are certain …
    assert len(outcomes) == 24
    assert provider.most_at_once <= 8
    assert provider.most_at_once > 1
    assert len({c.call_id for c in book.calls}) == 24

    # … and the order is shown by a model that knows whom it answers.
    lm, _ = open_client(ScriptedModel(latency_s=0.001, script=lambda m: m[-1]["content"].upper()))
    outcomes = lm.complete_batch(prompts(*words), ledger=Ledger(), max_tokens=16, tags=SUB)
    assert texts(outcomes) == [w.upper() for w in words]


def test_a_failed_call_is_an_error_value_beside_good_ones() -> None:
    final = ProviderError("no", kind="bad_request", retryable=False)
    lm, _ = open_client(ScriptedModel(context_window=100, script=Plan(["a", final, "c"])))
    outcomes = lm.complete_batch(
        prompts("1", "2", "3", "x" * 4000),
        ledger=Ledger(),
        max_tokens=16,
        tags=SUB,
        concurrency=1,
    )
    assert texts(outcomes) == ["a", "ProviderError", "c", "ContextOverflow"]


def test_a_batch_beyond_the_cap_sends_nothing() -> None:
    script = Plan([])
    lm, book = open_client(ScriptedModel(script=script))
    ledger = Ledger().child(Budget(calls=2))
    with pytest.raises(BudgetExceeded):
        lm.complete_batch(prompts("a", "b", "c"), ledger=ledger, max_tokens=16, tags=SUB)
    assert script.asked == book.calls == []
    assert ledger.remaining()["calls"] == 2


@pytest.mark.parametrize("whose", ["sample", "run"])
def test_retries_in_a_batch_that_fills_its_cap_end_and_do_not_wait_for_each_other(
    whose: str,
) -> None:
    """One worker: what the retry would wait for is queued behind it."""
    lm, _ = open_client(ScriptedModel(script=Plan([down(), "b", "c"])))
    cap = Budget(calls=3)
    ledger = Ledger().child(cap) if whose == "sample" else Ledger(cap).child()
    with pytest.raises(ProviderError):
        lm.complete_batch(
            prompts("a", "b", "c"), ledger=ledger, max_tokens=16, tags=SUB, concurrency=1
        )
    assert ledger.spent.calls == 1, "its question is pending, whatever the others say"
    assert (ledger if whose == "sample" else ledger.run).remaining()["calls"] == 2


def test_a_cap_on_seconds_ends_a_batch_in_its_middle() -> None:
    lm, _ = open_client(ScriptedModel(script=Plan([lambda: time.sleep(0.3) or "slow", "b", "c"])))
    ledger = Ledger().child(Budget(seconds=0.2))
    outcomes = lm.complete_batch(
        prompts("a", "b", "c"), ledger=ledger, max_tokens=16, tags=SUB, concurrency=1
    )
    assert texts(outcomes) == ["slow", "BudgetExceeded", "BudgetExceeded"]


def test_a_run_cap_inside_a_batch_frees_what_was_held_for_the_rest() -> None:
    billed = BilledError("silent", kind="timeout", retryable=True, usage=Usage(85))
    lm, _ = open_client(ScriptedModel(script=Plan([billed])))
    run = Ledger(Budget(tokens=100))
    with pytest.raises(RunBudgetExceeded):
        lm.complete_batch(
            prompts("a", "b", "c"), ledger=run.child(), max_tokens=16, tags=SUB, concurrency=1
        )
    left = 100 - run.spent.tokens
    assert run.remaining()["tokens"] == left >= 0
    run.reserve(Spend(tokens=left), wait=False)


def test_a_bug_inside_a_batch_frees_what_was_held_for_the_rest() -> None:
    lm, _ = open_client(ScriptedModel(script=Plan(["a", ZeroDivisionError("a bug")])))
    ledger = Ledger(Budget(calls=100))
    with pytest.raises(ZeroDivisionError):
        lm.complete_batch(
            prompts(*"abcdefgh"), ledger=ledger, max_tokens=16, tags=SUB, concurrency=1
        )
    assert ledger.remaining()["calls"] == 100 - ledger.spent.calls


def test_after_a_bug_nothing_more_of_a_batch_is_sent() -> None:
    """A journal that can't be written is one: what is sent then is paid and in no record."""
    script = Plan([lambda: time.sleep(0.3) or "slow", ZeroDivisionError("a bug")])
    lm, _ = open_client(ScriptedModel(script=script))
    with pytest.raises(ZeroDivisionError):
        lm.complete_batch(
            prompts(*"abcdefgh"), ledger=Ledger(), max_tokens=16, tags=SUB, concurrency=2
        )
    assert len(script.asked) == 2


@pytest.mark.slow
def test_a_cap_is_never_passed_by_64_samples_with_batches_and_faults() -> None:
    plan = ["ok", "500", "ok", "reset", "429", "ok", "empty_choices", "ok"] * 40
    with FakeProvider(plan) as provider:
        lm, book = open_client(at(provider, context_window=100_000))
        run = Ledger(Budget(calls=150, usd=2.0))

        def sample(number: int) -> str:
            ledger = run.child(Budget(calls=12)).child(scope="child")
            try:
                while True:
                    batch = prompts(*(f"{number} {ledger.spent.calls} {i}" for i in range(3)))
                    with suppress(ProviderError):
                        lm.complete_batch(batch, ledger=ledger, max_tokens=16, tags=SUB)
            except (BudgetExceeded, RunBudgetExceeded) as spent:
                return type(spent).__name__

        with ThreadPoolExecutor(64) as pool:
            ends = Counter(pool.map(sample, range(64)))
    assert ends["RunBudgetExceeded"] > 0
    assert provider.requests == len(book.calls) == run.spent.calls <= 150
    assert run.spent.usd is not None
    assert run.spent.usd <= 2.0
    # Every cent the provider charged is in the journal; estimates only ever add to it.
    billed = sum(p * 100 + c * 200 for p, c in provider.billed) / 1e6
    journal = sum(call.cost_usd or 0.0 for call in book.calls)
    assert journal == pytest.approx(run.spent.usd)
    certain = sum(c.cost_usd or 0.0 for c in book.calls if not c.usage_estimated)
    assert certain <= billed + 1e-9
    lost = [c for c in book.calls if c.usage_estimated]
    assert len(provider.billed) == len(lost) + sum(c.prompt_tokens == 40 for c in book.calls)
