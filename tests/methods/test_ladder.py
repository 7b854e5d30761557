"""The direct family, the controls and the router as configured: composed, built and run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Method
from rlm_eval.methods.router import Router
from rlm_eval.runs.assemble import assemble

SMALL = ["task=needle", "task.lengths=[1000]", "task.n=1", "model=scripted"]


def built(*overrides: str) -> dict[str, Method]:
    """The arms of a run, by name."""
    return {a.name: a.method for a in assemble(check_config(compose_tree(overrides))).arms}


def test_the_routers_ways_begin_as_the_files_and_are_set_one_by_one() -> None:
    arms = built(
        *SMALL,
        "method=[router,direct,rlm]",
        "method.router.direct.overflow=refuse",
        "method.router.rlm.max_depth=0",
        "method.router.threshold=0.25",
        "budget.matched=true",
        "budget.sample.tokens=9000",
    )
    router = arms["router"]
    assert isinstance(router, Router)
    assert isinstance(router.direct, Direct)
    assert router.threshold == 0.25
    assert router.direct == Direct(overflow="refuse", matched=True)
    assert arms["direct"] == Direct(matched=True)
    assert vars(router.rlm)["max_depth"] == 0
    for setting in ("prompt", "protocol", "max_iterations", "turn_tokens", "sub_tokens"):
        assert vars(router.rlm)[setting] == vars(arms["rlm"])[setting]


def test_a_router_under_another_name_keeps_its_ways_with_it() -> None:
    arms = built(*SMALL, "method=[router]", "+method@method.r2=router", "method.r2.direct.think=on")
    ways = {name: arm.direct for name, arm in arms.items() if isinstance(arm, Router)}
    assert ways == {"router": Direct(), "r2": Direct(think=True)}


def test_another_file_may_be_the_routers_first_way() -> None:
    swapped = "method@method.router.direct=self_consistency"
    (router,) = built(*SMALL, "method=[router]", swapped, "method.router.direct.votes=3").values()
    assert isinstance(router, Router)
    assert router.direct == Direct(votes=3)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.router.threshold=0", "method.router.threshold must be above 0"),
        ("method.router.direct.overflow=foo", "method.router.direct.overflow='foo' does not fit"),
        ("+method.router.direct.overflw=refuse", "did you mean method.router.direct.overflow"),
        ("method.self_consistency.votes=0", "votes must be at least 1"),
        ("method.self_consistency.vote_temperature=0", "at 0 all votes are the same"),
        ("method.direct.think_tokens=0", "think_tokens must be at least 1"),
        ("model.context_window=700", "method.router.rlm.turn_tokens must be lower"),
    ],
)
def test_bad_input_is_one_clear_line(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(*SMALL, "method=[router,self_consistency,direct]", override)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_temperature_of_the_votes_is_part_of_an_arms_key() -> None:
    def fingerprint(*overrides: str) -> str:
        tree = compose_tree([*SMALL, "method=[self_consistency]", *overrides])
        return assemble(check_config(tree)).arms[0].fingerprint

    assert fingerprint() == fingerprint("concurrency=3")
    assert fingerprint() != fingerprint("method.self_consistency.vote_temperature=0.5")


@pytest.mark.slow
def test_all_of_them_run(tmp_path: Path) -> None:
    names = ["no_context", "code_oracle", "self_consistency", "router", "direct"]
    arguments = [*SMALL, f"method=[{','.join(names)}]", f"results_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "rlm_eval", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    results = pd.read_parquet(run_dir / "results.parquet").set_index("method")
    assert sorted(results.index) == sorted(names)
    assert set(results.outcome) == {"answered"}
    assert results.calls.to_dict() == {
        "no_context": 1,
        "code_oracle": 0,
        "self_consistency": 5,
        "router": 1,
        "direct": 1,
    }
    assert results.loc["code_oracle", "protocol"] == "no model"
    assert results.loc["code_oracle", "score"] == 1, "a needle's code can be found by code"
    assert results.loc["no_context", "score"] == 0
    assert results.loc["direct", "answer"] == results.loc["router", "answer"]
    assert results.loc["router", "prompt"] == "plain, compact"
    key = results.loc["router", "result_key"]
    events = (run_dir / "trajectories" / f"{key}.jsonl").read_text().splitlines()
    assert json.loads(events[0])["way"] == "direct"
