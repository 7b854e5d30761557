"""The paper's figures and tables come from published runs by one command."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import write_run

pytestmark = pytest.mark.slow
MAKE = Path(__file__).parents[2] / "paper" / "make.py"
SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,)}


def test_the_ladder_has_a_method_by_task_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, out = tmp_path / "published", tmp_path / "paper"
    write_run(published / "alone", {}, run_id="alone", methods=("direct", "rlm"), **SMALL)
    for task, methods in (("needle", ("direct", "rlm")), ("multihop", ("rlm", "no_context"))):
        settings = {"skills": {"no_context": 0.1}, "methods": methods, "run_id": task}
        folder = write_run(published / f"ladder-{task}", {"seed": task}, **settings, **SMALL)
        table = pd.read_parquet(folder / "results.parquet")
        table.assign(task=task).to_parquet(folder / "results.parquet")
    runpy.run_path(str(MAKE))["main"](published, out)
    assert capsys.readouterr().out == "alone\nladder: 2 runs\n"
    text = (out / "tables/ladder_method_by_task.tex").read_text("utf-8")
    assert text.startswith("% ladder-multihop: code abc123\n% ladder-needle: code abc123\n")
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert rows[0] == r"method & multihop 1,000 (n 4) & needle 1,000 (n 4) \\"
    assert [row.split(" & ")[0] for row in rows[1:]] == [
        *("rlm", "direct", r"no\_context (control)", r"best\_constant (control, no model)")
    ]
    assert (out / "figures/ladder_score_vs_length.pdf").is_file()
    assert (out / "tables/alone.tex").is_file()
    assert not (out / "tables/ladder-needle.tex").exists()


def test_runs_at_matched_budgets_have_one_figure_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, out = tmp_path / "published", tmp_path / "paper"
    for cap in (1000, 4000):
        budget = {"budget": {"sample": {"tokens": cap}, "matched": True}}
        write_run(published / f"matched-{cap}", budget, run_id=str(cap), **SMALL)
    runpy.run_path(str(MAKE))["main"](published, out)
    assert capsys.readouterr().out == "matched: 2 runs\n"
    assert set(pd.read_csv(out / "figures/matched_score_vs_budget.csv")["cap"]) == {1000, 4000}
    assert "best constant" in (out / "tables/matched_budgets.tex").read_text("utf-8")


def test_without_a_ladder_there_is_none(tmp_path: Path) -> None:
    write_run(tmp_path / "published" / "alone", {}, methods=("direct", "rlm"), **SMALL)
    runpy.run_path(str(MAKE))["main"](tmp_path / "published", tmp_path / "paper")
    assert not list((tmp_path / "paper").rglob("ladder*"))
