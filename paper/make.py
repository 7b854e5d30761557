"""Figures and tables of the paper, from the published runs: ``python paper/make.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlm_eval.analysis import diagnostics, figures, forest, tables
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.budgets import score_vs_budget
from rlm_eval.analysis.drawing import save
from rlm_eval.analysis.load import Run, combine, find_runs, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.views import printed, views
from rlm_eval.analysis.rungs import score_and_cost

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "results" / "published"
DRAWN = (figures.score_vs_length, figures.score_vs_cost, forest.paired_forest)
#: Runs that differ in the cap per sample alone, which each method spends in its own way.
MATCHED = "matched-*"
#: Of the ladder, a run for each task: more figures, and tables of the report.
LADDER = "ladder-*"
LADDER_DRAWN = (score_and_cost, *DRAWN, diagnostics.failures, diagnostics.subcalls_vs_length)
LADDER_TABLES = ("costs", "retrieval", "tokens", "forecast", "outcomes")


def main(published: Path = PUBLISHED, out: Path = HERE) -> None:
    """Per published run three figures and the score table; over the ladder's runs together, where
    there are any, the method × task table and what else stands in :data:`LADDER_DRAWN` and
    :data:`LADDER_TABLES`; over runs at matched budgets, score against budget. Tables are LaTeX
    (booktabs), figures PDF, PNG and their data."""
    (out / "tables").mkdir(parents=True, exist_ok=True)
    alone = [p for p in find_runs(published / "*") if not (p.match(LADDER) or p.match(MATCHED))]
    for path in alone:
        results = combine([load_run(path)])
        for draw in DRAWN:
            save(draw(results), out / "figures" / f"{path.name}_{draw.__name__}")
        _write(out, path.name, tables.to_latex(tables.method_by_length(summarize(results))))
        print(path.name)
    for name, pattern, make in (("ladder", LADDER, ladder), ("matched", MATCHED, matched)):
        if any(published.glob(f"{pattern}/results.parquet")):
            runs = [load_run(path) for path in find_runs(published / pattern)]
            make(runs, out)
            print(f"{name}: {len(runs)} runs")


def ladder(runs: list[Run], out: Path) -> None:
    """What the ladder's runs show together."""
    results = by_method(combine(runs))
    calls = pd.concat([run.calls for run in runs], ignore_index=True)
    for draw in LADDER_DRAWN:
        save(draw(results), out / "figures" / f"ladder_{draw.__name__}")
    save(diagnostics.tokens_by_role(results, calls), out / "figures" / "ladder_tokens_by_role")
    summary = summarize(results)
    made_with = "".join(f"% {run.path.name}: code {_revision(run)}\n" for run in runs)
    scores = tables.to_latex(tables.method_by_task(summary))
    _write(out, "ladder_method_by_task", made_with + scores)
    for view in views(results, calls, summary, paired_table(results), runs):
        if view.id in LADDER_TABLES:
            _write(out, f"ladder_{view.id}", tables.to_latex(*printed(view)))


def matched(runs: list[Run], out: Path) -> None:
    """Score against budget, over runs of several caps."""
    results = combine(runs)
    calls = pd.concat([run.calls for run in runs], ignore_index=True)
    save(score_vs_budget(results, calls), out / "figures" / "matched_score_vs_budget")
    for view in views(results, calls, summarize(results), paired_table(results), runs):
        if view.id == "budgets":
            _write(out, "matched_budgets", tables.to_latex(*printed(view)))


def _revision(run: Run) -> str:
    return str(run.environment.get("code_revision") or "unknown")


def _write(out: Path, name: str, text: str) -> None:
    (out / "tables" / f"{name}.tex").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
