"""Tables beside the summary, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import NO_CALLS, handmade
from rlm_eval.analysis import tables
from rlm_eval.analysis.aggregate import NOT_SAME, sets, summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.load import Run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.views import printed, views
from rlm_eval.analysis.verdicts import verdicts
from rlm_eval.errors import ConfigError


def row(sample: int, correct: bool | None, **more: object) -> dict[str, object]:
    kind = {"correct": correct} if correct is not None else {"outcome": "provider_error"}
    base = {"method": "rlm", "sample_id": f"s{sample}", "context_id": f"c{sample % 4}"}
    return base | kind | more


def test_a_right_answer_bears_the_cost_of_the_wrong_ones() -> None:
    rows = [row(i, i < 2, prompt_tokens=100, completion_tokens=20, cost_usd=0.1) for i in range(6)]
    found = tables.costs(handmade(rows)).iloc[0]
    assert found["tokens_per_question"] == 120
    assert found["tokens_per_right"] == 360
    assert found["cost_usd_per_right"] == pytest.approx(0.3)


def test_pending_questions_cost_nothing_here_and_no_right_answer_has_no_price() -> None:
    rows = [row(0, False, prompt_tokens=10), row(1, None, prompt_tokens=999)]
    found = tables.costs(handmade(rows)).iloc[0]
    assert found["tokens_per_question"] == 10
    assert pd.isna(found["tokens_per_right"])
    assert pd.isna(found["cost_usd_per_question"])


@pytest.mark.parametrize(
    ("n", "known"),
    [(3, ["p50"]), (19, ["p25", "p50", "p75"]), (20, ["p25", "p50", "p75", "p95"])],
)
def test_quantiles_need_enough_questions(n: int, known: list[str]) -> None:
    table = tables.quantiles(handmade([row(i, True, subcalls=i) for i in range(n)]))
    found = table[table["quantity"] == "subcalls"].iloc[0]
    assert [p for p in found.index if p.startswith("p") and pd.notna(found[p])] == known
    assert found["p50"] == pytest.approx((n - 1) / 2)
    assert "cost_usd" not in set(table["quantity"])  # unpriced


TOKEN_COLUMNS = (
    "result_key role prompt_tokens cached_tokens completion_tokens cached_response attempt"
)


def test_token_split_counts_retries_and_leaves_memory_out() -> None:
    results = handmade([row(0, True), row(1, True)])
    calls = pd.DataFrame(
        [
            ("key0", "root", 100, 60, 5, False, 1),
            ("key0", "sub", 50, 0, 1, False, 1),
            ("key0", "sub", 50, 0, 0, False, 2),  # the second attempt of the same call
            ("key0", "judge", 8, 0, 2, False, 1),
            ("key1", "root", 100, 0, 5, False, 1),
            ("key1", "sub", 500, 0, 9, True, 1),  # from memory
        ],
        columns=TOKEN_COLUMNS.split(),
    )
    split = tables.token_split(results, calls).set_index("role")
    assert split.loc["root", ["computed", "cached", "completion"]].tolist() == [70, 30, 5]
    assert split.loc["sub", ["computed", "cached", "completion"]].tolist() == [50, 0, 0.5]
    assert split.loc["sub", ["calls", "from_memory"]].tolist() == [0.5, 0.5]
    assert split.loc["judge", ["calls", "computed", "completion"]].tolist() == [0.5, 4, 1]


def test_repeat_variance_by_hand() -> None:
    # Samples (1,1), (0,0), (1,0): within = mean(0, 0, 1/2) = 1/6; means 1, 0, 1/2 vary by 1/4.
    answers = [(0, True), (0, True), (1, False), (1, False), (2, True), (2, False)]
    rows = [row(s, right, repeat=i % 2) for i, (s, right) in enumerate(answers)]
    rows.append(row(3, True))  # asked once only
    found = tables.repeat_variance(handmade(rows)).iloc[0]
    assert found["between_repeats"] == pytest.approx(1 / 6)
    assert found["between_samples"] == pytest.approx(1 / 4 - 1 / 12)
    assert (found["samples"], found["left_out"]) == (3, 1)
    assert tables.repeat_variance(handmade(rows[::2])).empty


def test_kinds_of_questions_are_told_apart_where_a_task_has_several() -> None:
    rows = [row(i, True, question_group="count", constant_score=0.25) for i in range(3)]
    rows += [row(9, False, question_group="compare", constant_score=0.5)]
    rows += [row(5, True, question_group="compare", outcome="provider_error", score=None)]
    rows += [row(i, True, task="needle", question_group="plain") for i in range(20, 22)]
    table = tables.by_kind(handmade(rows))
    assert table.drop(columns=["task", "target_tokens", "scripted"]).values.tolist() == [
        ["count", "rlm", 3, 3, 1.0, 0.25],
        ["compare", "rlm", 1, 0, 0.0, 0.5],
    ]


def test_method_by_task_has_a_column_for_each_cell_and_says_another_n() -> None:
    rows = [row(i, i % 2 == 0, constant_score=0.25) for i in range(4)]
    rows += [row(i, True, method="no_context", constant_score=0.25) for i in range(4)]
    other = {"task": "needle", "target_tokens": 2000, "constant_score": 0.0}
    rows += [row(10 + i, True, **other) for i in range(2)]
    rows += [row(10, False, method="direct", **other)]
    table = tables.method_by_task(summarize(handmade(rows)))
    assert list(table.columns) == ["method", "aggregation 1,000 (n 4)", "needle 2,000 (n 2)"]
    assert table["method"].tolist() == [
        *("rlm", "direct", "no_context (control)", "best_constant (control, no model)")
    ]
    assert table.iloc[0, 1].startswith("50 (")
    assert table.iloc[0, 2] == "100"
    assert table.iloc[1].tolist() == ["direct", "", "0, n 1, set 2"]


def test_who_is_scripted_in_one_task_is_not_marked_so_in_another() -> None:
    rows = [row(i, True, task="needle", scripted=True) for i in range(4)]
    rows += [row(i, True, task="aggregation") for i in range(4, 8)]
    table = tables.method_by_task(summarize(handmade(rows)))
    assert table["method"].tolist()[:2] == ["rlm", "rlm (scripted)"]


def test_what_is_all_pending_is_not_unpriced() -> None:
    rows = [row(i, True, cost_usd=0.1) for i in range(4)]
    rows += [row(i, None, method="direct", cost_usd=0.1) for i in range(4)]
    results = handmade(rows)
    summary = summarize(results)
    shown, _ = printed(views(results, NO_CALLS, summary, paired_table(results))[0])
    assert shown["USD"].tolist()[:2] == ["$0.10", ""]


def test_a_judge_is_paid_apart() -> None:
    rows = [row(i, True, cost_usd=0.5, judge_cost_usd=c) for i, c in enumerate((0.1, 0.3))]
    found = tables.costs(handmade(rows)).iloc[0]
    assert found["cost_usd_per_question"] == 0.5
    assert found["judge_cost_usd_per_question"] == pytest.approx(0.2)
    rows[0]["judge_cost_usd"] = None
    assert pd.isna(tables.costs(handmade(rows)).iloc[0]["judge_cost_usd_per_question"])


HOSTILE = pd.DataFrame({"a|b": ["x_1|y", "50% <b>"], "USD": ["unpriced", "$0.25"]})


def test_markdown_escapes() -> None:
    assert tables.to_markdown(HOSTILE, [False, True]) == (
        "| a\\|b | USD |\n| --- | ---: |\n| x_1\\|y | unpriced |\n| 50% &lt;b> | $0.25 |\n"
    )


def test_latex_escapes() -> None:
    text = tables.to_latex(HOSTILE, [False, True])
    assert r"x\_1$|$y & unpriced \\" in text
    assert r"50\% $<$b$>$ & \$0.25 \\" in text
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\n")


def test_where_there_are_several_models_every_table_and_verdict_says_which() -> None:
    rows = [
        row(i, method == "rlm", method=method, task=task, model=model)
        for task, model in (("one", "small"), ("other", "large"))
        for method in ("direct", "rlm")
        for i in range(4)
    ]
    results = by_method(handmade(rows))
    assert set(results["arm"]) == {"direct", "rlm"}
    summary = summarize(results)
    found = views(results, NO_CALLS, summary, paired_table(results))
    for view in found:
        shown, _ = printed(view)
        models = {"one": "small", "other": "large"}
        assert shown["model"].tolist() == [models[task] for task in shown["task"]], view.id
    assert set(tables.method_by_task(summary)["model"]) == {"small", "large"}
    assert "one, 1,000 tokens, small: " in verdicts(results)[0].text
    one = by_method(handmade(rows[:8]))
    summary = summarize(one)
    found = views(one, NO_CALLS, summary, paired_table(one))
    assert not any("model" in printed(view)[0] for view in found)
    assert "model" not in tables.method_by_task(summary)
    assert "small" not in verdicts(one)[0].text


def test_rows_of_other_samples_are_marked_wherever_they_stand_side_by_side() -> None:
    rows = [row(i, True, method=m) for m in ("direct", "rlm", "rag_bm25") for i in range(4)]
    rows[-1] = row(3, None, method="rag_bm25")
    results = handmade(rows)
    summary = summarize(results)
    assert sets(summary).tolist() == ["", "", "set 2"]
    view = views(results, NO_CALLS, summary, paired_table(results))[0]
    assert NOT_SAME in view.note
    assert printed(view)[0]["samples"].tolist() == ["", "", "set 2"]
    table = tables.method_by_task(summary)
    assert ["set" in cell for cell in table.iloc[:, -1]] == [False, False, True]
    same = handmade(rows[:8])
    summary = summarize(same)
    view = views(same, NO_CALLS, summary, paired_table(same))[0]
    assert NOT_SAME not in view.note
    assert "samples" not in printed(view)[0]
    assert "set" not in tables.method_by_task(summary).iloc[0, -1]


def run_of(tmp_path: Path, forecast: list[dict[str, object]]) -> Run:
    (tmp_path / "forecast.json").write_text(json.dumps(forecast))
    rows = [
        {"method": arm, "calls": c, "prompt_tokens": 100, "completion_tokens": 5, "wall_s": 2.0}
        | {"target_tokens": 1000, "outcome": outcome}
        for arm, c, outcome in [
            ("direct", 1, "answered"),
            ("direct", 1, "no_answer"),
            ("rlm", 7, "answered"),
            ("rlm", 9, "provider_error"),
        ]
    ]
    results = pd.DataFrame(rows).assign(cost_usd=[0.1, 0.2, None, None])
    return Run(tmp_path, results, NO_CALLS, {}, {})


def forecast(arm: str, n: int, calls: float | None, source: str = "sizes") -> dict[str, object]:
    rest = dict.fromkeys(("prompt_tokens", "completion_tokens", "usd", "seconds"), calls)
    return {
        "arm": arm,
        "target_tokens": 1000,
        "results": n,
        "source": source,
        "calls": calls,
    } | rest


def test_what_was_said_beside_what_it_took(tmp_path: Path) -> None:
    ends = (
        {"calls": 3.0, "prompt_tokens": 150.0, "usd": 0.2},
        {"calls": 7.0, "prompt_tokens": 250.0},
    )
    said = forecast("direct", 2, 7.0) | {"low": ends[0], "high": ends[1] | {"usd": 0.3}}
    bound = forecast("rlm", 1, None, "limits") | {"high": {"calls": 64.0, "usd": 9.0}}
    table = tables.forecast_table(run_of(tmp_path, [said, bound]))
    direct, rlm = table.to_dict("records")
    assert (direct["method"], direct["results"], direct["from"]) == ("direct", 2, "sizes")
    assert (direct["calls_forecast"], direct["calls_took"]) == (7.0, 2)
    assert direct["usd_took"] == 0.1 + 0.2
    assert (direct["calls_low"], direct["calls_high"]) == (3.0, 7.0)
    within = [direct[f"{name}_within"] for name in ("calls", "prompt_tokens", "usd", "seconds")]
    assert within == [False, True, True, None]
    assert direct["outside"] == "calls"
    assert pd.isna(rlm["calls_forecast"])
    assert rlm["calls_took"] == 7, "what is pending takes no part"
    assert rlm["calls_within"], "a bound without a lower end"
    assert pd.isna(rlm["usd_took"])  # unpriced, never 0
    assert rlm["usd_within"] is None
    assert tables.stayed_within([direct, rlm]) == "calls 1 of 2, prompt tokens 1 of 1, usd 1 of 1"
    assert tables.stayed_within([]) == ""


def test_a_forecast_for_other_results_is_not_held_against_these(tmp_path: Path) -> None:
    table = tables.forecast_table(run_of(tmp_path, [forecast("direct", 1, 1.0)]))
    assert pd.isna(table.loc[0, "calls_forecast"])


def test_without_a_forecast_the_table_is_empty(tmp_path: Path) -> None:
    run = run_of(tmp_path, [])
    (tmp_path / "forecast.json").unlink()
    assert tables.forecast_table(run).empty


def test_a_broken_forecast_is_one_line(tmp_path: Path) -> None:
    run = run_of(tmp_path, [])
    (tmp_path / "forecast.json").write_text("a: {b")
    with pytest.raises(ConfigError, match=r"forecast\.json can't be read"):
        tables.forecast_table(run)


def answers(recalls: list[float | None], right: str) -> list[dict[str, object]]:
    """One row per recall; a letter each: r right, w wrong, f own failure, o pending."""
    ends = {"f": {"outcome": "no_answer"}, "o": {"outcome": "provider_error"}}
    return [
        {"method": "rag_bm25", "sample_id": f"s{i}", "context_id": f"c{i}", "evidence_recall": r}
        | ends.get(letter, {"correct": letter == "r"})
        for i, (r, letter) in enumerate(zip(recalls, right, strict=True))
    ]


def test_without_evidence_the_summary_has_no_recall() -> None:
    frame = handmade(answers([None, None], "rw"))
    assert summarize(frame)["evidence_recall"].isna().all()


def test_the_summary_has_the_mean_over_those_that_are_known() -> None:
    """Own failures among them, nothing of what is pending."""
    table = summarize(handmade(answers([1.0, 0.5, 0.0, None, 1.0], "rwfro")))
    assert table["evidence_recall"].tolist() == [0.5]
