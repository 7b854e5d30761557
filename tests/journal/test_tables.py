"""The tables as sums over calls, worked out by hand."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.some_records import some_call, some_result, tables
from rlm_eval.journal.journal import FILE_NAME, Journal, read_events
from rlm_eval.journal.tables import CALL_COLUMNS, RESULT_COLUMNS, write_csv, write_tables
from rlm_eval.records import Answer, Call, Score


def row_of(run_dir: Path, *calls: Call) -> pd.Series[object]:
    """The one result row of a journal with these calls and the last result."""
    with Journal(run_dir) as journal:
        for call in calls:
            journal.call(call, "x")
        journal.result(some_result())
    results, _ = tables(run_dir)
    return results.iloc[0]


def test_tokens_cost_and_time_are_sums_over_the_calls(tmp_path: Path) -> None:
    small = {"prompt_tokens": 7, "cached_tokens": 0, "latency_s": 0.5}
    row = row_of(
        tmp_path,
        some_call("a", list_usd=1.0, own_usd=4.0),
        some_call("b", depth=1, from_repl=True, list_usd=2.0, own_usd=8.0, **small),
    )
    assert (row.calls, row.subcalls, row.depth_reached) == (2, 1, 1)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (107, 60, 20)
    assert (row.cost_usd, row.list_usd, row.own_usd) == (0.5, 3.0, 12.0)
    assert row.lm_s == 2.5


def test_retries_are_paid_and_are_one_call(tmp_path: Path) -> None:
    """The failed attempt was billed an estimate; the answer is one call all the same."""
    row = row_of(
        tmp_path,
        some_call("a", from_repl=True, error="timeout: x", usage_estimated=True),
        some_call("a", from_repl=True, attempt=2),
    )
    assert (row.calls, row.subcalls) == (1, 1)
    assert (row.prompt_tokens, row.cost_usd) == (200, 0.5)


def test_a_remembered_answer_is_a_subcall_that_cost_nothing(tmp_path: Path) -> None:
    free = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}
    row = row_of(
        tmp_path,
        some_call("a", from_repl=True),
        some_call("b", from_repl=True, cached_response=True, latency_s=0.0, **free),
    )
    assert (row.calls, row.subcalls) == (2, 2)
    assert (row.prompt_tokens, row.cost_usd) == (100, 0.25)


def test_one_unpriced_call_leaves_the_cost_unknown(tmp_path: Path) -> None:
    row = row_of(tmp_path, some_call("a"), some_call("b", cost_usd=None), some_call("c"))
    assert pd.isna(row.cost_usd)


def test_only_the_last_episode_is_summed_and_all_calls_are_listed(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.call(some_call("a", restart=0), "x")
        journal.result(some_result(outcome="provider_error", restart=0))
        journal.call(some_call("b", restart=1, prompt_tokens=5), "x")
        journal.result(some_result(restart=1))
        journal.call(some_call("c", result_key="other"), "x")
    results, calls = tables(tmp_path)
    assert len(results) == 1
    assert (results.outcome[0], results.calls[0], results.prompt_tokens[0]) == ("answered", 1, 5)
    assert list(calls.call_id) == ["a", "b", "c"]


def test_a_call_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    row_of(tmp_path, some_call("a"))
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes() * 2)
    results, calls = tables(tmp_path)
    assert len(calls) == len(results) == 1
    assert results.cost_usd[0] == 0.25


@pytest.mark.parametrize(
    ("value", "constant", "skill"),
    [(0.75, 0.5, 0.5), (0.25, 0.5, -0.5), (1.0, 0.0, 1.0), (1.0, 1.0, None), (0.5, None, None)],
)
def test_skill_is_the_share_of_what_the_best_constant_leaves(
    tmp_path: Path, value: float, constant: float | None, skill: float | None
) -> None:
    with Journal(tmp_path) as journal:
        score = Score(value, "x")
        journal.result(some_result(score=score, constant_score=constant))
    results, _ = tables(tmp_path)
    found = results.skill[0]
    assert pd.isna(found) if skill is None else found == pytest.approx(skill)


@pytest.mark.parametrize("outcome", ["provider_error", "budget_exceeded", "no_answer"])
def test_what_failed_has_no_score_and_no_answer(tmp_path: Path, outcome: str) -> None:
    """Not even when a score was written down by mistake."""
    answer = Answer(None, outcome)  # type: ignore[arg-type]
    with Journal(tmp_path) as journal:
        journal.result(some_result(answer=answer, score=Score(1.0, "x")))
    results, _ = tables(tmp_path)
    row = results.iloc[0]
    assert row.outcome == outcome
    assert row[["score", "skill", "correct", "answer"]].isna().all()


def test_columns_and_types_are_the_same_with_and_without_rows(tmp_path: Path) -> None:
    empty = tables(tmp_path)
    row_of(tmp_path, some_call("a"))
    full = tables(tmp_path)
    for before, after, columns in zip(empty, full, (RESULT_COLUMNS, CALL_COLUMNS), strict=True):
        assert list(before.columns) == list(columns) == list(after.columns)[: len(columns)]
        assert before.dtypes.equals(after.dtypes[: len(columns)])
    assert list(full[0].columns)[len(RESULT_COLUMNS) :] == ["score_official"]
    assert json.loads(full[0].gold[0]) == ["seven", "7"]
    assert json.loads(full[0].knobs[0]) == {"depth": 0.5, "seed": 3}


def test_every_reading_has_a_column_and_the_row_says_its_rule(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for i, readings in enumerate(({"f1": 0.5}, {"strict": 0.0, "f1": 1.0}, {})):
            score = Score(1.0, "x", readings)
            journal.result(some_result(f"key{i}", score=score))
    results, _ = tables(tmp_path)
    assert results.score_f1.tolist()[:2] == [0.5, 1.0]
    assert results.score_f1.isna().tolist() == [False, False, True]
    assert results.score_strict.tolist()[1] == 0.0
    assert results.score_rule.unique().tolist() == [some_result().sample.scorer]
    assert results.correct.all()


def test_export_reads_back_the_same(tmp_path: Path) -> None:
    row_of(tmp_path, some_call("a"), some_call("b", cost_usd=None, parent_call_id="a"))
    write_tables(read_events(tmp_path, ("result", "call")), tmp_path)
    for name, frame in zip(("results", "calls"), tables(tmp_path), strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), frame)
        assert (tmp_path / f"{name}.csv").read_text() == frame.to_csv(index=False)
    assert not list(tmp_path.glob(".*.tmp"))


def test_text_that_no_table_can_hold_does_not_end_the_export(tmp_path: Path) -> None:
    """Half of a surrogate pair, as a model's code may submit it, is U+FFFD in the tables."""
    with Journal(tmp_path) as journal:
        journal.call(some_call("a", error="no \ud800"), "x")
        journal.result(some_result(answer=Answer("=a\ud800\r\nb\x00", "answered", error="\udfff")))
    write_tables(read_events(tmp_path, ("result", "call")), tmp_path)
    row = pd.read_parquet(tmp_path / "results.parquet").iloc[0]
    assert (row.answer, row.error) == ("=a\ufffd\r\nb\x00", "\ufffd")
    assert pd.read_parquet(tmp_path / "calls.parquet").error[0] == "no \ufffd"
    assert "'=a\ufffd" in (tmp_path / "results.csv").read_text(encoding="utf-8")


def test_what_a_killed_process_left_is_not_appended_to(tmp_path: Path) -> None:
    """Its number may be this one's, as in containers."""
    row_of(tmp_path, some_call("a"))
    left = tmp_path / f".results.csv.{os.getpid()}.tmp"
    left.write_text("result_key,half a row")
    write_tables(read_events(tmp_path, ("result", "call")), tmp_path)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 1
    assert not left.exists()


def test_rows_stand_in_one_order_even_where_only_their_keys_tell_them_apart(tmp_path: Path) -> None:
    """As in a merge of two revisions' results on the same sample."""
    for run_dir, keys in ((tmp_path / "a", "xyz"), (tmp_path / "b", "zyx")):
        with Journal(run_dir) as journal:
            for key in keys:
                journal.result(some_result(key))
        assert list(tables(run_dir)[0].result_key) == ["x", "y", "z"]


def test_a_run_of_many_rows_is_written_by_and_by_and_none_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    """Three thousand results, each pending and begun again by another part of the record: the last
    tries count, calls stand once, and a reading that only late results have is a column of all."""
    n = 3000
    with Journal(tmp_path / "run") as journal:
        journal.call(some_call("c"), "x")
        journal.result(some_result("r", answer=Answer(None, "provider_error"), score=None))
        journal.result(some_result("r", score=Score(0.0, "x", {"late": 0.5})))
    call, first, last = read_events(tmp_path / "run", ("call", "result"))

    def events() -> Iterator[dict[str, Any]]:
        for result, restart in ((first, 0), (last, 1)):
            for i in reversed(range(n)):
                its = {"result_key": f"r{i:04}", "restart": restart, "prompt_tokens": i}
                yield {**call, "call_id": f"c{i}-{restart}", **its}
                yield {**call, "call_id": f"c{i}-0", **its}  # copied after a kill
                yield {**result, "key": f"r{i:04}", "restart": restart, "attempts": 1}

    write_tables(events(), tmp_path)
    results, calls = (pd.read_parquet(tmp_path / f"{t}.parquet") for t in ("results", "calls"))
    assert results.result_key.tolist() == [f"r{i:04}" for i in range(n)]
    assert set(results.score) == {0.0}
    assert set(results.score_late) == {0.5}
    assert results.calls.tolist() == [2] * n
    assert results.prompt_tokens.tolist() == [2 * i for i in range(n)]
    assert len(calls) == calls.call_id.nunique() == 2 * n
    for name, frame in (("results", results), ("calls", calls)):
        assert (tmp_path / f"{name}.csv").read_text() == frame.to_csv(index=False)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("- a list", "'- a list"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\n=1"),
        ("a\r=1", "a\n=1"),
        ("  =1", "'  =1"),
        ("\n=1", "'\n=1"),
        ("＝1", "'＝1"),
        ("-12.5", "-12.5"),
        ("+1e-5", "+1e-5"),
        ("a=b", "a=b"),
        ("'=1", "'=1"),
        ("", ""),
    ],
)
def test_no_text_is_a_formula_to_a_spreadsheet(cell: str, written: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"=a": [cell, None], "n": [-1.5, 2.0], "right": [True, False]})
    write_csv(frame, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        head, first, second = csv.reader(file)
    assert head == ["'=a", "n", "right"]
    assert (first, second) == ([written, "-1.5", "True"], ["", "2.0", "False"])


def test_no_csv_file_is_written_otherwise() -> None:
    root = Path(__file__).parents[2]
    files = [p for room in ("rlm_eval", "tasks", "paper") for p in (root / room).rglob("*.py")]
    lines = [line for p in files for line in p.read_text(encoding="utf-8").splitlines()]
    writers = [line for line in lines if ".to_csv(" in line and "to_csv(index=False) " not in line]
    assert [line.strip().partition("(")[0] for line in writers] == ["shown.to_csv"]
    assert not [line for line in lines if "csv.writer" in line or "DictWriter" in line]
