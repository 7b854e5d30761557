"""Models that think unseen: their allowance in what is sent, reserved and fitted, and what a run
says where it was too small. The provider takes hidden tokens out of those that a request allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from helpers.chat import problem
from helpers.clients import at, open_client
from helpers.commands import run_tree
from helpers.fake_provider import COMPLETION_TOKENS, HIDDEN_TOKENS, PROMPT_TOKENS, FakeProvider
from helpers.proxied import served
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import BudgetExceeded, ContextOverflow
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Method
from rlm_eval.methods.rag.rag import Rag
from rlm_eval.methods.summarize.compaction import Compaction
from rlm_eval.methods.summarize.notes import SummarizeMapReduce
from rlm_eval.methods.tries import Tries
from rlm_eval.models.protocol import NOT_SAID, BilledError, Message, ModelInfo, Reply, user
from rlm_eval.models.scripted import ScriptedModel

ASKED = [user("how are you?")]


def test_a_reply_that_was_all_thought_is_empty_and_paid() -> None:
    with FakeProvider(["thinks"]) as provider:
        lm, book = open_client(at(provider))
        reply = lm.complete(ASKED, ledger=Ledger(), max_tokens=16)
    assert (reply.text, reply.finish_reason) == ("", "length")
    (call,) = book.calls
    assert (call.completion_tokens, call.reasoning_tokens) == (16, 16)


def test_the_allowance_is_sent_on_top_and_what_was_billed_is_recorded() -> None:
    with FakeProvider(["thinks"]) as provider:
        lm, book = open_client(at(provider, reasoning_tokens=HIDDEN_TOKENS))
        ledger = Ledger()
        reply = lm.complete(ASKED, ledger=ledger, max_tokens=16)
    assert (reply.text, reply.finish_reason) == ("fine", "stop")
    assert provider.received[0]["max_tokens"] == 16 + HIDDEN_TOKENS
    (call,) = book.calls
    assert call.completion_tokens == HIDDEN_TOKENS + COMPLETION_TOKENS
    assert call.reasoning_tokens == HIDDEN_TOKENS
    assert provider.billed == [(PROMPT_TOKENS, call.completion_tokens)]
    assert ledger.spent.tokens == PROMPT_TOKENS + call.completion_tokens


def test_gpt_5_is_told_by_its_own_name_for_it() -> None:
    with FakeProvider(["thinks"]) as provider:
        model = at(provider, name="openai/gpt-5", reasoning_tokens=HIDDEN_TOKENS)
        lm, _ = open_client(model, temperature=None)
        assert lm.complete(ASKED, ledger=Ledger(), max_tokens=16).text == "fine"
    assert provider.received[0]["max_completion_tokens"] == 16 + HIDDEN_TOKENS


def test_the_allowance_is_reserved() -> None:
    with FakeProvider(["thinks"]) as provider:
        model = at(provider, reasoning_tokens=HIDDEN_TOKENS)
        lm, _ = open_client(model)
        prompt, reply = model.count_tokens(ASKED), 16 + HIDDEN_TOKENS
        # at() prices a prompt's token at 100, a reply's at 200 dollars a million
        usd = (prompt * 100 + reply * 200) / 1e6
        for cap in (Budget(tokens=prompt + reply - 1), Budget(usd=usd * 0.999)):
            with pytest.raises(BudgetExceeded):
                lm.complete(ASKED, ledger=Ledger().child(cap), max_tokens=16)
        assert provider.requests == 0
        enough = Ledger().child(Budget(tokens=prompt + reply, usd=usd * 1.001))
        assert lm.complete(ASKED, ledger=enough, max_tokens=16).text == "fine"


def test_a_reply_that_never_came_is_counted_with_its_allowance() -> None:
    with FakeProvider(["reset"] * 3) as provider:
        lm, book = open_client(at(provider, reasoning_tokens=HIDDEN_TOKENS))
        with pytest.raises(BilledError):
            lm.complete(ASKED, ledger=Ledger(), max_tokens=16)
    assert book.column("completion_tokens") == [16 + HIDDEN_TOKENS] * 3


def test_prompt_allowance_and_text_fit_the_window_together() -> None:
    with FakeProvider(["thinks"]) as provider:
        model = at(provider, reasoning_tokens=HIDDEN_TOKENS)
        needed = model.count_tokens(ASKED) + 16 + HIDDEN_TOKENS
        lm, _ = open_client(replace(model, context_window=needed - 1))
        with pytest.raises(ContextOverflow) as caught:
            lm.complete(ASKED, ledger=Ledger(), max_tokens=16)
        assert caught.value.excess_tokens == 1
        assert provider.requests == 0
        lm, _ = open_client(replace(model, context_window=needed))
        assert lm.complete(ASKED, ledger=Ledger(), max_tokens=16).text == "fine"


def test_a_method_cuts_its_input_to_the_window_that_is_left() -> None:
    with FakeProvider(["thinks"]) as provider:
        model = at(provider, reasoning_tokens=HIDDEN_TOKENS)
        lm, _ = open_client(model)
        got = Direct().answer(problem("Which?", "The lamp is red.\n" * 999), lm, Ledger())
    assert (got.text, got.truncated_tokens > 0) == ("fine", True)
    (sent,) = provider.received
    size = model.count_tokens(sent["messages"])
    assert size + sent["max_tokens"] <= model.context_window
    assert size > model.context_window // 2


def test_a_foreign_engines_own_length_gets_the_allowance_too() -> None:
    with FakeProvider(["thinks"]) as provider:
        model = at(provider, reasoning_tokens=HIDDEN_TOKENS)
        with served(model) as it:
            reply = it.ask(max_tokens=16)
            (told, _) = it.client().models.list()
    assert reply.choices[0].message.content == "fine"
    assert reply.usage.completion_tokens_details.reasoning_tokens == HIDDEN_TOKENS
    assert provider.received[0]["max_tokens"] == 16 + HIDDEN_TOKENS
    assert told.model_extra["max_model_len"] == model.context_window - HIDDEN_TOKENS


@dataclass
class Thinker(ScriptedModel):
    """A scripted model that always thinks its whole allowance away."""

    thinks: int = 500

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, reasoning_tokens=self.thinks)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        allowed = max_tokens - self.thinks
        reply = super().complete(messages, max_tokens=allowed, temperature=temperature)
        completion = reply.usage.completion_tokens + self.thinks
        usage = replace(reply.usage, completion_tokens=completion, reasoning_tokens=self.thinks)
        return replace(reply, usage=usage)


@pytest.mark.parametrize(
    "method",
    [
        Tries(Direct(), matched=True),
        Rag(matched=True),
        Rag(matched=True, rerank=10),
        SummarizeMapReduce(matched=True),
        Compaction(matched=True),
    ],
    ids=lambda method: f"{type(method).__name__}",
)
@pytest.mark.parametrize("cap", [4000, 6000])
def test_methods_that_spend_up_to_a_cap_leave_room_for_thinking(method: Method, cap: int) -> None:
    lm, book = open_client(Thinker(script=lambda messages: "red"))
    ledger = Ledger().child(Budget(tokens=cap))
    text = "\n".join(f"Lamp {n} is red." for n in range(400))
    got = method.answer(problem("Which colour is lamp 7?", text), lm, ledger)
    assert got.outcome == "answered"
    assert ledger.spent.tokens <= cap
    assert set(book.column("reasoning_tokens")) == {500}


def run(provider: FakeProvider, folder: Path, *changes: str) -> int:
    """A run of gpt-5 on two samples, in as many results per method."""
    arguments = [
        *("task=needle", "task.lengths=[600]", "task.n=2", "method=[direct]", "model=gpt-5"),
        *("temperature=null", "concurrency=1", f"model.api_base={provider.api_base}"),
        *(f"results_dir={folder}", *changes),
    ]
    return run_tree(compose_tree(arguments))


@pytest.mark.slow
def test_a_run_says_of_which_model_replies_were_cut_off_with_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(["thinks", "ok", *["thinks"] * 9]) as provider:
        assert run(provider, tmp_path, "model.reasoning_tokens=0", "repeats=2") == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "cut off" in line]
        told = f"openai/gpt-5: {NOT_SAID['length'][1]}"
        assert said == [f"failed: {told}", f"3 × {told}"]
        assert "more room is needed (the model's reasoning_tokens, or the method's tokens)" in told
        assert provider.requests == 4
        assert run(provider, tmp_path) == 0
        assert "cut off" not in capsys.readouterr().err
        assert provider.requests == 6, "another allowance makes other results"


@pytest.mark.slow
def test_tries_send_no_temperature_that_the_run_leaves_open(
    tmp_path: Path,
) -> None:
    with FakeProvider(["own_temperature"] * 99) as provider:
        methods = "method=[self_consistency]"
        matched = ["budget.matched=true", "budget.sample.tokens=20000"]
        assert run(provider, tmp_path, methods, *matched) == 0
    calls = pd.concat(map(pd.read_parquet, tmp_path.glob("*/calls.parquet")))
    assert calls.error.eq("").all()
    assert not calls.cached_response.any()
    rows = pd.concat(map(pd.read_parquet, tmp_path.glob("*/results.parquet")))
    assert rows.calls.min() > 1
