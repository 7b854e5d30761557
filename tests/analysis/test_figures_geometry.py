"""Figures hold whatever a report is made of: few arms or many, long and foreign names, nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.fake_results import METHODS, handmade, write_run
from helpers.figure_geometry import faults
from rlm_eval.analysis import diagnostics, drawing, figures
from rlm_eval.analysis.drawing import Plot, save
from rlm_eval.analysis.forest import paired_forest
from rlm_eval.analysis.lettering import drawable
from rlm_eval.analysis.load import combine, load_run
from rlm_eval.analysis.looks import HUES, READABLE, SHADES, contrast, ink, looks, order, shaded
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.rungs import DARKEST, PALEST, score_and_cost
from rlm_eval.analysis.text import count
from rlm_eval.analysis.ticks import FEW, round_ticks

pytestmark = pytest.mark.filterwarnings("error")

Draw = Callable[[pd.DataFrame, pd.DataFrame], Plot]
DRAWN: dict[str, Draw] = {
    "score_vs_length": lambda results, _: figures.score_vs_length(results),
    "score_vs_cost": lambda results, _: figures.score_vs_cost(results),
    "score_and_cost": lambda results, _: score_and_cost(results),
    "paired_forest": lambda results, _: paired_forest(results, pairs(results)),
    "failures": lambda results, _: diagnostics.failures(results),
    "tokens": diagnostics.tokens_by_role,
    "cost_quantiles": lambda results, _: diagnostics.cost_quantiles(results),
    "subcalls": lambda results, _: diagnostics.subcalls_vs_length(results),
    "depth_heatmap": lambda results, _: figures.depth_heatmap(results),
}
LONG = " (model.name=a-provider/a-model-2025-08-07, sub_model.name=another/Model-30B, budget=9000)"
Tables = tuple[pd.DataFrame, pd.DataFrame]


def few(folder: Path) -> Tables:
    return tables(folder, methods=("direct", "rlm"), lengths=(40000,), contexts=4, questions=1)


def one(folder: Path) -> Tables:
    return tables(folder, methods=("rlm",), contexts=4, lengths=(2048, 2100, 8192), questions=2)


def long_names(folder: Path) -> Tables:
    results, calls = tables(folder, contexts=4, questions=2, priced=True)
    other = results["run_id"].where(results.index % 8 < len(METHODS), "other")
    return results.assign(arm=results["arm"] + LONG + " of run " + other), calls


def foreign(folder: Path) -> Tables:
    results, calls = tables(folder, contexts=4, questions=1, lengths=(2048,))
    names = {
        "direct": "直接",
        "rlm": "再帰 的",
        "rag_bm25": "$x_1$ and $y$ ümlaut",
        "needle": "\u202e",
    }
    return results.assign(
        arm=results["arm"].replace(names), task="任务 <b>\x00 " + "x" * 500
    ), calls


def many(folder: Path) -> Tables:
    arms = tuple(f"{base}_{i}" for i in range(28) for base in ("rlm", "direct"))
    skills = dict.fromkeys(arms, 0.5)
    subcalls = {arm: 3 for arm in arms if arm.startswith("rlm")}
    return tables(folder, methods=arms, skills=skills, subcalls=subcalls, contexts=2, questions=1)


def pairs(results: pd.DataFrame) -> pd.DataFrame:
    """Those of many arms are alike: there are thousands, and each would take its time."""
    arms = order(results)
    table = paired_table(results[results["arm"].isin(arms[:8])])
    if len(arms) <= 8:
        return table
    (alike,) = table[:1].to_dict("records")
    return pd.DataFrame([alike | {"arm": a, "against": b} for a, b in combinations(arms, 2)])


def tables(folder: Path, **settings: object) -> Tables:
    run = load_run(write_run(folder, {}, **settings))
    return combine([run]), run.calls


@pytest.fixture(
    scope="module", params=[few, one, long_names, foreign, many], ids=lambda make: make.__name__
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    found: Tables = request.param(tmp_path_factory.mktemp("runs") / "run")
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_no_words_stand_over_others_or_over_axes(made: Tables, name: str) -> None:
    assert faults(DRAWN[name](*made)) == []


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_to_show_is_said(tmp_path: Path, name: str) -> None:
    results, calls = tables(tmp_path / "run", pending=1.0, contexts=4, questions=1, lengths=(2048,))
    assert len(calls)
    owed = DRAWN[name](results, calls)
    assert owed.data.empty or name == "failures"
    nothing = DRAWN[name](results.iloc[:0], calls.iloc[:0])
    assert nothing.data.empty
    assert words(nothing).strip(" .")


def words(figure: Plot) -> str:
    texts = (t.get_text() for t in figure.findobj() if hasattr(t, "get_text"))
    return " ".join(" ".join(texts).split())


def test_a_long_name_is_cut_and_stands_in_full_below_and_in_the_data(tmp_path: Path) -> None:
    figure = diagnostics.failures(long_names(tmp_path / "run")[0])
    text = words(figure)
    assert "[8]" in text
    assert f"[1] direct{LONG} of run".replace(" ", "") in text.replace(" ", "")
    assert figure.data["label"].nunique() == figure.data["arm"].nunique() == 2 * len(METHODS)
    assert max(map(len, figure.data["label"])) < 40


def test_what_is_left_out_is_said_and_stands_in_the_data(tmp_path: Path) -> None:
    results, _ = many(tmp_path / "run")
    figure = figures.score_vs_length(results)
    assert "Shown: the first 50 of 57 arms; the rest is in the CSV." in words(figure)
    assert figure.data["arm"].nunique() == 57


def test_what_no_font_has_is_drawn_as_a_question_mark(tmp_path: Path) -> None:
    results, _ = foreign(tmp_path / "run")
    figure = diagnostics.failures(results)
    assert "$x_1$ and $y$ ümlaut" in words(figure)
    known = looks(results)
    assert len({look.label for look in known.values()}) == len(known)
    with drawing.style():
        assert drawable("a\x00b\u202ec\U000e0fff") == "a?b?c?"
    save(figure, tmp_path / "figure")


@pytest.mark.parametrize("family", HUES)
def test_labels_can_be_read_on_white(family: str) -> None:
    assert all(contrast(ink(shaded(HUES[family], shade))) >= READABLE for shade in SHADES)


def test_contrast_is_that_of_the_web() -> None:
    assert contrast("#000000") == pytest.approx(21)
    assert contrast("#FFFFFF") == pytest.approx(1)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)


def test_dots_of_the_longest_contexts_are_darkest_and_none_too_pale() -> None:
    rows = [
        {"method": m, "sample_id": f"s{n}", "context_id": "c", "correct": True}
        | {"target_tokens": n}
        for m in ("rlm", "rag_bm25", "codeact", "router")
        for n in (1000, 2000, 3000)
    ]
    score = score_and_cost(handmade(rows)).axes[0]
    dots = [line for line in score.lines if line.get_marker() == "o"]
    ratios = [contrast(str(line.get_color())) for line in sorted(dots, key=lambda d: d.get_ydata())]
    for row in zip(ratios[::3], ratios[1::3], ratios[2::3], strict=True):
        assert PALEST <= row[0] < row[1] < row[2] < DARKEST + 1


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0021, 0.0029), (2200, 2800), (5461, 12288), (90, 11000), (1, 1e9), (950, 105000)],
)
def test_a_logarithmic_axis_has_a_few_round_ticks_far_apart(low: float, high: float) -> None:
    ticks = round_ticks(low, high, lambda v: f"{v:.3g}")
    assert len(ticks) in FEW
    assert low <= ticks[0]
    assert ticks[-1] <= high
    gaps = [np.log(b / a) / np.log(high / low) for a, b in pairwise(ticks)]
    assert min(gaps) > 0.12
    assert all(float(f"{v:.2g}") == pytest.approx(v) for v in ticks)


def test_the_same_cost_for_all_has_ticks_too() -> None:
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": True}
        | {"prompt_tokens": 2500, "completion_tokens": 0}
        for m in ("direct", "rlm")
        for i in range(4)
    ]
    axes = diagnostics.cost_quantiles(handmade(rows)).axes[0]
    assert len({count(v) for v in axes.get_yticks()}) in FEW


def test_lengths_too_near_each_other_share_a_tick() -> None:
    rows = [
        {"method": "rlm", "sample_id": f"s{n}", "context_id": "c", "correct": True}
        | {"target_tokens": n}
        for n in (2000, 2048, 8192)
    ]
    assert list(figures.score_vs_length(handmade(rows)).axes[0].get_xticks()) == [2000, 8192]


def test_a_front_of_one_point_is_ringed() -> None:
    rows = [
        {"method": m, "sample_id": "s", "context_id": "c", "correct": m == "direct"}
        | {"prompt_tokens": 100 if m == "direct" else 900}
        for m in ("direct", "rlm")
    ]
    axes = figures.score_vs_cost(handmade(rows)).axes[0]
    (rings,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert len(rings.get_xdata()) == 1
    assert rings.get_markeredgecolor() == figures.FRONT


def test_the_middle_half_of_one_length_is_a_bar() -> None:
    rows = [
        {"method": "rlm", "sample_id": f"s{i}", "context_id": "c", "correct": True, "subcalls": i}
        for i in range(5)
    ]
    axes = diagnostics.subcalls_vs_length(handmade(rows)).axes[0]
    (bar,) = axes.collections
    assert [y for _, y in bar.get_paths()[0].vertices] == [1, 3]


def test_panels_of_differences_share_their_range(tmp_path: Path) -> None:
    results, _ = tables(tmp_path / "run", contexts=6, questions=2)
    assert len({axes.get_xlim() for axes in paired_forest(results).axes}) == 1
