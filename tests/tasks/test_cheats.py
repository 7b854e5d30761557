"""Cheats on every generated task: handing in the input wins nothing."""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks.task_rows import generated
from rlm_eval.commands.export import make_task


@pytest.mark.parametrize("name", [*generated(), "oolong_style"])
def test_handing_in_the_whole_context_scores_near_nothing(name: str) -> None:
    overrides = generated().get(name, [f"task={name}"])
    _, task = make_task([*overrides, "task.lengths=[4500]", "task.n=25"])
    scores = [task.score(sample, context.text).value for context, sample in task.build()]
    assert fmean(scores) <= 0.05
