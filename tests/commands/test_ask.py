"""``rlm-eval ask``: turns on standard error, the answer alone on standard output, its record."""

from __future__ import annotations

import io
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from helpers.commands import replay, report
from helpers.some_records import some_call, some_result
from rlm_eval.analysis.summary import print_summary, write_summary
from rlm_eval.commands.ask import asked, read_documents
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.redaction import Redactor
from rlm_eval.runs.progress import Watched

TEXT = "A mill by the river.\nThe code for arnsby is: 8412.\nNothing else happened.\n"
QUESTION = "What is the code for arnsby?"
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mill.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*words: str) -> int:
    return run_command(["ask", *words, "model=scripted", "results_dir=runs"])


def runs() -> list[Path]:
    return sorted(Path("runs").glob("[!.]*"))


@pytest.mark.slow
def test_a_session_is_shown_as_it_goes_and_recorded(folder: Path, capsys: Printed) -> None:
    assert ask("mill.txt", QUESTION) == 0
    out, err = capsys.readouterr()
    assert out == "8412\n"
    (run_dir,) = runs()
    turn, code, sub, output, end = (
        err.index(said)
        for said in (
            "rlm: reply: ",
            "llm_query",
            "  rlm: sub-call: ",
            "rlm: output",
            "rlm: answered",
        )
    )
    assert turn < code < sub < output < end
    assert "tokens" in err
    assert f"rlm-eval report {run_dir}" in err.splitlines()[-1]
    results = pd.read_parquet(run_dir / "results.parquet")
    assert (results.answer[0], results.score_rule[0]) == ("8412", "no gold")
    assert results[["score", "correct", "skill", "constant_score"]].isna().all(axis=None)
    assert pd.read_csv(run_dir / "verdicts.csv").empty
    journal = (run_dir / "journal.jsonl").read_bytes()
    assert ask("mill.txt", QUESTION) == 0
    assert capsys.readouterr().out == "8412\n"
    assert (run_dir / "journal.jsonl").read_bytes() == journal, "it is answered once"
    (folder / "mill.txt").write_text(TEXT.replace("8412", "7"))
    assert ask("mill.txt", QUESTION) == 0
    assert capsys.readouterr().out == "7\n"
    assert len(runs()) == 2, "of another text it is another run"


@pytest.mark.slow
def test_two_methods_answer_under_their_names_and_nobody_judges_them(
    folder: Path, capsys: Printed
) -> None:
    (folder / "other.txt").write_text("Of Bexley nothing is known.\n")
    assert ask("mill.txt", "other.txt", QUESTION, "method=[rlm,direct]") == 0
    out, err = capsys.readouterr()
    assert out == "rlm:\n8412\ndirect:\n8412\n"
    assert "direct: reply: " in err
    (run_dir,) = runs()
    console = Console(file=io.StringIO(), width=120)
    print_summary(write_summary(run_dir), console)
    assert "No verdict: that takes" in console.file.getvalue()  # type: ignore[attr-defined]
    allowed = "allow_targets=[rlm_eval.tasks.asked]"
    assert replay([str(run_dir)]) == replay(["--rescore", str(run_dir), allowed]) == 0
    assert "0 of 0 scored answers" in capsys.readouterr().out
    assert report([str(run_dir), allowed]) == 0
    data = run_dir / "report_data"
    main = json.loads((data / "main.js").read_text().split(",", 1)[1][:-3])
    assert main["verdicts"] == []
    assert "score_and_cost" not in [figure["id"] for figure in main["figures"]]
    (context,) = (data / "c").iterdir()
    assert "other.txt:\\nOf Bexley" in context.read_text()


@pytest.mark.slow
def test_standard_input_is_asked_about(
    folder: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert ask("-", QUESTION, "method=[direct]") == 0
    assert capsys.readouterr().out == "8412\n"
    assert run_command(["ask", "mill.txt", QUESTION, "model=scripted", "dry_run=true"]) == 0
    assert "1 results to make" in capsys.readouterr().out


def test_what_is_left_out_of_a_folder_is_said(folder: Path, capsys: Printed) -> None:
    (folder / "docs").mkdir()
    (folder / "docs/mill.txt").write_text(TEXT)
    for name in ("contract.docx", "plan.png"):
        (folder / "docs" / name).write_bytes(b"\x89PNG\0")
    assert read_documents(["docs"]) == TEXT
    told = "left out, since binary or a link out: docs/contract.docx, docs/plan.png\n"
    assert capsys.readouterr() == ("", told)


def test_its_bound_refuses_nothing_unless_it_is_asked_to(folder: Path) -> None:
    """The most that 512 sub-calls may take is far above any cap for one question."""
    given = ["model=scripted", "results_dir=runs", "dry_run=true", "budget.run.usd=1"]
    assert asked(TEXT, QUESTION, given).config["stop_on_forecast"] is False
    wary = [*given, "stop_on_forecast=true"]
    assert asked(TEXT, QUESTION, wary).config["stop_on_forecast"] is True


def test_its_report_can_be_typed_in_a_folder_with_spaces(folder: Path, capsys: Printed) -> None:
    words = ["mill.txt", QUESTION, "model=scripted", "method=[direct]", "results_dir='my runs'"]
    assert run_command(["ask", *words]) == 0
    (run_dir,) = Path("my runs").glob("[!.]*")
    last = capsys.readouterr().err.splitlines()[-1]
    assert shlex.split(last) == ["recorded:", "rlm-eval", "report", str(run_dir)]


@pytest.mark.slow
def test_a_spent_cap_leaves_the_answer_pending(folder: Path, capsys: Printed) -> None:
    assert ask("mill.txt", QUESTION, "budget.run.calls=1") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "1 results are still pending" in err


@pytest.mark.slow
def test_an_answer_that_failed_is_told_when_asked_again(folder: Path, capsys: Printed) -> None:
    for _ in range(2):
        capsys.readouterr()
        assert ask("mill.txt", QUESTION, "budget.sample.calls=1") == 0
    out, err = capsys.readouterr()
    assert (out, err.count("rlm: no answer (budget_exceeded) ")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.txt", QUESTION], "none.txt can't be read: No such file or directory"),
        (["mill.txt"], "ask takes files (-: standard input) with text in them, then a question"),
        ([], "ask takes files"),
        (["empty.txt", QUESTION], "with text in them"),
        (["mill.txt", "empty.txt"], "empty.txt is a file: the last word must be the question"),
        (["binary.bin", QUESTION], "binary.bin is n"),
        (["mill.txt", QUESTION, "task=needle"], "task=needle: ask has a task of its own"),
        (["mill.txt", QUESTION, "method.rlm.max_dept=1"], "did you mean method.rlm.max_depth?"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    words: list[str], told: str, folder: Path, capsys: Printed
) -> None:
    (folder / "empty.txt").write_text("\n")
    (folder / "binary.bin").write_bytes(b"\xff\xfe\x00")
    assert ask(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rlm_eval ask: ")
    assert told in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_no_key_and_no_terminal_code_is_shown(capsys: Printed) -> None:
    key = "sk-canary-3f9a77aa"
    with Watched({"k": "rlm"}, 1, redact=Redactor([key])) as watched:
        assert watched.watch is not None
        watched.called(some_call("a", result_key="k"), f"one \x1b]0;title\x07 {key}\r\ntwo\x9b2J")
        watched.called(some_call("b", result_key="k", role="sub", depth=1), "x" * 190 + key)
        watched.watch("rlm", {"type": "block", "depth": 0, "output": f"\x1b[31m{key}"})
        watched.called(replace(some_call("c", result_key="k"), error=f"bad: \x1b[2J {key}"))
        watched.finished(some_result("k", method="rlm"))
    err = capsys.readouterr().err
    assert "sk-canary" not in err
    assert err.count("[key]") == 4
    assert not set(err) & {"\x1b", "\x07", "\x9b", "\r"}
    assert "\n  two" in err
