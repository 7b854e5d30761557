"""Live progress: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from helpers.some_records import some_call, some_result
from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.records import Score
from rlm_eval.runs.progress import Progress


def watched(arms: list[str], console: Console) -> Progress:
    keys = {f"key of {arm}": arm for arm in arms} | {f"other of {arm}": arm for arm in arms}
    return Progress(keys, 1, console)


def finish(progress: Progress, *arms: str) -> None:
    for arm in arms:
        tokens = {"prompt_tokens": 1000, "completion_tokens": 10}
        progress.called(some_call(f"call of {arm}", result_key=f"key of {arm}", **tokens))
        score = Score(1.0, "seven")
        progress.finished(some_result(f"key of {arm}", method=arm, wall_s=30.0, score=score))


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def test_a_line_says_how_far_it_is_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with watched(["direct", "rlm"], plain()) as progress:
        finish(progress, "direct")
        unknown = capsys.readouterr().err.splitlines()[-1]
        finish(progress, "rlm")
    assert "left" not in unknown, "nothing is known of an arm without a result"
    line = capsys.readouterr().err.splitlines()[-1]
    assert "2/4 results, 2 correct, 2 calls, 2,020 tokens" in line
    assert "about 1:00 left" in line


def test_a_line_of_many_arms_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    arms = [f"arm {n}" for n in range(18)]
    with watched(arms, plain()) as progress:
        finish(progress, *arms)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "18/36 results" in line
    assert len(line) < 100


def test_colours_in_a_log_are_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI does
    with Progress({"key of direct": "direct"}, 1) as progress:
        finish(progress, "direct")
    said = capsys.readouterr().err
    assert "1/1 results" in said
    assert "\x1b[?25l" not in said, "the cursor of a live table"


def test_the_table_ends_with_all_arms_together() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with watched(["direct", "rlm"], console) as progress:
        finish(progress, "direct", "rlm")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    last = [line for line in shown.splitlines() if line.startswith("all ")][-1]
    assert "2/4" in last
    assert "2,020" in last


def test_model_time_and_what_is_left_of_each_cap_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ledger = Ledger(Budget(calls=50, tokens=9000, usd=5.0, seconds=600))
    ledger.settle(ledger.reserve(Spend(3, 1200, 0.25)), Spend(3, 1200, 0.25))
    caps = ["$0.25 of $5.00", "1,200 of 9,000 tokens", "3 of 50 calls", "0:00 of 10:00"]
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress({"key": "direct"}, 1, console, model="openai/gpt-5", ledger=ledger):
        pass
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "  ".join(["openai/gpt-5", "0:00", *caps]) in shown
    with Progress({"key": "direct"}, 1, plain(), ledger=ledger):
        pass
    assert ", ".join(caps) in capsys.readouterr().err
