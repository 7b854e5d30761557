"""``rlm-eval claims [RUN…]``: what others have published, beside what these runs measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlm_eval.config.spelling import Arguments


def main(arguments: Sequence[str]) -> int:
    """Print the claims on which the runs say something, and what it takes to measure the rest."""
    parser = Arguments("claims", "What others have published, beside what these runs measured.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run directory, or a glob of them")
    parser.add_argument("--csv", type=Path, help="write the complete table to this file as well")
    options = parser.parse_args(arguments)
    # Here, so that --help stays quick.
    import pandas as pd

    from rlm_eval.analysis.arms import by_method
    from rlm_eval.analysis.load import combine, find_runs, load_run
    from rlm_eval.analysis.report.claims import claims_table, known_claims
    from rlm_eval.analysis.summary import DEMONSTRATION
    from rlm_eval.analysis.text import dollars, plural, points, shown
    from rlm_eval.journal.tables import write_csv
    from rlm_eval.records import plain

    runs = [load_run(path) for path in find_runs(*options.runs)]
    if any(run.demonstration for run in runs):
        print(DEMONSTRATION)
    results = by_method(combine(runs)) if runs else pd.DataFrame()
    table = claims_table(results, known_claims())
    if options.csv:
        write_csv(table, options.csv)
    measured = table[table["state"] != "not measured"]
    claim = ["source", "says", "published"]
    for (source, says, published), rows in measured.groupby(claim, sort=False):
        print(f"{source}: {says}" + (f": {published}" if published else ""))
        for row in rows.to_dict("records"):
            pair = f"{row['arm']} − {row['against']}"
            limits = shown((row["low"], row["high"]), "range")
            size = f"{points(row['difference'])} ({limits}; {plural(row['contexts'], 'context')})"
            length = f"{n:,} tokens" if (n := row["target_tokens"]) else "all lengths"
            where = f"{row['task']}, {length}, {row['model']}"
            print(plain(f"  {row['state']}: {size}: {pair} on {where}"))
    if (measured["setting"] == "another").any():
        print("In another setting than the claim's, the direction alone is held against it.")
    left = table[table["state"] == "not measured"]
    for (source, command), rows in left.groupby(["source", "command"], sort=False):
        costs = rows["usd"].dropna()
        spent = f"; up to {dollars(costs.max())} each by its own costs" if len(costs) else ""
        print(f"not measured: {plural(len(rows), 'claim')} of {source}{spent}: {command}")
    return 0
