"""``rlm-eval replay RUN``: a run again from its journal, without model, network or key.

Its tables are derived anew and compared with those that lie beside it. ``--rescore`` judges the
recorded answers by the task's present scorer; other code than rlm_eval's, and files that the task
reads, are allowed by allow_targets=[MODULE,...]. The record itself is never changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_eval.config.compose import permissions
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import damage, has_journal, read_events
from rlm_eval.journal.tables import write_tables

if TYPE_CHECKING:
    import pandas as pd

#: What a run derives from its journal.
DERIVED = (
    *("results.parquet", "calls.parquet", "results.csv", "calls.csv"),
    *("summary.csv", "verdicts.csv"),
)


def rebuild(run_dir: Path, out: Path) -> None:
    """Derive :data:`DERIVED` and the figures from the journal in ``run_dir`` and write them into
    ``out``, beside the run's configuration and environment."""
    from rlm_eval.analysis.summary import write_summary

    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "environment.json"):
        if (run_dir / name).is_file() and out.resolve() != run_dir.resolve():
            shutil.copyfile(run_dir / name, out / name)
    write_tables(read_events(run_dir, ("result", "call")), out)
    write_summary(out)


def differences(stored: Path, rebuilt: Path) -> list[str]:
    """How a stored table differs from the rebuilt one, as lines; compared as CSV, byte by byte."""
    before, after = _frame(stored), _frame(rebuilt)
    if len(before) != len(after):
        return [f"{stored.name} has {len(before)} rows, the journal gives {len(after)}"]
    if other := list(before.columns.symmetric_difference(after.columns)):
        return [f"{stored.name} has other columns than the journal gives: {', '.join(other)}"]
    lines = []
    for column in before.columns:
        if before[[column]].to_csv(index=False) != after[[column]].to_csv(index=False):
            rows = (before[column].astype(str) != after[column].astype(str)).sum()
            lines.append(f"{stored.name} differs from the journal in {column}, in {rows} rows")
    return lines


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
    lines += [found] if (found := damage(run_dir)) else []
    same = ", ".join(compared) + " are" if compared else "nothing lies beside it to compare;"
    for line in lines or [f"{same} what the journal says"]:
        print(f"{run_dir}: {line}")
    return not lines


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1 where something is not as it was recorded."""
    parser = Arguments("replay", (__doc__ or "").strip())
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, help="folder to write to (for one RUN)")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="judge the recorded answers by the task's present scorer: results_rescored.parquet "
        "and .csv, and the rows that changed",
    )
    rest, allowed = permissions(arguments)
    options = parser.parse_args(rest)
    if options.out is not None and len(options.runs) > 1:
        raise ConfigError("--out takes what one RUN gives: name a single one")
    for run_dir in options.runs:
        if not has_journal(run_dir):
            raise ConfigError(f"{run_dir} holds no journal: give the folder of a run")
    same = True
    for run_dir in options.runs:
        if options.rescore:
            from rlm_eval.commands.rescore import rescore

            rescore(run_dir, options.out or run_dir, allowed)
            continue
        same &= check(run_dir)
        if options.out:
            rebuild(run_dir, options.out)
            print(options.out)
    return 0 if same else 1
