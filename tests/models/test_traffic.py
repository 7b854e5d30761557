"""The gate in front of an endpoint: by hand with a clock of its own, and over real HTTP."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from helpers.fake_provider import BEHAVIOURS, FakeProvider
from helpers.waiting import eventually
from rlm_eval.errors import BudgetExceeded, ConfigError, ProviderError
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models import traffic
from rlm_eval.models.client import ModelClient, RetryPolicy
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import user
from rlm_eval.models.traffic import Limits, Traffic


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


BAD_REQUEST = ProviderError("no", kind="bad_request", retryable=False)


def refused(retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("busy", kind="rate_limit", retryable=True, retry_after_s=retry_after_s)


def entered(gate: Traffic, tokens: int = 1) -> float | None:
    """Without waiting: when a place was given, or None."""
    return gate.enter(tokens, timeout_s=0.0)


def test_no_more_at_once_than_allowed() -> None:
    gate = Traffic(Limits(start=2))
    first = entered(gate)
    assert first is not None
    assert entered(gate) is not None
    assert entered(gate) is None
    gate.leave(first, BAD_REQUEST)
    assert entered(gate) is not None


def test_a_round_of_answers_allows_one_more_up_to_the_most() -> None:
    gate = Traffic(Limits(start=2, most=3))
    for allowed in (2, 3, 3, 3, 3, 3):
        place = entered(gate)
        assert place is not None
        gate.leave(place)
        assert gate.allowed == allowed


def test_a_failure_that_is_no_refusal_changes_nothing() -> None:
    gate = Traffic(Limits(start=1, most=9))
    place = entered(gate)
    assert place is not None
    gate.leave(place, BAD_REQUEST)
    assert gate.allowed == 1


def test_a_server_that_only_queues_is_sent_less() -> None:
    gate = Traffic(Limits(start=8))
    place = entered(gate)
    assert place is not None
    gate.leave(place, ProviderError("no reply", kind="timeout", retryable=True))
    assert gate.allowed == 4


def test_whoever_waits_for_a_place_gets_one() -> None:
    """One is woken for each place, some of which are given up at once."""
    gate, done = Traffic(Limits(start=3, most=5)), []

    def ask(number: int) -> None:
        place = gate.enter(1, timeout_s=0.01 if number % 3 == 0 else None)
        if place is not None:
            time.sleep(0.002)
            gate.leave(place, refused() if number % 7 == 0 else None)
            done.append(number)

    with ThreadPoolExecutor(60) as pool:
        list(pool.map(ask, range(300)))
    assert {n for n in range(300) if n % 3} <= set(done)


def test_a_crowd_that_is_refused_halves_it_once_and_never_below_one() -> None:
    clock = Clock()
    gate = Traffic(Limits(start=8), clock=clock)
    crowd = [entered(gate) for _ in range(8)]
    clock.now += 1
    for place in crowd:
        assert place is not None
        gate.leave(place, refused())
    assert gate.allowed == 4
    for expected in (2, 1, 1):
        clock.now += 1
        place = entered(gate)
        assert place is not None
        clock.now += 1
        gate.leave(place, refused())
        assert gate.allowed == expected


def test_a_pause_that_the_provider_asks_for_holds_everybody_back() -> None:
    clock = Clock()
    gate = Traffic(Limits(), clock=clock)
    place = entered(gate)
    assert place is not None
    gate.leave(place, refused(30.0))
    assert entered(gate) is None
    clock.now += 29.9
    assert entered(gate) is None
    clock.now += 0.2
    assert entered(gate) is not None


@pytest.mark.parametrize("limits", [Limits(requests_per_minute=3), Limits(tokens_per_minute=30)])
def test_what_was_sent_in_the_last_minute_counts(limits: Limits) -> None:
    clock = Clock()
    gate = Traffic(limits, clock=clock)
    for _ in range(3):
        assert entered(gate, tokens=10) is not None
        clock.now += 10
    assert entered(gate, tokens=10) is None  # the first went out 30 s ago
    clock.now += 29
    assert entered(gate, tokens=10) is None
    clock.now += 1
    assert entered(gate, tokens=10) is not None
    assert entered(gate, tokens=10) is None


def steps(gate: Traffic) -> int:
    """Lines of code that one request passes in the gate."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == traffic.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        place = gate.enter(5)
        assert place is not None
        gate.leave(place)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(requests_per_minute=9000), Limits(tokens_per_minute=90_000)],
    ids=("no limit", "requests", "tokens"),
)
def test_what_was_sent_costs_nothing_while_no_limit_is_near(limits: Limits) -> None:
    clock = Clock()
    gate = Traffic(replace(limits, most=limits.start), clock=clock)
    first = steps(gate)
    for _ in range(5000):
        gate.leave(gate.enter(5) or 0.0)
    assert steps(gate) <= first + 10


def test_a_request_beyond_a_minutes_tokens_goes_out_alone() -> None:
    clock = Clock()
    gate = Traffic(Limits(tokens_per_minute=30), clock=clock)
    assert entered(gate, tokens=5) is not None
    assert entered(gate, tokens=500) is None
    clock.now += 60
    assert entered(gate, tokens=500) is not None


def test_a_waiting_request_goes_as_soon_as_there_is_room() -> None:
    gate = Traffic(Limits(start=1))
    place = entered(gate)
    assert place is not None
    threading.Timer(0.1, gate.leave, (place,)).start()
    began = time.monotonic()
    assert gate.enter(1, timeout_s=60) is not None
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "settings",
    [
        *({"start": 0}, {"most": 0}, {"requests_per_minute": 0}, {"start": 9, "most": 8}),
        *({"start": None}, {"most": None}),
    ],
)
def test_limits_that_can_send_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=min(settings)) as caught:
        Limits(**settings)
    assert caught.value.key in settings


def test_an_unknown_limit_is_refused() -> None:
    model = LitellmModel("openai/m", 100, api_base="http://localhost:1/v1", limits={"rpm": 3})
    with pytest.raises(ConfigError, match="has no rpm"):
        model.check()


def ask_all(
    provider: FakeProvider,
    n: int,
    limits: dict[str, int | None],
    name: str = "openai/m",
    **retry: Any,
) -> list[Any]:
    model = LitellmModel(name, 1000, api_base=provider.api_base, limits=limits)
    client = ModelClient({"root": model}, lambda call, reply: None, retry=RetryPolicy(**retry))
    lm, ledger = client.lm("key", memory_scope="arm"), Ledger()

    def ask(number: int) -> Any:
        try:
            return lm.complete([user(str(number))], ledger=ledger.child(), max_tokens=5).text
        except ProviderError as failure:
            return failure.kind

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(ask, range(n)))


def test_refusals_thin_out_what_is_sent_at_once() -> None:
    crowd = threading.Barrier(8, timeout=60)

    def refuse(handler: Any) -> None:
        crowd.wait()
        BEHAVIOURS["429"](handler)

    with FakeProvider([refuse] * 8) as provider:
        replies = ask_all(provider, 24, {"start": 8, "most": 8}, base_s=0.01, attempts=5)
    assert replies == ["fine"] * 24
    assert provider.most_at_once == 8
    assert provider.requests == 24 + 8  # each refused request was sent once more


@pytest.mark.parametrize("name", ["openai/m", "hosted_vllm/m"])
def test_as_many_requests_are_in_flight_as_the_limits_say(name: str) -> None:
    """httpx, which litellm sends by, would have 100."""
    crowd = threading.Barrier(130, timeout=60)

    def hold(handler: Any) -> None:
        crowd.wait()
        BEHAVIOURS["ok"](handler)

    with FakeProvider([hold] * 130) as provider:
        assert ask_all(provider, 130, {"start": 130, "most": 130}, name) == ["fine"] * 130


def test_one_refusal_that_names_a_time_holds_back_the_others_too() -> None:
    with FakeProvider(["429_later"]) as provider:
        assert ask_all(provider, 4, {"start": 1, "most": 1}, base_s=0.01) == ["fine"] * 4
    assert provider.gaps[0] >= 0.95


def test_a_cap_on_seconds_ends_the_wait_at_the_gate_with_nothing_sent() -> None:
    go = threading.Event()

    def hold(handler: Any) -> None:
        assert go.wait(60)
        BEHAVIOURS["ok"](handler)

    with FakeProvider([hold]) as provider:
        limits = {"start": 1, "most": 1}
        model = LitellmModel("openai/m", 1000, api_base=provider.api_base, limits=limits)
        client = ModelClient({"root": model}, lambda call, reply: None)
        lm, run = client.lm("key", memory_scope="arm"), Ledger()
        model.open()
        first = threading.Thread(
            target=lm.complete, args=([user("a")],), kwargs={"ledger": run, "max_tokens": 5}
        )
        first.start()
        assert eventually(lambda: provider.requests == 1)
        sample = run.child(Budget(seconds=0.3))
        with pytest.raises(BudgetExceeded, match=r"seconds=0\.3"):
            lm.complete([user("b")], ledger=sample, max_tokens=5)
        go.set()
        first.join()
    assert provider.requests == 1
    assert sample.spent.calls == 0
    assert run.remaining()["tokens"] is None
