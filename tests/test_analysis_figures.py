"""Figures: what they show, and that they say what they rest on."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from fake_results import handmade, write_run
from rlm_eval.analysis import diagnostics, figures
from rlm_eval.analysis.drawing import Plot, save, spread_out
from rlm_eval.analysis.load import combine, load_run

ALL = (
    figures.score_vs_length,
    figures.score_vs_cost,
    figures.depth_heatmap,
    diagnostics.cost_quantiles,
    diagnostics.subcalls_vs_length,
    diagnostics.failures,
    diagnostics.paired_forest,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return combine([load_run(write_run(folder, {}, contexts=4, questions=2, scripted=True))])


def words(figure: Plot) -> str:
    return " ".join(t.get_text() for t in figure.findobj() if hasattr(t, "get_text"))


@pytest.mark.parametrize("draw", ALL, ids=lambda f: f.__name__)
def test_every_figure_stands_alone(results: pd.DataFrame, draw: object) -> None:
    figure = draw(results)  # type: ignore[operator]
    text = words(figure)
    assert "n = 8 questions in 4 contexts" in text
    assert "simulated-model" in text
    assert "2025-11-22" in text
    assert "SCRIPTED" in text
    assert len(figure.data)


def test_tokens_by_role_needs_calls(results: pd.DataFrame, tmp_path: Path) -> None:
    assert diagnostics.tokens_by_role(results, pd.DataFrame()).data.empty
    run = load_run(write_run(tmp_path / "run", {}, contexts=4, questions=1))
    figure = diagnostics.tokens_by_role(combine([run]), run.calls)
    assert {"root computed", "sub cached"} <= set(figure.data.columns)


def test_score_against_budget_needs_two_budgets(tmp_path: Path) -> None:
    runs = []
    for cap in (1000, 4000):
        config = {"budget": {"sample": {"tokens": cap}}, "method": {}}
        folder = write_run(tmp_path / str(cap), config, run_id=str(cap), contexts=4, questions=1)
        runs.append(load_run(folder))
    assert figures.score_vs_budget(combine(runs[:1])).data.empty
    figure = figures.score_vs_budget(combine(runs))
    assert sorted(figure.data["cap"].unique()) == [1000, 4000]


def test_pareto_front_by_hand() -> None:
    cost = pd.Series([1.0, 2.0, 2.0, 3.0, 4.0])
    score = pd.Series([0.2, 0.5, 0.4, 0.5, 0.6])
    assert figures.pareto(cost, score).tolist() == [True, True, False, False, True]


def test_failures_add_up(results: pd.DataFrame) -> None:
    data = diagnostics.failures(results).data
    ends = [c for c in data.columns if c in diagnostics.ENDS]
    assert data[ends].sum().sum() == len(results)


def test_drawing_needs_no_pyplot() -> None:
    code = "import sys, rlm_eval.analysis.summary; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_labels_move_apart_and_keep_their_order() -> None:
    placed = spread_out([0.5, 0.5, 0.1, 0.52], 0.1)
    ranked = sorted(placed)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ranked))
    assert placed[2] == pytest.approx(0.1)
    assert sum(placed[i] for i in (0, 1, 3)) == pytest.approx(0.5 + 0.5 + 0.52)


def test_files_hold_the_picture_and_its_data(tmp_path: Path) -> None:
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": bool(i % 2)}
        for m in ("direct", "rlm")
        for i in range(4)
    ]
    written = save(figures.score_vs_length(handmade(rows)), tmp_path / "new" / "figure")
    assert [p.suffix for p in written] == [".png", ".pdf", ".csv"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert written[1].read_bytes().startswith(b"%PDF")
    assert pd.read_csv(written[2])["mean_score"].tolist() == [0.5, 0.5]
