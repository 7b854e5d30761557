"""What the client remembers: sub-calls at temperature 0, once, for their own arm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from helpers.clients import SUB, Notebook, Plan, at, down, open_client, prompts
from helpers.fake_provider import FakeProvider
from rlm_eval.errors import ConfigError, ProviderError, RunBudgetExceeded
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import CallTags, Completion, ModelClient
from rlm_eval.models.litellm_client import LitellmModel
from rlm_eval.models.protocol import user
from rlm_eval.models.scripted import ScriptedModel


def test_what_was_asked_before_is_remembered_and_counted_as_cached() -> None:
    script = Plan([])
    lm, book = open_client(ScriptedModel(script=script))
    ledger = Ledger()
    first = lm.complete([user("same")], ledger=ledger, max_tokens=16, tags=SUB)
    again = lm.complete([user("same")], ledger=ledger, max_tokens=16, tags=SUB)
    other = lm.complete([user("same")], ledger=ledger, max_tokens=17, tags=SUB)
    assert len(script.asked) == 2
    assert (first.cached_response, again.cached_response, other.cached_response) == (0, 1, 0)
    assert again.text == first.text
    assert again.call_id != first.call_id
    assert book.column("cached_response") == [False, True, False]
    assert book.calls[1].prompt_tokens == book.calls[1].cost_usd == 0
    assert ledger.spent.calls == 2


@pytest.mark.parametrize(
    ("tags", "temperature"), [(CallTags("root"), 0.0), (CallTags("summarize"), 0.0), (SUB, 0.7)]
)
def test_only_sub_calls_at_temperature_zero_are_remembered(
    tags: CallTags, temperature: float
) -> None:
    script = Plan([])
    lm, _ = open_client(ScriptedModel(script=script), temperature=temperature)
    for _ in range(2):
        lm.complete([user("same")], ledger=Ledger(), max_tokens=16, tags=tags)
    assert len(script.asked) == 2


@pytest.mark.parametrize("temperature", [0.7, None])
def test_sub_calls_sampled_on_request_are_never_remembered(temperature: float | None) -> None:
    script = Plan([])
    lm, book = open_client(ScriptedModel(script=script), temperature=0.0)
    lm.complete([user("same")], ledger=Ledger(), max_tokens=16, tags=SUB)
    ledger = Ledger().child(Budget(calls=3))
    outcomes = lm.complete_batch(
        prompts(*["same"] * 3), ledger=ledger, max_tokens=16, tags=SUB, temperature=temperature
    )
    assert len(script.asked) == 1 + len(outcomes) == 4
    assert book.column("cached_response") == [False] * 4
    assert ledger.spent.calls == 3


def test_a_call_is_sent_at_its_own_temperature_or_else_the_runs() -> None:
    with FakeProvider() as provider:
        lm, _ = open_client(at(provider), temperature=0.0)
        lm.complete([user("a")], ledger=Ledger(), max_tokens=16)
        lm.complete([user("a")], ledger=Ledger(), max_tokens=16, temperature=0.7)
        lm.complete([user("a")], ledger=Ledger(), max_tokens=16, temperature=None)
    assert [body.get("temperature", "none") for body in provider.received] == [0.0, 0.7, "none"]


def test_no_temperature_is_ever_sent_where_the_run_leaves_it_to_the_provider() -> None:
    with FakeProvider(["own_temperature"] * 3) as provider:
        lm, _ = open_client(at(provider), temperature=None)
        for asked in ("run", 0.7, None):
            lm.complete([user("a")], ledger=Ledger(), max_tokens=16, temperature=asked)
    assert provider.requests == 3


def test_a_model_that_litellm_sends_no_temperature_is_refused() -> None:
    """Its answers would be kept as those of temperature 0."""
    address = {"api_base": "http://127.0.0.1:9/v1", "fixed_api_key": "none"}
    with pytest.raises(ConfigError, match="own_temperature must be true: litellm sends it none"):
        LitellmModel("moonshot/kimi-k2.5", 1000, **address).open()
    LitellmModel("moonshot/kimi-k2.5", 1000, own_temperature=True, **address).open()
    LitellmModel("openai/gpt-4o", 1000, **address).open()


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_twins_in_one_batch_are_asked_once_and_paid_once(concurrency: int) -> None:
    script = Plan([])
    lm, book = open_client(ScriptedModel(latency_s=0.01, script=script))
    ledger = Ledger().child(Budget(calls=2))
    outcomes = lm.complete_batch(
        prompts("a", "b", "a", "a", "b", "a"),
        ledger=ledger,
        max_tokens=16,
        tags=SUB,
        concurrency=concurrency,
    )
    assert len(outcomes) == len(book.calls) == 6
    assert sorted(script.asked) == ["a", "b"]
    assert sorted(book.column("cached_response")) == [False] * 2 + [True] * 4
    assert ledger.spent.calls == 2
    assert ledger.remaining()["calls"] == 0


def together(*jobs: Callable[[], object]) -> list[BaseException | object]:
    """Each job on a thread of its own; what it gave or raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [f.exception(100) or f.result() for f in futures]


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released by everyone who waits for the answer to what another one asked."""
    semaphore = threading.Semaphore(0)

    class Awaited(Future[Completion]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            semaphore.release()
            return super().exception(timeout)

    monkeypatch.setattr("rlm_eval.models.memory.Future", Awaited)
    return semaphore


def test_those_who_wait_for_a_failing_call_share_its_failure_and_it_is_not_remembered(
    waiting: threading.Semaphore,
) -> None:
    def fail_all() -> ProviderError:
        assert waiting.acquire(timeout=60)
        assert waiting.acquire(timeout=60)
        return ProviderError("no", kind="bad_request", retryable=False)

    script = Plan([fail_all])
    lm, _ = open_client(ScriptedModel(script=script))

    def ask() -> Completion:
        return lm.complete([user("same")], ledger=Ledger(), max_tokens=16, tags=SUB)

    ends = together(ask, ask, ask)
    assert all(isinstance(e, ProviderError) for e in ends)
    assert len(script.asked) == 1
    assert ask().text == "fine"


def test_anothers_spent_budget_is_not_ones_own(waiting: threading.Semaphore) -> None:
    """The first asker's retry does not fit the run of its own ledger; the second has another."""
    asked = threading.Event()

    def fail() -> ProviderError:
        asked.set()
        assert waiting.acquire(timeout=60)
        return down()

    script = Plan([fail, "fine"])
    lm, book = open_client(ScriptedModel(script=script))
    poor, rich = Ledger(Budget(calls=1)), Ledger().child(Budget(calls=5))

    def ask(ledger: Ledger) -> Completion:
        return lm.complete([user("same")], ledger=ledger, max_tokens=16, tags=SUB)

    first, second = together(lambda: ask(poor), lambda: asked.wait(60) and ask(rich))
    assert isinstance(first, RunBudgetExceeded)
    assert isinstance(second, Completion)
    assert second.text == "fine"
    assert not second.cached_response
    assert (poor.spent.calls, rich.spent.calls) == (1, 1)
    assert len(book.calls) == 2


def test_results_do_not_remember_for_other_arms() -> None:
    script = Plan([])
    client = ModelClient({"root": ScriptedModel(script=script)}, Notebook())
    for scope in ("rlm|0", "rlm|1", "rlm_d0|0"):
        lm = client.lm("r", memory_scope=scope)
        lm.complete([user("same")], ledger=Ledger(), max_tokens=16, tags=SUB)
    assert len(script.asked) == 3
