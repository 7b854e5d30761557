"""Several tries of any method: what is chosen, how many a cap buys, what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import problem
from rlm_eval.analysis.load import load_results
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import (
    BudgetExceeded,
    ConfigError,
    ContextOverflow,
    ProviderError,
    RunBudgetExceeded,
    SampleFailure,
)
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Shape
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.tries import MOST_TRIES, Choose, Tries, normalised
from rlm_eval.models.client import LM, ModelClient
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer, Call, Problem
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import FINISHED, carry_out_parts

TEXT = "The lamp is red.\n" * 100


@dataclass
class Voter(ScriptedModel):
    """A scripted model that gives ``replies`` in order and notes how it is asked."""

    replies: list[str | SampleFailure] = field(default_factory=list)
    price: Price | None = None
    temperatures: list[float | None] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        base = super().info
        return replace(base, price=self.price or base.price)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        self.temperatures.append(temperature)
        self.prompts.append(messages[-1]["content"])
        reply = self.replies.pop(0) if self.replies else "red"
        if isinstance(reply, SampleFailure):
            raise reply
        one = ScriptedModel(script=lambda messages: reply)
        return one.complete(messages, max_tokens=max_tokens, temperature=temperature)


def tried(
    method: Tries | Direct,
    model: Voter,
    budget: Budget | None = None,
    *,
    run: Budget | None = None,
    temperature: float | None = 0.0,
) -> tuple[Answer, list[Call], Ledger]:
    calls: list[Call] = []
    client = ModelClient(
        {"root": model}, lambda call, reply: calls.append(call), temperature=temperature
    )
    ledger = Ledger(run).child(budget)
    got = method.answer(problem("Which?", TEXT), client.lm("k", memory_scope="arm"), ledger)
    return got, calls, ledger


def dearest_try() -> int:
    """Tokens of one try of ``direct`` at its largest: the prompt and 32 of the reply."""
    _, calls, _ = tried(Direct(), Voter())
    return calls[0].prompt_tokens + 32


# -- choosing ------------------------------------------------------------------------------


def test_case_white_space_and_last_punctuation_make_no_other_answer() -> None:
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
        (["blue", "red", "Red.", "", "green"], "red"),
    ],
)
def test_the_majority_wins_as_first_worded_and_ties_go_to_the_first(
    given: list[str], winner: str
) -> None:
    model = Voter(replies=list(given))
    got, calls, _ = tried(Tries(Direct(), tries=len(given), temperature=0.9), model)
    assert (got.text, got.outcome, got.iterations) == (winner, "answered", len(given))
    assert model.temperatures == [0.9] * len(given)
    assert len(set(model.prompts)) == 1, "all tries share the prompt"
    assert [e["answer"] for e in got.trajectory] == [text if text else None for text in given]
    assert got.spans_read == ((0, len(TEXT)),)
    assert len(calls) == len(given)


@pytest.mark.parametrize(
    ("choice", "winner"),
    [
        *(("[2]", "blue"), ("2", "blue"), ("7", "red"), ("neither", "red")),
        *(("Of 1 and 2, [2]", "blue"), ("Blue.", "blue")),
    ],
)
def test_a_judge_sees_the_different_answers_and_not_the_input(choice: str, winner: str) -> None:
    model = Voter(replies=["red", "blue", "Red.", choice])
    got, calls, _ = tried(Tries(Direct(), tries=3, choose="judge"), model)
    assert got.text == winner
    assert len(calls) == 4, "the choice is a call, and paid"
    assert model.temperatures[-1] == 0.0, "the choice is the run's own"
    shown = model.prompts[-1]
    assert "[1] (given 2 times)\nred" in shown
    assert "[2] (given 1 time)\nblue" in shown
    assert "lamp" not in shown


def test_a_judge_that_repeats_an_answer_means_that_one() -> None:
    """Whose number is not a candidate's."""
    model = Voter(replies=["Number: 2", "Number: 5", "Number: 2"])
    got, _, _ = tried(Tries(Direct(), tries=2, choose="judge"), model)
    assert got.text == "Number: 2"
    model = Voter(replies=["2", "1", "[1]"])
    assert tried(Tries(Direct(), tries=2, choose="judge"), model)[0].text == "2"
    model = Voter(replies=["2", "1", "1"])
    assert tried(Tries(Direct(), tries=2, choose="judge"), model)[0].text == "2"


def test_where_all_say_the_same_no_judge_is_asked() -> None:
    _, calls, _ = tried(Tries(Direct(), tries=3, choose="judge"), Voter())
    assert len(calls) == 3


def test_tries_may_think_and_one_cut_off_abstains() -> None:
    lost = "so long " * 400
    model = Voter(replies=[lost, lost, "well\n<answer>red</answer>"])
    got, _, _ = tried(Tries(Direct(think=True, think_tokens=64), tries=3), model)
    assert (got.text, got.outcome) == ("red", "answered")
    thoughts = [e["taken"] for e in got.trajectory if e["type"] == "thought"]
    assert thoughts == ["nothing", "nothing", "tag"]


def test_tries_that_all_say_nothing_are_no_answer() -> None:
    got, _, _ = tried(Tries(Direct(), tries=2), Voter(replies=["", " "]))
    assert (got.text, got.outcome) == (None, "no_answer")
    assert got.error.startswith("no answer in 2 tries")


def test_a_try_that_fails_at_the_provider_leaves_the_sample_pending() -> None:
    down = ProviderError("down", kind="unavailable", retryable=False)
    got, calls, _ = tried(Tries(Direct(), tries=3), Voter(replies=["red", down, "red"]))
    assert (got.text, got.outcome, len(calls)) == (None, "provider_error", 2)


class Ends(Direct):
    """Hands back its failures, as an agent does, in place of raising them."""

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        try:
            return super().answer(problem, lm, ledger)
        except SampleFailure as failure:
            return Answer(None, failure.outcome, iterations=1, error=str(failure))


def test_an_agents_try_that_fails_at_the_provider_leaves_the_sample_pending_too() -> None:
    down = ProviderError("down", kind="unavailable", retryable=False)
    got, calls, _ = tried(Tries(Ends(), tries=5), Voter(replies=["red", down, "red"]))
    assert (got.outcome, len(calls)) == ("provider_error", 2)


def test_an_agents_try_that_meets_the_cap_is_the_last() -> None:
    got, calls, _ = tried(Tries(Ends(), tries=5), Voter(), Budget(calls=2))
    assert (got.text, len(calls), len(got.trajectory)) == ("red", 2, 3)


@pytest.mark.parametrize("failure", [BudgetExceeded("its seconds"), ContextOverflow("its chat")])
def test_an_agents_try_that_meets_a_limit_of_its_own_abstains(failure: SampleFailure) -> None:
    model, cap = Voter(replies=[failure, "red", "red"]), Budget(calls=9)
    got, _, _ = tried(Tries(Ends(overflow="refuse"), tries=3), model, cap)
    tries = [event["outcome"] for event in got.trajectory if event["type"] == "try"]
    assert (got.text, tries) == ("red", [failure.outcome, "answered", "answered"])


def test_no_try_is_told_to_spend_the_cap_of_all() -> None:
    assert not Tries(Rag(matched=True)).of.matched


def test_what_the_run_has_left_does_not_end_a_samples_tries() -> None:
    """A sample that the run's cap cuts short is the runner's to leave pending."""
    each = dearest_try()
    method, cap = Tries(Direct(), matched=True), Budget(tokens=9 * each)
    with pytest.raises(RunBudgetExceeded):
        tried(method, Voter(), cap, run=Budget(tokens=3 * each))


def test_an_input_that_fits_no_window_is_refused_once() -> None:
    full = ContextOverflow("too large")
    got, _, _ = tried(Tries(Direct(overflow="refuse")), Voter(replies=[full] * 5))
    assert (got.outcome, len(got.trajectory)) == ("context_overflow", 1)


def test_a_provider_may_be_left_its_temperature() -> None:
    model = Voter()
    tried(Tries(Direct(), tries=2, temperature=None), model)
    tried(Tries(Direct(), tries=2), model, temperature=None)
    assert model.temperatures == [None] * 4


@pytest.mark.parametrize("choose", ["majority", "judge"])
def test_the_forecast_is_what_a_run_sends(choose: Choose) -> None:
    method = Tries(Direct(), tries=4, choose=choose)
    replies: list[str | SampleFailure] = [f"{n} is long " * 99 for n in range(4)]
    _, calls, _ = tried(method, Voter(replies=replies))
    infos: Any = {"root": ModelInfo("m", "e", 100_000)}
    expected = method.forecast(Shape(len(TEXT) // 4, 2, 32), infos)
    assert expected is not None
    assert sum(f.calls for f in expected) == len(calls)
    sent = sum(c.prompt_tokens for c in calls)
    assert sum(f.prompt_tokens for f in expected) == pytest.approx(sent, rel=0.05)
    again = expected[0].repeated_tokens
    assert again == pytest.approx(3 * calls[0].prompt_tokens, rel=0.05)


# -- spending up to a cap ------------------------------------------------------------------


@pytest.mark.parametrize("bought", [1, 2, 7])
def test_matched_has_the_tries_its_cap_buys_more_or_fewer(bought: int) -> None:
    cap = Budget(tokens=bought * dearest_try())
    _, calls, ledger = tried(Tries(Direct(), tries=5, matched=True), Voter(), cap)
    # The last is begun where one as dear as the dearest so far is left.
    assert len(calls) in (bought, bought + 1)
    assert ledger.spent.tokens <= (cap.tokens or 0)


def test_matched_without_a_cap_on_tokens_or_dollars_is_as_configured() -> None:
    for budget in (None, Budget(calls=7, seconds=60.0)):
        _, calls, _ = tried(Tries(Direct(), tries=3, matched=True), Voter(), budget)
        assert len(calls) == 3
    _, calls, _ = tried(Tries(Direct(), matched=True), Voter(), run=Budget(tokens=1_000_000))
    assert len(calls) == 5, "a cap of the run is not one sample's to spend"


def test_a_cap_that_is_met_ends_the_tries_and_what_they_said_counts() -> None:
    got, calls, _ = tried(Tries(Direct(), matched=True), Voter(), Budget(tokens=10**6, calls=3))
    assert (got.text, len(calls)) == ("red", 3)
    got, calls, _ = tried(Tries(Direct(), tries=5), Voter(), Budget(calls=2))
    assert (got.text, len(calls)) == ("red", 2)


def test_a_cap_below_one_try_is_exceeded_and_nothing_is_sent() -> None:
    model = Voter()
    got, _, _ = tried(Tries(Direct(), matched=True), model, Budget(tokens=50))
    assert got.outcome == BudgetExceeded.outcome
    assert not model.temperatures


def test_dollars_are_spent_up_to_their_cap_and_no_further() -> None:
    price = Price(input=2.0, output=10.0)
    _, calls, _ = tried(Direct(), Voter(price=price))
    each = calls[0].prompt_tokens * 2.0 + 32 * 10.0
    cap = 4.5 * each / 1e6
    _, calls, ledger = tried(Tries(Direct(), matched=True), Voter(price=price), Budget(usd=cap))
    assert len(calls) >= 4
    assert ledger.spent.usd is not None
    assert ledger.spent.usd <= cap


def test_a_method_that_costs_nothing_is_tried_a_bounded_number_of_times() -> None:
    price = Price(input=0.0, output=0.0)
    method = Tries(Direct(), matched=True)
    _, calls, _ = tried(method, Voter(price=price), Budget(usd=1.0))
    assert len(calls) == MOST_TRIES


# -- configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tries": 0}, "^tries must be at least 1"),
        ({"temperature": 0.0}, "^temperature must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tries(**{"of": Direct()} | settings)


@pytest.mark.parametrize(
    ("words", "family", "kind"),
    [
        ("method=[tries]", "rlm", "rlm"),
        ("method=[tries] method@method.tries.of=codeact", "code", "alternative"),
        ("method=[tries] method@method.tries.of=direct", "direct", "alternative"),
        ("method=[self_consistency]", "direct", "alternative"),
    ],
)
def test_any_method_is_tried_and_all_its_calls_are_its_rows(
    words: str, family: str, kind: str, tmp_path: Path
) -> None:
    small = [f"results_dir={tmp_path}", "model=scripted", "task=needle", "task.n=1"]
    small += ["task.lengths=[512]"]
    name = words.partition("[")[2].partition("]")[0]
    parts = assemble(check_config(compose_tree([*small, *words.split(), f"method.{name}.tries=2"])))
    assert carry_out_parts(parts) == FINISHED
    (row,) = load_results(parts.folder).to_dict("records")
    assert (row["arm_family"], row["arm_kind"]) == (family, kind)
    assert row["outcome"] in ("answered", "forced"), row["error"]
    assert row["calls"] >= 2
