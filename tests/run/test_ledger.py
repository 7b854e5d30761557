"""Budgets over the tree run ⊃ sample ⊃ child, worked out by hand and under 64 threads."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from rlm_eval.errors import BudgetExceeded, ConfigError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger, Spend, refuse_unpriced

CALL = Spend(1, 100, 0.01)


def spend(ledger: Ledger, reserved: Spend, spent: Spend) -> None:
    ledger.settle(ledger.reserve(reserved), spent)


@pytest.mark.parametrize(
    ("budget", "fits"),
    [
        (Budget(calls=3), 3),
        (Budget(tokens=299), 2),
        (Budget(tokens=300), 3),
        (Budget(usd=0.025), 2),
        (Budget(calls=5, tokens=100), 1),
    ],
)
def test_how_many_calls_of_100_tokens_and_a_cent_fit(budget: Budget, fits: int) -> None:
    ledger = Ledger(budget)
    for _ in range(fits):
        spend(ledger, CALL, CALL)
    with pytest.raises(RunBudgetExceeded):
        ledger.reserve(CALL)
    assert ledger.spent == Spend(fits, 100 * fits, pytest.approx(0.01 * fits))


def test_every_node_above_pays() -> None:
    run = Ledger(Budget(calls=10))
    sample = run.child(Budget(tokens=1000))
    child = sample.child(scope="child")
    spend(child, CALL, Spend(1, 60, 0.004))
    spend(sample, CALL, Spend(1, 40, 0.002))
    assert child.spent == Spend(1, 60, 0.004)
    assert sample.spent == Spend(2, 100, pytest.approx(0.006))
    assert run.spent == Spend(2, 100, pytest.approx(0.006))
    assert run.remaining()["calls"] == 8
    # What a question is told of knows nothing of the run's cap, which others spend as well.
    assert child.remaining() == {"calls": None, "tokens": 900, "usd": None, "seconds": None}


def test_a_child_cannot_spend_what_its_sample_has_not() -> None:
    sample = Ledger().child(Budget(calls=2))
    child = sample.child(Budget(calls=50), scope="child")
    spend(child, CALL, CALL)
    spend(child, CALL, CALL)
    with pytest.raises(BudgetExceeded, match="sample's cap calls=2"):
        child.reserve(CALL)


def test_whose_cap_is_spent_decides_the_error() -> None:
    run = Ledger(Budget(calls=1))
    spend(run.child(), CALL, CALL)
    with pytest.raises(RunBudgetExceeded, match="run's cap calls=1"):
        run.child(Budget(calls=5)).reserve(CALL)
    with pytest.raises(BudgetExceeded, match="child's cap tokens=50"):
        Ledger().child(Budget(tokens=50), scope="child").reserve(CALL)


def test_a_batch_is_held_as_a_whole_or_not_at_all() -> None:
    ledger = Ledger(Budget(calls=3)).child(Budget(calls=100))
    with pytest.raises(RunBudgetExceeded):
        ledger.reserve_all([CALL] * 4)
    assert ledger.run.remaining()["calls"] == 3
    held = ledger.reserve_all([CALL] * 3)
    assert ledger.run.remaining()["calls"] == 0
    ledger.release(held)
    assert ledger.run.remaining()["calls"] == 3


def test_what_was_reserved_and_not_spent_comes_back() -> None:
    ledger = Ledger(Budget(tokens=1000))
    spend(ledger, Spend(1, 900), Spend(1, 50))
    assert ledger.remaining()["tokens"] == 950


def test_a_request_waits_while_calls_in_flight_may_leave_it_room() -> None:
    ledger = Ledger(Budget(tokens=1000))
    first = ledger.reserve(Spend(1, 900))
    got = threading.Event()

    def second() -> None:
        ledger.reserve(Spend(1, 500))
        got.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not got.wait(0.1)
    ledger.settle(first, Spend(1, 100))
    assert got.wait(20)
    thread.join()


def test_a_waiting_request_is_refused_once_the_cap_is_really_spent() -> None:
    ledger = Ledger(Budget(tokens=1000))
    first = ledger.reserve(Spend(1, 900))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.reserve, Spend(1, 500))
        time.sleep(0.05)
        assert not waiting.done()
        ledger.settle(first, Spend(1, 900))
        assert isinstance(waiting.exception(20), RunBudgetExceeded)


def test_without_wait_what_is_held_is_in_the_way_and_does_not_stop_the_run() -> None:
    ledger = Ledger(Budget(calls=1))
    held = ledger.reserve(CALL)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(CALL, wait=False)
    ledger.settle(held, Spend())
    ledger.settle(ledger.reserve(CALL, wait=False), CALL)
    with pytest.raises(RunBudgetExceeded):
        ledger.reserve(CALL, wait=False)


def test_a_ledger_affords_what_it_would_hold_without_waiting() -> None:
    run = Ledger(Budget(usd=0.05))
    sample = run.child(Budget(calls=3))
    assert sample.affords(Spend(3, 300, 0.05))
    assert not sample.affords(Spend(4, 400, 0.04))
    assert sample.affords(Spend(1, 100, 0.06)), "the run's cap is waited for"
    assert not run.affords(Spend(1, 100, 0.06))
    sample.reserve(Spend(2, 200, 0.02))
    assert sample.affords(Spend(1, 100, 0.03))
    assert not sample.affords(Spend(2, 200, 0.02)), "calls in flight count at their worst"
    assert run.affords(Spend(2, 200, 0.02))
    assert sample.spent == Spend()


def test_a_retry_keeps_its_place_and_pays_for_the_failed_attempt() -> None:
    ledger = Ledger(Budget(calls=3, tokens=250))
    held = ledger.reserve(CALL)
    ledger.renew(held, Spend(1, 0, 0.0))
    assert ledger.spent.calls == 1
    assert ledger.remaining()["calls"] == 1
    assert ledger.remaining()["tokens"] == 150
    ledger.renew(held, Spend(1, 90, 0.0))
    assert ledger.remaining()["tokens"] == 60
    with pytest.raises(RunBudgetExceeded):
        ledger.renew(held, Spend(1, 0, 0.0))
    assert ledger.spent == Spend(3, 90)
    with pytest.raises(ValueError, match="once"):
        ledger.settle(held, CALL)


def test_a_retry_never_waits_for_its_own_batch() -> None:
    """Nor does it stop the run, as long as that only waits: for the batch's rest."""
    ledger = Ledger(Budget(calls=2))
    first, second = ledger.reserve_all([CALL, CALL])
    with pytest.raises(BudgetExceeded):
        ledger.renew(first, Spend(1))  # nobody would wake it
    with pytest.raises(RunBudgetExceeded):
        ledger.renew(second, Spend(1))


def test_a_reservation_is_settled_once() -> None:
    ledger = Ledger()
    held = ledger.reserve(CALL)
    ledger.settle(held, CALL)
    with pytest.raises(ValueError, match="once"):
        ledger.settle(held, CALL)
    ledger.release([held])
    assert ledger.spent == CALL


def test_an_unpriced_model_under_a_dollar_cap_is_refused() -> None:
    two, told = (
        {"model": "m1", "embed_model": "m2"},
        r"m1 and m2 has no .* 'embed_model\.price=",
    )
    with pytest.raises(ConfigError, match=rf"budget\.run\.usd.*{told}"):
        refuse_unpriced({"run": Budget(usd=1.0), "sample": Budget()}, two)
    refuse_unpriced({"run": Budget(usd=1.0)}, {})
    refuse_unpriced({"run": Budget(tokens=1)}, {"model": "m1"})


def test_without_a_dollar_cap_the_cost_of_an_unpriced_model_is_unknown_not_zero() -> None:
    ledger = Ledger(Budget(calls=5))
    spend(ledger, CALL, CALL)
    spend(ledger, Spend(1, 10, None), Spend(1, 10, None))
    assert ledger.spent == Spend(2, 110, None)


def test_a_spent_second_stops_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("rlm_eval.ledger.time", SimpleNamespace(monotonic=lambda: now))
    sample = Ledger().child(Budget(seconds=0.05))
    spend(sample, CALL, CALL)
    now += 0.06
    with pytest.raises(BudgetExceeded, match=r"seconds=0\.05"):
        sample.reserve(CALL)
    assert sample.seconds_left() == 0.0


def test_one_who_waits_is_told_when_the_time_is_up() -> None:
    run = Ledger(Budget(tokens=100))
    run.reserve(CALL)
    started = time.monotonic()
    with pytest.raises(BudgetExceeded, match="seconds"):
        run.child(Budget(seconds=0.3)).reserve(CALL)
    assert 0.3 <= time.monotonic() - started < 20


def test_a_resumed_run_has_only_the_rest() -> None:
    ledger = Ledger(Budget(calls=10, seconds=100))
    ledger.add_past(Spend(9, 900, 0.09), seconds=70)
    assert ledger.remaining()["calls"] == 1
    left = ledger.seconds_left()
    assert left is not None
    assert 20 < left <= 30


def test_rounding_leaves_nobody_waiting() -> None:
    """In floats 0.1 + 0.2 - 0.1 - 0.2 is a trace above 0, and 0.31 on top of it above 0.31."""
    assert 0.1 + 0.2 - 0.1 - 0.2 + 0.31 > 0.31
    ledger = Ledger(Budget(usd=0.31))
    held = ledger.reserve_all([Spend(1, 0, 0.1), Spend(1, 0, 0.2)])
    ledger.release(held)
    ledger.reserve(Spend(1, 0, 0.31), wait=False)


def test_caps_hold_under_64_threads_and_depth_3() -> None:
    """Each thread is a sample with children; reserved is the worst case, spent is less."""
    cap = 100_000
    run = Ledger(Budget(calls=700, tokens=cap))
    passed: list[Spend] = []

    def sample(seed: int) -> int:
        rng, done = random.Random(seed), 0
        node = run.child(Budget(calls=40)).child(scope="child").child(scope="child")
        try:
            while True:
                batch = [Spend(1, 200)] * rng.randint(1, 5)
                for held in node.reserve_all(batch):
                    node.settle(held, Spend(1, rng.randint(1, 200)))
                    done += 1
                passed.append(run.spent)
        except (RunBudgetExceeded, BudgetExceeded):
            return done

    with ThreadPoolExecutor(64) as pool:
        made = list(pool.map(sample, range(64)))
    assert all(s.calls <= 700 and s.tokens <= cap for s in passed)
    assert max(made) <= 40
    assert sum(made) == run.spent.calls
    # Nobody stopped early: not even a single call of the worst size fits any more.
    assert run.spent.calls > 700 - 5 or run.spent.tokens > cap - 5 * 200
    assert run.remaining()["calls"] == 700 - run.spent.calls
