"""A compressed record: the same events, smaller, and nothing lost however it ends."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_eval import compress as command
from rlm_eval.errors import ConfigError
from rlm_eval.journal import COMPRESSED_NAME, FILE_NAME, Journal, compress, has_journal, read_events
from rlm_eval.ledger import Spend
from rlm_eval.past import past_of, take_over
from some_records import write_one, written


def lines_of(run_dir: Path) -> list[object]:
    return list(read_events(run_dir))


def test_a_compressed_record_reads_the_same_and_is_smaller(tmp_path: Path) -> None:
    for number in range(20):
        write_one(tmp_path, f"r{number}")
    before, size = lines_of(tmp_path), (tmp_path / FILE_NAME).stat().st_size
    compress(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    assert (tmp_path / COMPRESSED_NAME).stat().st_size < size / 5
    assert lines_of(tmp_path) == before
    assert has_journal(tmp_path)
    assert past_of(tmp_path).done == {f"r{n}" for n in range(20)}


def test_a_resumed_run_goes_on_beside_what_is_compressed(tmp_path: Path) -> None:
    write_one(tmp_path, "r1")
    compress(tmp_path)
    write_one(tmp_path, "r2")
    before = lines_of(tmp_path)
    assert written(tmp_path) == ["begin", "call", "result"] * 2
    assert past_of(tmp_path).spent == Spend(2, 220, 0.5)
    compress(tmp_path)
    assert lines_of(tmp_path) == before
    assert not (tmp_path / FILE_NAME).exists()
    write_one(tmp_path, "r3")
    assert written(tmp_path) == ["begin", "call", "result"] * 3


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    write_one(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE_NAME).write_bytes((tmp_path / "a" / FILE_NAME).read_bytes())
    for name in "ab":
        compress(tmp_path / name)
    packed = [(tmp_path / name / COMPRESSED_NAME).read_bytes() for name in "ab"]
    assert packed[0] == packed[1]


@pytest.mark.parametrize("earlier", [False, True])
def test_killed_while_compressing_nothing_is_lost_or_twice(tmp_path: Path, earlier: bool) -> None:
    """At each step: a torn temporary file; the compressed one complete and the plain one still
    there, then written to again, then compressed again."""
    if earlier:
        write_one(tmp_path, "r0")
        compress(tmp_path)
    write_one(tmp_path, "r1")
    plain, before = (tmp_path / FILE_NAME).read_bytes(), lines_of(tmp_path)
    (tmp_path / f".{COMPRESSED_NAME}.tmp").write_bytes(b"\x1f\x8b torn")
    assert lines_of(tmp_path) == before
    compress(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(plain)
    assert lines_of(tmp_path) == before
    write_one(tmp_path, "r2")
    assert written(tmp_path) == ["begin", "call", "result"] * (3 if earlier else 2)
    after, past = lines_of(tmp_path), past_of(tmp_path)
    compress(tmp_path)
    assert lines_of(tmp_path) == after
    assert past_of(tmp_path) == past
    assert sorted(p.name for p in tmp_path.iterdir()) == [COMPRESSED_NAME, "lock"]


_KILLED = """
import os, sys; from pathlib import Path
from rlm_eval import journal
folder, step = Path(sys.argv[1]), sys.argv[2]
def die(*_, **__): os._exit(9)
setattr(*{"sync": (journal.os, "fsync"), "folder": (journal, "_sync_folder")}[step], die)
journal.compress(folder)
"""


@pytest.mark.parametrize("step", ["sync", "folder"])
def test_a_process_that_dies_at_a_step_of_compressing_loses_nothing(
    tmp_path: Path, step: str
) -> None:
    write_one(tmp_path)
    before = lines_of(tmp_path)
    died = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), step], check=False)
    assert died.returncode == 9
    assert lines_of(tmp_path) == before
    compress(tmp_path)
    assert lines_of(tmp_path) == before


def test_a_torn_last_line_stays_torn_when_it_is_compressed(tmp_path: Path) -> None:
    write_one(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-1])
    compress(tmp_path)
    assert written(tmp_path) == ["begin", "call"]
    write_one(tmp_path, episode=1)
    assert written(tmp_path) == ["begin", "call", "begin", "call", "result"]


def test_who_reads_while_it_is_compressed_reads_it_all(tmp_path: Path) -> None:
    write_one(tmp_path, "r1")
    compress(tmp_path)
    write_one(tmp_path, "r2")
    before = lines_of(tmp_path)
    reader = read_events(tmp_path)
    found = [next(reader)]
    compress(tmp_path)
    assert [*found, *reader] == before


def test_a_run_at_work_is_not_compressed(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(ConfigError, match="working on"):
        compress(tmp_path)
    assert (tmp_path / FILE_NAME).exists()


def test_half_a_compressed_file_is_an_error_and_no_short_record(tmp_path: Path) -> None:
    write_one(tmp_path)
    compress(tmp_path)
    path = tmp_path / COMPRESSED_NAME
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="damaged"):
        lines_of(tmp_path)


def test_results_are_taken_over_from_a_compressed_run(tmp_path: Path) -> None:
    write_one(tmp_path / "old")
    compress(tmp_path / "old")
    with Journal(tmp_path / "new") as journal:
        assert take_over(tmp_path, tmp_path / "new", {"r1"}, past_of(tmp_path / "new"), journal)
    assert past_of(tmp_path / "new").done == {"r1"}


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_one(tmp_path)
    assert command.main([str(tmp_path)]) == 0
    assert "journal.jsonl.gz: " in capsys.readouterr().out
    assert gzip.decompress((tmp_path / COMPRESSED_NAME).read_bytes()).count(b"\n") == 4
    assert command.main([str(tmp_path)]) == 0
    assert "already" in capsys.readouterr().out
    assert command.main([str(tmp_path / "nowhere")]) == 2
    assert "no journal" in capsys.readouterr().err
