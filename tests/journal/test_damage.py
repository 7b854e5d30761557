"""A journal that was changed after it was written: what is hurt is left out, said, and owed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.recorded_runs import copied, record_run
from helpers.some_records import tables, write_one
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.journal import FILE_NAME, damage, read_events
from rlm_eval.journal.past import finished_beside, past_of

#: The lines of a journal of three results: a session, then begin, call and result of each.
CALL, RESULT = 5, 6
Lines = list[bytes]


def journal(folder: Path, first: str = "r1") -> tuple[Path, Lines]:
    for key in (first, "r2", "r3"):
        write_one(folder, key)
    lines = (folder / FILE_NAME).read_bytes().splitlines(keepends=True)
    return folder, [line for n, line in enumerate(lines) if n in (0, 1, 2, 3, 5, 6, 7, 9, 10, 11)]


def changed(old: bytes, new: bytes, at: int) -> Callable[[Lines, Lines], None]:
    def change(lines: Lines, other: Lines) -> None:
        assert old in lines[at]
        lines[at] = lines[at].replace(old, new)

    return change


def put(at: int, line: bytes) -> Callable[[Lines, Lines], None]:
    return lambda lines, other: lines.__setitem__(at, line)


def swapped(lines: Lines, other: Lines) -> None:
    lines[RESULT] = other[RESULT]


def torn(lines: Lines, other: Lines) -> None:
    lines[CALL] = lines[CALL][:90]


def in_another_order(lines: Lines, other: Lines) -> None:
    lines[1:4], lines[4:7] = lines[4:7], lines[1:4]


DAMAGE: dict[str, tuple[Callable[[Lines, Lines], None], int, set[str]]] = {
    "a score was changed": (changed(b'"value": 0.75', b'"value": 1.00', RESULT), 1, {"r2"}),
    "a price was changed": (changed(b'"cost_usd": 0.25', b'"cost_usd": 0.02', CALL), 1, {"r2"}),
    "a version was changed": (changed(b'{"v": 3', b'{"v": 9', RESULT), 1, {"r2"}),
    "the first line's version": (changed(b'{"v": 3', b'{"v": 2', 0), 1, set()),
    "an object without its keys": (put(RESULT, b'{"v": 3, "type": "result"}\n'), 1, {"r2"}),
    "an event that is a list": (put(RESULT, b"[1, 2]\n"), 1, {"r2"}),
    "numbers that are texts": (
        put(RESULT, b'{"v": 3, "type": "call", "cost_usd": "x"}\n'),
        1,
        {"r2"},
    ),
    "deep nesting": (put(RESULT, b"[" * 100_000 + b"\n"), 1, {"r2"}),
    "a block of NULs": (put(RESULT, b"\0" * 4096 + b"\n"), 1, {"r2"}),
    "truncated in the middle": (
        lambda lines, other: lines.__setitem__(CALL, lines[CALL][:90]),
        1,
        {"r2"},
    ),
    "a line is lost": (lambda lines, other: lines.pop(CALL), 0, {"r2"}),
    "a line of another run": (swapped, 1, {"r2"}),
    "another run's journal behind it": (lambda lines, other: lines.extend(other), 10, set()),
    "a line twice": (lambda lines, other: lines.insert(CALL, lines[CALL]), 0, set()),
    "all lines twice": (lambda lines, other: lines.extend(lines[:]), 0, set()),
    "another order": (in_another_order, 0, set()),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_damaged_is_left_out_said_and_pending(case: str, tmp_path: Path) -> None:
    change, bad, owed = DAMAGE[case]
    folder, lines = journal(tmp_path / "a")
    _, other = journal(tmp_path / "elsewhere" / "b", "r4")
    change(lines, other)
    (folder / FILE_NAME).write_bytes(b"".join(lines))
    done = {"r1", "r2", "r3"} - owed
    for _ in range(2):
        assert past_of(folder).done == done
        results, _calls = tables(folder)
        assert set(results.result_key) == done
        assert set(results.score) == {0.75}
        assert set(results.cost_usd) == {0.25}
        assert finished_beside(tmp_path / "c", {"r1", "r2", "r3"}).keys() == done - {"r5"}
        said = damage(folder)
        assert (f"{bad} damaged or foreign lines" in said) if bad else not said
        for key in owed if bad and case.endswith("changed") else ():
            assert f"(result {key})" in said
        write_one(folder, "r5")  # and it is written to all the same
        done |= {"r5"}
    write_one(folder, "r2", restart=1)
    assert past_of(folder).done == {"r1", "r2", "r3", "r5"}


def test_a_line_that_was_torn_is_no_damage(tmp_path: Path) -> None:
    folder, lines = journal(tmp_path)
    (folder / FILE_NAME).write_bytes(b"".join(lines)[:-7] + b"\0" * 64)
    write_one(folder, "r4")
    assert damage(folder) == ""
    assert past_of(folder).done == {"r1", "r2", "r4"}


def test_every_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = record_run(tmp_path / "runs")
    whole = copied(run_dir, tmp_path / "whole")
    path = run_dir / FILE_NAME
    (result, *_) = read_events(run_dir, types=("result",))
    key = result["key"]
    lines = path.read_text().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if '"result"' in line and key in line)
    lines[place] = lines[place].replace('"value": ', '"value":  ')
    path.write_text("".join(lines))
    told = f"1 damaged or foreign lines are left out ({place + 1} (result {key}))"
    capsys.readouterr()
    assert run_command(["replay", str(run_dir)]) == 1
    assert told in capsys.readouterr().out
    assert run_command(["report", str(run_dir), "--out", str(tmp_path / "page")]) == 0
    assert told in capsys.readouterr().err
    page = (tmp_path / "page" / "report_data" / "main.js").read_text()
    assert json.dumps(told)[1:-1] in page
    merged = tmp_path / "merged"
    assert run_command(["merge", str(run_dir), str(whole), "--out", str(merged)]) == 0
    assert told in capsys.readouterr().err
    assert past_of(merged).done == past_of(whole).done
    assert damage(merged) == ""
    assert run_command(["resume", str(run_dir)]) == 2  # its provider is gone: one is still owed
    error = capsys.readouterr().err
    assert error.count(told) == 1
    assert "Start it, or set model.api_base" in error
