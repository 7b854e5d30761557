"""The journal: nothing lost, nothing twice, one writer; and what a run directory already holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from some_records import some_call, some_result

from rlm_eval.errors import ConfigError
from rlm_eval.journal import FILE_NAME, Journal, read_events
from rlm_eval.ledger import Spend
from rlm_eval.past import past_of, take_over
from rlm_eval.records import SCHEMA_VERSION


def written(run_dir: Path) -> list[str]:
    """The types of the events, sessions left out."""
    return [e["type"] for e in read_events(run_dir) if e["type"] != "session"]


def write_one(run_dir: Path, key: str = "r1", outcome: str = "answered", episode: int = 0) -> None:
    with Journal(run_dir) as journal:
        journal.begin(key, episode)
        journal.call(some_call(f"call-{key}-{episode}", result_key=key, episode=episode), "seven")
        journal.result(some_result(key, outcome, episode=episode))  # type: ignore[arg-type]


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_one(tmp_path)
    session, begin, call, result = read_events(tmp_path)
    assert (session["type"], session["pid"]) == ("session", os.getpid())
    assert (begin["type"], begin["key"], begin["episode"]) == ("begin", "r1", 0)
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
    write_one(tmp_path, episode=1)
    assert written(tmp_path) == ["begin", "call", "begin", "call", "result"]
    assert [e["episode"] for e in read_events(tmp_path, types=("result",))] == [1]


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


def test_a_future_schema_is_refused_with_a_line_that_says_what_to_do(tmp_path: Path) -> None:
    event = {"v": SCHEMA_VERSION + 1, "type": "call"}
    (tmp_path / FILE_NAME).write_text(json.dumps(event) + "\n")
    with pytest.raises(ConfigError, match=r"newer rlm_eval.*upgrade"):
        list(read_events(tmp_path))
    with pytest.raises(ConfigError, match="newer"):
        list(read_events(tmp_path, types=("call",)))


def test_no_journal_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "nowhere")) == []
    assert past_of(tmp_path).spent == Spend()


def test_a_second_process_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rlm_eval.journal import Journal\n"
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


def test_a_result_is_on_the_disk_when_result_returns(tmp_path: Path) -> None:
    """A process that dies at once afterwards, buffers unflushed, has lost nothing."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from rlm_eval.journal import Journal; from some_records import *\n"
        "journal = Journal(Path(sys.argv[2])); journal.call(some_call(), 'x')\n"
        "journal.result(some_result()); os._exit(9)"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, here, str(tmp_path)], check=False)
    assert written(tmp_path) == ["call", "result"]


def test_an_append_is_quick(tmp_path: Path) -> None:
    """Target 0.2 ms amortised; the bound leaves room for a busy machine."""
    call, count = some_call(), 2000
    with Journal(tmp_path) as journal:
        started = time.perf_counter()
        for _ in range(count):
            journal.call(call, "seven")
        each = (time.perf_counter() - started) / count
    assert each < 0.001
    assert len(list(read_events(tmp_path, types=("call",)))) == count


# -- what is there already -----------------------------------------------------------------


def test_the_past_counts_what_is_done_begun_and_spent(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin("r1", 0)
        journal.call(some_call("a"), "x")
        journal.call(some_call("a", attempt=2, cost_usd=0.5), "x")
        journal.call(some_call("b", cached_response=True, cost_usd=0.0), "x")
        journal.result(some_result("r1"))
        journal.begin("r2", 0)
        journal.result(some_result("r2", "provider_error"))
        journal.begin("r2", 1)
        journal.result(some_result("r3", "budget_exceeded"))
    past = past_of(tmp_path)
    assert past.done == {"r1", "r3"}
    assert past.episodes == {"r1": 1, "r2": 2}
    assert past.spent == Spend(2, 220, 0.75)


def test_an_unpriced_call_leaves_the_past_bill_unknown(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.call(some_call("a"), "x")
        journal.call(some_call("b", cost_usd=None), "x")
    assert past_of(tmp_path).spent == Spend(2, 220, None)


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_one(tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, *lines]))
    past = past_of(tmp_path)
    assert (past.done, past.episodes) == ({"r1"}, {"r1": 1})
    assert past.spent == Spend(1, 110, 0.25)


def test_time_between_two_sessions_is_not_spent(tmp_path: Path) -> None:
    """Two processes at work for 12 s and 30 s, with a night between them."""
    night = 8 * 3600.0
    events = [
        {"type": "session", "started_at": 100.0},
        {"type": "call", **vars(some_call("a", started_at=110.0, latency_s=2.0))},
        {"type": "session", "started_at": night},
        {"type": "call", **vars(some_call("b", started_at=night + 20, latency_s=10.0))},
        {"type": "call", **vars(some_call("c", started_at=night + 1, latency_s=1.0))},
    ]
    lines = (json.dumps({"v": 1, **event}) + "\n" for event in events)
    (tmp_path / FILE_NAME).write_text("".join(lines))
    assert past_of(tmp_path).seconds == pytest.approx(12.0 + 30.0)


def test_results_of_another_run_are_taken_over_once_and_not_paid_again(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_one(old, "r1")
    write_one(old, "r2", outcome="provider_error")
    write_one(old, "r3")
    with Journal(new) as journal:
        taken = take_over(tmp_path, new, {"r1", "r2", "r9"}, past_of(new), journal)
    assert taken == 1
    past = past_of(new)
    assert past.done == {"r1"}
    assert past.spent == Spend()
    assert written(new) == ["begin", "call", "result"]
    assert {e["taken_from"] for e in read_events(new, types=("call", "result"))} == {"old"}
    with Journal(new) as journal:
        assert take_over(tmp_path, new, {"r1"}, past, journal) == 0
