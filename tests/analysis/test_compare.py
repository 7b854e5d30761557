"""rlm-eval compare."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.commands import compare as main
from helpers.fake_results import write_run
from rlm_eval.analysis.compare import changes, compare_runs
from rlm_eval.analysis.load import load_run
from rlm_eval.config.check import changes_no_result
from rlm_eval.journal.environment import OF_ARMS

SMALL = {"contexts": 6, "questions": 2, "lengths": (1000,)}


def config(depth: int) -> dict[str, object]:
    return {"method": {"rlm": {"max_depth": depth}}}


def test_shared_samples_are_paired_and_the_changed_setting_is_named(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", config(1), run_id="a", methods=("direct", "rlm"), **SMALL)
    b = write_run(
        tmp_path / "b", config(2), run_id="b", methods=("rlm", "rag_bm25"), seed=1, **SMALL
    )
    found = compare_runs(load_run(a), load_run(b))
    assert found.changes["Configuration"] == [("method.rlm.max_depth", 1, 2)]
    assert found.changes["Environment"] == []
    assert (found.only_a, found.only_b) == (["direct"], ["rag_bm25"])
    (row,) = found.table.to_dict("records")
    assert row["shared_samples"] == 12
    assert row["difference"] == pytest.approx(row["score_b"] - row["score_a"])
    assert row["p_holm"] == row["p"]
    a_said, b_said = (
        frame[frame["method"] == "rlm"].set_index("sample_id")["answer"].dropna()
        for frame in (load_run(a).results, load_run(b).results)
    )
    same = sum(b_said.get(sample) == answer for sample, answer in a_said.items())
    assert row["same_answers"] == same
    assert 0 < same < 12


def test_questions_count_by_themselves_where_both_runs_say_so(tmp_path: Path) -> None:
    alone: dict[str, object] = {"analysis": {"unit": "question"}}
    runs = [
        load_run(write_run(tmp_path / name, given, run_id=name, methods=("rlm",), **SMALL))
        for name, given in (("a", alone), ("b", {}), ("c", alone))
    ]
    for one, two, units in ((0, 1, 6), (1, 0, 6), (0, 2, 12)):
        assert compare_runs(runs[one], runs[two]).table["contexts"].tolist() == [units]


def test_runs_without_shared_samples_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", config(1), run_id="a", **SMALL)
    b = write_run(tmp_path / "b", config(1), run_id="b", **SMALL)
    table = pd.read_parquet(b / "results.parquet")
    table["sample_id"] = "other-" + table["sample_id"]
    table.to_parquet(b / "results.parquet")
    found = compare_runs(load_run(a), load_run(b))
    assert (found.table["shared_samples"] == 0).all()
    assert "difference" not in found.table.columns
    assert main([str(a), str(b)]) == 0
    assert "share no sample" in capsys.readouterr().out


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        node = config(1) | {"demonstration": name == "a"}
        write_run(tmp_path / name, node, run_id=name, **SMALL)
    table = tmp_path / "paired.csv"
    runs = [str(tmp_path / n) for n in "ab"]
    assert main([*runs, "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A demonstration, not evidence.\n")
    assert "Configuration: no difference" in out
    assert table.read_text().count("\n") == 5
    assert "Same: answers that are equal to the letter." in " ".join(out.split())
    assert main([runs[0], str(tmp_path / "nope")]) == 2
    assert "does not exist" in capsys.readouterr().err


def compared(a: Path, b: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints, with its lines joined."""
    assert main([str(a), str(b)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_table_says_test_contexts_unit_and_what_it_can_resolve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = SMALL | {"methods": ("direct", "rlm")}
    a = write_run(tmp_path / "a", config(1), run_id="a", **shape)
    b = write_run(tmp_path / "b", config(2), run_id="b", seed=1, **shape)
    out = compared(a, b, capsys)
    assert "ctx: contexts, or questions where analysis.unit says so." in out
    assert "p: sign-flip of contexts, Holm over the 2 methods of a task and length." in out
    assert "Cost: B's over A's, in tokens." in out
    assert "no difference, however large" not in out
    few = {"contexts": 4, "lengths": (1000,), "questions": 2, "methods": ("rlm",)}
    a = write_run(tmp_path / "c", config(1), run_id="c", **few)
    b = write_run(tmp_path / "d", config(2), run_id="d", seed=1, **few)
    out = compared(a, b, capsys)
    assert "Under 6 contexts no difference, however large, reaches p ≤ 0.05." in out


def test_runs_with_nothing_in_common_are_said_to_be_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", config(1), run_id="a", methods=("direct",), **SMALL)
    b = write_run(tmp_path / "b", config(1), run_id="b", methods=("rlm",), **SMALL)
    assert main([str(a), str(b)]) == 2
    shown = capsys.readouterr()
    assert "Nothing is compared" in shown.err
    assert "Only in A, not compared: direct" in shown.out


def test_models_of_roles_are_named_and_settings_of_unshared_arms_are_not(tmp_path: Path) -> None:
    arms = {"rlm": {"matched": False, "prompt": "compact"}, "direct": {"matched": False}}
    config = {"method": arms | {"rag_bm25": {"top_k": 3}}, "results_dir": "here", "seed": 0}
    other = {"method": {n: a | {"matched": True} for n, a in arms.items()}, "results_dir": "there"}
    for name, settings in (("a", config), ("b", other | {"seed": 0})):
        methods = ("direct", "rlm", *(("rag_bm25",) if name == "a" else ()))
        folder = write_run(tmp_path / name, settings, run_id=name, methods=methods, **SMALL)
        record = {key: {"rag_bm25": {"root": "p"}} for key in OF_ARMS}
        (folder / "environment.json").write_text(json.dumps(record if name == "a" else {}))
        calls = pd.read_parquet(folder / "calls.parquet")
        judge = calls.iloc[:1].assign(role="judge", model=f"judge-{name}", call_id="j")
        pd.concat([calls, judge]).to_parquet(folder / "calls.parquet")
    found = compare_runs(*(load_run(tmp_path / name) for name in "ab"), changes_no_result)
    assert found.changes["Models"] == [("judge", "judge-a", "judge-b")]
    assert found.changes["Configuration"] == [("method.{rlm, direct}.matched", False, True)]
    assert found.changes["Environment"] == []
    assert found.changes["Settings that change no result"] == [("results_dir", "here", "there")]
    assert found.only_a == ["rag_bm25"]


def test_a_role_one_run_alone_has_is_said(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", config(1), run_id="a", methods=("direct",), **SMALL)
    b = write_run(tmp_path / "b", config(1), run_id="b", methods=("direct", "rlm"), **SMALL)
    found = compare_runs(load_run(a), load_run(b))
    assert found.changes["Models"] == [("sub", "no calls", "simulated-model")]


def test_changes_name_what_one_side_lacks() -> None:
    found = changes({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1, "c": [2]}, "d": None, "e": 0})
    assert found == [("a.c", [1], [2]), ("e", None, 0)]
