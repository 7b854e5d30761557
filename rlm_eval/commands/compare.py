"""``rlm-eval compare RUN_A RUN_B``: what differs between two runs, paired by sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError


def main(arguments: Sequence[str]) -> int:
    """Print the comparison. Raises ConfigError for runs with nothing to compare."""
    parser = Arguments("compare", "Compare two runs on the samples they share.")
    parser.add_argument("run_a", metavar="RUN_A", help="run directory to compare with")
    parser.add_argument("run_b", metavar="RUN_B", help="run directory whose gain is shown")
    parser.add_argument("--csv", help="write the paired table to this file as well")
    options = parser.parse_args(arguments)
    # Here, so that --help stays quick.
    from rlm_eval.analysis.compare import compare_runs, print_comparison
    from rlm_eval.analysis.load import find_runs, load_run
    from rlm_eval.analysis.summary import DEMONSTRATION
    from rlm_eval.config.check import changes_no_result
    from rlm_eval.journal.tables import write_csv

    paths = []
    for source in (options.run_a, options.run_b):
        found = find_runs(source)
        if len(found) > 1:
            raise ConfigError(f"{source} names {len(found)} runs; give one")
        paths.append(found[0])
    runs = [load_run(path) for path in paths]
    if any(run.demonstration for run in runs):
        print(DEMONSTRATION)
    comparison = compare_runs(runs[0], runs[1], changes_no_result)
    print_comparison(comparison, str(paths[0]), str(paths[1]), Console())
    if options.csv:
        write_csv(comparison.table, Path(options.csv))
    if comparison.table.empty:
        raise ConfigError("Nothing is compared: the runs have no arm, task and length in common")
    return 0
