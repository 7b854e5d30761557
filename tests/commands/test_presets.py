"""Every preset does its work: each of its runs, with one question, a scripted model and rows in the
official schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.presets import on_local_rows
from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree, jobs_of
from rlm_eval.config.spelling import options
from rlm_eval.methods.foreign.process import why_not_confined
from rlm_eval.methods.method import SUB_CALLS_A_TURN

PRESETS = [name for name in options("experiment") if not name.startswith("evidence/")]
PARTS = {"paper/", "oolong/", "ruler/"}
#: What the paper says of its RLM, and its reference implementation.
PAPER_RLM = {
    "protocol": "paper",
    "batch": False,
    "max_iterations": 30,
    "turn_tokens": 16384,
    "sub_tokens": 16384,
    "output_chars": 20000,
    "preview_head": 0,
    "preview_tail": 0,
}


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
        assert {a["prompt"] for a in rlms} == {prompt}
        assert all(a | PAPER_RLM == a for a in rlms)
        assert tree["method"]["codeact_subcalls"]["overflow"] == "refuse"
    scaling = compose_tree(["experiment=paper/scaling"])["method"]["rlm"]
    assert scaling | PAPER_RLM == scaling


@pytest.mark.parametrize(
    ("preset", "temperature", "params", "roles"),
    [
        ("gpt5", None, {}, ["openai/gpt-5-mini", "openai/gpt-5-nano"]),
        ("qwen", 0.7, {"top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}, [None, None]),
    ],
)
def test_the_papers_models_have_its_roles_and_sampling(
    preset: str, temperature: float | None, params: dict[str, Any], roles: list[str | None]
) -> None:
    config = check_config(compose_tree([f"experiment=paper/{preset}"]))
    assert (config["temperature"], config["model"]["params"]) == (temperature, params)
    others = [config["sub_model"], config["summarize_model"]]
    assert [other and other["name"] for other in others] == roles


def test_the_papers_figure_goes_to_2_to_the_20() -> None:
    jobs = jobs_of(["experiment=paper_scaling"])
    tasks = [compose_tree(job)["task"] for job in jobs]
    (needle,) = [task for task in tasks if task["_target_"].endswith("Needle")]
    windows = [t["where"]["context_len"] for t in tasks if t["_target_"].endswith("oolong.Oolong")]
    assert list(needle["lengths"]) == windows == [2**i for i in range(13, 21)]


@pytest.mark.parametrize(
    ("preset", "settings", "temperature", "answer_tokens"),
    [
        ("oolong", {"prompt": "bare", "overflow": "refuse"}, None, 4096),
        ("ruler", {"prompt": "ruler"}, 0.0, None),
    ],
)
def test_a_benchmark_is_asked_by_its_own_prompt(
    preset: str, settings: dict[str, str], temperature: float | None, answer_tokens: int | None
) -> None:
    for job in jobs_of([f"experiment={preset}"]):
        tree = compose_tree(job)
        direct = tree["method"]["direct"]
        assert direct | settings == direct
        assert tree["temperature"] == temperature
        assert tree["task"].get("max_answer_tokens") == answer_tokens


def test_other_makers_engines_are_limited_as_the_rlm_beside_them_is() -> None:
    arms = check_config(compose_tree(["experiment=evidence/engines"]))["method"]
    rlm = arms.pop("rlm")
    engines = {"rlms", "dspy_rlm"}
    assert {*arms} == engines | {f"{name}_our_prompt" for name in engines}
    limits = {key: rlm[key] for key in ("max_iterations", "turn_tokens")} | {"seconds": 14400.0}
    calls = {"max_llm_calls": rlm["max_iterations"] * SUB_CALLS_A_TURN}
    for name, arm in arms.items():
        assert arm | limits | (calls if "dspy" in name else {}) == arm
        assert bool(arm["instructions"]) == name.endswith("_our_prompt")


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
        words = [*on_local_rows(job, tmp_path), "model=scripted"]
        words += ["model@sub_model=same", "model@summarize_model=same"]
        words = [w for w in words if w.partition("=")[2] != "gpt-5-mini"]
        assert run_command([*words, f"results_dir={tmp_path}/runs"]) in (0, 3)
    rows = pd.concat(map(pd.read_parquet, tmp_path.glob("runs/*/results.parquet")))
    tree = compose_tree(jobs[0])
    assert set(rows.method) == set(tree["method"])
    assert not rows.outcome.isin(["provider_error", "sandbox_error", "invalid_answer"]).any()
