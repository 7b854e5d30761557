"""Whatever reads what is printed: other encodings, narrow or dumb terminals, a pipe that closes."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import rlm_eval
from helpers.recorded_runs import record_run

pytestmark = pytest.mark.slow

SMALL = ["model=scripted", "task=needle", "task.lengths=[500]", "task.n=1", "method=[direct,rlm]"]


def command(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    kept = {k: v for k, v in os.environ.items() if k not in ("TERM", "COLUMNS", "NO_COLOR")}
    return subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, **environment},
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "40"},
        {"PYTHONIOENCODING": "ascii", "COLUMNS": "80", "TERM": "dumb"},
        {"PYTHONIOENCODING": "latin-1:strict", "NO_COLOR": "1", "TERM": "xterm"},
    ],
    ids=["C", "ascii", "latin-1"],
)
def test_every_encoding_and_width_will_do(environment: dict[str, str], tmp_path: Path) -> None:
    done = command(*SMALL, f"results_dir={tmp_path}", **environment)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert b"Traceback" not in err
    (run_dir,) = tmp_path.iterdir()
    assert b"needle-" in out.splitlines()[-1]
    for words in (["report"], ["compare", str(run_dir)]):
        other = command(*words, str(run_dir), **environment)
        _, err = other.communicate(timeout=120)
        assert other.returncode == 0, err
    help_page = command("--help", **environment)
    assert help_page.communicate(timeout=60)[0].isascii() or "latin-1" in str(environment)
    assert help_page.returncode == 0


def test_a_pipe_that_closes_stops_no_run(tmp_path: Path) -> None:
    """As with `| head -1`, and with the progress it prints read by nobody either."""
    done = command(*SMALL, f"results_dir={tmp_path}")
    assert done.stdout is not None
    assert done.stderr is not None
    done.stdout.close()
    done.stderr.close()
    assert done.wait(timeout=120) == 0
    (run_dir,) = tmp_path.iterdir()
    assert (run_dir / "results.parquet").is_file()
    for words in (["report", str(run_dir)], ["compare", str(run_dir), str(run_dir)], ["--help"]):
        other = command(*words)
        assert other.stdout is not None
        other.stdout.close()
        _, err = other.communicate(timeout=120)
        assert (other.returncode, b"roken" in err) == (0, False), err


def test_a_terminal_that_goes_away_stops_no_run(tmp_path: Path) -> None:
    """As when the window is closed on a job in the background."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", *SMALL, f"results_dir={tmp_path}"],
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.close(ours)
    assert done.wait(timeout=120) == 0
    (run_dir,) = tmp_path.iterdir()
    assert (run_dir / "results.parquet").is_file()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "40"}])
def test_a_real_terminal_of_any_kind_shows_progress(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("TERM", "COLUMNS", "NO_COLOR")}
    done = subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", *SMALL, f"results_dir={tmp_path}"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**kept, **environment},
    )
    os.close(theirs)
    shown = b""
    while chunk := read(ours):
        shown += chunk
    assert done.wait(timeout=120) == 0
    assert b"Traceback" not in shown
    assert (b"\x1b[" in shown) == (environment["TERM"] != "dumb")
    assert b"2/2" in shown


def test_leaving_at_once_gives_the_terminal_its_cursor_back(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [*SMALL[:-1], "method=[direct]", "model.latency_s=60", f"results_dir={tmp_path}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "rlm_eval", *words],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown, hidden, back = b"", b"\x1b[?25l", b"\x1b[?25h"
    for sign in (hidden, b"Ctrl-C again"):
        while sign not in shown and (chunk := read(ours)):
            shown += chunk
        child.send_signal(signal.SIGINT)
    while chunk := read(ours):
        shown += chunk
    assert child.wait(timeout=120) == 130
    assert hidden not in shown.rpartition(back)[2]


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other side is gone
        return b""


@pytest.mark.parametrize("swept", [(), ("-m", "seed=1,2")])
@pytest.mark.parametrize(
    "place", ["file", "file/below", "file/below/more", "/proc/none", "x" * 300]
)
def test_a_results_folder_that_can_not_be_is_one_line(
    place: str, swept: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = rlm_eval(*SMALL, *swept, f"results_dir={tmp_path / place}")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("forecast")]
    assert len(told) == 1, done.stderr


def test_an_output_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    run_dir = record_run(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    for arguments in (
        ["report", str(run_dir), "--out", f"{tmp_path}/file"],
        ["replay", str(run_dir), "--out", f"{tmp_path}/file/x"],
        ["replay", "--rescore", str(run_dir), "--out", f"{tmp_path}/file/x"],
        ["merge", str(run_dir), str(run_dir), "--out", f"{tmp_path}/file/x"],
        ["compare", str(run_dir), str(run_dir), "--csv", f"{tmp_path}/none/x.csv"],
        ["export", f"{tmp_path}/file/x.jsonl", "task=needle", "task.n=1"],
    ):
        done = rlm_eval(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_full_disk_is_no_bad_input(tmp_path: Path) -> None:
    arguments = ["export", f"{tmp_path}/x.jsonl", "task=needle", "task.n=1"]
    assert rlm_eval(*arguments).returncode == 0, "with all that it imports"
    (tmp_path / "x.jsonl").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        done = rlm_eval(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.returncode, done.stderr) == (1, "rlm_eval export: File too large\n")
    assert not list(tmp_path.iterdir())
