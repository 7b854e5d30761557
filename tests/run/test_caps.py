"""Caps hold over whole trees of RLMs, three deep, with 64 questions at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from helpers.chat import block
from helpers.some_records import tables
from rlm_eval.journal.journal import Journal
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.client import ModelClient
from rlm_eval.models.protocol import Message, ModelInfo, Price, Reply
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Context, Result, Sample, Score
from rlm_eval.repl.session import Sandbox
from rlm_eval.runs.runner import Arm, Runner, Work

pytestmark = pytest.mark.slow

QUESTIONS = 64
PRICE = Price(3.0, 15.0)
#: What each level of a tree runs, by a word of its question: 15 calls in all, the deepest at 3.
CODE = {
    "grand": "parts = rlm_query_batched([('middle', context + c) for c in 'ab'])\nsubmit(parts)",
    "middle": "submit(rlm_query('lowest', context) + llm_query('m' + context))",
    "lowest": "submit(''.join(llm_query_batched([context + str(i) for i in range(4)])))",
}


def script(messages: Sequence[Message]) -> str:
    if "`context`" not in messages[0]["content"]:
        return "leaf"
    for level, code in CODE.items():
        if f"Question: {level}" in messages[1]["content"]:
            return block(code)
    raise AssertionError(messages[1]["content"])


@dataclass
class Meter(ScriptedModel):
    """A model with a price that counts what it is sent."""

    bills: list[tuple[int, int]] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, price=PRICE)

    def complete(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float | None
    ) -> Reply:
        reply = super().complete(messages, max_tokens=max_tokens, temperature=temperature)
        self.bills.append((reply.usage.prompt_tokens, reply.usage.completion_tokens))
        return reply


@dataclass
class Marked:
    """A task that gives full marks."""

    judge = None

    def score(self, sample: Sample, answer: str) -> Score:
        return Score(1.0, answer)


class Nobody:
    watch = None

    def finished(self, result: Result) -> None:
        """Does not watch."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def works(sandbox: Sandbox) -> list[Work]:
    rlm = Rlm(sandbox=sandbox, prompt="orchestrator", max_depth=3, max_iterations=2)
    out = []
    for number in range(QUESTIONS):
        context = Context.of(f"c{number}")
        sample = Sample.of(
            task="trees",
            context_id=context.id,
            question="grand",
            gold=("x",),
            scorer="none",
            question_group="g",
            target_tokens=10,
            length_tokens=10,
        )
        out.append(Work(f"key{number}", Arm("rlm", rlm, "f", "r"), sample, context, 0, None))
    return out


@pytest.mark.parametrize(
    ("whole", "each"),
    [
        (Budget(calls=200), Budget()),
        (Budget(tokens=90_000), Budget(calls=9)),
        (Budget(usd=0.4), Budget(tokens=8_000)),
    ],
    ids=("calls", "tokens", "usd"),
)
def test_no_cap_is_passed_by_64_trees_at_once(
    tmp_path: Path, sandbox: Sandbox, whole: Budget, each: Budget
) -> None:
    model = Meter(latency_s=0.02, script=script)
    ledger = Ledger(whole)
    names = {"run_id": "trees-1", "model": "scripted", "sub_model": "scripted"}
    about = {**names, "scripted": True}
    with Journal(tmp_path) as journal:
        client = ModelClient({"root": model}, journal.call)
        runner = Runner(about, Marked(), client, ledger, each, journal, Nobody())
        outcome = runner.run(works(sandbox), QUESTIONS)
    _, calls = tables(tmp_path)
    prompts, completions = (sum(side) for side in zip(*model.bills, strict=True))
    usd = (prompts * PRICE.input + completions * PRICE.output) / 1e6
    sent = calls[~calls.cached_response]
    assert len(sent) == len(model.bills) == ledger.spent.calls
    assert ledger.spent.tokens == prompts + completions
    assert ledger.spent.usd == pytest.approx(usd)
    assert calls.depth.max() == 3

    sums = sent.assign(
        calls=1, tokens=sent.prompt_tokens + sent.completion_tokens, usd=sent.cost_usd
    )
    for kind in ("calls", "tokens", "usd"):
        cap, amounts = getattr(whole, kind), sums.groupby("result_key")[kind].sum()
        assert cap is None or 0.7 * cap < amounts.sum() <= cap
        cap = getattr(each, kind)
        assert cap is None or amounts.max() <= cap
    assert outcome.pending > 0
    assert "is spent" in outcome.stopped
