"""Speed of the report: `python tests/benchmarks/report.py` prints a Markdown table.

Simulated runs (random numbers, no model was asked) of 100,000 calls with replies of 30 words in
their journals, once with four methods, once with sixteen. CPU seconds hardly depend on what else
the machine does, wall seconds do: the load stands beside them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.fake_results import METHODS, SKILLS, write_run
from rlm_eval.analysis.load import load_run
from rlm_eval.analysis.report.page import write_report
from rlm_eval.journal.journal import Journal
from rlm_eval.records import Call

WORDS = ("the", "model", "says", "that", "this", "line", "of", "text", "tells", "a", "ship", "not")
#: Design target (shared/docs/DESIGN.md).
TARGET = "< 30 s"
QUESTIONS, LENGTHS = 5, (2048, 8192)


def simulated(folder: Path, calls: int, arms: int) -> int:
    """A run of about so many calls and a trajectory for each answer; returns how many."""
    import pandas as pd

    methods = [f"{METHODS[i % 4]}{i // 4 or ''}" for i in range(arms)]
    subcalls = {method: 80 for method in methods if method.startswith("rlm")}
    each = sum(1 + subcalls.get(method, 0) for method in methods)
    contexts = max(4, round(calls / (each * QUESTIONS * len(LENGTHS))))
    skills = {method: SKILLS[METHODS[i % 4]] for i, method in enumerate(methods)}
    config = {"method": {method: {} for method in methods}}
    shape = {"contexts": contexts, "questions": QUESTIONS, "lengths": LENGTHS}
    write_run(folder, config, methods=tuple(methods), skills=skills, subcalls=subcalls, **shape)
    random = Random(0)
    rows = pd.read_parquet(folder / "calls.parquet").to_dict("records")
    with Journal(folder) as journal:
        for row in rows:
            call = Call(**{str(k): None if v is pd.NA else v for k, v in row.items()})
            journal.call(call, " ".join(random.choices(WORDS, k=30)))
    return len(rows)


def measured(calls: int, arms: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        made = simulated(folder, calls, arms)
        cpu, wall = time.process_time(), time.perf_counter()
        write_report([load_run(folder)], lambda *_: iter(()))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = sum(f.stat().st_size for f in (folder / "report_data").rglob("*") if f.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"| {made:,} | {arms} | {cpu:.1f} | {wall:.1f} | {load} | {peak:.0f} | {size / 1e6:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--arms", type=int, nargs="+", default=[4, 16])
    options = parser.parse_args()
    command = shlex.join(["python", "tests/benchmarks/report.py", *sys.argv[1:]])
    print(f"`{command}`: simulated calls. Target: {TARGET} for 100,000.\n")
    print("| calls | arms | CPU s | wall s | load | peak MB | report MB |")
    print("|---|---|---|---|---|---|---|")
    for arms in options.arms:
        print(measured(options.calls, arms), flush=True)


if __name__ == "__main__":
    main()
