"""What a report does to the disk, and with bad input."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.commands import compare
from helpers.commands import report as main
from helpers.fake_results import write_run

SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct", "rlm")}


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_a_report_that_fails_leaves_the_last_one_whole(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / "run", **SMALL), tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    before = files_in(out)
    empty = write_run(tmp_path / "empty", **SMALL)
    table = pd.read_parquet(empty / "results.parquet")
    table.iloc[:0].to_parquet(empty / "results.parquet")
    assert main([str(empty), "--out", str(out)]) == 2
    assert files_in(out) == before
    table.assign(gold="no JSON").to_parquet(empty / "results.parquet")
    with pytest.raises(ValueError, match="Expecting value"):  # late, when much is written
        main([str(empty), "--out", str(out)])
    assert files_in(out) == before


@pytest.mark.slow
def test_a_report_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", **SMALL)
    assert main([str(run)]) == 0
    (run / "report_data/left_over.js").write_text("")
    before = set(files_in(run))
    assert main([str(run)]) == 0
    assert set(files_in(run)) == before - {"report_data/left_over.js"}


@pytest.mark.parametrize(
    "file", ["results.parquet", "calls.parquet", "config.yaml", "environment.json"]
)
def test_a_broken_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    run, whole = write_run(tmp_path / "run", **SMALL), write_run(tmp_path / "whole", **SMALL)
    (run / file).write_text("a: {b")
    assert main([str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{run / file} can't be read" in line
    assert compare([str(run), str(whole)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{run / file} can't be read" in line


def test_a_file_is_no_folder_to_write_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, taken = write_run(tmp_path / "run", **SMALL), tmp_path / "taken"
    taken.write_text("mine")
    for out in (taken, taken / "below"):
        assert main([str(run), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"can't write to {out}" in line
    assert taken.read_text() == "mine"
