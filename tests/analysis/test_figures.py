"""Figures: what they show, and that they say what they rest on."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.fake_results import handmade, write_run
from rlm_eval.analysis import diagnostics, figures
from rlm_eval.analysis.drawing import Plot, save
from rlm_eval.analysis.forest import paired_forest
from rlm_eval.analysis.load import combine, load_run
from rlm_eval.analysis.looks import MUTED, looks, spread_out, untangled
from rlm_eval.analysis.rungs import score_and_cost

ALL = (
    figures.score_vs_length,
    figures.score_vs_cost,
    figures.depth_heatmap,
    diagnostics.cost_quantiles,
    diagnostics.subcalls_vs_length,
    diagnostics.failures,
    paired_forest,
    score_and_cost,
)
#: Every rung of the ladder, its controls in the middle.
LADDER = (
    *("direct", "rag_bm25", "summarize_map_reduce", "rlm", "no_context", "code_oracle"),
    *("self_consistency", "rag_dense", "rag_hybrid", "summarize_refine", "compaction", "codeact"),
    *("codeact_bm25", "codeact_subcalls", "router", "rlm_d0", "rlm_d2", "rlm_d3"),
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


def test_labels_stay_beside_the_axes_and_share_what_room_there_is() -> None:
    assert spread_out([1.0, 1.0, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert spread_out([0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1])
    assert spread_out([0.9] * 5, 0.5) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_of_points_at_one_height_the_rightmost_has_the_nearest_label() -> None:
    starts = [(0.1, 1.0), (0.9, 1.0), (0.5, 1.0), (0.2, 0.3)]
    assert untangled(starts, [0.8, 0.7, 0.9, 0.3]) == [0.7, 0.9, 0.8, 0.3]
    # Up and down from the middle, nearest first.
    assert untangled([(0.1, 0.5), (0.9, 0.5), (0.5, 0.5)], [0.41, 0.5, 0.6]) == [0.6, 0.5, 0.41]


@pytest.fixture(scope="module")
def ladder() -> pd.DataFrame:
    """All methods right on every question but the RLMs, which are right on half of them: no
    labels could clash more."""
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "prompt_tokens": 100 + 9 * n}
        | {"correct": not m.startswith("rlm") or i % 2 == 0, "constant_score": 0.25}
        | ({"protocol": "no model", "scripted": True} if m == "code_oracle" else {})
        for n, m in enumerate(LADDER)
        for i in range(4)
    ]
    return handmade(rows)


@pytest.mark.parametrize(
    ("draw", "shown"), [(figures.score_vs_length, 19), (figures.score_vs_cost, 19)]
)
def test_labels_of_eighteen_arms_do_not_collide(
    ladder: pd.DataFrame, draw: object, shown: int
) -> None:
    figure = draw(ladder)  # type: ignore[operator]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = sorted((t.get_window_extent() for t in axes.texts), key=lambda box: box.y0)
    assert len(boxes) == shown
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= figure.bbox.y1
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_rows_keep_families_together_and_controls_below(ladder: pd.DataFrame) -> None:
    figure = score_and_cost(ladder)
    score, tokens = figure.axes
    rows = [label.get_text() for label in score.get_yticklabels()]
    assert rows[:5] == ["direct", "self_consistency", "rag_bm25", "rag_dense", "rag_hybrid"]
    assert rows[-3:] == ["no_context", "code_oracle", "best_constant"]
    assert tokens.get_yticklabels() == []  # the names stand once
    dots = [line for line in score.lines if line.get_marker() == "o"]
    assert len(dots) == len(rows)
    spent = [
        np.asarray(line.get_xdata()).tolist() for line in tokens.lines if line.get_marker() == "o"
    ]
    assert sorted(spent) == [[100 + 9 * n] for n, _ in enumerate(LADDER)]


@pytest.mark.filterwarnings("error")
def test_one_arm_has_room_enough() -> None:
    rows = [{"method": "rlm", "sample_id": "s", "context_id": "c", "correct": True}]
    score_and_cost(handmade(rows)).draw_without_rendering()


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_each_task_has_its_score_and_its_cost(ladder: pd.DataFrame, tasks: int) -> None:
    every = pd.concat([ladder.assign(task=f"t{i}") for i in range(tasks)], ignore_index=True)
    figure = score_and_cost(every)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert sorted(titles) == sorted(2 * [f"t{i}" for i in range(tasks)])


@pytest.mark.parametrize("draw", [diagnostics.cost_quantiles, diagnostics.subcalls_vs_length])
def test_a_label_without_neighbours_stands_at_the_end_of_its_line(draw: object) -> None:
    rows = [
        {"method": "rlm", "sample_id": f"s{n}", "context_id": "c", "correct": True}
        | {"target_tokens": length, "subcalls": n + 1, "prompt_tokens": 10 * length + n}
        for n, length in enumerate((1000, 1000, 4000, 4000))
    ]
    figure = draw(handmade(rows))  # type: ignore[operator]
    figure.draw_without_rendering()
    for axes in figure.axes:
        (label,), line = axes.texts, axes.lines[0]
        end = axes.transData.transform((line.get_xdata()[-1], line.get_ydata()[-1]))
        box = label.get_window_extent()
        assert end[1] == pytest.approx((box.y0 + box.y1) / 2, abs=3)


def test_sub_calls_are_shown_at_each_tasks_own_lengths_and_none_as_none() -> None:
    base = {"method": "rlm", "sample_id": "s", "context_id": "c", "correct": True}
    rows = [
        base | {"task": "a", "target_tokens": 1650, "subcalls": 40},
        base | {"task": "b", "target_tokens": 1000, "subcalls": 0},
    ]
    many, none = diagnostics.subcalls_vs_length(handmade(rows)).axes
    assert [list(axes.get_xticks()) for axes in (many, none)] == [[1650], [1000]]
    assert none.get_ylim() == (0, 1)


def test_no_two_arms_look_alike_and_controls_are_grey(ladder: pd.DataFrame) -> None:
    known = looks(ladder)
    methods = [look for look in known.values() if not look.control]
    assert len({(k.colour, k.style["marker"]) for k in methods}) == len(methods) == 16
    assert {arm for arm, look in known.items() if look.control} == {
        *("no_context", "code_oracle", "best_constant")
    }
    assert all(k.colour == MUTED and not k.style["marker"] for k in known.values() if k.control)


def test_controls_are_no_points_of_the_front_and_no_pairs(ladder: pd.DataFrame) -> None:
    controls = {"no_context", "code_oracle", "best_constant"}
    assert not controls & set(figures.score_vs_cost(ladder).data["arm"])
    pairs = paired_forest(ladder).data
    assert not controls & (set(pairs["arm"]) | set(pairs["against"]))
    assert not controls & set(diagnostics.cost_quantiles(ladder).data["arm"])


def test_the_rlm_is_first_of_each_pair_with_its_sign_turned(ladder: pd.DataFrame) -> None:
    pairs = paired_forest(ladder).data
    assert set(pairs["arm"]) == {"rlm", "rlm_d0", "rlm_d2", "rlm_d3"}
    # codeact comes after rlm in the results, so the table holds codeact minus rlm: +50 points.
    (pair,) = pairs[(pairs["arm"] == "rlm") & (pairs["against"] == "codeact")].to_dict("records")
    assert pair["difference"] == -0.5
    assert pair["low"] <= -0.5 <= pair["high"]
    assert pair["cost_ratio"] == pytest.approx((100 + 9 * 3) / (100 + 9 * 11))


def test_scripted_is_said_of_arms_only_where_others_are_not() -> None:
    base = {"sample_id": "s", "context_id": "c", "correct": True}
    both = [base | {"method": "direct"}, base | {"method": "rlm", "scripted": True}]
    text = words(figures.score_vs_length(handmade(both)))
    assert "rlm (scripted)" in text
    assert "SCRIPTED" not in text
    text = words(figures.score_vs_length(handmade(both[1:])))
    assert "SCRIPTED MODEL" in text
    assert "rlm (scripted)" not in text


@pytest.mark.parametrize(
    ("depths", "bins"), [([0.0, 0.5, 1.0], 3), ([i / 40 for i in range(40)], 5)]
)
def test_depths_have_a_bin_each_or_fifths(depths: list[float], bins: int) -> None:
    rows = [
        {"method": "rlm", "sample_id": f"s{i}", "context_id": f"c{i}", "correct": d > 0.3}
        | {"knobs": f'{{"depth": {d}}}'}
        for i, d in enumerate(depths)
    ]
    data = figures.depth_heatmap(handmade(rows)).data
    assert data["bin"].nunique() == bins
    assert data["n"].sum() == len(depths)


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
