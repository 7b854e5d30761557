"""Speed of a run's files: `python tests/benchmarks/journal.py` prints a Markdown table.

A journal of 100,000 calls with replies of 30 words and 1,000 results, on the disk that ``--folder``
lies on. ``--calls`` makes the journal smaller.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.some_records import some_call, some_result
from rlm_eval.journal.journal import FILE_NAME, Journal, read_events
from rlm_eval.journal.past import past_of
from rlm_eval.journal.redaction import Redactor
from rlm_eval.journal.tables import write_tables
from rlm_eval.records import Call

WORDS = ("the", "model", "says", "that", "this", "line", "of", "text", "tells", "a", "ship", "not")
#: Design targets (shared/docs/DESIGN.md).
TARGETS: Mapping[str, str] = {"append a call": "< 0.2 ms", "resume": "< 5 s"}


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def calls_of(count: int) -> list[tuple[Call, str]]:
    """Calls with replies of random words, a hundred to a result."""
    random = Random(0)
    return [
        (
            some_call(random.randbytes(12).hex(), prompt_sha256=random.randbytes(32).hex()),
            " ".join(random.choices(WORDS, k=30)),
        )
        for _ in range(count)
    ]


def append(run_dir: Path, calls: int, keys: int) -> tuple[float, float]:
    """Milliseconds per call and per result, with ``keys`` secrets to be cut out."""
    redact = Redactor({f"sk-secret-number-{n:04}" for n in range(keys)})
    asked = [
        (replace(call, result_key=f"r{n // 100}"), text)
        for n, (call, text) in enumerate(calls_of(calls))
    ]
    results = [some_result(f"r{n}") for n in range(max(1, calls // 100))]
    with Journal(run_dir, redact) as journal:
        took = seconds(lambda: [journal.call(call, text) for call, text in asked])
        ended = seconds(lambda: [journal.result(result) for result in results])
    return took / len(asked) * 1e3, ended / len(results) * 1e3


def measured(folder: Path, calls: int) -> list[tuple[str, str]]:
    """(what, how long) for one journal of ``calls`` calls."""
    run_dir = folder / "run"
    call_ms, result_ms = append(run_dir, calls, 0)
    with_keys_ms, _ = append(folder / "keys", calls // 10, 10)
    size = (run_dir / FILE_NAME).stat().st_size
    tables = seconds(lambda: write_tables(read_events(run_dir, ("result", "call")), run_dir))
    rows = [
        ("append a call", f"{call_ms:.3f} ms"),
        ("append a call, 10 known keys", f"{with_keys_ms:.3f} ms"),
        ("append a result, on the disk", f"{result_ms:.3f} ms"),
        ("resume", f"{seconds(lambda: past_of(run_dir)):.2f} s"),
        ("tables written", f"{tables:.2f} s"),
    ]
    return [*rows, ("size", f"{size / 1e6:.1f} MB")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measured(Path(folder), options.calls)
    print(f"{options.calls:,} calls\n\n| what | measured | target |\n|---|---|---|")
    for what, took in rows:
        print(f"| {what} | {took} | {TARGETS.get(what, '')} |")


if __name__ == "__main__":
    main()
