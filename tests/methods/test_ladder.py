"""The direct family and the controls as configured: composed, built and run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.commands import rlm_eval
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.methods.method import Method
from rlm_eval.runs.assemble import assemble

SMALL = ["task=needle", "task.lengths=[1000]", "task.n=1", "model=scripted"]


def built(*overrides: str) -> dict[str, Method]:
    """The arms of a run, by name."""
    return {a.name: a.method for a in assemble(check_config(compose_tree(overrides))).arms}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.direct.overflow=foo", "method.direct.overflow='foo' does not fit"),
        ("+method.direct.overflw=refuse", "did you mean method.direct.overflow"),
        ("method.self_consistency.tries=0", "tries must be at least 1"),
        ("method.self_consistency.temperature=0", "at 0 all tries are the same"),
        ("method.direct.think_tokens=0", "think_tokens must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_line(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(*SMALL, "method=[self_consistency,direct]", override)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_temperature_of_tries_is_part_of_an_arms_key() -> None:
    def fingerprint(*overrides: str) -> str:
        tree = compose_tree([*SMALL, "method=[self_consistency]", *overrides])
        return assemble(check_config(tree)).arms[0].fingerprint

    assert fingerprint() == fingerprint("concurrency=3")
    assert fingerprint() != fingerprint("method.self_consistency.temperature=0.5")


@pytest.mark.slow
def test_all_of_them_run(tmp_path: Path) -> None:
    names = ["no_context", "code_oracle", "self_consistency", "direct"]
    arguments = [*SMALL, f"method=[{','.join(names)}]", f"results_dir={tmp_path}"]
    done = rlm_eval(*arguments)
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    results = pd.read_parquet(run_dir / "results.parquet").set_index("method")
    assert sorted(results.index) == sorted(names)
    assert set(results.outcome) == {"answered"}
    assert results.calls.to_dict() == {
        "no_context": 1,
        "code_oracle": 0,
        "self_consistency": 5,
        "direct": 1,
    }
    assert results.loc["code_oracle", "protocol"] == "no model"
    assert results.loc["code_oracle", "score"] == 1, "a needle's code can be found by code"
    assert results.loc["no_context", "score"] == 0
