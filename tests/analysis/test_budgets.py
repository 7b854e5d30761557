"""Score against budget: by hand, and over a sweep of scripted runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import handmade, write_run
from rlm_eval.analysis.budgets import budget_table, capped
from rlm_eval.analysis.figures.curves import score_vs_budget
from rlm_eval.analysis.load import Run, combine, find_runs, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.verdicts import verdicts
from rlm_eval.commands.cli import run_command

CAPS = (1500, 6000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """One reply to 1,000 tokens at two caps, and as many as they buy; a control beside it."""
    place = tmp_path_factory.mktemp("runs")
    for cap in CAPS:
        for matched in ("true", "false"):
            code = run_command(
                [
                    *("task=needle", "task.lengths=[1000]", "task.n=4", "model=scripted"),
                    *("method=[self_consistency,no_context]", f"results_dir={place}"),
                    "method.self_consistency.tries=1",
                    *(f"budget.sample.tokens={cap}", f"budget.matched={matched}"),
                ]
            )
            assert code == 0
    return [load_run(path) for path in find_runs(place / "*")]


def calls_of(runs: list[Run]) -> pd.DataFrame:
    return pd.concat([run.calls for run in runs], ignore_index=True)


def test_a_sweep_has_a_row_for_each_cap_and_way(runs: list[Run]) -> None:
    table = budget_table(combine(runs), calls_of(runs)).sort_values(["matched", "cap"])
    assert table["arm"].unique().tolist() == [
        "self_consistency"
    ]  # one method over all, and no control
    assert list(zip(table["matched"], table["cap"], strict=True)) == [
        *((False, 1500), (False, 6000), (True, 1500), (True, 6000))
    ]
    assert (table["asked"] == 4).all()
    assert (table["over"] == 0).all()
    plain, spent = table["spent"].tolist()[:2], table["spent"].tolist()[2:]
    assert plain[0] == plain[1] > 900  # it reads the input once, whatever it may spend
    assert spent[0] == plain[0]  # no second try fits
    assert spent[1] > 2 * plain[1]
    assert table["spent_share"].tolist()[3] == pytest.approx(spent[1] / 6000)


def test_matched_budgets_and_plain_caps_have_panels_of_their_own(runs: list[Run]) -> None:
    figure = score_vs_budget(combine(runs), calls_of(runs)).figure
    assert [axes.get_xlabel() for axes in figure.axes] == [
        *["cap per question (tokens)"] * 2,
        *["matched budget per question (tokens)"] * 2,
    ]
    assert len(figure.axes[0].lines[0].get_xdata()) == 2


def test_one_budget_is_no_curve(runs: list[Run]) -> None:
    same = [run for run in runs if run.config["budget"]["sample"]["tokens"] == 1500]
    assert score_vs_budget(combine(same), calls_of(same)).data.empty
    uncapped = handmade([{"method": "rlm", "sample_id": "s", "context_id": "c", "correct": True}])
    assert budget_table(uncapped, pd.DataFrame()).empty
    assert score_vs_budget(uncapped, pd.DataFrame()).data.empty


@pytest.mark.parametrize(("constants", "drawn"), [((0.5, 0.25), True), ((0.5, None), False)])
def test_the_best_constant_is_a_line_where_it_is_known(
    constants: tuple[float | None, float | None], drawn: bool
) -> None:
    frames = [capped_rows("tokens", cap) for cap in (200, 400)]
    frame = pd.concat(frames, ignore_index=True).assign(constant_score=[*constants, *constants])
    table = budget_table(frame, pd.DataFrame())
    assert table["constant_score"].tolist() == (
        [0.375] * 2 if drawn else pytest.approx([float("nan")] * 2, nan_ok=True)
    )
    score, _ = score_vs_budget(frame, pd.DataFrame()).figure.axes
    assert any(line.get_linestyle() == "--" for line in score.lines) == drawn


def capped_rows(unit: str, cap: float, **more: object) -> pd.DataFrame:
    rows = [
        {"method": "rag_dense", "sample_id": f"s{i}", "context_id": f"c{i}", "correct": True}
        | {"prompt_tokens": 90, "completion_tokens": 10, "cost_usd": 0.5, "wall_s": 2.0}
        | {"calls": 9}
        for i in range(2)
    ]
    return handmade(rows, {"budget": {"sample": {unit: cap}}} | more)


@pytest.mark.parametrize(
    ("unit", "cap", "spent"),
    [("tokens", 200, 60), ("usd", 1.0, 0.4), ("calls", 4, 3), ("seconds", 1e-05, 2)],
)
def test_what_is_held_against_each_kind_of_cap(unit: str, cap: float, spent: float) -> None:
    index = {"role": "embed", "prompt_tokens": 40, "cost_usd": 0.1, "cached_response": False}
    sent = {"role": "sub", "prompt_tokens": 30, "cost_usd": 0.1, "cached_response": False}
    # Three requests, one of them a retry; what is remembered is none, a judge's is the run's.
    calls = [index, sent, sent, sent, sent | {"cached_response": True}, sent | {"role": "judge"}]
    calls = pd.DataFrame([call | {"result_key": f"key{i}"} for i in range(2) for call in calls])
    rows = capped_rows(unit, cap).assign(embed_tokens=40.0)
    (row,) = budget_table(rows, calls).to_dict("records")
    assert (row["unit"], row["cap"]) == (unit, cap)
    assert row["spent"] == pytest.approx(spent)
    assert row["over"] == (2 if unit == "seconds" else 0)


@pytest.mark.parametrize("first", [False, True])
def test_what_cannot_be_matched_competes_with_both_whichever_run_is_read_first(first: bool) -> None:
    """Of a matched run and a plain one; direct's answers are those of the first."""
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": "rlm" in m}
        for m in ("direct", "rag", "rlm", "rag_plain", "rlm_plain")
        for i in range(6)
    ]
    able = ("rag", "rlm", "rag_plain", "rlm_plain")
    frame = handmade(rows, {"method": {"direct": {}} | {m: {"matched": False} for m in able}})
    of_direct = (frame["method"] == "direct") & first
    frame["matched"] = frame["method"].isin(["rag", "rlm"]) | of_direct
    of_rlms = {(c.arm, c.against) for v in verdicts(frame) for c in v.against_all}
    assert of_rlms == {
        *(("rlm", "rag"), ("rlm", "direct")),
        *(("rlm_plain", "rag_plain"), ("rlm_plain", "direct")),
    }
    table = paired_table(frame)
    pairs = {*zip(table["arm"], table["against"], strict=True)}
    assert pairs == of_rlms | {("rag", "direct"), ("rag_plain", "direct")}


def test_settings_still_tell_methods_apart(tmp_path: Path) -> None:
    for cap in CAPS:
        for depth in (1, 2):
            config = {
                "budget": {"sample": {"tokens": cap}},
                "method": {"rlm": {"max_depth": depth}},
            }
            name = f"{cap}-{depth}"
            write_run(tmp_path / name, config, run_id=name, contexts=4, questions=1)
    frame = capped(combine([load_run(path) for path in find_runs(tmp_path / "*")]))
    assert set(frame["arm"]) >= {"direct", "rlm (max_depth=1)", "rlm (max_depth=2)"}
    assert frame["arm"].nunique() == 5
