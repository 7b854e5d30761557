"""Reading runs back: one, several, a glob, and what tells their arms apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fake_results import write_run
from rlm_eval.analysis import arms
from rlm_eval.analysis.load import COLUMNS, load_results, load_run
from rlm_eval.errors import ConfigError

SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct", "rlm")}


def config(max_depth: int = 1, **more: object) -> dict[str, object]:
    return {"method": {"direct": {}, "rlm": {"max_depth": max_depth}}} | more


def test_columns_are_the_documented_ones(tmp_path: Path) -> None:
    results = load_results(write_run(tmp_path / "a", config(), **SMALL))
    assert set(results.columns) == set(COLUMNS)
    assert results["code_revision"].unique().tolist() == ["abc123"]
    assert results["started_at"].min() == 1_763_800_000


@pytest.mark.parametrize("source", ["a", "a/results.parquet", "*", "*/results.parquet", "**"])
def test_a_run_can_be_named_in_many_ways(tmp_path: Path, source: str) -> None:
    write_run(tmp_path / "a", config(), **SMALL)
    assert len(load_results(str(tmp_path / source))) == 8


def test_arms_of_one_name_and_different_settings_stay_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config(1), run_id="a", **SMALL)
    write_run(tmp_path / "b", config(2), run_id="b", **SMALL)
    results = load_results(tmp_path / "*")
    assert results["arm"].unique().tolist() == ["direct", "rlm (max_depth=1)", "rlm (max_depth=2)"]


def test_equal_results_of_two_runs_count_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_run(tmp_path / folder, config(), **SMALL)
    assert len(load_results(tmp_path / "*")) == 8


def test_budgets_tell_arms_apart_and_are_named(tmp_path: Path) -> None:
    for tokens in (100, 200):
        caps = {"budget": {"run": {"usd": 3}, "sample": {"tokens": tokens, "usd": None}}}
        write_run(tmp_path / str(tokens), config(**caps), run_id=str(tokens), **SMALL)
    results = load_results(tmp_path / "*")
    assert results["budget"].unique().tolist() == ["tokens=100", "tokens=200"]
    assert "rlm (budget=tokens=100)" in set(results["arm"])


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("rlm", "", "rlm"),
        ("rlm_d3", "rlm_eval.methods.rlm.Rlm", "rlm"),
        ("deep", "rlm_eval.methods.rlm.Rlm", "rlm"),
        ("direct", "rlm_eval.methods.direct.Direct", "alternative"),
        ("codeact_subcalls", "", "alternative"),
        ("no_context", "rlm_eval.methods.direct.Direct", "control"),
        ("router", "rlm_eval.methods.router.Router", "mixed"),
        ("code_oracle", "", "control"),
    ],
)
def test_kinds(method: str, target: str, expected: str) -> None:
    assert arms.kind(method, target) == expected


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no results\.parquet"):
        load_results(tmp_path)
    write_run(tmp_path / "a", **SMALL)
    table = tmp_path / "a" / "results.parquet"
    pd.read_parquet(table).drop(columns=["gold"]).to_parquet(table)
    with pytest.raises(ConfigError, match="gold"):
        load_results(tmp_path / "a")


def test_arms_keep_the_order_of_the_configuration(tmp_path: Path) -> None:
    order = {"rlm": {}, "direct": {}}
    results = load_results(write_run(tmp_path / "a", {"method": order}, **SMALL))
    assert results["arm"].drop_duplicates().tolist() == ["rlm", "direct"]
    assert results["started_at"].notna().all()


def test_calls_of_an_abandoned_try_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", config(), **SMALL)
    calls = pd.read_parquet(folder / "calls.parquet")
    again = calls[calls["result_key"] == calls["result_key"].iloc[0]].assign(episode=2)
    pd.concat([calls, again]).to_parquet(folder / "calls.parquet")
    assert len(load_run(folder).calls) == len(calls)
