"""An RLM on inputs of every kind, from the command line to the table: a log, source code, a chat,
mixed material, and an answer that no single reply could hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.inputs import INPUTS, KINDS, samples, table
from helpers.commands import rlm_eval
from rlm_eval import load_results
from rlm_eval.tasks.datasets.exported import to_row

TURN_TOKENS = 96


def test_the_inputs_are_what_the_script_makes() -> None:
    made = [json.dumps(to_row(*pair), ensure_ascii=False) for pair in samples()]
    assert made == INPUTS.read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_a_capable_root_answers_every_kind(tmp_path: Path) -> None:
    done = rlm_eval(
        *("task=exported", f"task.path={INPUTS}", f"method.rlm.turn_tokens={TURN_TOKENS}"),
        *("method=[rlm]", "model=scripted", "allow_targets=[helpers]"),
        *("model._target_=helpers.input_scripts.InputsModel", f"results_dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip().splitlines()[-1]
    results = load_results(run).set_index("question_group")
    assert set(results.index) == {kind.__name__ for kind in KINDS}
    assert results.score.tolist() == [1.0] * len(KINDS)
    assert results.scripted.all()
    assert results.subcalls["chat"] == 1
    long = next(s for _, s in samples() if s.question_group == "long_answer")
    assert results.answer["long_answer"] == long.gold[0]
    assert len(long.gold[0]) > 4 * 4 * TURN_TOKENS, "the answer is longer than four replies"
    assert (
        results.completion_tokens["long_answer"] < TURN_TOKENS * results.iterations["long_answer"]
    )
    printed = "\n".join(table(run))
    assert "scripted: no evidence" in printed
    assert printed.count("\n| ") == len(KINDS) + 1
