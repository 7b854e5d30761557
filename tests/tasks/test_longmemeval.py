"""LongMemEval: sessions in the order of their dates, and a judge told what counts by type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.dataset_rows import longmemeval
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.records import Sample
from rlm_eval.tasks.datasets.longmemeval import LongMemEval


def make(folder: Path, **changes: Any) -> tuple[LongMemEval, Any, Sample]:
    path = folder / "longmemeval_s_cleaned.json"
    path.write_text(json.dumps([{**longmemeval(), **changes}]))
    task = LongMemEval(path=str(path), lengths=[4096], n=500)
    ((context, sample),) = task.build()
    return task, context, sample


def test_sessions_are_named_documents_in_the_order_of_their_dates(tmp_path: Path) -> None:
    dates = ["2023/05/21 (Sun) 02:21", "2023/05/20 (Sat) 02:57"]
    task, context, sample = make(tmp_path, haystack_dates=dates)
    names = ["Session 1 (2023/05/20 (Sat) 02:57)", "Session 2 (2023/05/21 (Sun) 02:21)"]
    assert list(context.content) == names
    told = context.content[names[0]]
    assert told == "user: I bought a red bicycle.\n\nassistant: A fine choice, number 0."
    assert sample.evidence == ((0, len(told)),)
    assert "Today is 2023/05/30 (Tue) 23:40." in sample.question
    assert task.code_oracle(sample.question, context) == "I bought a red bicycle."
    assert task.query(sample.question) == "What colour is my bicycle?"
    assert "has_answer" not in context.text


def test_a_number_is_an_answer(tmp_path: Path) -> None:
    assert make(tmp_path, answer=3)[2].gold == ("3",)


@pytest.mark.parametrize(
    ("changes", "words", "other"),
    [
        ({}, "has only a part", "off by one"),
        ({"question_type": "multi-session"}, "has only a part", "off by one"),
        ({"question_type": "temporal-reasoning"}, "off by one", "what held earlier"),
        ({"question_type": "knowledge-update"}, "what held earlier", "only a part"),
        ({"question_type": "single-session-preference"}, "what would suit", "right_answer"),
        ({"question_id": "q_abs"}, "can't be answered", "right_answer"),
        (
            {"question_id": "q_abs", "question_type": "knowledge-update"},
            "can't be answered",
            "what held earlier",
        ),
    ],
)
def test_the_judge_is_told_what_counts(
    tmp_path: Path, changes: dict[str, Any], words: str, other: str
) -> None:
    task, _, sample = make(tmp_path, **changes)
    (message,) = load_prompt("judge", "longmemeval").messages(
        **task.judge_values(sample, " It's red. ")
    )
    text = message["content"]
    assert words in text
    assert other not in text
    assert "\nWhat colour is my bicycle?\n" in text
    assert "\nIt's red.\n" in text
    assert "Today is" not in text


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        *(("Yes", 1.0), ("yes.", 1.0), ("No", 0.0), ("no", 0.0), ("I'd say so", 0.0)),
        *(("", None), ("No. Well, yes.", None)),
        ("Yes. The reply has the right date, with no errors.", 1.0),
        ("No, that was yesterday.", 0.0),
    ],
)
def test_a_reply_with_yes_in_it_is_a_yes(tmp_path: Path, verdict: str, value: float | None) -> None:
    task, _, sample = make(tmp_path)
    score = task.judged(sample, "It's red", verdict)
    assert (None if score is None else score.value) == value
    assert task.judged(sample, "Red.", "no").readings["exact_match"] == 1.0
