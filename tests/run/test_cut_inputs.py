"""An input that was cut, or that a window can't hold, is said: by the forecast, at the run's start
and below its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.commands import run_tree
from rlm_eval.config.compose import compose_tree

SMALL = ["model=scripted", "model.context_window=5000", "task=needle", "task.lengths=[600,9000]"]


def shares(text: str) -> dict[str, tuple[str, int]]:
    """Per arm: how many inputs, and to what share of their tokens."""
    found = re.findall(
        r"(\w+): (\d of \d) inputs (?:cut to|are too large: cut to some) (\d+) %", text
    )
    return {arm: (count, int(share)) for arm, count, share in found}


@pytest.mark.slow
def test_what_is_cut_is_forecast_and_said_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = compose_tree([*SMALL, "task.n=2", "method=[direct,codeact,rlm]"])
    tree["results_dir"] = str(tmp_path)
    assert run_tree({**tree, "dry_run": True}) == 0
    forecast = shares(capsys.readouterr().out)
    assert run_tree(tree) == 0
    told = capsys.readouterr()
    assert shares(told.err) == forecast
    table = shares(told.out)
    assert forecast.keys() == table.keys() == {"direct", "codeact"}
    for arm, (count, share) in table.items():
        assert (count, forecast[arm][0]) == ("2 of 2", "2 of 4"), "a table is of one length"
        # A fifth: the stand-in's tokens are not those that the task counts in.
        assert abs(share - forecast[arm][1]) <= 22, (arm, share, forecast)


@pytest.mark.slow
def test_what_is_refused_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = compose_tree([*SMALL, "task.n=2", "method=[direct]", "method.direct.overflow=refuse"])
    assert run_tree({**tree, "results_dir": str(tmp_path)}) == 0
    told = capsys.readouterr()
    assert "direct: 2 of 4 inputs are too large: refused" in told.err
    assert "direct: 2 context_overflow" in told.out
