"""The figures of a report, each a function from frames of ``load_results`` to a :class:`Plot`."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from rlm_eval.analysis.figures.curves import (
    score_vs_budget,
    score_vs_cost,
    score_vs_length,
    subcalls_vs_length,
)
from rlm_eval.analysis.figures.drawing import Plot, dates, save
from rlm_eval.analysis.figures.rows import (
    failures,
    paired_forest,
    score_and_cost,
    tokens_by_role,
)

__all__ = [
    "Plot",
    "dates",
    "draw_all",
    "failures",
    "paired_forest",
    "save",
    "score_and_cost",
    "score_vs_budget",
    "score_vs_cost",
    "score_vs_length",
    "subcalls_vs_length",
    "tokens_by_role",
]


def draw_all(
    results: pd.DataFrame, calls: pd.DataFrame, summary: pd.DataFrame, pairs: pd.DataFrame
) -> Iterator[tuple[str, str, Plot]]:
    """The name, title and plot of each figure that has something to show. ``summary`` is
    ``summarize(results)``, ``pairs`` is ``paired_table(results)``."""
    plots = {
        "paired_forest": ("Against each other", paired_forest(results, pairs)),
        "score_and_cost": ("Score and cost", score_and_cost(results, summary)),
        "score_vs_length": ("Score against length", score_vs_length(results, summary)),
        "score_vs_cost": ("Score against cost", score_vs_cost(results, summary)),
        "failures": ("How questions ended", failures(results)),
        "tokens_by_role": ("Where tokens went", tokens_by_role(results, calls)),
        "subcalls_vs_length": ("Sub-calls against length", subcalls_vs_length(results)),
        "score_vs_budget": ("Score against budget", score_vs_budget(results, calls)),
    }
    for name, (title, plot) in plots.items():
        if len(plot.data):
            yield name, title, plot
