"""The best fixed answer: fitted elsewhere, applied here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.dataset_rows import longbench_v2
from rlm_eval.commands.export import write_jsonl
from rlm_eval.records import Sample
from rlm_eval.tasks.datasets.exported import Exported, to_row
from rlm_eval.tasks.datasets.longbench_v2 import LongBenchV2
from rlm_eval.tasks.generated.aggregation import Aggregation
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tasks.task import Task


def counts(task: Aggregation, golds: list[int], contexts: list[str]) -> list[Sample]:
    specimen = next(s for s in task.calibration(2500) if s.question_group == "label_count")
    return [
        replace(specimen, id=f"s{i}", gold=(str(gold),), context_id=context)
        for i, (gold, context) in enumerate(zip(golds, contexts, strict=True))
    ]


def test_constant_for_counts_is_the_number_with_the_best_graded_score() -> None:
    task = Aggregation(lengths=[2500], n=1)
    # 10 scores 1 + .75² + .75¹⁰ = 1.62; 12 scores .75² + 1 + .75⁸ = 1.66; 20 less than both
    samples = counts(task, [10, 12, 20], ["a", "b", "c"])
    assert task.fit_constant(samples) == "12"

    def total(answer: int) -> float:
        return sum(task.score(sample, str(answer)).value for sample in samples)

    assert max(range(40), key=total) == 12


class Uncalibrated(Aggregation):
    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        return iter(())


def test_without_calibration_the_constant_comes_from_the_other_contexts() -> None:
    task = Uncalibrated(lengths=[2500], n=1)
    real = Aggregation(lengths=[2500], n=1)
    samples = counts(real, [10, 10, 13], ["a", "a", "b"])
    scores = task.constant_scores(samples)
    assert scores == {"s0": pytest.approx(0.75**3), "s1": pytest.approx(0.75**3), "s2": 0.75**3}
    assert task.constant_scores(samples[:2]) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "length"), [("reviews", 2100), ("questions", 3200)])
def test_keywords_are_worth_no_more_than_a_constant(domain: str, length: int) -> None:
    task = Aggregation(lengths=[length], n=300, domain=domain)
    pairs = list(task.build())
    constant = task.constant_scores([sample for _, sample in pairs])
    oracle = [
        task.score(sample, task.code_oracle(sample.question, context) or "").value
        for context, sample in pairs
    ]
    assert sum(oracle) / 300 <= sum(constant.values()) / 300 + 0.1


def test_calibrated_constant_is_worth_something_on_counts_and_nothing_on_needles() -> None:
    task = Aggregation(lengths=[2100], n=20)
    scores = task.constant_scores([sample for _, sample in task.build()])
    assert len(scores) == 20
    assert 0.1 < sum(scores.values()) / 20 < 0.7
    needle = Needle(lengths=[2000], n=3)
    assert set(needle.constant_scores([s for _, s in needle.build()]).values()) == {0.0}


def test_a_constant_is_said_in_the_form_that_its_rule_reads() -> None:
    """Of a bare answer of 20 characters OOLONG's rule reads the last word alone."""
    task = Aggregation(lengths=[3000], n=1, domain="questions")
    _, specimen = next(task.build())
    label = "description and abstract concept"
    samples = [replace(specimen, gold=(label,), scorer="oolong:label")]
    assert task.score(samples[0], label).value == 0.0
    assert task.score(samples[0], task.fit_constant(samples)).correct


@pytest.mark.parametrize("form", ["longbench_v2", "exported"])
@pytest.mark.parametrize(
    ("letters", "constant"),
    [("ABCDABCD", [2 / 7] * 8), ("ABCD", [1 / 3] * 4), ("BBBD", [2 / 3, 2 / 3, 2 / 3, 1.0])],
)
def test_the_constant_of_a_multiple_choice_is_no_less_than_chance(
    form: str, letters: str, constant: list[float], tmp_path: Path
) -> None:
    """With one row left out, a balanced set's best letter is never that row's."""
    path = tmp_path / "rows.jsonl"
    rows = (longbench_v2(i) | {"answer": letter} for i, letter in enumerate(letters))
    path.write_text("\n".join(map(json.dumps, rows)))
    task: Task = LongBenchV2(path=str(path), lengths=[2000], n=9)
    if form == "exported":
        write_jsonl((to_row(*pair) for pair in task.build()), tmp_path / "out.jsonl")
        task = Exported(path=str(tmp_path / "out.jsonl"))
    assert list(task.constant_scores([s for _, s in task.build()]).values()) == constant


def test_the_constant_of_exported_samples_is_the_rules_own(tmp_path: Path) -> None:
    """Of a question with aliases one gold is said, not all of them."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(longbench_v2(i)) for i in range(2)))
    made = LongBenchV2(path=str(path), lengths=[2000], n=2).build()
    pairs = [(c, replace(s, gold=("NYC", "New York"), scorer="squad_em")) for c, s in made]
    write_jsonl((to_row(*pair) for pair in pairs), tmp_path / "out.jsonl")
    task = Exported(path=str(tmp_path / "out.jsonl"))
    assert set(task.constant_scores([s for _, s in task.build()]).values()) == {1.0}
