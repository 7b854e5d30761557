"""Figures of the score: each a function from a frame of ``load_results`` to a matplotlib Figure.

Every figure states its n, contexts, models, dates and whether a model was scripted, so that it
can stand alone in a paper. ``figure.data`` is what it shows.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rlm_eval.analysis import drawing
from rlm_eval.analysis.aggregate import BEST_CONSTANT, summarize
from rlm_eval.analysis.drawing import MUTED, Plot
from rlm_eval.analysis.text import count


def score_vs_length(results: pd.DataFrame) -> Plot:
    """Mean official score (own failures 0) against context length, one line per arm."""
    with drawing.style():
        table = summarize(results)
        tasks = list(table["task"].drop_duplicates())
        figure, grid = drawing.panels(len(tasks), 6.4, 3.8, columns=2)
        looks = drawing.looks(drawing.order(results))
        for task, axes in zip(tasks, grid, strict=True):
            _length_panel(axes, table[table["task"] == task], looks, results)
            axes.set_title(str(task))
        drawing.footer(figure, results, drawing.intervals(results))
        figure.data = table
        return figure


def _length_panel(
    axes: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]], results: pd.DataFrame
) -> None:
    lengths = sorted(int(v) for v in table["target_tokens"].unique())
    axes.set_xscale("log", base=2)
    axes.set_ylim(-2, 102)
    margin = 1.25 if len(lengths) > 1 else 1.6
    axes.set_xlim(lengths[0] / margin, lengths[-1] * margin)
    ends = []
    arms = [a for a in looks if a in set(table["arm"])]
    for i, arm in enumerate(arms):
        rows = table[table["arm"] == arm].sort_values("target_tokens")
        dodge = margin ** (0.12 * (i - (len(arms) - 1) / 2))
        x, y = rows["target_tokens"] * dodge, 100 * rows["mean_score"]
        axes.plot(x, y, **looks[arm])
        low, high = 100 * rows["score_low"], 100 * rows["score_high"]
        if len(lengths) > 1:
            axes.fill_between(x, low, high, color=looks[arm]["color"], alpha=0.10, lw=0)
        axes.vlines(x, low, high, color=looks[arm]["color"], lw=0.9, alpha=0.7)
        label = drawing.name(arm, results)
        ends.append((float(x.iloc[-1]), float(y.iloc[-1]), label, looks[arm]["color"]))
    constant = table[table["arm"] == BEST_CONSTANT].sort_values("target_tokens")
    if len(constant):
        x, y = constant["target_tokens"], 100 * constant["mean_score"]
        axes.plot(x, y, color=MUTED, ls="--", lw=1.1, marker="_" if len(constant) == 1 else "")
        ends.append((float(x.iloc[-1]), float(y.iloc[-1]), BEST_CONSTANT, MUTED))
    ticks_at(axes, lengths)
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("mean score (%)")
    drawing.label_ends(axes, [e for e in ends if e[1] == e[1]])


def ticks_at(axes: Axes, lengths: list[int]) -> None:
    """Ticks at the lengths that were run, and nowhere else."""
    axes.xaxis.set_major_locator(FixedLocator([float(v) for v in lengths]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v < 1e5 else count(v)))


def score_vs_cost(results: pd.DataFrame) -> Plot:
    """Mean score against what a question costs, per length, with the Pareto front.

    Tokens (prompt + completion, all calls) for every task and length; US dollars as well where
    every arm of a panel is priced.
    """
    with drawing.style():
        table = summarize(results)
        table = table[table["arm"] != BEST_CONSTANT].copy()
        table["tokens"] = table["prompt_tokens"] + table["completion_tokens"]
        shown = table[(table["tokens"] > 0) & table["mean_score"].notna()]
        if shown.empty:
            return drawing.empty("No arm has a scored question and a token count.")
        views = [
            (f"{cell['task'].iloc[0]}, {cell['target_tokens'].iloc[0]:,} tokens", unit, cell)
            for unit in ("tokens", "cost_usd")
            for _, cell in shown.groupby(["task", "target_tokens"], sort=False)
            if unit == "tokens" or bool((cell["cost_usd"] > 0).all())
        ]
        figure, grid = drawing.panels(len(views), 4.6, 3.5, columns=2 if len(views) < 5 else 3)
        looks = drawing.looks(drawing.order(results))
        for (title, unit, cell), axes in zip(views, grid, strict=True):
            _cost_panel(axes, cell, unit, looks, results)
            axes.set_title(title)
        figure.data = _with_fronts(views)
        note = "Grey line: arms that none beats on both score and cost (point estimates). "
        drawing.footer(figure, results, note + drawing.intervals(results))
        return figure


def pareto(cost: pd.Series[float], score: pd.Series[float]) -> pd.Series[bool]:
    """True where no other point is at least as good on both axes and better on one."""
    return pd.Series(
        [
            not bool((((cost <= c) & (score >= s)) & ((cost < c) | (score > s))).any())
            for c, s in zip(cost, score, strict=True)
        ],
        index=cost.index,
        dtype=bool,
    )


def _with_fronts(views: list[tuple[str, str, pd.DataFrame]]) -> pd.DataFrame:
    marked = [
        cell.assign(axis=unit, pareto=pareto(cell[unit], cell["mean_score"]))
        for _, unit, cell in views
    ]
    return pd.concat(marked, ignore_index=True)


def _cost_panel(
    axes: Axes,
    cell: pd.DataFrame,
    unit: str,
    looks: dict[str, dict[str, Any]],
    results: pd.DataFrame,
) -> None:
    axes.set_xscale("log")
    axes.set_ylim(-2, 102)
    low, high = float(cell[unit].min()), float(cell[unit].max())
    axes.set_xlim(low / 1.5, high * 1.5)
    front = cell[pareto(cell[unit], cell["mean_score"])].sort_values(unit)
    axes.plot(front[unit], 100 * front["mean_score"], color="#BBBBBB", lw=3, zorder=1)
    ends = []
    for row in cell.to_dict("records"):
        x, y, look = row[unit], 100 * row["mean_score"], looks[row["arm"]]
        axes.vlines(x, 100 * row["score_low"], 100 * row["score_high"], color=look["color"], lw=0.9)
        axes.plot([x], [y], ls="", **look)
        ends.append((float(x), float(y), drawing.name(row["arm"], results), look["color"]))
    drawing.log_ticks(axes.xaxis, low, high, lambda v: _money(v, unit))
    axes.set_xlabel("tokens per question" if unit == "tokens" else "US dollars per question")
    axes.set_ylabel("mean score (%)")
    drawing.label_ends(axes, ends)


def _money(value: float, unit: str) -> str:
    return count(value) if unit == "tokens" else f"${value:.2g}"


def score_vs_budget(results: pd.DataFrame) -> Plot:
    """Mean score against the cap per sample, one line per method, over runs of several budgets."""
    caps = results["budget"].str.extract(r"^(?P<unit>\w+)=(?P<cap>[\d.e+]+)$")
    frame = results.assign(unit=caps["unit"], cap=caps["cap"].astype("float64"))
    frame = frame[frame["cap"].notna()]
    if frame.groupby("unit")["cap"].nunique().max() != frame["cap"].nunique() or len(frame) == 0:
        return drawing.empty("Needs runs with one kind of cap per sample, at two values or more.")
    if frame["cap"].nunique() < 2:
        return drawing.empty("Needs runs with at least two budgets per sample.")
    with drawing.style():
        frame = frame.assign(arm=frame["method"])
        table = pd.concat([summarize(g).assign(cap=cap) for cap, g in frame.groupby("cap")])
        cells = list(table.groupby(["task", "target_tokens"], sort=False))
        figure, grid = drawing.panels(len(cells), 4.8, 3.5)
        looks = drawing.looks(drawing.order(frame))
        for (_, cell), axes in zip(cells, grid, strict=True):
            _budget_panel(axes, cell, looks, frame)
            axes.set_title(drawing.where(cell))
        drawing.footer(figure, frame, drawing.intervals(frame))
        figure.data = table
        return figure


def _budget_panel(
    axes: Axes, cell: pd.DataFrame, looks: dict[str, dict[str, Any]], frame: pd.DataFrame
) -> None:
    axes.set_xscale("log")
    axes.set_ylim(-2, 102)
    ends = []
    for arm in (a for a in looks if a in set(cell["arm"])):
        rows, look = cell[cell["arm"] == arm].sort_values("cap"), looks[arm]
        x, y = rows["cap"], 100 * rows["mean_score"]
        axes.plot(x, y, **look)
        low, high = 100 * rows["score_low"], 100 * rows["score_high"]
        axes.fill_between(x, low, high, color=look["color"], alpha=0.1, lw=0)
        end = (float(x.iloc[-1]), float(y.iloc[-1]))
        ends.append((*end, drawing.name(arm, frame), look["color"]))
    ticks_at(axes, sorted(int(c) for c in cell["cap"].unique()))
    axes.set_xlabel(f"cap per question ({frame['unit'].iloc[0]})")
    axes.set_ylabel("mean score (%)")
    drawing.label_ends(axes, ends)


def depth_heatmap(results: pd.DataFrame) -> Plot:
    """Mean score by where in the context the needle stands (knob ``depth``, 0 to 1) and length."""
    depth = results["knobs"].map(lambda k: json.loads(k).get("depth") if k else None)
    frame = results.assign(depth=pd.to_numeric(depth, errors="coerce"))
    frame = frame[frame["depth"].notna() & frame["asked"]]
    if frame.empty:
        return drawing.empty("No sample has a knob named depth.")
    with drawing.style():
        frame["bin"], names = _depth_bins(frame["depth"])
        data = frame.groupby(["task", "arm", "bin", "target_tokens"], sort=False).agg(
            mean_score=("points", "mean"), n=("sample_id", "nunique")
        )
        views = list(data.reset_index().groupby(["task", "arm"], sort=False))
        figure, grid = drawing.panels(len(views), 3.4, 3.0)
        for (_, cell), axes in zip(views, grid, strict=True):
            _heat(axes, cell, names, drawing.name(str(cell["arm"].iloc[0]), results))
        note = "Each field: mean score in %, and below it the number of questions; no intervals."
        drawing.footer(figure, frame, note)
        figure.data = data.reset_index()
        return figure


def _depth_bins(depth: pd.Series[float]) -> tuple[Any, list[str]]:
    """A bin for each depth and the bins' names: the depths themselves when there are up to 10."""
    levels = sorted(depth.unique())
    if len(levels) <= 10:
        return depth.map(levels.index), [f"{100 * v:.3g} %" for v in levels]
    edges = np.linspace(0, 1, 11)
    names = [f"{100 * a:.0f}–{100 * b:.0f} %" for a, b in pairwise(edges)]
    return np.clip(np.digitize(depth, edges[1:-1]), 0, 9), names


def _heat(axes: Axes, cell: pd.DataFrame, names: list[str], title: str) -> None:
    lengths = sorted(cell["target_tokens"].unique())
    score = cell.pivot(index="bin", columns="target_tokens", values="mean_score")
    score = score.reindex(index=range(len(names)), columns=lengths)
    axes.imshow(100 * score, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row in cell.to_dict("records"):
        value = 100 * row["mean_score"]
        place = (lengths.index(row["target_tokens"]), row["bin"])
        colour = "black" if value > 55 else "white"
        label = f"{value:.0f}\nn {row['n']}"
        axes.text(*place, label, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(lengths)), [count(v) for v in lengths])
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("depth of the needle")
    axes.set_title(f"{cell['task'].iloc[0]}: {title}")
