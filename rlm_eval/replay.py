"""``python -m rlm_eval.replay RUN``: a run again from its journal, without model, network or key.

Without more, the tables are derived anew from the journal and compared with those that lie beside
it. ``--rescore`` judges the recorded answers by the task's present scorer.
The record itself is never changed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_eval.errors import ConfigError
from rlm_eval.journal import has_journal
from rlm_eval.tables import tables, write_table

if TYPE_CHECKING:
    import pandas as pd

SAME, DIFFERENT, BAD_INPUT = 0, 1, 2
#: What a run derives from its journal.
DERIVED = ("results.parquet", "calls.parquet", "results.csv", "calls.csv", "summary.csv")
_COMPANIONS = ("config.yaml", "environment.json")


def rebuild(run_dir: Path, out: Path) -> None:
    """Derive :data:`DERIVED` from the journal in ``run_dir`` and write them into ``out``, beside
    copies of the run's configuration and environment. Raises ConfigError without a journal."""
    from rlm_eval.analysis.aggregate import summarize
    from rlm_eval.analysis.load import combine, load_run

    check_recorded(run_dir)
    out.mkdir(parents=True, exist_ok=True)
    for name in _COMPANIONS:
        if (run_dir / name).is_file() and out.resolve() != run_dir.resolve():
            shutil.copyfile(run_dir / name, out / name)
    for name, frame in zip(("results", "calls"), tables(run_dir), strict=True):
        write_table(frame, out / name)
    results = combine([load_run(out)])
    if not results.empty:
        summarize(results).to_csv(out / "summary.csv", index=False)


def check_recorded(run_dir: Path) -> None:
    """Raise ConfigError where there is nothing to replay."""
    if not has_journal(run_dir):
        raise ConfigError(f"{run_dir} holds no journal: give the folder of a run")


def differences(stored: Path, rebuilt: Path) -> list[str]:
    """How a stored table differs from the rebuilt one, as lines; compared as CSV, byte by byte, in
    the columns that the stored one has. Columns it lacks are younger than the run."""
    before, after = _frame(stored), _frame(rebuilt)
    if len(before) != len(after):
        return [f"{stored.name} has {len(before)} rows, the journal gives {len(after)}"]
    gone = [c for c in before.columns if c not in after.columns]
    changed = [c for c in before.columns if c not in gone and _csv(before, c) != _csv(after, c)]
    lines = [f"{stored.name} has the column {c}, which is derived no more" for c in gone]
    for column in changed:
        rows = (before[column].astype(str) != after[column].astype(str)).sum()
        lines.append(f"{stored.name} differs from the journal in {column}, in {rows} rows")
    return lines


def _csv(frame: pd.DataFrame, column: str) -> str:
    return str(frame[[column]].to_csv(index=False))


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def check(run_dir: Path) -> bool:
    """Rebuild the run's tables and say whether the stored ones are the same; prints what is not."""
    with tempfile.TemporaryDirectory() as folder:
        rebuild(run_dir, Path(folder))
        compared = [n for n in DERIVED if (run_dir / n).is_file() and (Path(folder) / n).is_file()]
        lines = [line for n in compared for line in differences(run_dir / n, Path(folder) / n)]
    for line in lines:
        print(f"{run_dir}: {line}")
    if not lines:
        what = ", ".join(compared) + " are" if compared else "nothing lies beside it to compare;"
        print(f"{run_dir}: {what} what the journal says")
    return not lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 where something is not as it was recorded; 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m rlm_eval.replay",
        description="A run again from its journal, without model, network or key: its tables "
        "rebuilt, and compared with those that lie beside it.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, help="folder to write to (for one RUN)")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="judge the recorded answers by the task's present scorer: results_rescored.parquet "
        "and .csv, and the rows that changed",
    )
    parser.add_argument(
        "--allow-targets",
        nargs="*",
        default=[],
        metavar="PACKAGE",
        help="modules outside rlm_eval that the run's configuration may name",
    )
    options = parser.parse_args(arguments)
    try:
        if options.out is not None and len(options.runs) > 1:
            raise ConfigError("--out takes what one RUN gives: name a single one")
        return max(_replayed(run_dir, options) for run_dir in options.runs)
    except ConfigError as error:
        print(f"rlm_eval.replay: {error}", file=sys.stderr)
        return BAD_INPUT


def _replayed(run_dir: Path, options: argparse.Namespace) -> int:
    out: Path | None = options.out
    check_recorded(run_dir)
    if options.rescore:
        from rlm_eval.rescore import print_changes, rescore

        print_changes(rescore(run_dir, out or run_dir, options.allow_targets))
        return SAME
    same = check(run_dir)
    if out is not None:
        _write(run_dir, out)
    return SAME if same else DIFFERENT


def _write(run_dir: Path, out: Path) -> None:
    """All that a finished run derives, figures included; the folder on the last line."""
    from rlm_eval.analysis.summary import write_summary

    rebuild(run_dir, out)
    write_summary(out, demonstration=False)
    print(out)


if __name__ == "__main__":
    sys.exit(main())
