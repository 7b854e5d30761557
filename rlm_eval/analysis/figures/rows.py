"""Figures with a row for each method: score and cost, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rlm_eval.analysis.arms import apart
from rlm_eval.analysis.figures import drawing
from rlm_eval.analysis.figures.curves import UNSCORED, legend, unscored
from rlm_eval.analysis.figures.drawing import Facet, Plot, Sheet, empty, finish, log_axis, style
from rlm_eval.analysis.figures.styles import HUES, Style, styles
from rlm_eval.analysis.paired import CELL, unit_of
from rlm_eval.analysis.stats import ALPHA

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@style()
def score_and_cost(results: pd.DataFrame, summary: pd.DataFrame) -> Plot:
    """A row per arm, a dot per length: the mean score with its interval, and tokens per question
    (prompt and completion, all calls). Readable with many arms, where lines are not."""
    from matplotlib.lines import Line2D

    if summary.empty or unscored(summary):
        return empty(UNSCORED)
    table = summary.assign(tokens=summary["prompt_tokens"] + summary["completion_tokens"])
    known = styles(results)
    lengths = sorted(table["target_tokens"].unique())
    opacity = dict(zip(lengths, np.linspace(1, 0.4, len(lengths))[::-1], strict=True))
    sheet = _panels(apart(table, results), ["task"], known, "arm", len(lengths))
    for facet, (score, tokens) in sheet.panels:
        arms, cell = _name_rows([score, tokens], facet, "arm", known), facet.cell
        colours = [known[arm]["color"] for arm in arms]
        for beside, (length, alpha) in zip(_beside(len(lengths)), opacity.items(), strict=True):
            rows = cell[cell["target_tokens"] == length].set_index("arm").reindex(arms)
            y = np.arange(len(arms)) + beside
            score.hlines(y, 100 * rows["score_low"], 100 * rows["score_high"], colours, alpha=alpha)
            score.scatter(100 * rows["mean_score"], y, 16, colours, alpha=alpha, zorder=3)
            tokens.scatter(rows["tokens"], y, 16, colours, alpha=alpha, zorder=3)
        score.set(xlim=(-3, 103), xlabel="mean score (%)")
        log_axis(tokens, facet.beside["tokens"])
        tokens.set(xlabel="tokens per question")
    handles = [
        Line2D([], [], ls="", marker="o", color=HUES["control"], alpha=alpha, label=f"{v:,} tokens")
        for v, alpha in opacity.items()
    ]
    return finish(sheet, summary, results, [drawing.intervals(results)], handles)


@style()
def paired_forest(results: pd.DataFrame, pairs: pd.DataFrame) -> Plot:
    """Paired differences on shared samples and, beside them, cost ratios; only those with an RLM
    where there is one. ``pairs`` is ``paired_table(results)``."""
    if pairs.empty:
        return empty("No two methods share a sample.")
    rlms = set(results.loc[results["arm_kind"] == "rlm", "arm"])
    table = pairs[pairs["arm"].isin(rlms)] if rlms else pairs
    if table.empty:
        return empty("No RLM shares a sample with another method.")
    shown, known = apart(table, results), styles(results)
    first = [arm for arm in known if arm in set(shown["arm"])]
    sheet = _panels(shown, CELL, known, "against", len(first))
    ratios = ["cost_ratio", "cost_low", "cost_high"]
    reach = 3 + 100 * float(table[["difference", "low", "high"]].abs().max().max())
    for facet, (score, cost) in sheet.panels:
        rows, cell = _name_rows([score, cost], facet, "against", known), facet.cell
        for arm, beside in zip(first, _beside(len(first)), strict=True):
            its = known[arm]
            pair = cell[cell["arm"] == arm]
            y = pair["against"].map(rows.index) + beside
            points = 100 * pair[["difference", "low", "high"]]
            costs = pair[ratios]
            sure = (points["low"] > 0) | (points["high"] < 0)
            unlike = (costs["cost_low"] > 1) | (costs["cost_high"] < 1)
            for axes, measured, certain in (
                (score, points, sure & (pair["p_holm"] <= ALPHA)),
                (cost, costs, unlike & (pair["cost_p"] <= ALPHA)),
            ):
                mid, low, high = (measured[column] for column in measured)
                axes.hlines(y, low, high, its["color"], linewidth=1.2)
                fill = [its["color"] if is_certain else "white" for is_certain in certain]
                edges = {"marker": its["marker"], "edgecolors": its["color"]}
                axes.scatter(mid, y, 20, fill, zorder=3, **edges)
        score.axvline(0, color="black", linewidth=0.8)
        score.set(xlim=(-reach, reach), xlabel="difference (points)")
        log_axis(cost, pd.concat([facet.beside[c] for c in ratios]), "{x:.3g}×")
        cost.axvline(1, color="black", linewidth=0.8)
        units = " or ".join(cell["cost_unit"].unique())
        cost.set(xlabel=f"times its cost ({units})")
    note = (
        f"Against the method at the left. Lines: 95 % intervals over {unit_of(results)}s. Filled: "
        "for certain (score: after Holm over the alternatives). Costs as each method would pay "
        "alone."
    )
    return finish(sheet, table, results, [note], legend(known, shown))


def _panels(
    table: pd.DataFrame, by: Sequence[str], known: Mapping[str, Style], column: str, marks: int
) -> Sheet:
    """Two panels for each facet, a row per arm as high as its name and ``marks`` marks."""

    def height(facet: Facet) -> float:
        lines = (1 + known[arm]["label"].count("\n") for arm in facet.beside[column].unique())
        return float(sum(max(0.08 + 0.13 * n, 0.13 + 0.06 * marks) for n in lines)) + 0.1

    return drawing.panels(table, by, height, 3.2, views=2)


def _beside(marks: int) -> np.ndarray:
    """The places of several marks within a row, whose middle is 0."""
    return 0.7 * ((np.arange(marks) + 0.5) / marks - 0.5)


def _name_rows(
    views: Sequence[Axes], facet: Facet, column: str, known: Mapping[str, Style]
) -> list[str]:
    """The arms of the rows from the top, named at the left of all; lines between them."""
    arms = [arm for arm in known if arm in set(facet.beside[column])]
    for i, axes in enumerate(views):
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks(range(len(arms)), [known[arm]["label"] for arm in arms])
        axes.tick_params(axis="y", length=0, labelleft=i == 0 and not facet.inner)
        axes.grid(axis="x")
        axes.grid(axis="y", visible=False)
        for between in range(1, len(arms)):
            axes.axhline(between - 0.5, color="#EEEEEE", linewidth=0.6)
    return arms
