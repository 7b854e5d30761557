"""Figures about how arms got their scores: costs, sub-calls, failures, tokens.

Like those of ``figures``: each a function from a frame of ``load_results`` to a Figure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from rlm_eval.analysis import drawing
from rlm_eval.analysis.arms import competitors
from rlm_eval.analysis.drawing import Plot
from rlm_eval.analysis.figures import dodges, tokens
from rlm_eval.analysis.limits import Shown, cells, limited
from rlm_eval.analysis.looks import MUTED, End, Look, label_ends, looks, order, room_for, shaded
from rlm_eval.analysis.tables import ARM, token_split
from rlm_eval.analysis.text import count
from rlm_eval.analysis.ticks import log_ticks, ticks_at

#: Roles of calls in the order of the stacked bars, and their hues.
ROLES = {
    "root": "#0072B2",
    "sub": "#D55E00",
    "summarize": "#009E73",
    "embed": "#CC79A7",
    "judge": "#777777",
}

#: Inches from one bar to the next.
BAR = 0.21

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
        shown = limited(frame)
        tall = [room_for(n, 2.5) for n in shown.sizes]
        figure, grid = drawing.panels(tall, 2.9)
        known = looks(results)
        for cell, axes in zip(shown.cells, grid, strict=True):
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
            log_ticks(axes.yaxis, count)
            axes.set_xlabel("share of questions (%)")
            axes.set_ylabel("tokens per question, at most")
            drawing.title(axes, drawing.where(cell))
            label_ends(axes, ends)
        columns = ["task", "target_tokens", "arm", "sample_id", "tokens"]
        figure.data = pd.concat(cells(frame, ARM), ignore_index=True)[columns]
        drawing.finish(figure, frame, shown, known)
        return figure


def subcalls_vs_length(results: pd.DataFrame) -> Plot:
    """Sub-calls per question against length: mean, and the middle half as a band."""
    frame = results[results["asked"]]
    arms = [a for a in order(frame) if frame.loc[frame["arm"] == a, "subcalls"].sum() > 0]
    if not arms:
        return drawing.empty("No arm made a sub-call.")
    with drawing.style():
        known = looks(results)
        spread = frame[frame["arm"].isin(arms)].groupby(["task", "arm", "target_tokens"])
        data = spread.agg(
            mean=("subcalls", "mean"),
            p25=("subcalls", lambda v: v.quantile(0.25)),
            p75=("subcalls", lambda v: v.quantile(0.75)),
            maximum=("subcalls", "max"),
            asked=("subcalls", "size"),
        ).reset_index()
        shown = limited(data, ["task"])
        tall = [room_for(n, 2.5) for n in shown.sizes]
        figure, grid = drawing.panels(tall, 3.6, columns=2)
        for cell, axes in zip(shown.cells, grid, strict=True):
            _subcalls_panel(axes, cell, known)
            drawing.title(axes, str(cell["task"].iloc[0]))
        figure.data = data
        note = "Lines: means. Bands and bars: the middle half of the questions, not a confidence "
        note += "interval."
        drawing.finish(figure, frame, shown, known, note)
        return figure


def _subcalls_panel(axes: Axes, cell: pd.DataFrame, known: Mapping[str, Look]) -> None:
    axes.set_xscale("log", base=2)
    lengths = sorted(int(v) for v in cell["target_tokens"].unique())
    arms = order(cell)
    beside = dodges(arms, 1.25) if len(lengths) == 1 else dict.fromkeys(arms, 1.0)
    ends = []
    for arm, rows in cell.groupby("arm", sort=False):
        x, look = rows["target_tokens"] * beside[str(arm)], known[str(arm)]
        axes.plot(x, rows["mean"], **look.style)
        if len(rows) > 1:
            axes.fill_between(x, rows["p25"], rows["p75"], color=look.colour, alpha=0.12, lw=0)
        else:
            axes.vlines(x, rows["p25"], rows["p75"], color=look.colour, lw=0.9, alpha=0.7)
        ends.append(End(float(x.iloc[-1]), float(rows["mean"].iloc[-1]), look))
    if len(lengths) == 1:
        axes.set_xlim(lengths[0] / 1.6, lengths[0] * 1.6)
    ticks_at(axes, lengths, tokens)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("sub-calls per question")
    label_ends(axes, ends)


def failures(results: pd.DataFrame) -> Plot:
    """How questions ended, per arm and length: right, wrong, each kind of failure, owed."""
    if results.empty:
        return drawing.empty("There are no answers yet.")
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
        shown = limited(data)
        figure, grid = _bars(shown)
        known = looks(results)
        for cell, axes in zip(shown.cells, grid, strict=True):
            counts = cell[list(ENDS)]
            shares = 100 * counts.div(counts.sum(axis=1), axis=0)
            _stack(axes, [known[a] for a in cell["arm"]], shares, ENDS)
            axes.set_xlabel("share of questions (%)")
            axes.set_xlim(0, 100)
            drawing.title(axes, drawing.where(cell))
        figure.data = data
        note = "provider_error and sandbox_error are owed, not failures."
        seen = _patches({e: colour for e, colour in ENDS.items() if data[e].sum() > 0})
        drawing.finish(figure, results, shown, known, note, seen)
        return figure


def tokens_by_role(results: pd.DataFrame, calls: pd.DataFrame) -> Plot:
    """Where the tokens went, per question: each role's, computed, cached, written."""
    if calls.empty:
        return drawing.empty("The run holds no calls.")
    split = token_split(results, calls)
    if split.empty:
        return drawing.empty("No question has an answer that counts.")
    kinds = ("computed", "cached", "completion")
    long = split.melt([*ARM, "role"], kinds, "kind", "tokens")
    long["part"] = long["role"] + " " + long["kind"]
    parts = [f"{role} {kind}" for role in ROLES for kind in kinds]
    data = long.pivot_table(index=ARM, columns="part", values="tokens", sort=False)
    parts = [p for p in parts if p in data and data[p].sum() > 0]
    data = data.reindex(columns=parts).fillna(0).reset_index()
    with drawing.style():
        palette = {part: _part_colour(*part.split()) for part in parts}
        shown = limited(data)
        figure, grid = _bars(shown)
        known = looks(results)
        for cell, axes in zip(shown.cells, grid, strict=True):
            _stack(axes, [known[a] for a in cell["arm"]], cell[parts], palette)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
            axes.set_xlabel("tokens per question")
            drawing.title(axes, drawing.where(cell))
        figure.data = data
        note = "computed: prompt tokens worked on; completion: written; cached: from the prompt "
        note += "cache, which methods share: who comes later finds more."
        if _judged(split):
            note += " judge: grading, no part of a method's cost."
        drawing.finish(figure, results, shown, known, note, _patches(palette))
        return figure


def _judged(split: pd.DataFrame) -> bool:
    return bool((split["role"] == "judge").any())


def _bars(shown: Shown) -> tuple[Plot, list[Axes]]:
    """Panels with room for their bars, and a gap above the controls."""
    figure, grid = drawing.panels([BAR * (n + 0.7) for n in shown.sizes], 3.2, columns=2)
    for axes in grid:
        axes.set_ylim(axes.get_window_extent().height / axes.figure.dpi / BAR - 0.6, -0.6)
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


def _patches(colours: Mapping[str, str]) -> list[Patch]:
    return [Patch(color=colour, label=name) for name, colour in colours.items()]


def _part_colour(role: str, kind: str) -> str:
    """One hue per role, strongest for what was computed."""
    return shaded(ROLES[role], {"computed": 0.0, "cached": 0.65, "completion": 0.3}[kind])
