"""Figures with a line or a point for each method: score against length, cost and budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from rlm_eval.analysis.aggregate import BEST_CONSTANT
from rlm_eval.analysis.arms import apart, competitors
from rlm_eval.analysis.budgets import CELL as BUDGET_CELL
from rlm_eval.analysis.budgets import budget_table, capped
from rlm_eval.analysis.figures import drawing
from rlm_eval.analysis.figures.drawing import Plot, Sheet, empty, finish, intervals, panels, style
from rlm_eval.analysis.figures.styles import GREY, HUES, Style, styles
from rlm_eval.analysis.paired import CELL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: The message where there is no score at all.
UNSCORED = "No question has a score yet."
SCORE = ("mean_score", "score_low", "score_high")
UNITS = {"tokens": "tokens", "cost_usd": "US dollars"}
FRONT = "#E0E0E0"
#: Inches between two ticks that are lengths, at least.
TICK = 0.62
#: A level to measure methods by.
LEVEL: Style = {"linestyle": "--", "linewidth": 1.0, "zorder": 1}


def unscored(summary: pd.DataFrame) -> bool:
    """Whether no arm of ``summary`` has a score."""
    return bool(summary.loc[summary["arm"] != BEST_CONSTANT, "mean_score"].isna().all())


@style()
def score_vs_length(results: pd.DataFrame, summary: pd.DataFrame) -> Plot:
    """Mean official score (own failures 0) against context length, one line per arm; beneath it
    the tokens of a question (prompt and completion, all calls)."""
    from matplotlib.ticker import EngFormatter

    if summary.empty or unscored(summary):
        return empty(UNSCORED)
    summary = summary[summary["target_tokens"] > 0]
    if summary.empty:
        return empty("No sample's length is known.")
    tokens = summary["prompt_tokens"] + summary["completion_tokens"]
    table, known = apart(summary.assign(tokens=tokens), results), styles(results)
    sheet = panels(table, ["task"], 3.0, 4.2)
    for facet, (axes,) in sheet.panels:
        _curves(axes, sheet, facet.cell, "target_tokens", SCORE, known, 100)
        axes.set(ylim=(-3, 103), ylabel="mean score (%)")
        asked = facet.cell[facet.cell["tokens"] > 0]
        beneath = axes if asked.empty else axes.inset_axes((0, -0.5, 1, 0.45), sharex=axes)
        if len(asked):
            limits = axes.get_xlim()
            _curves(beneath, sheet, asked, "target_tokens", ("tokens",), known)
            beneath.set(xlim=limits, yscale="log")
            beneath.set_ylabel("" if facet.inner else "tokens per\nquestion")
            beneath.yaxis.set_major_formatter(EngFormatter(sep=""))
            beneath.minorticks_off()
            axes.tick_params(axis="x", labelbottom=False)
        beneath.set_xlabel("context length (tokens)")
    return finish(sheet, summary, results, [intervals(results)], legend(known, table))


@style()
def score_vs_cost(results: pd.DataFrame, summary: pd.DataFrame) -> Plot:
    """Mean score against what a question costs, per length, with the Pareto front.

    Tokens (prompt + completion, all calls) for every task and length; US dollars as well where
    every method of a panel is priced. Controls are levels to measure the score by.
    """
    if summary.empty or unscored(summary):
        return empty(UNSCORED)
    table = summary.assign(tokens=summary["prompt_tokens"] + summary["completion_tokens"])
    table = apart(table[table["mean_score"].notna()], results)
    methods = competitors(table)
    methods = methods[methods["tokens"] > 0]
    if methods.empty:
        return empty("No method has a scored question and a token count.")
    views = [
        cell.assign(axis=unit, pareto=pareto(cell, unit))
        for _, cell in methods.groupby([*CELL, "facet"])
        for unit in UNITS
        if (cell[unit] > 0).all()
    ]
    data = pd.concat(views, ignore_index=True)
    controls, known = table[table["arm_kind"] == "control"], styles(results)
    sheet = panels(data, [*CELL, "axis"], 3.0, 3.4)
    for facet, (axes,) in sheet.panels:
        cell, unit = facet.cell, str(facet.cell["axis"].iloc[0])
        front = cell[cell["pareto"]].sort_values(unit)
        axes.plot(front[unit], 100 * front["mean_score"], "o-", ms=10, lw=3, color=FRONT, zorder=1)
        for row in cell.to_dict("records"):
            its = known[row["arm"]]
            if its["color"] != GREY:
                limits = 100 * row["score_low"], 100 * row["score_high"]
                axes.vlines(row[unit], *limits, color=its["color"], linewidth=0.9)
            axes.plot(row[unit], 100 * row["mean_score"], **its)
        here = controls[(controls[CELL] == cell[CELL].iloc[0]).all(axis=1)]
        for row in here[here["facet"].isin(["", facet.model])].to_dict("records"):
            axes.axhline(100 * row["mean_score"], color=known[row["arm"]]["color"], **LEVEL)
        drawing.log_axis(axes, facet.beside[unit], "${x:.3g}" if unit == "cost_usd" else "")
        axes.set(ylim=(-3, 103), ylabel="mean score (%)", xlabel=f"{UNITS[unit]} per question")
    notes = [
        "On the grey line: methods that none beats on both score and cost (point estimates).",
        "Dashed: controls.",
        intervals(results),
    ]
    return finish(sheet, data, results, notes, legend(known, table))


def pareto(table: pd.DataFrame, cost: str) -> list[bool]:
    """Whether no other row is at least as good in both score and cost and better in one."""
    points = list(zip(table[cost], table["mean_score"], strict=True))
    return [not any(a <= c and b >= s and (a, b) != (c, s) for a, b in points) for c, s in points]


@style()
def subcalls_vs_length(results: pd.DataFrame) -> Plot:
    """Sub-calls per question against length: mean, and the middle half of the questions."""
    frame = results[results["asked"] & (results["target_tokens"] > 0)]
    if frame.empty or frame["subcalls"].sum() == 0:
        return empty("No method made a sub-call.")
    frame = frame[frame.groupby("arm")["subcalls"].transform("sum") > 0]
    grouped = frame.groupby([*CELL, "arm"])["subcalls"]
    data = grouped.describe(percentiles=[0.25, 0.75]).reset_index()
    table, known = apart(data, results), styles(results)
    sheet = panels(table, ["task"], 2.5, 3.6)
    for facet, (axes,) in sheet.panels:
        _curves(axes, sheet, facet.cell, "target_tokens", ("mean", "25%", "75%"), known)
        top = 1.05 * float(facet.beside[["mean", "75%"]].to_numpy().max())
        axes.set(ylabel="sub-calls per question", xlabel="context length (tokens)")
        axes.set_ylim(0, max(1.0, top))
    note = "Bars: the middle half of the questions, not a confidence interval."
    return finish(sheet, data, frame, [note], legend(known, table))


@style()
def score_vs_budget(results: pd.DataFrame, calls: pd.DataFrame) -> Plot:
    """Mean score against the cap per sample, and beside it the share of the cap that was spent;
    one line per method, over runs of several budgets."""
    table = budget_table(results, calls)
    if table.empty:
        return empty("Needs runs with one cap per sample each.")
    table = table[table.groupby(BUDGET_CELL)["cap"].transform("nunique") > 1]
    if table.empty:
        return empty("Needs runs with at least two budgets per sample.")
    frame = capped(results)
    frame = frame[frame["arm"].isin(table["arm"])]
    shown, known = apart(table, frame), styles(frame)
    # Arms that can't be matched stand beside those that are, and beside those that are not.
    able = shown["arm"].isin(frame.loc[frame["can_match"].astype(bool), "arm"])
    kinds = shown.loc[able, [*BUDGET_CELL, "matched"]].drop_duplicates()
    others = shown[~able].drop(columns="matched").merge(kinds, on=BUDGET_CELL)
    shown = pd.concat([shown[able], others], ignore_index=True) if len(kinds) else shown
    sheet = panels(shown, [*BUDGET_CELL, "matched"], 2.6, 3.2, views=2)
    for facet, (score, spent) in sheet.panels:
        cell = facet.cell
        _curves(score, sheet, cell, "cap", SCORE, known, 100)
        _curves(spent, sheet, cell, "cap", ("spent_share",), known, 100)
        score.set(ylim=(-3, 103), ylabel="mean score (%)")
        top = 105 * max(1.0, facet.beside["spent_share"].max())
        spent.set(ylim=(0, top), ylabel="spent, mean (% of the cap)")
        spent.axhline(100, color="black", linewidth=0.8)
        constants = cell["constant_score"].dropna().unique()
        if len(constants) == 1:  # else the samples differ between the caps
            score.axhline(100 * constants[0], color=HUES["control"], **LEVEL)
        kind = "matched budget" if cell["matched"].iloc[0] else "cap"
        for axes in (score, spent):
            axes.set(xlabel=f"{kind} per question ({cell['unit'].iloc[0]})")
    notes = [
        "Matched budget: each method spends up to it in its own way. Cap: a method that needs less "
        "spends less. Dashed: the best constant.",
        intervals(frame),
    ]
    return finish(sheet, table, frame, notes, legend(known, shown))


def legend(known: dict[str, Style], table: pd.DataFrame) -> list[Line2D]:
    """An entry for each arm of the table, one for all that are grey."""
    from matplotlib.lines import Line2D

    shown = [its for arm, its in known.items() if arm in set(table["arm"])]
    grey = [its for its in shown if its["color"] == GREY]
    found = [Line2D([], [], **its) for its in shown if its not in grey]
    more = {"label": f"{len(grey)} other methods, without bars", "marker": ""}
    return [*found, Line2D([], [], **grey[0] | more)] if grey else found


def _curves(
    axes: Axes,
    sheet: Sheet,
    table: pd.DataFrame,
    x: str,
    columns: Sequence[str],
    known: dict[str, Style],
    scale: float = 1,
) -> None:
    """A line per arm, a little beside the others, through the first of ``columns``, with bars from
    the second to the third (grey ones: none). Ticks at the values of ``x``, but for those too near.
    """
    levels = sorted(table[x].unique())
    arms = [arm for arm in known if arm in set(table["arm"])]
    nearest = min((b / a for a, b in pairwise(levels)), default=3.0)
    beside = nearest ** min(0.4, 0.03 * len(arms))
    for i, arm in enumerate(arms):
        rows = table[table["arm"] == arm].sort_values(x)
        at = rows[x] * beside ** ((i + 0.5) / len(arms) - 0.5)
        grey = known[arm]["color"] == GREY
        axes.plot(at, scale * rows[columns[0]], **known[arm], zorder=1 if grey else 2)
        if len(columns) == 3 and not grey:
            low, high = (scale * rows[column] for column in columns[1:])
            axes.vlines(at, low, high, color=known[arm]["color"], linewidth=0.9)
    axes.set_xscale("log")
    axes.set_xlim(levels[0] / 1.3 / beside**0.5, levels[-1] * 1.3 * beside**0.5)
    ticks: list[float] = []
    for level in levels:
        if not ticks or level > ticks[-1] * (levels[-1] / levels[0]) ** (TICK / sheet.widths[0]):
            ticks.append(level)
    axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axes.minorticks_off()
