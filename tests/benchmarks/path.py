"""How many of our modules and calls one sample takes: the way through the code, counted.

    python tests/benchmarks/path.py > results/published/benchmarks/path.md

A ``direct`` sample, and an RLM sample with a turn that makes one sub-call and a turn that ends,
both by the scripted model, in a run that is under way: one sample before them has loaded and
started what is shared. Counted is what happens in this process from the runner's handing out the
sample to its line in the journal; each step of a generator is a call too. With ``--modules`` each
module's calls are listed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import rlm_eval
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.journal.journal import Journal
from rlm_eval.ledger import Ledger
from rlm_eval.runs.assemble import all_work, assemble
from rlm_eval.runs.run import served
from rlm_eval.runs.runner import Runner

PACKAGE = Path(rlm_eval.__file__).parent
HOMES = (PACKAGE, PACKAGE.parent / "tasks")
#: Of each arm: the most modules, and the most calls of own code.
BOUNDS = {"direct": (12, None), "rlm": (25, 700)}


class Watcher:
    """No progress display: it belongs to a run, not to a sample."""

    watch = None

    def started(self, *_: Any) -> None: ...
    def finished(self, *_: Any) -> None: ...


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Calls of own functions by module while the block runs, in all threads."""
    calls: Counter[str] = Counter()
    names: dict[str, str | None] = {}

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        file = frame.f_code.co_filename
        if file not in names:
            names[file] = next(
                (str(Path(file).relative_to(h.parent)) for h in HOMES if file.startswith(f"{h}/")),
                None,
            )
        if (name := names[file]) is not None:
            calls[name] += 1

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def path_of(arm: str, folder: Path) -> Counter[str]:
    """The calls by module of one sample of ``arm``."""
    overrides = ["model=scripted", "task=needle", f"method=[{arm}]", "task.lengths=[2000]"]
    overrides += ["task.n=2", f"results_dir={folder}", "concurrency=1"]
    parts = assemble(check_config(compose_tree(overrides)))
    first, second = all_work(parts, list(parts.task.build()))
    run_dir = folder / arm
    name = parts.root.info.name
    with Journal(run_dir) as journal, served(parts, journal, journal.call) as client:
        about = {"run_id": "path", "model": name, "sub_model": name, "scripted": True}
        given = parts.task, client, Ledger(), parts.sample_budget, journal, Watcher()
        runner = Runner(about, *given)
        runner.run([first], 1)
        with counted() as calls:
            runner.run([second], 1)
    for made in parts.arms:
        made.method.close()
    return calls


def table(paths: Mapping[str, Counter[str]], *, listed: bool = False) -> str:
    """The calls by module of each arm, as Markdown."""
    lines = [
        "# The way of one sample",
        "",
        "`python tests/benchmarks/path.py`: our modules and calls from handing out a sample to",
        "its line in the journal, in this process; the scripted model, Python "
        f"{sys.version_info.major}.{sys.version_info.minor}.",
        "",
        "| sample | modules | at most | calls | at most |",
        "|---|---|---|---|---|",
    ]
    for arm, calls in paths.items():
        modules, most = BOUNDS[arm]
        lines.append(f"| `{arm}` | {len(calls)} | {modules} | {calls.total()} | {most or ''} |")
    for arm, calls in paths.items():
        lines += ["", f"`{arm}`: " + ", ".join(sorted(calls)) + "."]
        if listed:
            lines += [f"  {count:5} {name}" for name, count in calls.most_common()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", action="store_true", help="the calls of each module")
    listed = parser.parse_args().modules
    with tempfile.TemporaryDirectory() as folder:
        paths = {arm: path_of(arm, Path(folder)) for arm in BOUNDS}
    print(table(paths, listed=listed), end="")


if __name__ == "__main__":
    main()
