"""The summary of a run, computed from its two tables and written beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from rlm_eval.analysis import figures
from rlm_eval.analysis.aggregate import BEST_CONSTANT, summarize
from rlm_eval.analysis.load import Run, combine, load_run
from rlm_eval.analysis.terminal import print_summary
from rlm_eval.analysis.verdicts import Verdict, verdicts

__all__ = ["BEST_CONSTANT", "Summary", "print_summary", "summarize", "write_summary"]

FIGURES = (figures.score_vs_length, figures.score_vs_cost, figures.score_and_cost)


@dataclass(frozen=True)
class Summary:
    """``table`` as :func:`summarize` gives it; ``files`` are what was written."""

    table: pd.DataFrame
    verdicts: list[Verdict]
    demonstration: bool
    files: list[Path]


def write_summary(run_dir: Path, *, demonstration: bool) -> Summary:
    """Read a run's tables; write ``summary.csv``, ``verdicts.csv`` and ``figures/`` into it."""
    run = load_run(run_dir)
    return summarize_run(run, demonstration=demonstration or run.demonstration)


def summarize_run(run: Run, *, demonstration: bool) -> Summary:
    """As :func:`write_summary`, for a run already read."""
    results = combine([run])
    if results.empty:
        return Summary(pd.DataFrame(), [], demonstration, [])
    table, found = summarize(results), verdicts(results)
    files = [run.path / "summary.csv", run.path / "verdicts.csv"]
    names = [field.name for field in fields(Verdict)]
    table.to_csv(files[0], index=False)
    pd.DataFrame([asdict(v) for v in found], columns=names).to_csv(files[1], index=False)
    for draw in FIGURES:
        files += figures.save(draw(results, table), run.path / "figures" / draw.__name__)
    return Summary(table, found, demonstration, files)
