"""Recorded replies behind a door: in their order, with their failures and their costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_eval.errors import BudgetExceeded, ProviderError
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.door import LM, CallTags, ModelDoor, RetryPolicy
from rlm_eval.models.protocol import Message, user
from rlm_eval.models.recorded import (
    NotedCounts,
    NotRecordedError,
    RecordedAnswers,
    RecordedModel,
    failures_of,
)
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call

SUB = CallTags("sub", depth=1, from_repl=True)


class Book:
    """What a door wrote down, as the journal would have it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, call: Call, reply: str) -> None:
        self.events.append({**vars(call), "reply": reply})

    def replayed(self, *, failures: bool = False) -> tuple[LM, Book]:
        """A door that answers what is written here, and its own book."""
        found = failures_of(self.events) if failures else {}
        answers, book = RecordedAnswers(self.events, found), Book()
        door = ModelDoor(
            {"root": RecordedModel(ScriptedModel().info, {}, ScriptedModel())},
            book,
            retry=RetryPolicy(attempts=99, base_s=0.0),
            recorded=lambda key: answers,
        )
        return door.lm("r", memory_scope="a|0"), book


def test_sampled_replies_come_back_in_the_order_they_were_given(tmp_path: Path) -> None:
    """Five votes asked at once, and one more: the n-th is the n-th again, every time."""
    said = iter(range(100))
    model, book = (
        ScriptedModel(script=lambda messages: f"vote {next(said)}", latency_s=0.01),
        Book(),
    )
    lm = ModelDoor({"root": model}, book, temperature=0.7).lm("r", memory_scope="a|0")

    def votes(lm: LM) -> list[str]:
        batch = lm.complete_batch([[user("?")]] * 5, ledger=Ledger(), max_tokens=9)
        last = lm.complete([user("?")], ledger=Ledger(), max_tokens=9)
        return [getattr(v, "text", "") for v in (*batch, last)]

    first = votes(lm)
    assert len(set(first)) == 6
    for _ in range(10):
        assert votes(book.replayed()[0]) == first


def test_a_batch_refused_by_the_ledger_leaves_no_gap() -> None:
    book = Book()
    lm = ModelDoor({"root": ScriptedModel(script=lambda m: "fine")}, book).lm("r", memory_scope="a")

    def refused_then_answered(lm: LM) -> str:
        with pytest.raises(BudgetExceeded):
            lm.complete_batch(
                [[user("?")]] * 2, ledger=Ledger().child(Budget(calls=1)), max_tokens=9
            )
        return lm.complete([user("?")], ledger=Ledger(), max_tokens=9).text

    assert refused_then_answered(lm) == "fine"
    assert refused_then_answered(book.replayed()[0]) == "fine"


def test_a_failure_comes_back_with_what_it_cost_and_those_who_waited_share_it() -> None:
    """The first prompt's two askers shared one failure, of which there is one row."""
    book = Book()
    gone = ProviderError("gone: for good", kind="not_found", retryable=False)

    def script(messages: Sequence[Message]) -> str:
        raise gone

    model = ScriptedModel(script=script, latency_s=0.1)
    lm = ModelDoor({"root": model}, book).lm("r", memory_scope="a|0")
    prompts = [[user("same")], [user("same")]]
    first = lm.complete_batch(prompts, ledger=Ledger(), max_tokens=9, tags=SUB)
    assert len(book.events) == 1
    again, rows = book.replayed(failures=True)
    second = again.complete_batch(prompts, ledger=Ledger(), max_tokens=9, tags=SUB)
    for outcome in (*first, *second):
        assert isinstance(outcome, ProviderError)
        assert (outcome.kind, str(outcome)) == ("not_found", "gone: for good")
    assert [e["error"] for e in rows.events] == ["not_found: gone: for good"]


def test_a_prompt_past_the_record_is_no_models_failure() -> None:
    lm, _ = Book().replayed()
    with pytest.raises(NotRecordedError, match="role root was not asked here in the recorded run"):
        lm.complete([user("new")], ledger=Ledger(), max_tokens=9)


def test_counts_are_noted_once_and_serve_where_nothing_else_can_count() -> None:
    noted: dict[str, int] = {}
    times: list[str] = []

    def note(name: str, sha256: str, tokens: int) -> None:
        times.append(name)
        noted[sha256] = tokens

    model = NotedCounts(ScriptedModel(), note)
    assert [model.count_tokens([user("x" * 40)]) for _ in range(3)] == [14] * 3
    assert times == ["scripted"]
    replayed = RecordedModel(model.info, noted, None)
    assert replayed.count_tokens([user("x" * 40)]) == 14
    with pytest.raises(NotRecordedError, match="only the server of scripted can count"):
        replayed.count_tokens([user("y")])
