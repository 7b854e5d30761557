"""Figures and tables of the paper, from the published runs: ``python paper/make.py``."""

from __future__ import annotations

from pathlib import Path

from rlm_eval.analysis import diagnostics, figures, tables
from rlm_eval.analysis.drawing import save
from rlm_eval.analysis.load import find_runs, load_results
from rlm_eval.analysis.summary import summarize

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "results" / "published"


def main() -> None:
    """Per published run: two figures, the paired differences, and the score table in LaTeX."""
    (HERE / "tables").mkdir(exist_ok=True)
    for run in find_runs(PUBLISHED / "*"):
        results = load_results(run)
        for draw in (figures.score_vs_length, figures.score_vs_cost, diagnostics.paired_forest):
            save(draw(results), HERE / "figures" / f"{run.name}_{draw.__name__}")
        table = tables.method_by_length(summarize(results))
        (HERE / "tables" / f"{run.name}.tex").write_text(tables.to_latex(table), encoding="utf-8")
        print(run.name)


if __name__ == "__main__":
    main()
