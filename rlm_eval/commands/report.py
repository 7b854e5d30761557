"""``rlm-eval report RUN…``: a static HTML report over one or several runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import damage


def main(arguments: Sequence[str]) -> int:
    """Write the report and print its path."""
    parser = argparse.ArgumentParser(
        prog="rlm-eval report", description="Write report.html over one or several runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory, or a glob of them")
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: the run's own; needed for several)"
    )
    parser.add_argument(
        "--one-file", action="store_true", help="the page alone, with all of its data in it"
    )
    parser.add_argument(
        "--log-to", choices=("mlflow", "wandb"), help="log each run's summary there as well"
    )
    options = parser.parse_args(arguments)
    # Here, so that --help stays quick.
    from rlm_eval.analysis.load import find_runs, load_run
    from rlm_eval.analysis.report.page import write_report
    from rlm_eval.analysis.report.tracking import client, log

    found = find_runs(*options.runs)
    if len(found) > 1 and options.out is None:
        raise ConfigError(f"{len(found)} runs need a folder for their report: add --out FOLDER")
    if options.log_to:
        client(options.log_to)  # before the work, not after it
    runs = [load_run(path) for path in found]
    for said in filter(None, map(damage, found)):
        print(said, file=sys.stderr)
    print(write_report(runs, options.out, one_file=options.one_file))
    if options.log_to:
        for run in runs:
            log(run, options.log_to)
    return 0
