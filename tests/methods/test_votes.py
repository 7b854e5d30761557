"""Votes: the majority, how many a cap buys, and the temperature they are sampled at."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from helpers.chat import problem
from rlm_eval.errors import BudgetExceeded, ProviderError, SampleFailure
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.direct import Direct, majority, normalised, votes_within_cap
from rlm_eval.methods.method import Shape
from rlm_eval.models.client import ModelClient
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Call

TEXT = "The lamp is red.\n" * 100


@dataclass
class Voter(ScriptedModel):
    """A scripted model that gives ``replies`` in order and notes how it is asked."""

    replies: list[str | SampleFailure] = field(default_factory=list)
    price: Price | None = None
    endpoint: str = "scripted"
    temperatures: list[float | None] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    meeting: threading.Barrier | None = None
    events: list[str] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        base = super().info
        return replace(base, endpoint=self.endpoint, price=self.price or base.price)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        self.events.append("begun")
        if self.meeting and len(self.events) > 1:
            self.meeting.wait(timeout=20)
        self.temperatures.append(temperature)
        self.prompts.append(messages[-1]["content"])
        reply = self.replies.pop(0) if self.replies else "red"
        if isinstance(reply, SampleFailure):
            raise reply
        one = ScriptedModel(latency_s=self.latency_s, script=lambda messages: reply)
        done = one.complete(messages, max_tokens=max_tokens, temperature=temperature)
        self.events.append("done")
        return done


def vote(
    method: Direct,
    model: Voter,
    budget: Budget | None = None,
    *,
    run: Budget | None = None,
    temperature: float | None = 0.0,
) -> tuple[Answer, list[Call], Ledger]:
    calls: list[Call] = []
    client = ModelClient(
        {"root": model},
        lambda call, reply: calls.append(call),
        temperature=temperature,
    )
    ledger = Ledger(run).child(budget)
    got = method.answer(problem("Which?", TEXT), client.lm("k", memory_scope="arm"), ledger)
    return got, calls, ledger


def one_vote_tokens(method: Direct) -> int:
    """Tokens of one vote at its largest: the prompt and 32 of the reply."""
    _, calls, _ = vote(method, Voter(endpoint="local"))
    return calls[0].prompt_tokens + 32


# -- counting ------------------------------------------------------------------------------


def test_case_white_space_and_last_punctuation_make_no_other_vote() -> None:
    assert normalised("  The  Red\nlamp. ") == normalised("the red LAMP!") == "the red lamp"
    assert normalised("1.5") == "1.5"
    assert normalised("Answer: 3") != normalised("3")


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        (["red"], "red"),
        (["red", "blue", "Blue."], "blue"),
        (["red", "blue"], "red"),
        (["green", "blue", "red", "RED ", "blue"], "blue"),
    ],
)
def test_the_majority_wins_as_first_worded_and_ties_go_to_the_first(
    given: list[str], winner: str
) -> None:
    assert majority(given) == winner


def test_self_consistency_is_the_majority_of_its_votes() -> None:
    model = Voter(endpoint="local", replies=["blue", "red", "Red.", "", "green"])
    got, calls, _ = vote(Direct(votes=5, vote_temperature=0.9), model)
    assert (got.text, got.outcome, got.iterations) == ("red", "answered", 5)
    assert model.temperatures == [0.9] * 5
    assert len(set(model.prompts)) == 1, "all votes share the prompt"
    (event,) = got.trajectory
    assert event["type"] == "votes"
    assert [v["answer"] for v in event["votes"]] == ["blue", "red", "Red.", "", "green"]
    assert [v["call_id"] for v in event["votes"]] == [c.call_id for c in calls]
    assert got.spans_read == ((0, len(TEXT)),)


def test_votes_may_think_and_one_cut_off_abstains() -> None:
    lost = "so long " * 400
    model = Voter(endpoint="local", replies=[lost, lost, "well\n<answer>red</answer>"])
    got, _, _ = vote(Direct(votes=3, think=True, think_tokens=64), model)
    assert (got.text, got.outcome) == ("red", "answered")
    assert [v["taken"] for v in got.trajectory[0]["votes"]] == ["nothing", "nothing", "tag"]


def test_votes_that_all_say_nothing_are_no_answer() -> None:
    got, _, _ = vote(Direct(votes=2), Voter(replies=["", " "]))
    assert (got.text, got.outcome, got.error) == (None, "no_answer", "no answer in 2 replies")


def test_a_vote_that_fails_fails_the_sample() -> None:
    down = ProviderError("down", kind="unavailable", retryable=False)
    with pytest.raises(ProviderError):
        vote(Direct(votes=3), Voter(replies=["red", down, "red"]))


def test_the_first_vote_goes_ahead_and_the_others_of_a_hosted_model_go_side_by_side() -> None:
    model = Voter(latency_s=0.05, meeting=threading.Barrier(3))
    vote(Direct(votes=4), model)
    assert model.events[:2] == ["begun", "done"]
    assert model.events[2:5] == ["begun"] * 3


def test_votes_of_the_embedded_model_follow_each_other() -> None:
    model = Voter(latency_s=0.02, endpoint="local")
    vote(Direct(votes=4), model)
    assert model.events == ["begun", "done"] * 4


def test_a_provider_may_be_left_its_temperature() -> None:
    model = Voter()
    vote(Direct(votes=2, vote_temperature=None), model)
    assert model.temperatures == [None, None]


@pytest.mark.parametrize("method", [Direct(votes=3), Direct(matched=True)])
def test_a_run_that_leaves_the_temperature_to_its_provider_leaves_it_that_of_the_votes(
    method: Direct,
) -> None:
    model = Voter(replies=["red", "blue", "blue"])
    budget = Budget(tokens=3 * one_vote_tokens(Direct()))
    got, calls, _ = vote(method, model, budget, temperature=None)
    assert got.text == "blue"
    assert [call.cached_response for call in calls] == [False] * 3
    assert (got.trajectory[0]["first_at"], got.trajectory[0]["others_at"]) == (None, None)
    assert model.temperatures == [None] * 3


def test_the_forecast_is_what_a_run_sends() -> None:
    method = Direct(votes=4)
    _, calls, _ = vote(method, Voter(replies=["long " * 99] * 4))
    infos: Any = {"root": ModelInfo("m", "e", 100_000)}
    (expected,) = method.forecast(Shape(len(TEXT) // 4, 2, 32), infos)
    assert expected.calls == len(calls) == 4
    assert expected.prompt_tokens == pytest.approx(sum(c.prompt_tokens for c in calls), rel=0.05)
    assert expected.completion_tokens == sum(c.completion_tokens for c in calls)


# -- spending up to a cap ------------------------------------------------------------------


def test_direct_matched_adds_the_votes_its_cap_buys_to_its_own_reply() -> None:
    each = one_vote_tokens(Direct())
    model = Voter(endpoint="local", replies=["red", "blue", "blue"])
    method = Direct(matched=True, vote_temperature=0.5)
    got, calls, ledger = vote(method, model, Budget(tokens=3 * each + each // 2))
    assert got.text == "blue"
    assert len(calls) == 3
    assert model.temperatures == [0.0, 0.5, 0.5]
    assert 2 * each < ledger.spent.tokens <= 3 * each


@pytest.mark.parametrize("budget", [None, Budget(calls=7, seconds=60.0)])
def test_direct_without_a_cap_on_tokens_or_dollars_asks_once(budget: Budget | None) -> None:
    model = Voter()
    got, calls, _ = vote(Direct(matched=True), model, budget)
    assert (len(calls), model.temperatures, got.trajectory) == (1, [0.0], ())


def test_a_cap_of_the_run_is_not_one_samples_to_spend() -> None:
    _, calls, _ = vote(Direct(matched=True), Voter(), run=Budget(tokens=1_000_000))
    assert len(calls) == 1


def test_self_consistency_matched_has_the_votes_its_cap_buys_more_or_fewer() -> None:
    each = one_vote_tokens(Direct())
    for bought in (2, 7):
        method = Direct(votes=5, matched=True)
        _, calls, _ = vote(method, Voter(), Budget(tokens=bought * each))
        assert len(calls) == bought


def test_a_cap_on_calls_bounds_the_votes_too() -> None:
    _, calls, _ = vote(Direct(matched=True), Voter(), Budget(tokens=10**6, calls=3))
    assert len(calls) == 3


def test_a_cap_below_one_vote_is_exceeded_and_nothing_is_sent() -> None:
    model = Voter()
    with pytest.raises(BudgetExceeded):
        vote(Direct(matched=True), model, Budget(tokens=50))
    assert not model.temperatures


def test_votes_within_a_cap_by_hand() -> None:
    info = ModelInfo("m", "e", 8192, price=Price(input=2.0, output=10.0))

    def bought(**caps: Any) -> int | None:
        ledger = Ledger().child(Budget(**caps))
        return votes_within_cap(ledger, info, prompt_tokens=100, max_tokens=20)

    assert [bought(tokens=n) for n in (119, 120, 359, 360)] == [1, 1, 2, 3]
    # A vote costs 100 x 2 + 20 x 10 = 400 dollars a million.
    assert [bought(usd=n / 1e6) for n in (399, 1300, 1700)] == [1, 3, 4]
    assert bought(tokens=1200, usd=1300 / 1e6) == 3
    assert bought(calls=5) is None
    # With 30 tokens to think unseen: 150 tokens, and 700 dollars a million.
    info = replace(info, reasoning_tokens=30)
    assert [bought(tokens=n) for n in (299, 300)] == [1, 2]
    assert [bought(usd=n / 1e6) for n in (1300, 1500)] == [1, 2]
    free = replace(info, price=Price(0.0, 0.0))
    ledger = Ledger().child(Budget(usd=1.0))
    assert votes_within_cap(ledger, free, prompt_tokens=100, max_tokens=20) is None


def test_dollars_are_spent_up_to_their_cap() -> None:
    price = Price(input=2.0, output=10.0)
    _, calls, _ = vote(Direct(), Voter(price=price))
    each = calls[0].prompt_tokens * 2.0 + 32 * 10.0
    _, calls, ledger = vote(Direct(matched=True), Voter(price=price), Budget(usd=4.5 * each / 1e6))
    assert len(calls) == 4
    assert ledger.spent.usd is not None
    assert ledger.spent.usd <= 4.5 * each / 1e6
