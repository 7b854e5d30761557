"""Two processes, one run: one writes, the other is told who does, and nothing is asked twice."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.attempts import Stop, descendants, still_there
from helpers.billing_provider import BillingProvider
from helpers.kill_and_resume import Run, accounts, verdict

pytestmark = pytest.mark.slow


@pytest.fixture
def provider() -> Iterator[BillingProvider]:
    with BillingProvider(latency_s=0.01) as provider:
        yield provider


def open_files(pid: int) -> list[str]:
    """None of a process that has ended: workers come and go."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(os.readlink(descriptor))
    return found


def check_finished(run: Run) -> None:
    said = verdict(run)
    assert (said.results, said.doubled) == (said.expected, 0)
    found = accounts(run.provider, run.folder)
    found.check()
    assert not found.lost


def test_a_second_process_is_refused_and_disturbs_nothing(
    tmp_path: Path, provider: BillingProvider
) -> None:
    run = Run(tmp_path, provider, n=3)
    first = run.stop_at(Stop("after a result's line"))
    provider.wait_idle()
    asked, journal = provider.requests, (run.run_dir / "journal.jsonl").read_bytes()
    host = socket.gethostname()
    refusal = f"another process (pid {first.pid} on {host}) is working on {run.run_dir}: wait"
    for what in ("run", "resume"):
        before = len(run.log.read_text())
        assert run.attempt(what=what).wait() == 2
        assert refusal in run.log.read_text()[before:]
    assert provider.requests == asked
    assert (run.run_dir / "journal.jsonl").read_bytes() == journal
    first.go_on()
    assert first.wait() == 0
    check_finished(run)


def test_the_lock_of_a_dead_process_is_no_obstacle(
    tmp_path: Path, provider: BillingProvider
) -> None:
    """Nor do its sandbox's processes hold it while they still live."""
    run = Run(tmp_path, provider, n=3)
    first = run.stop_at(Stop("after a result's line"))
    lock = run.run_dir / "lock"
    below = descendants(first.pid)
    assert below, "the sandbox is there"
    opened = [open_files(pid) for pid, _ in below]
    assert any(opened)
    assert all(str(lock) not in files for files in opened)
    below = first.kill()
    assert lock.read_text() == f"{socket.gethostname()} {first.pid}"
    run.finish()
    assert still_there(below) == 0


def test_what_another_process_finished_meanwhile_is_not_asked_again(
    tmp_path: Path, provider: BillingProvider
) -> None:
    """It had read the run's past, and was about to open the journal, when the other one began."""
    run = Run(tmp_path, provider, n=3)
    late = run.stop_at(Stop("before the journal is opened"))
    run.finish()
    asked = provider.requests
    late.go_on()
    assert late.wait() == 0
    assert provider.requests == asked
    check_finished(run)
