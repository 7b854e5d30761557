"""The table of a run, its terminal form and its files."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from helpers.fake_results import handmade, write_run
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.summary import Summary, print_summary, write_summary
from rlm_eval.analysis.text import count, dollars, times
from rlm_eval.analysis.text import shown as cell
from rlm_eval.analysis.verdicts import verdicts


def rows_of(
    method: str, outcomes: str, contexts: int = 4, **more: object
) -> list[dict[str, object]]:
    """One row per letter: r right, w wrong, f own failure, o pending."""
    kinds: dict[str, dict[str, object]] = {
        "r": {"correct": True},
        "w": {"correct": False},
        "f": {"outcome": "no_answer"},
        "o": {"outcome": "provider_error"},
    }
    return [
        {"method": method, "sample_id": f"s{i}", "context_id": f"c{i % contexts}"} | kinds[k] | more
        for i, k in enumerate(outcomes)
    ]


def test_own_failures_count_zero_and_pending_rows_count_nothing() -> None:
    row = summarize(handmade(rows_of("direct", "rrrwffoo"))).iloc[0]
    assert (row["n"], row["asked"], row["completed"], row["pending"]) == (8, 6, 4, 2)
    assert row["accuracy"] == pytest.approx(3 / 6)
    assert row["accuracy_completed"] == pytest.approx(3 / 4)
    assert row["mean_score"] == pytest.approx(3 / 6)
    assert (row["outcome_no_answer"], row["outcome_provider_error"]) == (2, 2)
    assert row["accuracy_low"] < 0.5 < row["accuracy_high"]


def test_skill_is_taken_over_the_group_and_best_constant_has_its_row() -> None:
    rows = rows_of("direct", "rrww", constant_score=0.25)
    table = summarize(handmade(rows))
    direct, constant = table.iloc[0], table.iloc[1]
    assert direct["skill"] == pytest.approx((0.5 - 0.25) / 0.75)
    assert constant["arm"] == "best_constant"
    assert constant["mean_score"] == pytest.approx(0.25)
    assert constant["n"] == 4


def test_no_constant_no_skill() -> None:
    table = summarize(handmade(rows_of("direct", "rw")))
    assert table["skill"].isna().all()
    assert list(table["arm"]) == ["direct"]


def test_the_exact_match_stands_beside_a_judges_verdict() -> None:
    rows = rows_of("direct", "rrwf")
    for row, exact in zip(rows, (1.0, 0.0, 0.0, None), strict=True):
        row["score_exact_match"] = exact
    found = summarize(handmade(rows)).iloc[0]
    assert found["mean_score"] == pytest.approx(2 / 4)
    assert found["score_exact_match"] == pytest.approx(1 / 4)
    assert "score_exact_match" not in summarize(handmade(rows_of("direct", "rw")))


def test_one_unpriced_question_makes_the_cost_unpriced() -> None:
    priced = rows_of("direct", "rw", cost_usd=0.5)
    assert summarize(handmade(priced))["cost_usd"].iloc[0] == pytest.approx(0.5)
    priced[0]["cost_usd"] = None
    assert summarize(handmade(priced))["cost_usd"].isna().all()
    assert dollars(float("nan")) == "unpriced"


def test_under_four_contexts_no_interval() -> None:
    table = summarize(handmade(rows_of("direct", "rwrwrw", contexts=3)))
    assert table[["accuracy_low", "score_low", "score_high"]].isna().all(axis=None)


def test_an_arm_with_only_pending_rows_is_shown_without_numbers() -> None:
    row = summarize(handmade(rows_of("direct", "oo"))).iloc[0]
    assert (row["asked"], row["pending"]) == (0, 2)
    assert pd.isna(row["accuracy"])


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal_and_is_plain_when_piped(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_eval.analysis.summary.FIGURES", ())
    folder = write_run(
        tmp_path / "run", {"demonstration": True}, contexts=4, questions=2, scripted=True
    )
    summary = write_summary(folder)
    out = io.StringIO()
    console = Console(file=out, width=width)
    print_summary(summary, console)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in out.getvalue()
    assert lines[0] == "A demonstration, not evidence."
    assert any(line.startswith("rlm (scripted)") and "unpriced" in line for line in lines)
    assert "$0" not in out.getvalue()


@pytest.mark.slow
def test_files_are_written_beside_the_tables(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"demonstration": True}, contexts=4, questions=2)
    summary = write_summary(folder)
    assert summary.demonstration
    assert (folder / "verdicts.csv").read_text().count("\n") == 1 + len(summary.verdicts)
    assert (folder / "figures" / "score_vs_length.png").is_file()
    written = pd.read_csv(folder / "summary.csv")
    assert len(written) == len(summary.table) == 2 * 5
    pd.testing.assert_series_equal(written["mean_score"], summary.table["mean_score"])


@pytest.mark.parametrize("what", ["nothing", "only pending"])
def test_a_run_that_got_nowhere_is_summarized_too(tmp_path: Path, what: str) -> None:
    folder = write_run(tmp_path / "run", contexts=4, questions=1, lengths=(1000,), pending=1.0)
    if what == "nothing":
        table = pd.read_parquet(folder / "results.parquet").iloc[:0]
        table.to_parquet(folder / "results.parquet")
    summary = write_summary(folder)
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    assert ("No results yet." if what == "nothing" else "4 pending, not counted") in out.getvalue()
    assert summary.verdicts == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (3.14159, "3.14"), (999, "999"), (2048, "2.05k"), (1.5e6, "1.5M"), (2e9, "2G")],
)
def test_counts_stay_short(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (times(125), "120"),
        (times(1.25), "1.2"),
        (times(1.004), "1.004"),
        (times(1), "1"),
        (times(float("inf")), "inf"),
        (dollars(0.000022), "$0.000022"),
        (dollars(0.0126), "$0.013"),
        (count(2e12), "2000G"),
        (count(0.00002), "0.00002"),
        (cell(1234.5, "number"), "1230"),
        (cell(-0.5, "number"), "−0.5"),
    ],
)
def test_no_number_has_an_exponent(said: str, text: str) -> None:
    assert said == text


def one_each(method: str, right: str, **more: object) -> list[dict[str, object]]:
    """One question a context; an RLM takes three times the tokens."""
    tokens = {"prompt_tokens": 300 if method.startswith("rlm") else 100}
    return rows_of(method, right, contexts=len(right), **tokens, **more)


ARMS = (
    one_each("direct", "w" * 12 + "rr")
    + one_each("rlm", "r" * 14)
    + one_each("rlm_d0", "w" * 14)
    + one_each("rlm_d2", "r" * 13 + "w")
)


def shown(rows: list[dict[str, object]], width: int = 80) -> list[str]:
    frame, out = handmade(rows), io.StringIO()
    print_summary(
        Summary(summarize(frame), verdicts(frame), demonstration=False),
        Console(file=out, width=width),
    )
    return out.getvalue().splitlines()


def test_a_terminal_has_a_row_for_each_verdict_and_not_a_paragraph() -> None:
    lines = shown(ARMS)
    assert max(map(len, lines)) <= 80
    start = lines.index("Is the RLM worth it?")
    (row,) = [line for line in lines[start:] if "rlm_d2" in line]
    assert row.split()[:7] == ["1,000", "rlm_d2", "better", "but", "dearer", "direct", "+78.6"]
    assert "3×" in row
    assert not any("scores +" in line for line in lines)
    assert "contexts, or questions where analysis.unit says so" in " ".join(" ".join(lines).split())
    assert any("scores +85.7 points" in line for line in shown(ARMS[:28]))  # one arm: in words


def test_controls_stand_below_a_heading_and_one_without_a_model_says_so() -> None:
    oracle = one_each("code_oracle", "r" * 14, protocol="no model", scripted=True)
    lines = shown(oracle + one_each("no_context", "w" * 14) + ARMS)
    place = lines.index(next(line for line in lines if line.startswith("controls")))
    after = [line.split()[0] for line in lines[place + 1 : place + 3]]
    assert after == ["code_oracle", "no_context"]
    assert lines[place + 1].startswith("code_oracle (no model)")
    assert "unpriced" not in lines[place + 1]
    before = [line.split()[0] for line in lines[place - 4 : place]]
    assert before == ["direct", "rlm", "rlm_d0", "rlm_d2"]


def test_what_a_judge_took_is_said_once_and_in_no_row() -> None:
    rows = [r | {"cost_usd": 0.5, "judge_cost_usd": 0.25} for r in ARMS]
    lines = [line for line in shown(rows) if "judge" in line]
    assert lines == ["Not in these costs, what the judge's calls took: $14.00."]
    assert not any("judge" in line for line in shown(ARMS))


def test_how_often_a_judge_contradicts_itself_is_said_per_task_and_arm() -> None:
    judged = [
        r | {"judge_verdicts": 3, "judge_dissents": int(i % 7 == 0)} for i, r in enumerate(ARMS)
    ]
    rates = summarize(handmade(judged)).set_index("arm")["judge_flip_rate"]
    assert rates["direct"] == pytest.approx(2 / 14)
    lines = shown(judged, width=140)
    said = "The judge's flip rate on aggregation: 14.3 % (3 verdicts on each of 56 answers)."
    assert said in lines
    assert any("judge flips %" in line for line in lines)
    judged[0] = judged[0] | {"outcome": "no_answer", "judge_verdicts": None, "judge_dissents": None}
    del judged[0]["correct"]
    assert any("each of 55 answers" in line for line in shown(judged, width=140))


def test_a_judge_that_was_asked_once_has_no_flip_rate() -> None:
    lines = shown([r | {"judge_verdicts": 1, "judge_dissents": 0} for r in ARMS], width=140)
    (said,) = [line for line in lines if "judge" in line]
    assert said == (
        "The judge's flip rate on aggregation: not measured (task.judge_repeats=3 does)."
    )
