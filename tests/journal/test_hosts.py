"""A run's folder that goes away, another machine that works on it, and a clock that is put back."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_provider import BEHAVIOURS, FakeProvider
from helpers.some_records import some_call, write_one, written
from rlm_eval.commands.cli import run_command
from rlm_eval.errors import ConfigError
from rlm_eval.journal import journal as module
from rlm_eval.journal.journal import LOCK, Journal
from rlm_eval.journal.past import past_of
from rlm_eval.records import now


def test_another_machines_heartbeat_holds_the_folder_for_a_minute(tmp_path: Path) -> None:
    heartbeat = tmp_path / LOCK
    with Journal(tmp_path):
        assert heartbeat.read_text() == f"{socket.gethostname()} {os.getpid()}"
    assert heartbeat.read_text() == ""
    heartbeat.write_text("elsewhere 4711")
    with pytest.raises(ConfigError, match=r"pid 4711 on elsewhere\) is working on"):
        Journal(tmp_path)
    long_ago = time.time() - 61
    os.utime(heartbeat, (long_ago, long_ago))
    write_one(tmp_path)
    assert written(tmp_path) == ["begin", "call", "result"]
    heartbeat.write_text(f"{socket.gethostname()} 4711")  # of a killed process: the lock tells
    write_one(tmp_path, "r2")
    heartbeat.write_text("")
    write_one(tmp_path, "r3")
    assert past_of(tmp_path).done == {"r1", "r2", "r3"}


def test_the_heart_beats_while_the_journal_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT_S", 0.02)
    heartbeat = tmp_path / LOCK
    with Journal(tmp_path):
        for _ in range(3):
            wait_for(heartbeat.exists)
            os.utime(heartbeat, (1, 1))
            wait_for(lambda: heartbeat.stat().st_mtime > 1)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["deleted", "moved", "made anew"])
def test_a_folder_that_is_gone_takes_no_line(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    with Journal(folder) as journal:
        journal.call(some_call("a"), "x")
        shutil.rmtree(folder) if how == "deleted" else folder.rename(tmp_path / "other")
        if how == "made anew":
            write_one(folder)
        for _ in range(2):
            with pytest.raises(OSError, match="deleted or moved") as failed:
                journal.call(some_call("b"), "x")
            assert failed.value.errno == errno.ESTALE
    if how != "deleted":
        assert written(tmp_path / "other") == ["call"]


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_run_whose_folder_goes_away_ends_in_one_line(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "runs"
    arguments = [
        *("model=litellm", "model.name=openai/fake", "task=needle", "task.lengths=[500]"),
        *("task.n=6", "method=[direct]", "concurrency=1", f"results_dir={place}"),
    ]

    def away(handler: Any) -> None:
        (run_dir,) = place.iterdir()
        shutil.rmtree(run_dir) if how == "deleted" else run_dir.rename(tmp_path / run_dir.name)
        BEHAVIOURS["ok"](handler)

    with FakeProvider(["ok", "ok", away]) as provider:
        arguments.append(f"model.api_base={provider.api_base}")
        assert run_command(arguments) == 1
        assert provider.requests == 3
        told = [line for line in capsys.readouterr().err.splitlines() if "stopped" in line]
        assert len(told) == 1
        assert "the run's folder was deleted or moved" in told[0]
        if how == "moved":
            (moved,) = tmp_path.glob("needle-*")
            assert run_command(["resume", str(moved)]) == 0
            assert len(past_of(moved).done) == 6
        else:
            assert run_command(arguments) == 0


def test_a_clock_that_is_put_back_or_ahead_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time
    before = now()
    assert abs(before - clock()) < 60
    with Journal(tmp_path) as journal:
        monkeypatch.setattr(time, "time", lambda: clock() - 7200)
        journal.call(some_call("a", started_at=now(), latency_s=2.0), "x")
        monkeypatch.setattr(time, "time", lambda: clock() + 7200)
        journal.call(some_call("b", started_at=now(), latency_s=3.0), "x")
    assert before <= now() < before + 3600
    assert past_of(tmp_path).seconds == pytest.approx(3.0, abs=1.0)
