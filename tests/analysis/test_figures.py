"""Figures: what they show and rest on, and that their words can be read, few arms or many."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.fake_results import METHODS, handmade, write_run
from helpers.figure_geometry import drawn, faults
from rlm_eval.analysis import figures
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.figures.curves import FRONT, pareto
from rlm_eval.analysis.figures.drawing import Plot
from rlm_eval.analysis.figures.styles import GREY, styles
from rlm_eval.analysis.load import combine, load_run
from rlm_eval.analysis.paired import paired_table

# A warning of ours fails, and matplotlib's of glyphs and layouts; not what other tests left to the
# garbage collector, which may come in the middle of these.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error:::rlm_eval", "ignore:unclosed:ResourceWarning"
)

Tables = tuple[pd.DataFrame, pd.DataFrame]
Draw = Callable[[pd.DataFrame, pd.DataFrame], Plot]
DRAWN: dict[str, Draw] = {
    "score_vs_length": lambda results, _: score_vs_length(results),
    "score_vs_cost": lambda results, _: score_vs_cost(results),
    "score_and_cost": lambda results, _: score_and_cost(results),
    "paired_forest": lambda results, _: paired_forest(results),
    "subcalls_vs_length": lambda results, _: figures.curves.subcalls_vs_length(results),
    "score_vs_budget": figures.curves.score_vs_budget,
}
#: All of our own methods, controls in the middle.
LADDER = (
    *("direct", "rag_bm25", "summarize_map_reduce", "rlm", "no_context", "code_oracle"),
    *("self_consistency", "rag_dense", "rag_hybrid", "summarize_refine", "compaction", "codeact"),
    *("codeact_bm25", "codeact_subcalls", "router", "rlm_d0", "rlm_d2", "rlm_d3"),
)
CONTROLS = {"no_context", "code_oracle", "best_constant"}
MODELS = (
    *("openrouter/qwen/qwen3-coder-480b-a35b-instruct", "gpt-5"),
    *("anthropic/claude-sonnet-4-5-20250929", "a_model_of_a_very_long_name_without_any_dashes_"),
)
LONG = " (model.name=a-provider/a-model-2025-08-07, sub_model.name=another/Model-30B, budget=9000)"


def score_vs_length(results: pd.DataFrame) -> Plot:
    return figures.curves.score_vs_length(results, summary_of(results))


def score_vs_cost(results: pd.DataFrame) -> Plot:
    return figures.curves.score_vs_cost(results, summary_of(results))


def score_and_cost(results: pd.DataFrame) -> Plot:
    return figures.rows.score_and_cost(results, summary_of(results))


def paired_forest(results: pd.DataFrame) -> Plot:
    return figures.rows.paired_forest(results, paired_table(results))


def summary_of(results: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame() if results.empty else summarize(results)


def words(plot: Plot) -> str:
    return " ".join(" ".join(text.get_text() for text in drawn(plot.figure)).split())


def tables(folder: Path, **settings: object) -> Tables:
    run = load_run(write_run(folder, {}, **settings))
    return combine([run]), run.calls


def normal(folder: Path) -> Tables:
    return tables(folder, contexts=4, questions=2, scripted=True, priced=True)


def few(folder: Path) -> Tables:
    return tables(folder, methods=("direct", "rlm"), lengths=(40000,), contexts=4, questions=1)


def near_lengths(folder: Path) -> Tables:
    return tables(folder, methods=("rlm",), contexts=4, lengths=(2048, 2100, 8192), questions=2)


def long_names(folder: Path) -> Tables:
    results, calls = tables(folder, contexts=4, questions=2, priced=True)
    arm, task = results["arm"] + LONG, "a_task_of_a_very_long_name_without_spaces_or_$_" * 2
    return results.assign(arm=arm, task=task), calls


def ladder(folder: Path) -> Tables:
    settings = {"skills": dict.fromkeys(LADDER, 0.5), "contexts": 4, "questions": 1}
    results, calls = tables(folder, methods=LADDER, **settings)
    tasks = [results.assign(task=f"task{i}") for i in range(2)]
    return pd.concat(tasks, ignore_index=True), calls


def budgets(folder: Path) -> Tables:
    runs = []
    for cap in (1000, 1100, 9000):
        for matched in (True, False):
            node = {"rlm": {"matched": matched}}  # which direct can't be
            config = {"budget": {"sample": {"tokens": cap}, "matched": matched}, "method": node}
            path = folder / f"{cap}{matched}"
            settings = {"methods": ("direct", "rlm"), "lengths": (2048,), "contexts": 4}
            runs.append(load_run(write_run(path, config, run_id=path.name, **settings)))
    return combine(runs), pd.concat([run.calls for run in runs], ignore_index=True)


def models_of(folder: Path, models: Sequence[str]) -> Tables:
    """The same questions asked each model, in a run of its own."""
    runs = []
    for i, model in enumerate(models):
        shape = {"contexts": 4, "questions": 1, "lengths": (4096, 65536, 131072), "priced": True}
        path = write_run(folder / str(i), {}, run_id=str(i), model=model, seed=i, **shape)
        runs.append(load_run(path))
    return combine(runs), pd.concat([run.calls for run in runs], ignore_index=True)


def two_models(folder: Path) -> Tables:
    return models_of(folder, MODELS[:2])


def four_models(folder: Path) -> Tables:
    return models_of(folder, MODELS)


MADE = (normal, few, near_lengths, long_names, ladder, two_models, four_models)


@pytest.fixture(scope="module", params=MADE, ids=lambda make: make.__name__)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    found: Tables = request.param(tmp_path_factory.mktemp("runs") / "run")
    return found


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """The ladder's methods, right on every question but the RLMs, which are right on half."""
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "prompt_tokens": 100 + 9 * n}
        | {"correct": not m.startswith("rlm") or i % 2 == 0, "constant_score": 0.25}
        | ({"protocol": "no model", "scripted": True} if m == "code_oracle" else {})
        for n, m in enumerate(LADDER)
        for i in range(4)
    ]
    return handmade(rows)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "score_vs_budget"])
def test_no_words_are_over_others_or_over_axes(made: Tables, name: str) -> None:
    assert faults(DRAWN[name](*made).figure) == []


def test_budgets_near_each_other_have_labels_apart(tmp_path: Path) -> None:
    plot = figures.curves.score_vs_budget(*budgets(tmp_path))
    assert faults(plot.figure) == []
    assert list(plot.figure.axes[0].get_xticks()) == [1000, 9000]
    assert set(plot.data["cap"]) == {1000, 1100, 9000}
    kinds = [axes.get_xlabel().partition(" per ")[0] for axes in plot.figure.axes[::2]]
    assert kinds == ["cap", "matched budget"]
    lines = [{line.get_label() for line in axes.lines} for axes in plot.figure.axes[::2]]
    assert all("direct" in names for names in lines)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return two_models(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "score_vs_budget"])
def test_each_model_has_a_facet_and_no_name_has_a_model(both: Tables, name: str) -> None:
    figure = DRAWN[name](*both).figure
    heads = ["".join(axes.get_title(loc="left").split("\n")) for axes in figure.axes]
    for model in MODELS[:2]:
        assert sum(head.endswith(model) for head in heads) == len([h for h in heads if h]) / 2
    assert sum(head.startswith("aggregation") for head in heads) == len([h for h in heads if h]) / 2
    shown = [text.get_text() for text in drawn(figure)]
    assert not any("model=" in text for text in shown)


def test_facets_hold_their_models_scores_and_share_an_axis(both: Tables) -> None:
    summary = summarize(both[0])
    qwen, gpt = score_vs_length(both[0]).figure.axes[::-1]  # by name: gpt-5 comes first
    for axes, model in ((qwen, MODELS[0]), (gpt, MODELS[1])):
        own = summary[(summary["model"] == model) & (summary["method"] == "rlm")]
        (line,) = [line for line in axes.lines if line.get_label() == "rlm"]
        assert line.get_ydata().tolist() == (100 * own["mean_score"]).tolist()
        assert any(line.get_label().startswith("best_constant") for line in axes.lines)
    assert (gpt.get_ylim(), gpt.get_ylabel()) == (qwen.get_ylim(), "mean score (%)")
    assert qwen.get_ylabel() == ""
    assert not any(label.get_visible() for label in qwen.get_yticklabels())


def test_panels_of_models_have_the_same_rows_though_one_lacks_an_arm(both: Tables) -> None:
    results = both[0][~both[0]["arm"].str.startswith("rag_bm25 (model=gpt-5")]
    named, *others = paired_forest(results).figure.axes
    shown = [text.get_text() for text in named.get_yticklabels()]
    assert shown == ["direct", "rag_bm25", "summarize_map_reduce"]
    assert all(axes.get_ylim() == named.get_ylim() for axes in others)


def test_a_scripted_models_facet_says_so_and_the_others_arms_do_not(both: Tables) -> None:
    made_up = both[0]["model"] == "gpt-5"
    figure = score_vs_length(both[0].assign(scripted=made_up)).figure
    heads = [axes.get_title(loc="left") for axes in figure.axes]
    assert ["(scripted)" in head for head in heads] == [True, False]
    assert not any("scripted" in text.get_text() for text, _ in legend(figure))


def test_tasks_that_each_have_a_model_of_their_own_keep_them_apart(both: Tables) -> None:
    results = both[0].assign(task=both[0]["model"].map(dict(zip(MODELS, "abcd", strict=True))))
    figure = score_vs_length(by_method(results)).figure
    heads = ["".join(axes.get_title(loc="left").split("\n")) for axes in figure.axes]
    assert heads == [f"a{MODELS[0]}", f"b{MODELS[1]}"]


def test_budgets_of_two_models_have_a_facet_each(tmp_path: Path) -> None:
    runs = []
    for model in MODELS[:2]:
        for cap in (1000, 9000):
            path = tmp_path / f"{len(runs)}"
            config = {"budget": {"sample": {"tokens": cap}, "matched": True}}
            shape = {"methods": ("direct", "rlm"), "lengths": (2048,), "contexts": 4}
            write_run(path, config, run_id=path.name, model=model, **shape)
            runs.append(load_run(path))
    calls = pd.concat([run.calls for run in runs], ignore_index=True)
    figure = figures.curves.score_vs_budget(combine(runs), calls).figure
    assert faults(figure) == []
    assert [text.get_text() for text, _ in legend(figure)] == ["rlm", "direct"]
    assert len(figure.axes) == 4


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "score_vs_budget"])
def test_every_figure_says_what_it_rests_on(tmp_path: Path, name: str) -> None:
    plot = DRAWN[name](*normal(tmp_path / "run"))
    text = words(plot)
    assert "n = 8 questions in 4 contexts" in text
    assert "simulated-model" in text
    assert "2025-11-22" in text
    assert "SCRIPTED MODEL" in text
    assert len(plot.data)


def test_a_figure_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "one.png").symlink_to(tmp_path / "mine")
    figures.drawing.save(figures.drawing.empty("nothing"), tmp_path / "one", pdf=True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "one.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("name", DRAWN)
def test_with_nothing_to_show_there_is_a_message(tmp_path: Path, name: str) -> None:
    results, calls = tables(tmp_path / "run", pending=1.0, contexts=4, questions=1, lengths=(2048,))
    pending = DRAWN[name](results, calls)
    assert pending.data.empty
    nothing = DRAWN[name](results.iloc[:0], calls.iloc[:0])
    assert nothing.data.empty
    assert faults(nothing.figure) == []
    assert words(nothing)


def test_no_name_is_cut(tmp_path: Path) -> None:
    results, _ = long_names(tmp_path / "run")
    for draw in (score_vs_length, score_and_cost):
        text = words(draw(results)).replace(" ", "")
        assert all(f"{method}{LONG}".replace(" ", "") in text for method in METHODS)


def test_the_footer_counts_panels_left_out_and_the_data_has_them() -> None:
    base = {"method": "rlm", "sample_id": "s", "context_id": "c", "correct": True, "subcalls": 1}
    rows = [base | {"task": f"t{i:02}"} for i in range(13)]
    plot = figures.curves.subcalls_vs_length(handmade(rows))
    assert "The first 12 of 13 panels; the CSV has all." in words(plot)
    assert plot.data["task"].nunique() == 13
    assert len(plot.figure.axes) == 12


def test_scripted_arms_are_marked_where_others_are_not() -> None:
    base = {"sample_id": "s", "context_id": "c", "correct": True}
    both = [base | {"method": "direct"}, base | {"method": "rlm", "scripted": True}]
    text = words(score_vs_length(handmade(both)))
    assert "rlm (scripted)" in text
    assert "these say nothing about any language model" in text
    assert "direct (scripted)" not in text


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import rlm_eval.analysis.summary
print("matplotlib" in sys.modules)
sys.path.insert(0, sys.argv[1])
from helpers.fake_results import handmade
from rlm_eval.analysis.figures import curves, drawing
row = dict(method="rlm", sample_id="s", context_id="c", correct=True, subcalls=1)
drawing.save(curves.subcalls_vs_length(handmade([row])), Path(sys.argv[2]))
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path / "figure")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def test_no_two_methods_look_alike_and_families_are_together(many: pd.DataFrame) -> None:
    known = styles(many)
    looks = [(its["color"], its["marker"]) for its in known.values() if its["color"] != GREY]
    assert len(known) == 19
    assert len(set(looks)) == len(looks) > 10
    assert list(known)[:6] == ["rlm", "rlm_d0", "rlm_d2", "rlm_d3", "direct", "self_consistency"]
    assert set(list(known)[-3:]) == CONTROLS
    assert {arm for arm, its in known.items() if its["linestyle"] == "--"} == CONTROLS
    score, tokens = score_and_cost(many).figure.axes
    rows = [label.get_text() for label in score.get_yticklabels()]
    assert rows == [its["label"] for its in known.values()]
    assert not any(label.get_visible() for label in tokens.get_yticklabels())


def test_a_methods_colour_is_the_same_in_every_figure(many: pd.DataFrame) -> None:
    asked = many.assign(subcalls=many["arm"].isin(["rlm_d2", "codeact_subcalls"]).astype(int))
    colours = {
        (text.get_text(), line.get_color())
        for plot in (score_vs_length(asked), score_vs_cost(asked), paired_forest(asked))
        for text, line in legend(plot.figure)
    }
    assert len({name for name, _ in colours}) == len(colours)
    shown = {(text.get_text(), line.get_color()) for text, line in legend(of_subcalls(asked))}
    assert shown <= colours
    assert len(shown) == 2


def of_subcalls(results: pd.DataFrame) -> Figure:
    return figures.curves.subcalls_vs_length(results).figure


def legend(figure: Figure) -> list[tuple[object, object]]:
    (found,) = figure.legends
    return list(zip(found.get_texts(), found.get_lines(), strict=True))


def test_pareto_front_by_hand() -> None:
    table = pd.DataFrame({"cost": [1, 2, 2, 3, 4], "mean_score": [0.2, 0.5, 0.4, 0.5, 0.6]})
    assert pareto(table, "cost") == [True, True, False, False, True]


def test_a_front_of_one_point_is_seen() -> None:
    rows = [
        {"method": m, "sample_id": "s", "context_id": "c", "correct": m == "direct"}
        | {"prompt_tokens": 100 if m == "direct" else 900}
        for m in ("direct", "rlm")
    ]
    (axes,) = score_vs_cost(handmade(rows)).figure.axes
    (front,) = [line for line in axes.lines if line.get_color() == FRONT]
    assert front.get_marker() == "o"
    assert len(front.get_xdata()) == 1


def test_controls_are_no_points_of_the_front_and_no_pairs(many: pd.DataFrame) -> None:
    plot = score_vs_cost(many)
    assert not CONTROLS & set(plot.data["arm"])
    assert sum(line.get_linestyle() == "--" for line in plot.figure.axes[0].lines) == 3
    pairs = paired_forest(many).data
    assert not CONTROLS & (set(pairs["arm"]) | set(pairs["against"]))


def test_dollars_are_shown_where_all_are_priced(tmp_path: Path) -> None:
    results, _ = normal(tmp_path / "run")
    assert set(score_vs_cost(results).data["axis"]) == {"tokens", "cost_usd"}
    unpriced = results.assign(cost_usd=results["cost_usd"].where(results["arm"] != "rlm"))
    assert set(score_vs_cost(unpriced).data["axis"]) == {"tokens"}


def test_the_rlm_is_first_of_each_pair(many: pd.DataFrame) -> None:
    plot = paired_forest(many)
    assert set(plot.data["arm"]) == {"rlm", "rlm_d0", "rlm_d2", "rlm_d3"}
    pairs = plot.data[(plot.data["arm"] == "rlm") & (plot.data["against"] == "codeact")]
    (pair,) = pairs.to_dict("records")
    assert pair["difference"] == -0.5
    assert pair["low"] <= -0.5 <= pair["high"]
    assert pair["cost_ratio"] == pytest.approx((100 + 9 * 3) / (100 + 9 * 11))


def test_panels_of_differences_share_their_range(tmp_path: Path) -> None:
    results, _ = tables(tmp_path / "run", contexts=6, questions=2)
    assert len({axes.get_xlim() for axes in paired_forest(results).figure.axes[::2]}) == 1


def test_sub_calls_have_each_tasks_own_lengths_and_their_middle_half() -> None:
    base = {"method": "rlm", "context_id": "c", "correct": True}
    rows = [base | {"task": "a", "sample_id": f"s{i}", "subcalls": i} for i in range(5)]
    rows.append(base | {"task": "b", "target_tokens": 1650, "sample_id": "s", "subcalls": 0})
    many, none = of_subcalls(handmade(rows)).axes
    assert [list(axes.get_xticks()) for axes in (many, none)] == [[1000], [1650]]
    assert none.get_ylim() == (0, 1)
    (bar,) = many.collections
    assert np.asarray(bar.get_paths()[0].vertices)[:, 1].tolist() == [1, 3]


def test_files_hold_the_picture_and_its_data(tmp_path: Path, many: pd.DataFrame) -> None:
    plot, stem = score_vs_length(many), tmp_path / "new" / "figure"
    figures.drawing.save(plot, stem)
    assert {path.name for path in stem.parent.iterdir()} == {"figure.png", "figure.csv"}
    figures.drawing.save(plot, stem, pdf=True)
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(stem.with_suffix(".csv"))) == 19


def test_beside_an_rlm_the_best_alternatives_have_colours_and_the_rest_are_grey(
    tmp_path: Path,
) -> None:
    methods = ("rlm", *(f"direct_{i}" for i in range(7)))
    skills = {f"direct_{i}": 0.1 + 0.1 * i for i in range(7)}
    results, _ = tables(tmp_path / "run", methods=methods, skills=skills, failures=0.0)
    grey = [arm for arm, its in styles(results).items() if its["color"] == GREY]
    assert len(grey) == 3
    assert not {"rlm", "direct_6", "direct_5"} & set(grey)
    plot = figures.curves.score_vs_length(results, summarize(results))
    texts = plot.figure.legends[0].get_texts()
    assert "3 other methods, without bars" in [text.get_text() for text in texts]
    plain, _ = tables(tmp_path / "plain", methods=methods[1:], skills=skills)
    assert GREY not in [its["color"] for its in styles(plain).values()]


def test_a_figure_says_what_its_intervals_are_over() -> None:
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": "one", "correct": i % 2 == 0}
        for m in ("direct", "rlm")
        for i in range(6)
    ]
    for unit, told in (
        ("context", "No intervals: they need 4 contexts."),
        ("question", "Bars: 95 % intervals over questions (none under 4)."),
    ):
        assert told in words(score_and_cost(handmade(rows, {"analysis": {"unit": unit}})))
