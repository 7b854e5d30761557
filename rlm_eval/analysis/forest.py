"""The figure of paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rlm_eval.analysis import drawing
from rlm_eval.analysis.drawing import Plot
from rlm_eval.analysis.limits import ARMS, limited
from rlm_eval.analysis.looks import Look, looks
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.stats import ALPHA

#: Dots in a row, and rows of all panels, at most.
DOTS, ROWS = 6, 96


def paired_forest(results: pd.DataFrame, table: pd.DataFrame | None = None) -> Plot:
    """Paired differences on shared samples; only those with an RLM where there is one.

    ``table`` is ``paired_table(results)``, where the caller has it.
    """
    table = paired_table(results) if table is None else table
    kinds = results.drop_duplicates("arm").set_index("arm")["arm_kind"]
    if not table.empty and (kinds == "rlm").any():
        table = _rlm_first(table, set(kinds.index[kinds == "rlm"]))
    if table.empty:
        return drawing.empty("No two methods share a sample.")
    with drawing.style():
        known = looks(results)
        shown = limited(table, rows=ROWS, most={"arm": DOTS, "against": ARMS})
        arms = {arm for cell in shown.cells for arm in cell["arm"]}
        dots = {arm: look for arm, look in known.items() if arm in arms}
        each = 0.14 + 0.08 * max(shown.sizes)
        rows = [cell["against"].nunique() for cell in shown.cells]
        figure, grid = drawing.panels([each * n for n in rows], 3.2, columns=2)
        for cell, axes in zip(shown.cells, grid, strict=True):
            _forest_panel(axes, cell, dots, known)
            tall = axes.get_window_extent().height / axes.figure.dpi
            axes.set_ylim(tall / each - 0.5, -0.5)
            drawing.title(axes, drawing.where(cell))
        _share_x(grid)
        handles = [Line2D([], [], ls="", label=look.label, **look.style) for look in dots.values()]
        figure.data = table
        note = "Lines: 95 % intervals over contexts. Filled: p ≤ 0.05 after Holm over the task's "
        note += "pairs."
        drawing.finish(figure, results, shown, known, note, handles)
        return figure


def _share_x(grid: Sequence[Axes]) -> None:
    """The widest range of all, so that differences can be compared across panels."""
    ends = [end for axes in grid for end in axes.get_xlim()]
    for axes in grid:
        axes.set_xlim(min(ends), max(ends))


def _rlm_first(table: pd.DataFrame, rlms: set[str]) -> pd.DataFrame:
    """The pairs with an RLM, it being the first of the two."""
    table = table[table["arm"].isin(rlms) | table["against"].isin(rlms)]
    other_way = table["against"].isin(rlms) & ~table["arm"].isin(rlms)
    turned = table.rename(
        columns={"arm": "against", "against": "arm", "low": "high", "high": "low"}
        | {"arm_samples": "against_samples", "against_samples": "arm_samples"}
    )[list(table.columns)]
    signed = ["difference", "low", "high", "effect_size"]
    turned[signed] = -turned[signed]
    turned["cost_ratio"] = 1 / turned["cost_ratio"]
    return table.where(~other_way, turned).astype(table.dtypes)


def _forest_panel(
    axes: Axes, cell: pd.DataFrame, dots: Mapping[str, Look], known: Mapping[str, Look]
) -> None:
    rows = list(cell["against"].drop_duplicates())
    arms = [a for a in dots if a in set(cell["arm"])]
    for pair in cell.to_dict("records"):
        look = dots[pair["arm"]]
        beside = 0.7 * ((arms.index(pair["arm"]) + 0.5) / len(arms) - 0.5)
        place = rows.index(pair["against"]) + beside
        axes.hlines(place, 100 * pair["low"], 100 * pair["high"], color=look.colour, lw=1.2)
        fill = look.colour if pair["p_holm"] <= ALPHA else "white"
        style = look.style | {"markerfacecolor": fill, "ms": 4.5}
        axes.plot([100 * pair["difference"]], [place], ls="", zorder=3, **style)
    axes.axvline(0, color="black", lw=0.8)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color="#EEEEEE", lw=0.6)
    axes.set_yticks(range(len(rows)), [known[a].label for a in rows])
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("mean score minus that of the method at the left (points)")
