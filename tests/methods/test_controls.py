"""The controls: the question without the input, and the task's own solver without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from helpers.chat import Table, problem, scripted
from rlm_eval.errors import ConfigError, ContextOverflow
from rlm_eval.methods.controls import (
    Cheat,
    How,
    NoContext,
    ScriptedSolver,
    occurs_once,
    pieces,
    without_repeats,
)
from rlm_eval.methods.method import Shape
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Content, Context

TEXT = "The password of the vault is heron.\n" * 50
INFOS: Any = {"root": ModelInfo("m", "e", 100_000)}


def no_model(messages: Sequence[Message]) -> str:
    raise AssertionError("no model is asked")


def test_no_context_shows_the_question_and_nothing_of_the_input() -> None:
    seen: list[list[Message]] = []

    def script(messages: Sequence[Message]) -> str:
        seen.append(list(messages))
        return "eagle"

    table = Table(scripted(script))
    got = NoContext().answer(problem("Which password?", TEXT), table.lm(), table.ledger())
    (messages,) = seen
    assert messages[-1]["content"] == "Which password?"
    assert "heron" not in str(messages)
    assert (got.text, got.outcome) == ("eagle", "answered")
    assert got.spans_read == ()
    assert len(table.calls) == 1


def test_a_question_beyond_the_window_is_an_overflow() -> None:
    table = Table(scripted(no_model, window=300))
    with pytest.raises(ContextOverflow):
        NoContext().answer(problem("which? " * 400), table.lm(), table.ledger())


def test_a_window_too_small_for_any_question_is_refused_before_the_run() -> None:
    told = r"^prompt takes 46 tokens .*, and the answer 64: .* window has 109"
    with pytest.raises(ConfigError, match=told):
        NoContext().check({"root": ModelInfo("m", "e", 109)})
    NoContext().check({"root": ModelInfo("m", "e", 110)})


def test_the_forecast_of_no_context_is_what_a_run_sends() -> None:
    question = "Which password has the vault? " * 10
    table = Table(scripted(lambda messages: "long " * 99))
    NoContext().answer(problem(question, TEXT), table.lm(), table.ledger())
    (expected,) = NoContext().forecast(Shape(len(TEXT) // 4, len(question) // 4, 32), INFOS)
    (sent,) = table.calls
    assert expected.calls == 1
    assert expected.prompt_tokens == pytest.approx(sent.prompt_tokens, rel=0.25)
    assert expected.completion_tokens == sent.completion_tokens


def solver(question: str, context: Context) -> str | None:
    return "heron" if question.startswith("Which") and "heron" in context.text else None


def count(question: str, context: Context) -> str | None:
    return str(len(context.text.splitlines()))


def test_the_solver_answers_and_no_model_is_asked() -> None:
    method = ScriptedSolver()
    method.bind(solver, count)
    table = Table(scripted(no_model))
    got = method.answer(problem("Which password?", TEXT), table.lm(), table.ledger())
    assert (got.text, got.outcome, got.protocol) == ("heron", "answered", "no model")
    assert not table.calls
    assert method.forecast(Shape(1000, 10, 32), INFOS) == ()
    assert method.roles == ()


def test_a_solver_without_an_idea_is_no_answer() -> None:
    method = ScriptedSolver()
    method.bind(solver, count)
    table = Table(scripted(no_model))
    got = method.answer(problem("How many?", TEXT), table.lm(), table.ledger())
    assert (got.text, got.outcome) == (None, "no_answer")
    assert "no idea" in got.error


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("whole_context", TEXT),
        ("deduplicate", "heron"),
        ("occurs_once", None),
        ("question", "Which password?"),
        ("count", "50"),
    ],
)
def test_a_cheat_answers_without_a_model(how: How, said: str | None) -> None:
    method = Cheat(how=how)
    method.bind(solver, count)
    table = Table(scripted(no_model))
    got = method.answer(problem("Which password?", TEXT), table.lm(), table.ledger())
    assert (got.text, got.outcome) == (said, "no_answer" if said is None else "answered")
    assert not table.calls
    assert method.forecast(Shape(1000, 10, 32), INFOS) == ()


@pytest.mark.parametrize(
    ("content", "once"),
    [
        (
            "Grass is green. The sky is blue. Grass is green.\nThe sky is blue. Go.",
            "Grass is green.\nThe sky is blue.\nGo.",
        ),
        (("It is. It is.", "It is. No."), ("It is.", "No.")),
        ({"a": "It is. It is.", "b": "It is."}, {"a": "It is.", "b": ""}),
    ],
)
def test_the_script_of_deduplicate_sees_each_sentence_once(content: Content, once: Content) -> None:
    seen: list[Content] = []

    def script(question: str, context: Context) -> str:
        seen.append(context.content)
        return "x"

    method, table = Cheat(how="deduplicate"), Table(scripted(no_model))
    method.bind(script, count)
    method.answer(problem("?", content), table.lm(), table.ledger())
    assert seen == [once]


def test_headings_of_documents_are_not_what_occurs_once() -> None:
    method, table = Cheat(how="occurs_once"), Table(scripted(no_model))
    method.bind(solver, count)
    documents = ("Grass is green. The code is 4417.", "Grass is green.")
    got = method.answer(problem("What is the code?", documents), table.lm(), table.ledger())
    assert got.text == "4417"


def test_a_line_with_fields_is_known_by_its_last() -> None:
    lines = ["Date: Mar 05, 2024 || User: 1 || Instance: A. B.", "Date: Mar 06, 2024 || User: 2"]
    lines.append("Date: Mar 07, 2024 || User: 3 || Instance: A. B.")
    assert [known for _, known in pieces("\n".join(lines))] == [
        "Instance: A. B.",
        "User: 2",
        "Instance: A. B.",
    ]
    assert without_repeats("\n".join(lines)) == "\n".join(lines[:2])


def test_what_occurs_once_stands_out_among_what_repeats() -> None:
    filler = "The grass is green. The sky is blue. "
    needle = "One of the special magic numbers for brisk-otter is: 4417283. "
    question = "What is the special magic number for brisk-otter mentioned in the text?"
    found = occurs_once(question, filler * 20 + needle + filler * 20)
    assert found is not None
    assert "4417283" in found
    assert "brisk-otter" not in found
    assert len(found.split(", ")) <= 4
    assert occurs_once(question, " ".join(f"Sentence {i}." for i in range(100))) is None
    assert occurs_once(question, filler * 20) is None
