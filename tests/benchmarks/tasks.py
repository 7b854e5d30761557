"""What tasks cost to build, and how far one gets on them without a model or without the input.

    python tests/benchmarks/tasks.py speed [--lengths 1000 …] [--musique FILE]
    python tests/benchmarks/tasks.py controls [--n 100] [--musique FILE] [--trec FILE]
        [--no-context RUN …]

``speed`` builds the first sample of each task and length in a process of its own: seconds of CPU
and wall, and the process's peak memory. Exits with 1 where 1M tokens take more than 1 s of CPU, or
10M more than 10 s. ``controls`` is :mod:`task_controls`. Both print Markdown and write it to
``--out`` too; the published tables are in results/published/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from task_rows import generated, row, table

from rlm_eval.commands.export import make_task
from rlm_eval.errors import ConfigError

LENGTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
#: Tokens → the most seconds of CPU that building them may take.
TARGETS = {1_000_000: 1.0, 10_000_000: 10.0}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def build_one(overrides: Sequence[str]) -> dict[str, float | str]:
    """In the child: make a task, build its first sample, and say what the second part took."""
    try:
        _, task = make_task(overrides)
    except ConfigError as error:
        return {"refused": str(error)}
    before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
    _, sample = next(task.build())
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "before_s": cpu,
        "tokens": sample.length_tokens,
    }


def measured(overrides: Sequence[str], length: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "one", *overrides, "task.n=1", f"task.lengths=[{length}]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(" ".join(overrides), length, done.stdout.strip(), file=sys.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def speed(lengths: Sequence[int], musique: Path | None) -> tuple[list[str], bool]:
    """The report's lines, and whether all targets are met."""
    tasks = generated()
    if musique is not None:
        tasks["musique"] = ["task=musique", f"task.path={musique}"]
    load, given = os.getloadavg()[0], f" --musique {musique.name}" if musique else ""
    found = {
        name: {length: measured(overrides, length) for length in lengths}
        for name, overrides in tasks.items()
    }
    built = [one for by_length in found.values() for one in by_length.values() if "cpu_s" in one]
    lines = [
        "# What tasks cost to build",
        "",
        f"`python tests/benchmarks/tasks.py speed{given}`: the first sample of a length in tokens,"
        f" each in a process of its own; {os.cpu_count()} cores, load {load:.1f} before and"
        f" {os.getloadavg()[0]:.1f} after. A dash: the task has no sample of that length. Not"
        f" counted: Python's start, imports, the tokenizer and the task's own preparation, together"
        f" {fmean(one['before_s'] for one in built):.1f} s of CPU and"
        f" {fmean(one['before_mb'] for one in built):.0f} MB on average (the memory is part of the"
        " peaks below).",
    ]
    for title, cell in (
        ("Seconds of CPU (wall)", lambda one: f"{one['cpu_s']:.2f} ({one['wall_s']:.2f})"),
        ("Peak memory of the process, MB", lambda one: f"{one['peak_mb']:.0f}"),
    ):
        heads = ["task", *(f"{length:,}" for length in lengths)]
        lines += ["", f"## {title}", "", *table(heads)]
        for name, by_length in found.items():
            lines.append(
                row([name, *("–" if "refused" in x else cell(x) for x in by_length.values())])
            )
    missed = [
        f"{name} at {length:,}"
        for name, by_length in found.items()
        for length, most in TARGETS.items()
        if by_length.get(length, {}).get("cpu_s", 0.0) > most
    ]
    limits = " and ".join(f"{length:,} tokens in {most:g} s" for length, most in TARGETS.items())
    verdict = f"broken by {', '.join(missed)}" if missed else "hold"
    return [*lines, "", f"The limits ({limits} of CPU) {verdict}."], not missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one", help="build one sample in this process (speed does)")
    one.add_argument("overrides", nargs="+")
    fast = commands.add_parser("speed")
    fast.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    asked = commands.add_parser("controls")
    asked.add_argument("--n", type=int, default=100, help="questions of each task")
    asked.add_argument("--trec", type=Path, help="TREC's train.txt")
    asked.add_argument("--no-context", type=Path, nargs="+", default=[], metavar="RUN")
    for command in (fast, asked):
        command.add_argument("--musique", type=Path, help="MuSiQue rows")
        command.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.command == "one":
        print(json.dumps(build_one(options.overrides)))
        return 0
    if options.command == "speed":
        lines, held = speed(options.lengths, options.musique)
    else:
        from task_controls import controls

        lines, held = controls(options.n, options.musique, options.trec, options.no_context)
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
