"""The figures of a report, each a function from frames of ``load_results`` to a :class:`Plot`."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from rlm_eval.analysis.figures import curves, drawing, rows

__all__ = ["curves", "draw_all", "drawing", "rows"]
#: Tasks, lengths and models from which on a line for each method says more than its differences.
MANY = 4


def draw_all(
    results: pd.DataFrame, calls: pd.DataFrame, summary: pd.DataFrame, pairs: pd.DataFrame
) -> Iterator[tuple[str, str, drawing.Plot]]:
    """The name, title and plot of each figure that has something to show, first the one that says
    most: of many lengths and models, the lines. ``summary`` is ``summarize(results)``, ``pairs`` is
    ``paired_table(results)``."""
    plots = {
        "paired_forest": ("Against each other", rows.paired_forest(results, pairs)),
        "score_and_cost": ("Score and cost", rows.score_and_cost(results, summary)),
        "score_vs_length": ("Score against length", curves.score_vs_length(results, summary)),
        "score_vs_cost": ("Score against cost", curves.score_vs_cost(results, summary)),
        "subcalls_vs_length": ("Sub-calls against length", curves.subcalls_vs_length(results)),
        "score_vs_budget": ("Score against budget", curves.score_vs_budget(results, calls)),
    }
    cells = results[results["model"] != ""].groupby(["task", "model"])["target_tokens"].nunique()
    first = "score_vs_length" if cells.max() > 1 and cells.sum() > MANY else "paired_forest"
    for name, (title, plot) in sorted(plots.items(), key=lambda item: item[0] != first):
        if len(plot.data):
            yield name, title, plot
