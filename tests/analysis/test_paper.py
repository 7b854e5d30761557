"""The paper's figures and tables come from published runs by one command."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import write_run

pytestmark = pytest.mark.slow
MAKE = Path(__file__).parents[2] / "paper" / "make.py"
SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct", "rlm")}


def test_a_run_and_a_folder_of_runs_have_figures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, together, out = tmp_path / "alone", tmp_path / "together", tmp_path / "paper"
    write_run(alone, {}, run_id="alone", **SMALL)
    for task in ("needle", "multihop"):
        folder = write_run(together / task, {"seed": task}, run_id=task, **SMALL)
        table = pd.read_parquet(folder / "results.parquet")
        table.assign(task=task).to_parquet(folder / "results.parquet")
    runpy.run_path(str(MAKE))["main"]([alone, together], out)
    assert capsys.readouterr().out == "alone: 1 run\ntogether: 2 runs\n"
    names = {path.name for path in (out / "figures").iterdir()}
    assert {f"alone_score_vs_length.{s}" for s in ("pdf", "png", "csv")} <= names
    assert "together_paired_forest.pdf" in names
    text = (out / "tables/together_method_by_task.tex").read_text("utf-8")
    assert text.startswith("% together: code abc123\n")
    assert r"multihop 1,000 (n 4) & needle 1,000 (n 4) \\" in text
    assert (out / "tables/alone_costs.tex").is_file()
