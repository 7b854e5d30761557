"""The journal: nothing lost, nothing twice, one writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.some_records import some_call, write_one, written
from rlm_eval.errors import ConfigError
from rlm_eval.journal import FILE_NAME, Journal, read_events
from rlm_eval.ledger import Spend
from rlm_eval.past import past_of
from rlm_eval.records import SCHEMA_VERSION
from rlm_eval.tables import tables


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
    here = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, here, str(tmp_path)], check=False)
    assert written(tmp_path) == ["call", "result"]


# -- older schemas ---------------------------------------------------------------------------

#: As a run of the first published ones wrote it, before evidence, spans and judges.
OLD_LINES = """\
{"v": 1, "type": "session", "started_at": 1.5, "pid": 7}
{"v": 1, "type": "begin", "key": "r1", "restart": 0}
{"v": 1, "type": "call", "call_id": "a1", "parent_call_id": null, "result_key": "r1", \
"restart": 0, "role": "root", "depth": 0, "model": "m", "endpoint": "local", \
"prompt_sha256": "00", "prompt_tokens": 475, "cached_tokens": 0, \
"completion_tokens": 5, "reasoning_tokens": 0, \
"cost_usd": 0.0, "latency_s": 10.5, "attempt": 1, "cached_response": false, "from_repl": false, \
"finish_reason": "stop", "usage_estimated": false, "started_at": 2.5, "error": "", "reply": "1"}
{"v": 1, "type": "result", "key": "r1", "restart": 0, "run_id": "t-1", "sample": {"id": "s1", \
"task": "t", "context_id": "c1", "question": "how many?", "gold": ["25"], "scorer": "exact", \
"question_group": "g", "target_tokens": 1650, "length_tokens": 1457, "max_answer_tokens": 64, \
"knobs": {"seed": 0}}, "method": "direct", "prompt": "plain", "model": "m", "sub_model": "m", \
"scripted": false, "repeat": 0, "answer": {"text": "1", "outcome": "answered", "iterations": 1, \
"code_errors": 0, "truncated_tokens": 0, "context_chars_read_by_lm": 1179, \
"last_subcall_used": null, "sandbox_s": 0.0, "sandbox_level": "", "protocol": "", "error": ""}, \
"score": {"value": 0.25, "lenient": 0.25, "correct": false, "parsed": "1"}, \
"constant_score": 0.5, "wall_s": 11.0, "code_revision": "x", "schema_version": 1}
"""


@pytest.mark.parametrize("version", [0, 1])
def test_an_older_record_reads_with_todays_fields(tmp_path: Path, version: int) -> None:
    lines = OLD_LINES.replace('{"v": 1', f'{{"v": {version}')
    if version == 0:
        lines = lines.replace(', "error": "", "reply"', ', "reply"')
        lines = lines.replace(', "code_revision": "x", "schema_version": 1', "")
    (tmp_path / FILE_NAME).write_text(lines)
    *_, call, result = read_events(tmp_path)
    assert (call["error"], call["reply"], call["v"]) == ("", "1", version)
    assert result["answer"]["spans_read"] is None
    assert (result["sample"]["evidence"], result["sample"]["knobs"]) == ((), {"seed": 0})
    assert result["score"]["exact"] is None
    assert result["code_revision"] == ("x" if version else "")
    assert past_of(tmp_path).done == {"r1"}
    results, calls = tables(tmp_path)
    assert (results.score[0], results.skill[0], results.prompt_tokens[0]) == (0.25, -0.5, 475)
    assert list(calls.call_id) == ["a1"]
    write_one(tmp_path, "r2")
    assert past_of(tmp_path).done == {"r1", "r2"}
