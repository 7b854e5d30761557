"""The journal: nothing lost, nothing twice, one writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.some_records import some_call, some_result, synced, write_one, written
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import FILE_NAME, LOCK, Journal, read_events
from rlm_eval.journal.past import past_of
from rlm_eval.ledger import Spend
from rlm_eval.records import SCHEMA_VERSION


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_one(tmp_path)
    session, begin, call, result = read_events(tmp_path)
    assert (session["type"], session["pid"]) == ("session", os.getpid())
    assert (begin["type"], begin["key"], begin["restart"]) == ("begin", "r1", 0)
    assert (call["call_id"], call["reply"], call["cost_usd"]) == ("call-r1-0", "seven", 0.25)
    assert result["sample"]["gold"] == ["seven", "7"]
    assert result["answer"]["text"] == "seven"
    assert "trajectory" not in result["answer"]
    assert {e["v"] for e in (session, begin, call, result)} == {SCHEMA_VERSION}


def test_any_text_survives(tmp_path: Path) -> None:
    """Line breaks of every kind, a NUL, and half of a surrogate pair."""
    text = "a\nb\r\nc\u2028d\x85e\x00f\ud800g"
    with Journal(tmp_path) as journal:
        journal.call(some_call(), text)
    assert [e["reply"] for e in read_events(tmp_path, types=("call",))] == [text]


def test_only_the_types_asked_for(tmp_path: Path) -> None:
    write_one(tmp_path)
    assert [e["type"] for e in read_events(tmp_path, types=("result", "begin"))] == [
        "begin",
        "result",
    ]
    assert list(read_events(tmp_path, types=())) == []


@pytest.mark.parametrize("cut", [1, 2, 10, 100])
def test_a_torn_last_line_is_owed_now_and_after_more_was_written(tmp_path: Path, cut: int) -> None:
    """Cut by 1 it lacks only its line end, and must still not come to life later."""
    write_one(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert written(tmp_path) == ["begin", "call"]
    assert past_of(tmp_path).done == frozenset()
    write_one(tmp_path, restart=1)
    assert written(tmp_path) == ["begin", "call", "begin", "call", "result"]
    assert [e["restart"] for e in read_events(tmp_path, types=("result",))] == [1]


def test_every_cut_of_a_journal_reads_as_its_whole_lines(tmp_path: Path) -> None:
    write_one(tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()
    for size in range(0, len(whole), 7):
        run_dir = tmp_path / str(size)
        run_dir.mkdir()
        (run_dir / FILE_NAME).write_bytes(whole[:size])
        assert len(list(read_events(run_dir))) == whole[:size].count(b"\n")


@pytest.mark.parametrize("tail", [b"\x00" * 4096, b'{"v": 1, "type"' + b"\x00" * 50, b"\xff\xfe"])
def test_a_tail_of_nuls_or_rubbish_is_no_event(tmp_path: Path, tail: bytes) -> None:
    write_one(tmp_path)
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(tail)
    assert written(tmp_path) == ["begin", "call", "result"]
    write_one(tmp_path, "r2")
    assert written(tmp_path) == ["begin", "call", "result"] * 2


def test_a_line_that_is_no_event_is_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('[1]\n7\n\n{}\n{"v": 1}\n{"v": "1", "type": "call"}\n')
    assert list(read_events(tmp_path)) == []


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_schema_is_refused_in_one_line(tmp_path: Path, version: int) -> None:
    line = {"v": version, "type": "begin", "key": "r1", "restart": 0}
    (tmp_path / FILE_NAME).write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=f"has schema {version}, this rlm_eval reads"):
        list(read_events(tmp_path))
    with pytest.raises(ConfigError, match="has schema"):
        past_of(tmp_path)


def test_no_journal_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "nowhere")) == []
    assert past_of(tmp_path).spent == Spend()


def test_a_second_process_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rlm_eval.journal.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path)!r})); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match=rf"pid {other.pid}\b"):
            Journal(tmp_path)
        other.kill()
        other.wait()
    write_one(tmp_path)
    assert written(tmp_path) == ["begin", "call", "result"]


def test_a_journal_that_cannot_be_opened_holds_no_lock(tmp_path: Path) -> None:
    """In one process, as a notebook is."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OSError, match=FILE_NAME):
        Journal(tmp_path)
    (tmp_path / FILE_NAME).rmdir()
    write_one(tmp_path)
    assert written(tmp_path) == ["begin", "call", "result"]


@pytest.mark.parametrize("name", [LOCK, FILE_NAME, "trajectories"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    other, run_dir = tmp_path / "other", tmp_path / "run"
    other.write_text("mine\n")
    run_dir.mkdir()
    (run_dir / name).symlink_to(other)
    with pytest.raises(ConfigError, match=f"{name} is a link"):
        Journal(run_dir)
    assert other.read_text() == "mine\n"


def test_a_result_is_on_the_disk_when_result_returns(tmp_path: Path) -> None:
    """A process that dies at once afterwards, buffers unflushed, has lost nothing."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from rlm_eval.journal.journal import Journal; from helpers.some_records import *\n"
        "journal = Journal(Path(sys.argv[2])); journal.call(some_call(), 'x')\n"
        "journal.result(some_result()); os._exit(9)"
    )
    here = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, here, str(tmp_path)], check=False)
    assert written(tmp_path) == ["call", "result"]


def test_a_result_is_synced_with_its_whole_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine that loses its power would lose."""
    held = synced(monkeypatch)
    with Journal(tmp_path) as journal:
        journal.call(some_call(), "x")
        journal.result(some_result())
        assert held[-1:] == [journal.path.read_bytes()]
        assert b'"type": "result"' in held[-1].splitlines()[-1]
