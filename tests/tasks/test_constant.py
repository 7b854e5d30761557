"""The best fixed answer: fitted elsewhere, applied here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from helpers import dataset_rows
from helpers.dataset_rows import longbench_v2
from rlm_eval.commands.export import write_jsonl
from rlm_eval.errors import ConfigError
from rlm_eval.records import Sample, Score
from rlm_eval.tasks.datasets.babilong import BABILong
from rlm_eval.tasks.datasets.exported import Exported, to_row
from rlm_eval.tasks.datasets.graphwalks import GraphWalks
from rlm_eval.tasks.datasets.longbench_v2 import LongBenchV2
from rlm_eval.tasks.datasets.mrcr import MRCR
from rlm_eval.tasks.datasets.oolong import OolongReal
from rlm_eval.tasks.generated.aggregation import Aggregation
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tasks.task import Pair, Task


def counts(task: Aggregation, golds: list[int], contexts: list[str]) -> list[Sample]:
    specimen = next(s for s in task.calibration(2500) if s.question_group == "label_count")
    return [
        replace(specimen, id=f"s{i}", gold=(str(gold),), context_id=context)
        for i, (gold, context) in enumerate(zip(golds, contexts, strict=True))
    ]


class Mute(Needle):
    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        return iter(())


def test_contexts_that_never_have_a_question_are_told_of() -> None:
    with pytest.raises(ConfigError, match="none has an exact question"):
        list(Mute(lengths=[100_000], n=1).build())


class Uncalibrated(Aggregation):
    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        return iter(())


def test_constant_for_counts_is_the_number_with_the_best_graded_score() -> None:
    task = Uncalibrated(lengths=[2500], n=1)
    # 10 scores 1 + .75² + .75¹⁰ = 1.62; 12 scores .75² + 1 + .75⁸ = 1.66; 20 less than both
    samples = counts(Aggregation(lengths=[2500], n=1), [10, 12, 20, 15], ["a", "b", "c", "d"])
    assert task.constant_scores(samples)["s3"] == 0.75**3

    def total(answer: int) -> float:
        return sum(task.score(sample, str(answer)).value for sample in samples[:3])

    assert max(range(40), key=total) == 12


def test_windows_to_calibrate_with_have_as_many_lines_as_those_that_are_asked() -> None:
    task = Aggregation(lengths=[1650], n=30)
    asked, fitted = (
        fmean(float(str(sample.knobs["n_lines"])) for sample in samples)
        for samples in ([sample for _, sample in task.build()], task.calibration(1650))
    )
    assert abs(asked - fitted) < 1


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
    (constant,) = task.constants(samples)
    assert task.score(samples[0], constant).correct


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


class Counting(Uncalibrated):
    scored = 0

    def score(self, sample: Sample, answer: str) -> Score:
        self.scored += 1
        return super().score(sample, answer)


def test_each_constant_is_scored_once_on_each_sample() -> None:
    """Else the time grows with the cube of the contexts."""
    golds = [10 + i % 9 for i in range(40)]
    contexts = [f"context {i // 2}" for i in range(40)]
    task = Counting(lengths=[2500], n=1)
    samples = counts(Aggregation(lengths=[2500], n=1), golds, contexts)
    expected = {}
    for sample in samples:
        others = [s for s in samples if s.context_id != sample.context_id]
        totals = {
            s.gold[0]: sum(task.score(other, s.gold[0]).value for other in others) for s in others
        }
        expected[sample.id] = task.score(sample, max(totals, key=totals.__getitem__)).value
    task.scored = 0
    assert task.constant_scores(samples) == expected
    assert task.scored == 9 * 40 + 40


@pytest.mark.parametrize(
    ("kind", "name", "rows", "constant"),
    [
        (OolongReal, "oolong_real", [{"answer": n} for n in ("84", "84", "83")], [1, 1, 0.75]),
        (GraphWalks, "graphwalks", [{"answer_nodes": []}, {"answer_nodes": ["b"]}], [1, 0]),
        (MRCR, "mrcr", [{}, {}], [0, 0]),
        (partial(BABILong, split="qa1"), "babilong", [{"target": "kitchen"}] * 2, [1, 1]),
    ],
)
def test_exported_samples_have_the_constants_of_their_task(
    kind: Any, name: str, rows: list[dict[str, object]], constant: list[float], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    make = getattr(dataset_rows, name)
    path.write_text("\n".join(json.dumps(make(i) | row) for i, row in enumerate(rows)))
    task = kind(path=str(path), lengths=[4000], n=9)
    scores = task.constant_scores([s for _, s in task.build()])
    write_jsonl((to_row(*pair) for pair in task.build()), tmp_path / "out.jsonl")
    back = Exported(path=str(tmp_path / "out.jsonl"))
    assert back.constant_scores([s for _, s in back.build()]) == scores
    assert list(scores.values()) == constant
