"""Every configuration file composes, is accepted by its class, and hashes as it should."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlm_eval
from rlm_eval.cli import compose_tree
from rlm_eval.config import check_config
from rlm_eval.errors import ConfigError

CONF = Path(rlm_eval.__file__).parent.parent / "conf"
#: What a file needs beside its name to be complete.
NEEDS = {
    "litellm": ["model.name=openai/x"],
    "vllm": ["model.name=hosted_vllm/x"],
    "exported": ["task.path=x.jsonl"],
}


def names(group: str) -> list[str]:
    return sorted(f.stem for f in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", names("task"))
def test_every_task_file_fits_its_class(name: str) -> None:
    overrides = [f"task={name}", *NEEDS.get(name, [])]
    if name in {"babilong", "codeqa", "graphwalks", "hotpotqa", "longbench_v2"}:
        overrides.append("task.path=x.jsonl")
    if name in {"mrcr", "musique", "oolong", "squad"}:
        overrides.append("task.path=x.jsonl")
    check_config(compose_tree(overrides))


@pytest.mark.parametrize("name", [n for n in names("model") if n != "same"])
def test_every_model_file_fits_its_class(name: str) -> None:
    check_config(compose_tree([f"model={name}", *NEEDS.get(name, [])]))


@pytest.mark.parametrize("name", names("method"))
def test_every_method_file_fits_its_class(name: str) -> None:
    config = check_config(compose_tree([f"method=[{name}]"]))
    assert list(config["method"]) == [name]


@pytest.mark.parametrize("name", names("sandbox"))
def test_every_sandbox_file_fits_its_class(name: str) -> None:
    check_config(compose_tree([f"sandbox={name}"]))


def test_identity_forgets_run_time_settings_and_nothing_else() -> None:
    plain = check_config(compose_tree([])).identity
    assert check_config(compose_tree(["concurrency=7", "results_dir=/x"])).identity == plain
    for change in ("seed=1", "task.n=9", "method=[direct]", "method.rlm.max_depth=0", "repeats=2"):
        assert check_config(compose_tree([change])).identity != plain, change


def test_sub_model_overlays_the_root_model() -> None:
    config = check_config(compose_tree(["model=scripted", "sub_model.name=other"]))
    assert config["sub_model"]["name"] == "other"
    assert config["sub_model"]["_target_"] == config["model"]["_target_"]
    assert check_config(compose_tree(["model=scripted"]))["sub_model"] is None


def test_a_target_outside_the_package_needs_permission() -> None:
    tree = compose_tree([])
    tree["task"] = {"_target_": "collections.Counter"}
    with pytest.raises(ConfigError, match="allow_targets"):
        check_config(tree)


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_composes(name: str) -> None:
    check_config(compose_tree([f"experiment={name}"]))


def test_the_depth_ablation_adds_an_arm_without_sub_calls() -> None:
    config = check_config(compose_tree(["experiment=depth_ablation", "method=[direct,rlm]"]))
    depths = {name: node.get("max_depth") for name, node in config["method"].items()}
    assert depths == {"direct": None, "rlm": 1, "rlm_d0": 0}
