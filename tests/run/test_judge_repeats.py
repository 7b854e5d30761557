"""A judge that contradicts itself, from the answers to the verdict, as a user runs it."""

from __future__ import annotations

import json
from itertools import cycle, islice
from pathlib import Path

import pandas as pd
import pytest

from helpers.dataset_rows import longmemeval
from helpers.fake_provider import FakeProvider, _Handler, chat_reply
from rlm_eval.commands.cli import run_command
from rlm_eval.commands.replay import check, rescore


def yes(handler: _Handler) -> None:
    handler.send_json(200, chat_reply("yes"))


def no(handler: _Handler) -> None:
    handler.send_json(200, chat_reply("no"))


def arguments(folder: Path, judge: str) -> list[str]:
    """Four questions for two arms of a scripted model."""
    rows = folder / "rows.json"
    rows.write_text(json.dumps([longmemeval(i) for i in range(4)]))
    return [
        *("task=longmemeval", f"task.path={rows}", "task.lengths=[4096]", "task.n=4"),
        *("task.judge_repeats=3", "model=scripted", "method=[direct,rlm]"),
        *("model@judge_model=litellm", "judge_model.name=openai/judge", "concurrency=1"),
        *(f"judge_model.api_base={judge}", "judge_model.price.input=1"),
        *("judge_model.price.output=1", f"results_dir={folder}/runs", "sandbox.level=none"),
    ]


def test_a_judge_that_flips_is_asked_again_and_its_flip_rate_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every fourth answer gets two verdicts of yes and one of no; the others three of yes."""
    plan = islice(cycle([yes, no, yes, *[yes] * 9]), 24)
    with FakeProvider(plan) as provider:
        assert run_command(arguments(tmp_path, provider.api_base)) == 0
    shown = capsys.readouterr().out
    run_dir = Path(shown.splitlines()[-1])
    assert "judge's flip rate on longmemeval: 25.0 % (3 verdicts on each of 8 answers)." in shown
    assert provider.requests == 24
    assert {body["temperature"] for body in provider.received} == {0.0}
    results, calls = (pd.read_parquet(run_dir / f"{n}.parquet") for n in ("results", "calls"))
    assert results.score.tolist() == [1.0] * 8
    assert sorted(results.judge_dissents) == [0] * 6 + [1] * 2
    judge = calls[(calls.role == "judge") & (calls.result_key != "")]
    assert (len(judge), judge.cached_response.any()) == (24, False)
    assert results.judge_cost_usd.sum() == pytest.approx(judge.cost_usd.sum())
    rates = pd.read_csv(run_dir / "summary.csv").judge_flip_rate.dropna()
    assert sorted(rates) == [0.0, 0.5]
    (text,) = pd.read_csv(run_dir / "verdicts.csv").text
    assert "The judge's flip rate is 25 %" in text
    assert check(run_dir)
    assert rescore(run_dir, tmp_path / "out", ["rlm_eval.tasks"]) == 0
