"""A disk that takes no more stops a run with one line; what was recorded stays, and it goes on."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.billing_provider import BillingProvider
from helpers.kill_and_resume import IN_FLIGHT, Run, accounts, verdict
from helpers.some_records import some_call, some_result
from rlm_eval.journal.journal import Journal, read_events, record_size

pytestmark = pytest.mark.slow

ADVICE = "All that was recorded is kept: free what it lacks, then run the same command again"


@pytest.fixture
def provider() -> Iterator[BillingProvider]:
    with BillingProvider(latency_s=0.01) as provider:
        yield provider


def check_stopped(run: Run, reason: str) -> None:
    """It said so in one line, and the journal lacks no more than was in flight."""
    told = [line for line in run.log.read_text().splitlines() if line.startswith("rlm_eval:")]
    assert len(told) == 1, run.tail
    assert f"rlm_eval: stopped: {reason}" in told[0]
    assert told[0].endswith(ADVICE)
    assert "Traceback" not in run.log.read_text()
    found = accounts(run.provider, run.folder)
    found.check()
    assert len(found.lost) <= IN_FLIGHT


def check_finished(run: Run, before: list[str]) -> None:
    """The results that were there are there still, and none was made again."""
    run.finish()
    said = verdict(run)
    assert (said.results, said.doubled) == (said.expected, 0)
    assert run.results()[: len(before)] == before
    accounts(run.provider, run.folder).check()


@pytest.mark.parametrize("limit", [9_000, 20_000, 33_333])
def test_a_journal_that_can_grow_no_more(
    tmp_path: Path, provider: BillingProvider, limit: int
) -> None:
    """RLIMIT_FSIZE cuts a line wherever it stands."""
    run = Run(tmp_path, provider, n=6)
    assert run.attempt(file_limit=limit).wait() == 1
    check_stopped(run, f"File too large ({run.run_dir / 'journal.jsonl'}).")
    assert (run.run_dir / "journal.jsonl").stat().st_size == limit
    check_finished(run, run.results())


def test_behind_half_a_line_nothing_is_written(tmp_path: Path) -> None:
    """Even where there is room again: what came next would be lost with it."""
    with Journal(tmp_path) as journal:
        journal.call(some_call("a"), "x")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (record_size(tmp_path) + 100, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                journal.call(some_call("b"), "y")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        with pytest.raises(OSError, match="File too large"):
            journal.result(some_result())
    with Journal(tmp_path) as journal:
        journal.result(some_result())
    kept = [event["type"] for event in read_events(tmp_path)]
    assert kept == ["session", "call", "session", "result"]


def test_tables_that_find_no_room(tmp_path: Path, provider: BillingProvider) -> None:
    run = Run(tmp_path, provider, n=3)
    run.finish()
    for table in run.run_dir.glob("*.parquet"):
        table.unlink()
    run.log.unlink()
    asked = provider.requests
    assert run.attempt(file_limit=2_000).wait() == 1
    check_stopped(run, "")
    assert not list(run.run_dir.glob(".*.tmp")), "what could not be written takes no room"
    check_finished(run, run.results())
    assert provider.requests == asked


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")


def test_a_file_system_without_room(tmp_path: Path, provider: BillingProvider) -> None:
    """No file can grow, be it journal, trajectory or table, until there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    try:
        run = Run(disk / "runs", provider, n=6)
        run.folder.mkdir()
        assert run.attempt().wait() == 1
        check_stopped(run, f"No space left on device ({run.folder}")
        before = run.results()
        mount("-o", "remount,size=64m", str(disk))
        check_finished(run, before)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
