"""``rlm-eval report RUN…``: a static HTML report over one or several runs.

The contexts in it are made anew by the runs' tasks. Where a task reads a file or the hub, or is
other code than rlm_eval's, that takes allow_targets=[MODULE,...].
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rlm_eval.config.check import build, check_task
from rlm_eval.config.compose import permissions, recorded_tree, refuse_reaching
from rlm_eval.config.credentials import from_environment
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import behind, damage


def contexts(allowed: Sequence[str], run_dir: Path, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """The ids and texts of the ``wanted`` contexts of a run, as its task makes them. Raises
    ConfigError where they are sealed, where what the task takes is not ``allowed``, and where it
    can't be had."""
    node = recorded_tree(run_dir).get("task")
    refuse_reaching({"task": node}, run_dir, "report", allowed)
    node = check_task(from_environment(node, "task"), allowed)
    if node.get("hub") and node.get("path") is None:
        asked = {**node, "hub": f"https://huggingface.co/datasets/{node['hub']}"}
        refuse_reaching({"task": asked}, run_dir, "report", allowed)
    task = build("task", node)
    if task.seal is not None:
        raise ConfigError("it is sealed: it must not be in the clear on a page")
    for context, _ in task.build():
        if context.id in wanted:
            wanted.remove(context.id)
            yield context.id, context.text
        if not wanted:
            return


def main(arguments: Sequence[str]) -> int:
    """Write the report and print its path."""
    parser = Arguments("report", "Write report.html over one or several runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory, or a glob of them")
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: the run's own; needed for several)"
    )
    parser.add_argument(
        "--one-file", action="store_true", help="the page alone, with all of its data in it"
    )
    rest, allowed = permissions(arguments)
    options = parser.parse_args(rest)
    # Here, so that --help stays quick.
    from rlm_eval.analysis.load import find_runs, load_run
    from rlm_eval.analysis.report.page import write_report

    found = find_runs(*options.runs)
    if len(found) > 1 and options.out is None:
        raise ConfigError(f"{len(found)} runs need a folder for their report: add --out FOLDER")
    runs = [load_run(path) for path in found]
    for path, run in zip(found, runs, strict=True):
        for said in filter(None, (damage(path), behind(path, len(run.results)))):
            print(said, file=sys.stderr)
    given = partial(contexts, allowed)
    print(write_report(runs, given, options.out, one_file=options.one_file))
    return 0
