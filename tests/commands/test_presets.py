"""Every preset does its work: each of its runs, with one question, a scripted model and rows in the
official schema."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.presets import on_local_rows
from rlm_eval.commands.cli import run_command
from rlm_eval.config.compose import compose_tree, jobs_of
from rlm_eval.config.spelling import options
from rlm_eval.methods.foreign.process import why_not_confined

PRESETS = [name for name in options("experiment") if not name.startswith("evidence/")]
PARTS = {"paper/", "oolong/", "ruler/"}


def test_what_users_reproduce_and_ablate_is_there() -> None:
    wanted = {"paper_table1", "paper_scaling", "paper_costs", "ruler", "oolong", "longbench_v2"}
    ablated = {
        *("depth", "prompt", "protocol", "metadata", "truncation", "sub_model", "batching"),
        *("chunking", "tools", "memoize", "temperature", "child_model", "one_shot", "tries"),
    }
    assert wanted | {f"ablation/{name}" for name in ablated} <= {*PRESETS}


def test_the_papers_table_is_every_row_on_every_task_with_both_models() -> None:
    jobs = [compose_tree(job) for job in jobs_of(["experiment=paper_table1"])]
    assert len(jobs) == 8
    pairs = {
        (tree["model"]["name"], tree["task"]["_target_"], len(tree["method"])) for tree in jobs
    }
    assert len(pairs) == 8
    assert {arms for _, _, arms in pairs} == {8}
    for tree in jobs:
        depths = {n: a["max_depth"] for n, a in tree["method"].items() if n.startswith("rlm")}
        assert depths == {"rlm": 1, "rlm_d0": 0, "rlm_d2": 2, "rlm_d3": 3}
        rlms = [a for n, a in tree["method"].items() if n.startswith("rlm")]
        prompt = "paper_gpt5" if "gpt-5" in tree["model"]["name"] else "paper_qwen"
        assert {(a["prompt"], a["protocol"]) for a in rlms} == {(prompt, "paper")}
        assert {(a["preview_head"], a["preview_tail"]) for a in rlms} == {(0, 0)}
    scaling = compose_tree(["experiment=paper/scaling"])["method"]["rlm"]
    assert (scaling["preview_head"], scaling["preview_tail"]) == (0, 0)


def test_each_of_rulers_thirteen_tasks_is_asked() -> None:
    assert len(jobs_of(["experiment=ruler"])) == 13


def test_the_papers_costs_are_runs_of_its_table() -> None:
    table = jobs_of(["experiment=paper_table1"])
    assert all(job in table for job in jobs_of(["experiment=paper_costs"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", [p for p in PRESETS if not p.startswith(tuple(PARTS)) and p != "paper_costs"]
)
def test_a_preset_runs(preset: str, tmp_path: Path) -> None:
    if preset == "ladder":
        pytest.importorskip("safetensors", reason="needs the extra dense")
    if preset == "agents" and (reason := why_not_confined()):
        pytest.skip(reason)
    jobs = jobs_of([f"experiment={preset}"])
    # One of each task and of each part of the preset: the others differ in a number.
    chosen = {(j[0], compose_tree(j)["task"]["_target_"]): j for j in reversed(jobs)}
    for job in chosen.values():
        words = [*on_local_rows(job, tmp_path), "model=scripted", "model@sub_model=same"]
        words = [w for w in words if w.partition("=")[2] != "gpt-5-mini"]
        assert run_command([*words, f"results_dir={tmp_path}/runs"]) in (0, 3)
    rows = pd.concat(map(pd.read_parquet, tmp_path.glob("runs/*/results.parquet")))
    tree = compose_tree(jobs[0])
    assert set(rows.method) == set(tree["method"])
    assert not rows.outcome.isin(["provider_error", "sandbox_error", "invalid_answer"]).any()
