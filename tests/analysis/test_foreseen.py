"""A forecast beside what the run took, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rlm_eval.analysis.foreseen import forecast_table
from rlm_eval.analysis.load import Run


def run_of(tmp_path: Path, forecast: list[dict[str, object]]) -> Run:
    (tmp_path / "forecast.json").write_text(json.dumps(forecast))
    rows = [
        {"method": arm, "calls": c, "prompt_tokens": 100, "completion_tokens": 5, "wall_s": 2.0}
        for arm, c in [("direct", 1), ("direct", 1), ("rlm", 7)]
    ]
    results = pd.DataFrame(rows).assign(cost_usd=[0.1, 0.2, None])
    return Run(tmp_path, results, pd.DataFrame(), {}, {})


def row(arm: str, n: int, calls: float | None, source: str = "sizes") -> dict[str, object]:
    rest = dict.fromkeys(("prompt_tokens", "completion_tokens", "usd", "seconds"), calls)
    return {
        "arm": arm,
        "target_tokens": 1000,
        "results": n,
        "source": source,
        "calls": calls,
    } | rest


def test_what_was_said_beside_what_it_took(tmp_path: Path) -> None:
    run = run_of(tmp_path, [row("direct", 1, 3.0), row("direct", 1, 4.0), row("rlm", 1, None)])
    direct, rlm = forecast_table(run).to_dict("records")
    assert (direct["arm"], direct["results"], direct["from"]) == ("direct", 2, "sizes")
    assert (direct["calls_forecast"], direct["calls_took"]) == (7.0, 2)
    assert direct["usd_took"] == 0.1 + 0.2
    assert pd.isna(rlm["calls_forecast"])
    assert rlm["calls_took"] == 7
    assert pd.isna(rlm["usd_took"])  # unpriced, never 0


def test_a_forecast_for_other_results_is_not_held_against_these(tmp_path: Path) -> None:
    table = forecast_table(run_of(tmp_path, [row("direct", 1, 1.0)]))
    assert pd.isna(table.loc[0, "calls_forecast"])


def test_without_a_forecast_the_table_is_empty(tmp_path: Path) -> None:
    run = run_of(tmp_path, [])
    (tmp_path / "forecast.json").unlink()
    assert forecast_table(run).empty
