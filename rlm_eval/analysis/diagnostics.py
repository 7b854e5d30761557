"""Figures about how arms got their scores: costs, sub-calls, failures, tokens.

Like those of ``figures``: each a function from a frame of ``load_results`` to a Figure.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from rlm_eval.analysis import drawing
from rlm_eval.analysis.arms import competitors
from rlm_eval.analysis.drawing import Plot
from rlm_eval.analysis.figures import ticks_at
from rlm_eval.analysis.looks import MUTED, End, Look, label_ends, looks, order, room_for, shaded
from rlm_eval.analysis.tables import ARM, token_split
from rlm_eval.analysis.text import count

#: Roles of calls in the order of the stacked bars, and their hues.
ROLES = {
    "root": "#0072B2",
    "sub": "#D55E00",
    "summarize": "#009E73",
    "embed": "#CC79A7",
    "judge": "#777777",
}

#: Inches that an entry of a legend takes, and each of its characters.
_ENTRY, _CHARACTER = 0.55, 0.085

#: How a question ended, in the order of the stacked bars; the colour tells the kind of end.
ENDS = {
    "right": "#009E73",
    "wrong": "#D9D9D9",
    "no_answer": "#E69F00",
    "invalid_answer": "#D55E00",
    "context_overflow": "#CC79A7",
    "budget_exceeded": "#0072B2",
    "provider_error": "#777777",
    "sandbox_error": "#333333",
}


def cost_quantiles(results: pd.DataFrame) -> Plot:
    """How tokens per question are spread: the share of questions that cost at most so much."""
    with drawing.style():
        frame = competitors(results)
        frame = frame[frame["asked"] & (frame["tokens"] > 0)]
        if frame.empty:
            return drawing.empty("No question used tokens.")
        cells = drawing.cells(frame)
        figure, grid = drawing.panels(len(cells), 4.4, room_for(frame["arm"].nunique(), 3.3))
        known = looks(results)
        shown = []
        for cell, axes in zip(cells, grid, strict=True):
            axes.set_yscale("log")
            axes.set_xlim(0, 100)
            ends = []
            for arm, group in cell.groupby("arm", sort=False):
                values = np.sort(group["tokens"].to_numpy(dtype=float))
                share = 100 * (np.arange(len(values)) + 0.5) / len(values)
                look = known[str(arm)]
                few = look.style["marker"] if len(values) < 60 else ""
                axes.plot(share, values, marker=few, color=look.colour, ms=3)
                ends.append(End(float(share[-1]), float(values[-1]), look))
                shown.append(group[["task", "target_tokens", "arm", "sample_id", "tokens"]])
            low, high = float(cell["tokens"].min()), float(cell["tokens"].max())
            drawing.log_ticks(axes.yaxis, low, high, count)
            axes.set_xlabel("share of questions (%)")
            axes.set_ylabel("tokens per question, at most")
            axes.set_title(drawing.where(cell))
            label_ends(axes, ends)
        drawing.footer(figure, frame)
        figure.data = pd.concat(shown, ignore_index=True)
        return figure


def subcalls_vs_length(results: pd.DataFrame) -> Plot:
    """Sub-calls per question against length: mean, and the middle half as a band."""
    frame = results[results["asked"]]
    arms = [a for a in order(frame) if frame.loc[frame["arm"] == a, "subcalls"].sum() > 0]
    if not arms:
        return drawing.empty("No arm made a sub-call.")
    with drawing.style():
        tasks = list(frame["task"].drop_duplicates())
        tall = room_for(len(arms), 3.3)
        figure, grid = drawing.panels(len(tasks), 5.2, tall, columns=2)
        known = looks(results)
        spread = frame[frame["arm"].isin(arms)].groupby(["task", "arm", "target_tokens"])
        data = spread.agg(
            mean=("subcalls", "mean"),
            p25=("subcalls", lambda v: v.quantile(0.25)),
            p75=("subcalls", lambda v: v.quantile(0.75)),
            maximum=("subcalls", "max"),
            asked=("subcalls", "size"),
        ).reset_index()
        for task, axes in zip(tasks, grid, strict=True):
            axes.set_xscale("log", base=2)
            here = data[data["task"] == task]
            ends = []
            for arm in arms:
                rows = here[here["arm"] == arm]
                if rows.empty:
                    continue
                x, look = rows["target_tokens"], known[arm]
                axes.plot(x, rows["mean"], **look.style)
                axes.fill_between(x, rows["p25"], rows["p75"], color=look.colour, alpha=0.12, lw=0)
                ends.append(End(float(x.iloc[-1]), float(rows["mean"].iloc[-1]), look))
            ticks_at(axes, sorted(int(v) for v in here["target_tokens"].unique()))
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
            axes.set_xlabel("context length (tokens)")
            axes.set_ylabel("sub-calls per question")
            axes.set_title(str(task))
            label_ends(axes, ends)
        note = "Lines: means. Bands: the middle half of the questions, not a confidence interval."
        drawing.footer(figure, frame, note)
        figure.data = data
        return figure


def failures(results: pd.DataFrame) -> Plot:
    """How questions ended, per arm and length: right, wrong, each kind of failure, owed."""
    ends = results["outcome"].where(
        ~results["outcome"].isin(["answered", "forced"]),
        results["right"].map({1.0: "right", 0.0: "wrong"}),
    )
    data = (
        results.assign(end=ends, one=1)
        .pivot_table(
            index=["task", "target_tokens", "arm"],
            columns="end",
            values="one",
            aggfunc="sum",
            fill_value=0,
            sort=False,
        )
        .reindex(columns=list(ENDS), fill_value=0)
        .reset_index()
    )
    with drawing.style():
        cells = drawing.cells(data)
        figure, grid = _bars(len(cells), results["arm"].nunique())
        known = looks(results)
        for cell, axes in zip(cells, grid, strict=True):
            counts = cell[list(ENDS)]
            shares = 100 * counts.div(counts.sum(axis=1), axis=0)
            _stack(axes, [known[a] for a in cell["arm"]], shares, ENDS)
            axes.set_xlabel("share of questions (%)")
            axes.set_xlim(0, 100)
            axes.set_title(drawing.where(cell))
        seen = [e for e in ENDS if data[e].sum() > 0]
        _legend(figure, {e: ENDS[e] for e in seen})
        drawing.footer(figure, results, "provider_error and sandbox_error are owed, not failures.")
        figure.data = data
        return figure


def tokens_by_role(results: pd.DataFrame, calls: pd.DataFrame) -> Plot:
    """Where the tokens went, per question: each role's, computed, cached, written."""
    if calls.empty:
        return drawing.empty("The run holds no calls.")
    split = token_split(results, calls)
    kinds = ("computed", "cached", "completion")
    long = split.melt([*ARM, "role"], kinds, "kind", "tokens")
    long["part"] = long["role"] + " " + long["kind"]
    parts = [f"{role} {kind}" for role in ROLES for kind in kinds]
    data = long.pivot_table(index=ARM, columns="part", values="tokens", sort=False)
    parts = [p for p in parts if p in data and data[p].sum() > 0]
    data = data.reindex(columns=parts).fillna(0).reset_index()
    with drawing.style():
        palette = {part: _part_colour(*part.split()) for part in parts}
        cells = drawing.cells(data)
        figure, grid = _bars(len(cells), data["arm"].nunique())
        known = looks(results)
        for cell, axes in zip(cells, grid, strict=True):
            _stack(axes, [known[a] for a in cell["arm"]], cell[parts], palette)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
            axes.set_xlabel("tokens per question")
            axes.set_title(drawing.where(cell))
        _legend(figure, palette)
        note = "computed: prompt tokens worked on; completion: written; cached: from the prompt "
        note += "cache, which methods share: who comes later finds more."
        if _judged(split):
            note += " judge: grading, no part of a method's cost."
        drawing.footer(figure, results, note)
        figure.data = data
        return figure


def _judged(split: pd.DataFrame) -> bool:
    return bool((split["role"] == "judge").any())


def _bars(count: int, arms: int) -> tuple[Plot, list[Axes]]:
    """Panels with room for as many bars each, and a gap above the controls."""
    figure, grid = drawing.panels(count, 4.6, 1.5 + 0.21 * arms, columns=2)
    for axes in grid:
        axes.set_ylim(arms + 0.1, -0.6)
    return figure, grid


def _stack(axes: Axes, arms: list[Look], parts: pd.DataFrame, colours: dict[str, str]) -> None:
    """Bars of ``parts`` from left to right; controls stand apart below, in grey."""
    places = np.arange(len(arms)) + np.array([0.5 if a.control else 0.0 for a in arms])
    left = np.zeros(len(arms))
    for part, colour in colours.items():
        width = parts[part].to_numpy(dtype=float)
        axes.barh(places, width, left=left, color=colour, height=0.7, lw=0)
        left += width
    axes.set_yticks(places, [a.label for a in arms])
    for tick, arm in zip(axes.get_yticklabels(), arms, strict=True):
        if arm.control:
            tick.set(color=MUTED, style="italic")
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)


def _legend(figure: Plot, colours: dict[str, str]) -> None:
    """As many entries side by side as the figure is wide."""
    handles = [mpl.patches.Patch(color=c, label=n) for n, c in colours.items()]
    inches = _ENTRY + _CHARACTER * max(map(len, colours))
    ncols = min(len(handles), max(1, int(figure.get_figwidth() / inches)))
    figure.legend(handles=handles, loc="outside upper left", ncols=ncols)


def _part_colour(role: str, kind: str) -> str:
    """One hue per role, strongest for what was computed."""
    return shaded(ROLES[role], {"computed": 0.0, "cached": 0.65, "completion": 0.3}[kind])
