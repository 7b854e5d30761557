"""Figures of the score: each a function from a frame of ``load_results`` to a matplotlib Figure.

Every figure states its n, contexts, models, dates and whether a model was scripted, so that it
can stand alone in a paper. ``figure.data`` is what it shows. Controls are drawn as grey lines to
measure methods by, never as methods.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rlm_eval.analysis import drawing
from rlm_eval.analysis.aggregate import BEST_CONSTANT, summarize
from rlm_eval.analysis.arms import competitors
from rlm_eval.analysis.drawing import Plot
from rlm_eval.analysis.limits import cells, limited
from rlm_eval.analysis.looks import End, Look, label_ends, looks, room_for
from rlm_eval.analysis.text import count
from rlm_eval.analysis.ticks import log_ticks, ticks_at

#: Beyond so many lines in a panel, bands would cover each other: bars alone show the intervals.
BANDS = 6
FRONT = "#B5B5B5"
#: Said where there is no score at all.
UNSCORED = "No question has a score yet."
#: Heat maps in a figure, at most.
MAPS = 40


def score_vs_length(results: pd.DataFrame) -> Plot:
    """Mean official score (own failures 0) against context length, one line per arm."""
    with drawing.style():
        if results.empty or unscored(table := summarize(results)):
            return drawing.empty(UNSCORED)
        shown = limited(table, ["task"])
        tall = [room_for(n, 2.9) for n in shown.sizes]
        figure, grid = drawing.panels(tall, 4.6, columns=2)
        known = looks(results)
        for cell, axes in zip(shown.cells, grid, strict=True):
            _length_panel(axes, cell, known)
            drawing.title(axes, str(cell["task"].iloc[0]))
        figure.data = table
        note = f"{_controls(table)}{drawing.intervals(results)}"
        drawing.finish(figure, results, shown, known, note)
        return figure


def unscored(table: pd.DataFrame) -> bool:
    """Whether ``table``, of ``summarize``, has no arm's score."""
    return bool(table.loc[table["arm"] != BEST_CONSTANT, "mean_score"].isna().all())


def _length_panel(axes: Axes, table: pd.DataFrame, known: Mapping[str, Look]) -> None:
    lengths = sorted(int(v) for v in table["target_tokens"].unique())
    axes.set_xscale("log", base=2)
    axes.set_ylim(-2, 102)
    margin = 1.25 if len(lengths) > 1 else 1.6
    axes.set_xlim(lengths[0] / margin, lengths[-1] * margin)
    ends = []
    shown = {a: look for a, look in known.items() if a in set(table["arm"])}
    methods = [a for a, look in shown.items() if not look.control]
    beside = dodges(methods, margin)
    for arm, look in shown.items():
        rows = table[table["arm"] == arm].sort_values("target_tokens")
        x, y = rows["target_tokens"].astype(float), 100 * rows["mean_score"]
        if look.control:
            reference(axes, x, y, look)
            ends.append(End(axes.get_xlim()[1], float(y.iloc[-1]), look))
            continue
        x = x * beside[arm]
        axes.plot(x, y, **look.style)
        low, high = 100 * rows["score_low"], 100 * rows["score_high"]
        if len(lengths) > 1 and len(methods) <= BANDS:
            axes.fill_between(x, low, high, color=look.colour, alpha=0.10, lw=0)
        axes.vlines(x, low, high, color=look.colour, lw=0.9, alpha=0.7)
        ends.append(End(float(x.iloc[-1]), float(y.iloc[-1]), look))
    ticks_at(axes, lengths, tokens)
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("mean score (%)")
    label_ends(axes, ends)


def dodges(arms: Sequence[str], margin: float) -> dict[str, float]:
    """What to multiply each arm's places on a logarithmic axis by, so that none covers another."""
    step = min(0.12, 0.7 / max(1, len(arms) - 1))
    return {arm: margin ** (step * (i - (len(arms) - 1) / 2)) for i, arm in enumerate(arms)}


def reference(axes: Axes, x: pd.Series[float], y: pd.Series[float], look: Look) -> None:
    """A control's line across the axes, level before its first and after its last point."""
    left, right = axes.get_xlim()
    across = [left, *x, right], [y.iloc[0], *y, y.iloc[-1]]
    axes.plot(*across, **look.style, zorder=1)


def _controls(table: pd.DataFrame) -> str:
    return "Dashed and grey: controls. " if (table["arm_kind"] == "control").any() else ""


def tokens(length: float) -> str:
    """A length as its axis has it."""
    return f"{length:,.0f}" if length < 1e5 else count(length)


def score_vs_cost(results: pd.DataFrame) -> Plot:
    """Mean score against what a question costs, per length, with the Pareto front.

    Tokens (prompt + completion, all calls) for every task and length; US dollars as well where
    every method of a panel is priced. Controls have a score here and no cost.
    """
    with drawing.style():
        if results.empty or unscored(table := summarize(results)):
            return drawing.empty(UNSCORED)
        table["tokens"] = table["prompt_tokens"] + table["completion_tokens"]
        methods = competitors(table)
        measured = methods[(methods["tokens"] > 0) & methods["mean_score"].notna()]
        if measured.empty:
            return drawing.empty("No method has a scored question and a token count.")
        shown, every = limited(measured), cells(measured)
        views = _priced(shown.cells)
        controls = table[table["arm_kind"] == "control"]
        beside = controls["arm"].nunique()
        tall = [room_for(cell["arm"].nunique() + beside, 2.7) for _, cell in views]
        columns = 2 if len(views) < 5 else 3
        figure, grid = drawing.panels(tall, 3.2, columns)
        known = looks(results)
        for (unit, cell), axes in zip(views, grid, strict=True):
            here = controls[_place(controls).isin(_place(cell))]
            _cost_panel(axes, cell, here, unit, known)
            drawing.title(axes, drawing.where(cell))
        figure.data = _with_fronts(_priced(every))
        note = "Ringed, on a grey line: methods that none beats on both score and cost (point "
        note += f"estimates). {_controls(table)}{drawing.intervals(results)}"
        drawing.finish(figure, results, shown, known, note)
        return figure


def _priced(cells: Sequence[pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    """A unit and a panel's rows each: tokens of all, then dollars of those with prices."""
    dollars = [cell for cell in cells if bool((cell["cost_usd"] > 0).all())]
    return [*(("tokens", cell) for cell in cells), *(("cost_usd", cell) for cell in dollars)]


def _place(table: pd.DataFrame) -> pd.Series[str]:
    return table["task"].astype(str) + " " + table["target_tokens"].astype(str)


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


def _with_fronts(views: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    marked = [
        cell.assign(axis=unit, pareto=pareto(cell[unit], cell["mean_score"]))
        for unit, cell in views
    ]
    return pd.concat(marked, ignore_index=True)


def _cost_panel(
    axes: Axes, cell: pd.DataFrame, controls: pd.DataFrame, unit: str, known: Mapping[str, Look]
) -> None:
    axes.set_xscale("log")
    axes.set_ylim(-2, 102)
    low, high = float(cell[unit].min()), float(cell[unit].max())
    axes.set_xlim(low / 1.5, high * 1.5)
    front = cell[pareto(cell[unit], cell["mean_score"])].sort_values(unit)
    axes.plot(front[unit], 100 * front["mean_score"], color=FRONT, lw=3, zorder=1)
    (rings,) = axes.plot(front[unit], 100 * front["mean_score"], ls="", marker="o", ms=10, zorder=1)
    rings.set(markerfacecolor="none", markeredgecolor=FRONT, markeredgewidth=2)
    ends = []
    for row in cell.to_dict("records"):
        x, y, look = float(row[unit]), float(100 * row["mean_score"]), known[row["arm"]]
        axes.vlines(x, 100 * row["score_low"], 100 * row["score_high"], color=look.colour, lw=0.9)
        axes.plot([x], [y], ls="", **look.style)
        ends.append(End(x, y, look))
    for row in controls.dropna(subset="mean_score").to_dict("records"):
        y, look = float(100 * row["mean_score"]), known[row["arm"]]
        axes.axhline(y, **look.style, zorder=1)
        ends.append(End(axes.get_xlim()[1], y, look))
    log_ticks(axes.xaxis, lambda v: _money(v, unit))
    axes.set_xlabel("tokens per question" if unit == "tokens" else "US dollars per question")
    axes.set_ylabel("mean score (%)")
    label_ends(axes, ends)


def _money(value: float, unit: str) -> str:
    return count(value) if unit == "tokens" else f"${value:.3g}"


def depth_heatmap(results: pd.DataFrame) -> Plot:
    """Mean score by where in the context the needle stands (knob ``depth``, 0 to 1) and length."""
    knob = results["knobs"].map(lambda k: json.loads(k).get("depth") if k else None)
    frame = competitors(results.assign(depth=pd.to_numeric(knob, errors="coerce")))
    frame = frame[frame["depth"].notna() & frame["asked"]]
    if frame.empty:
        return drawing.empty("No sample has a knob named depth.")
    with drawing.style():
        frame["bin"], names = _depth_bins(frame)
        data = frame.groupby(["task", "arm", "bin", "target_tokens"], sort=False).agg(
            mean_score=("points", "mean"), n=("sample_id", "nunique")
        )
        shown = limited(data.reset_index(), ["task", "arm"], panels=MAPS)
        wide = max(1.7, 0.55 * frame["target_tokens"].nunique())
        tall = [0.26 * len(names)] * len(shown.cells)
        figure, grid = drawing.panels(tall, wide, columns=4)
        known, tasks = looks(results), frame["task"].nunique()
        for i, (cell, axes) in enumerate(zip(shown.cells, grid, strict=True)):
            _heat(axes, cell, names, first=i % figure.across == 0)
            label = known[str(cell["arm"].iloc[0])].label
            task = f"{cell['task'].iloc[0]}: " if tasks > 1 else ""
            drawing.title(axes, f"{task}{label}", points=8)
        figure.data = data.reset_index()
        note = "Across: context length (tokens). Down: depth of the needle. Fields: mean score in "
        note += "%, and how many questions (n); no intervals."
        drawing.finish(figure, frame, shown, known, note)
        return figure


def _depth_bins(frame: pd.DataFrame) -> tuple[Any, list[str]]:
    """A bin for each depth and the bins' names: the depths themselves where all lengths have the
    same few, else tenths, or fifths of fewer than 100 samples."""
    depth = frame["depth"]
    levels = sorted(depth.unique())
    shared = frame.groupby("target_tokens")["depth"].nunique().eq(len(levels)).all()
    if len(levels) <= 11 and bool(shared):
        return depth.map(levels.index), [f"{100 * v:.3g} %" for v in levels]
    bins = 5 if frame["sample_id"].nunique() < 100 else 10
    edges = np.linspace(0, 1, bins + 1)
    names = [f"{100 * a:.0f}–{100 * b:.0f} %" for a, b in pairwise(edges)]
    return np.clip(np.digitize(depth, edges[1:-1]), 0, bins - 1), names


def _heat(axes: Axes, cell: pd.DataFrame, names: list[str], *, first: bool) -> None:
    lengths = sorted(cell["target_tokens"].unique())
    score = cell.pivot(index="bin", columns="target_tokens", values="mean_score")
    score = score.reindex(index=range(len(names)), columns=lengths)
    axes.imshow(100 * score, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row in cell.to_dict("records"):
        value = 100 * row["mean_score"]
        place = (lengths.index(row["target_tokens"]), row["bin"])
        colour = "black" if value > 55 else "white"
        label = f"{value:.0f} (n {row['n']})"
        axes.text(*place, label, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(lengths)), [count(v) for v in lengths])
    axes.set_yticks(range(len(names)), names if first else [""] * len(names))
    axes.grid(False)
    axes.tick_params(labelsize=7)
