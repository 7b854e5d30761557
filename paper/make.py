"""Figures and tables of published runs, for a paper: ``python paper/make.py [FOLDER…]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rlm_eval.analysis import figures, tables
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.load import combine, find_runs, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.views import printed, views

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "results" / "published"


def main(folders: Sequence[Path], out: Path = HERE) -> None:
    """Every figure (PDF, PNG and its data) and table (LaTeX, booktabs) that a report over each
    folder has. A folder is a run, or holds runs that are shown together."""
    (out / "tables").mkdir(parents=True, exist_ok=True)
    for folder in folders:
        alone = (folder / "results.parquet").is_file()
        runs = [load_run(path) for path in find_runs(folder if alone else folder / "*")]
        results = by_method(combine(runs))
        calls = pd.concat([run.calls for run in runs], ignore_index=True)
        summary, pairs = summarize(results), paired_table(results)
        for name, _, plot in figures.draw_all(results, calls, summary, pairs):
            figures.drawing.save(plot, out / "figures" / f"{folder.name}_{name}", pdf=True)
        shown = views(results, calls, summary, pairs, runs)
        made = {view.id: tables.to_latex(*printed(view)) for view in shown}
        made["method_by_length"] = tables.to_latex(tables.method_by_length(summary))
        made["method_by_task"] = tables.to_latex(tables.method_by_task(summary))
        revisions = ", ".join(sorted(results["code_revision"].dropna().astype(str).unique()))
        for name, text in made.items():
            path = out / "tables" / f"{folder.name}_{name}.tex"
            path.write_text(f"% {folder.name}: code {revisions}\n{text}", encoding="utf-8")
        print(f"{folder.name}: {len(runs)} run{'s' * (len(runs) > 1)}")


if __name__ == "__main__":
    given = [Path(folder) for folder in sys.argv[1:]]
    found = [p for p in sorted(PUBLISHED.iterdir()) if any(p.rglob("results.parquet"))]
    main(given or found)
