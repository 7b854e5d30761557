"""OOLONG's real split: rows read as published, answers scored by its official rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.answers import scored
from helpers.dataset_rows import oolong_real
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.datasets.oolong import OolongReal
from rlm_eval.tokens import load_tokenizer


def row(i: int, window: str, answer: str, kind: str = "singledoc_rolls") -> dict[str, Any]:
    return {
        **oolong_real(i),
        "context_window_id": window,
        "context_window_text": f"[START OF EPISODE] {window}: I rolled a 4. " * 20,
        "answer": answer,
        "question_type": kind,
        "episodes": [1, 2] if kind.startswith("multi") else [1],
    }


ROWS = [
    row(0, "one", "84"),
    row(1, "two", "Fireball, Shield", "multidoc_spells"),
    row(2, "one", "Caleb", "singledoc_spells"),
    row(3, "two", "7", "multidoc_rolls"),
]


def make(tmp_path: Path, **knobs: Any) -> OolongReal:
    path = tmp_path / "validation.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return OolongReal(path=str(path), **({"lengths": [2048], "n": 4} | knobs))


def test_rows_of_a_window_share_a_context(tmp_path: Path) -> None:
    tok = load_tokenizer()
    pairs = list(make(tmp_path).build())
    assert [s.knobs["row"] for _, s in pairs] == ["row0", "row2", "row1", "row3"]
    assert len({context.id for context, _ in pairs}) == 2
    for context, sample in pairs:
        used = tok.count(context.text) + tok.count(sample.question)
        assert used <= sample.target_tokens
        assert r"\boxed{answer}" in sample.question
    assert pairs[2][1].question_group == "multidoc_spells"
    assert pairs[2][1].knobs["n_episodes"] == 2


def test_more_room_for_an_answer_moves_no_row_to_another_length(tmp_path: Path) -> None:
    pairs = list(make(tmp_path, max_answer_tokens=4096).build())
    assert [(s.target_tokens, s.max_answer_tokens) for _, s in pairs] == [(2048, 4096)] * 4


def test_rows_are_filtered_by_their_columns(tmp_path: Path) -> None:
    task = make(tmp_path, where={"question_type": "multidoc_rolls"})
    assert [s.knobs["row"] for _, s in task.build()] == ["row3"]
    with pytest.raises(ConfigError, match="no column nope"):
        make(tmp_path, where={"nope": 1})


def test_the_gold_in_its_form_scores_1_and_is_the_constant(tmp_path: Path) -> None:
    task = make(tmp_path)
    for _, sample in task.build():
        (constant,) = task.constants([sample])
        assert constant == f"\\boxed{{{sample.gold[0]}}}"
        assert task.score(sample, f"So it is {constant}.").correct


@pytest.mark.parametrize(
    ("answer", "gold", "value", "unboxed"),
    [
        (r"\boxed{84}", "84", 1.0, 1.0),
        (r"\boxed{82}", "84", 0.5625, 0.5625),
        (r"It is \boxed{\text{84}}, surely", "84", 1.0, 1.0),
        (r"\boxed{{84}}", "84", 1.0, 1.0),
        (r"\boxed{about 84}", "84", 0.0, 1.0),
        (r"\boxed{84} or \boxed{85}", "84", 1.0, 1.0),
        ("84", "84", 0.0, 1.0),
        ("I count.\nTotal: 1,083", "1084", 0.0, 0.75),
        ("none", "84", 0.0, 0.0),
        (r"\boxed{caleb }", "Caleb", 1.0, 1.0),
        (r"\boxed{Caleb, Nott}", "Caleb", 0.0, 0.0),
        ("Caleb", "Caleb", 1.0, 1.0),
        ("It was Caleb.", "Caleb", 0.0, 0.0),
        ("Answer: Caleb.", "Caleb", 0.0, 1.0),
        (r"\boxed{Shield, Fireball}", "Fireball, Shield", 1.0, 1.0),
        (r"\boxed{Shield, Sleep}", "Fireball, Shield", 0.5, 0.5),
        (r"\boxed{Fireball, Shield, Sleep}", "Fireball, Shield", 1.0, 1.0),
        (r"\boxed{fireball, Shield}", "Fireball, Shield", 0.5, 1.0),
        (r"\boxed{Shield}", "Fireball, Shield", 0.0, 0.5),
        ("Fireball and Shield", "Fireball, Shield", 0.0, 1.0),
    ],
)
def test_the_official_rule(answer: str, gold: str, value: float, unboxed: float) -> None:
    score = scored("oolong_real", answer, gold)
    assert (score.value, score.readings["unboxed"]) == (value, unboxed)
    assert score.correct is (value == 1)


def test_what_was_taken_for_the_answer_is_kept() -> None:
    assert scored("oolong_real", r"so \boxed{\text{Caleb}}", "Caleb").parsed == "Caleb"
    assert scored("oolong_real", " Caleb ", "Caleb").parsed == "Caleb"


def test_many_open_boxes_take_no_time() -> None:
    assert scored("oolong_real", r"\boxed{" * 200_000, "84").value == 0.0
