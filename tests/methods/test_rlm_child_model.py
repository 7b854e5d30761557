"""Whose model takes the turns of child RLMs: who is called, by what window, at what price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from helpers.chat import Script, Table, block, problem
from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Budget
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.protocol import Message, ModelInfo, Price
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Answer
from rlm_eval.repl.session import Sandbox


@dataclass
class Priced(ScriptedModel):
    """A scripted model that costs dollars per million tokens, in and out, of a size of its own."""

    dollars: float = 0.0
    token_size: float = 1.0

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, price=Price(self.dollars, self.dollars))

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return int(super().count_tokens(messages) / self.token_size)


def models(script: Script, **small: Any) -> Table:
    """Root and sub-model: ten dollars a million tokens, and one."""
    return Table(
        Priced("big", script=script, context_window=100_000, dollars=10.0),
        Priced("small", script=script, **{"context_window": 100_000, "dollars": 1.0} | small),
    )


def rlm(sandbox: Sandbox, **settings: object) -> Rlm:
    given = {"prompt": "orchestrator", "max_depth": 2} | settings
    return Rlm(sandbox=sandbox, **given)  # type: ignore[arg-type]


def answer(
    sandbox: Sandbox, script: Script, budget: Budget | None = None, **settings: object
) -> tuple[Answer, Table]:
    table = models(script)
    got = rlm(sandbox, **settings).answer(problem(), table.lm(), table.ledger(budget))
    return got, table


def tree(messages: Sequence[Message]) -> str:
    """The root asks a child and a sub-call, the child a sub-call of its own."""
    if "`context`" not in messages[0]["content"]:
        return "leaf"
    if "Question: inner" in messages[1]["content"]:
        return block("submit('child of ' + llm_query('from the child'))")
    return block("submit(rlm_query('inner', 'x') + ', ' + llm_query('from the root'))")


@pytest.mark.parametrize(("child_model", "child"), [("sub", "small"), ("root", "big")])
def test_each_call_of_a_tree_names_the_model_it_was_sent_to(
    sandbox: Sandbox, child_model: str, child: str
) -> None:
    got, table = answer(sandbox, tree, child_model=child_model)
    assert got.text == "child of leaf, leaf"
    assert [(c.model, c.depth, c.role) for c in table.calls] == [
        ("big", 0, "root"),
        (child, 1, child_model),
        ("small", 2, "sub"),
        ("small", 1, "sub"),
    ]
    root, inner, leaf, other = table.calls
    assert leaf.parent_call_id == inner.call_id
    assert inner.parent_call_id == other.parent_call_id == root.call_id


def test_by_default_it_is_the_sub_model(sandbox: Sandbox) -> None:
    _, table = answer(sandbox, tree)
    assert [c.model for c in table.calls] == ["big", "small", "small", "small"]


def lost_child(messages: Sequence[Message]) -> str:
    """A child that never submits, and answers in plain text when forced."""
    if "Question: inner" not in messages[1]["content"]:
        return block("submit(rlm_query('inner', 'x'))")
    return "by force" if "no turns left" in messages[-1]["content"] else block("print(1)")


def test_a_childs_forced_answer_is_its_own_models(sandbox: Sandbox) -> None:
    got, table = answer(sandbox, lost_child, max_iterations=2)
    assert got.text == "by force"
    assert [(c.model, c.depth) for c in table.calls] == [("big", 0)] + [("small", 1)] * 3


@pytest.mark.parametrize(
    ("child_model", "small", "largest"),
    [
        ("sub", {"context_window": 4000}, (0.8 * 4000 - 512) * 4),
        ("sub", {"context_window": 8000, "token_size": 0.5}, (0.8 * 8000 - 512) * 2),
        ("sub", {"context_window": 100_000}, None),
        ("root", {"context_window": 4000}, None),
    ],
)
def test_a_childs_turns_fit_its_own_models_window(
    sandbox: Sandbox, child_model: str, small: dict[str, float], largest: float | None
) -> None:
    """``largest``: characters of a chat that fit the child's model, None where all turns do."""
    sizes: list[int] = []

    def script(messages: Sequence[Message]) -> str:
        if "Question: inner" not in messages[1]["content"]:
            return block("submit(rlm_query('inner', 'x'))")
        sizes.append(sum(len(m["content"]) for m in messages))
        return block(f"print('z' * 1900, {len(sizes)})" if len(sizes) < 12 else "submit(1)")

    table = models(script, **small)
    child = rlm(sandbox, child_model=child_model)
    assert child.answer(problem(), table.lm(), table.ledger()).outcome == "answered"
    if largest is None:
        assert sizes == sorted(sizes), "nothing was left out"
    else:
        assert 0.5 * largest < max(sizes) <= largest


@pytest.mark.parametrize(("child_model", "rate"), [("sub", 1.0), ("root", 10.0)])
def test_the_ledger_is_charged_by_the_model_that_was_asked(
    sandbox: Sandbox, child_model: str, rate: float
) -> None:
    script = lost_child
    table = Table(
        Priced("big", script=script, dollars=10), Priced("small", script=script, dollars=1)
    )
    ledger = table.ledger(Budget(usd=1.0))
    rlm = Rlm(sandbox=sandbox, prompt="orchestrator", max_depth=2, child_model=child_model)  # type: ignore[arg-type]
    rlm.answer(problem(), table.lm(), ledger)
    tokens = [c.prompt_tokens + c.completion_tokens for c in table.calls]
    expected = (tokens[0] * 10 + sum(tokens[1:]) * rate) / 1e6
    assert ledger.spent.usd == pytest.approx(expected)


def test_what_a_childs_forced_answer_may_cost_is_told_by_its_own_price(sandbox: Sandbox) -> None:
    """What is left buys the child's whole chat at a dollar a million tokens, at ten it would not:
    no turn is cut."""
    chats: list[int] = []

    def script(messages: Sequence[Message]) -> str:
        if "Question: inner" not in messages[1]["content"]:
            return block("submit(rlm_query('inner', 'x'))")
        chats.append(sum(len(m["content"]) for m in messages))
        forced = "no turns left" in messages[-1]["content"]
        return "by force" if forced else block(f"print('z' * 1900, {len(messages)})")

    got, _ = answer(sandbox, script, Budget(usd=0.035), max_iterations=3)
    assert got.text == "by force"
    assert chats == sorted(chats)


def test_a_window_too_small_for_a_childs_turn_is_refused(sandbox: Sandbox) -> None:
    big, small = (ScriptedModel(n, context_window=w).info for n, w in (("b", 9000), ("s", 600)))
    infos = {"root": big, "sub": small}
    for settings in ({"max_depth": 1}, {"max_depth": 2, "child_model": "root"}):
        Rlm(sandbox=sandbox, **settings).check(infos)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must fit s's window of 600"):
        Rlm(sandbox=sandbox, max_depth=2).check(infos)
