"""Figures about how arms got their scores: costs, sub-calls, failures, tokens, differences.

Like those of ``figures``: each a function from a frame of ``load_results`` to a Figure.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from rlm_eval.analysis import drawing
from rlm_eval.analysis.drawing import MUTED, Plot
from rlm_eval.analysis.figures import ticks_at
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.tables import token_split
from rlm_eval.analysis.text import count

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
        frame = results[results["asked"] & (results["tokens"] > 0)]
        if frame.empty:
            return drawing.empty("No question used tokens.")
        cells = list(frame.groupby(["task", "target_tokens"], sort=False))
        figure, grid = drawing.panels(len(cells), 4.4, 3.3)
        looks = drawing.looks(drawing.order(results))
        shown = []
        for (_, cell), axes in zip(cells, grid, strict=True):
            axes.set_yscale("log")
            axes.set_xlim(0, 100)
            ends = []
            for arm, group in cell.groupby("arm", sort=False):
                values = np.sort(group["tokens"].to_numpy(dtype=float))
                share = 100 * (np.arange(len(values)) + 0.5) / len(values)
                look = {"color": looks[str(arm)]["color"]}
                axes.plot(share, values, marker="." if len(values) < 60 else "", **look)
                label = drawing.name(str(arm), results)
                ends.append((float(share[-1]), float(values[-1]), label, look["color"]))
                shown.append(group[["task", "target_tokens", "arm", "sample_id", "tokens"]])
            low, high = float(cell["tokens"].min()), float(cell["tokens"].max())
            drawing.log_ticks(axes.yaxis, low, high, count)
            axes.set_xlabel("share of questions (%)")
            axes.set_ylabel("tokens per question, at most")
            axes.set_title(drawing.where(cell))
            drawing.label_ends(axes, ends)
        drawing.footer(figure, frame)
        figure.data = pd.concat(shown, ignore_index=True)
        return figure


def subcalls_vs_length(results: pd.DataFrame) -> Plot:
    """Sub-calls per question against length: mean, and the middle half as a band."""
    frame = results[results["asked"]]
    arms = [a for a in drawing.order(frame) if frame.loc[frame["arm"] == a, "subcalls"].sum() > 0]
    if not arms:
        return drawing.empty("No arm made a sub-call.")
    with drawing.style():
        tasks = list(frame["task"].drop_duplicates())
        figure, grid = drawing.panels(len(tasks), 5.2, 3.3, columns=2)
        looks = drawing.looks(drawing.order(results))
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
            ends = []
            for arm in arms:
                rows = data[(data["task"] == task) & (data["arm"] == arm)]
                if rows.empty:
                    continue
                x, look = rows["target_tokens"], looks[arm]
                axes.plot(x, rows["mean"], **look)
                axes.fill_between(
                    x, rows["p25"], rows["p75"], color=look["color"], alpha=0.15, lw=0
                )
                end = (float(x.iloc[-1]), float(rows["mean"].iloc[-1]))
                ends.append((*end, drawing.name(arm, results), look["color"]))
            ticks_at(axes, sorted(int(v) for v in data["target_tokens"].unique()))
            axes.set_ylim(bottom=0)
            axes.set_xlabel("context length (tokens)")
            axes.set_ylabel("sub-calls per question")
            axes.set_title(str(task))
            drawing.label_ends(axes, ends)
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
        cells = list(data.groupby(["task", "target_tokens"], sort=False))
        tall = 1.3 + 0.28 * results["arm"].nunique()
        figure, grid = drawing.panels(len(cells), 4.6, tall, columns=2)
        for (_, cell), axes in zip(cells, grid, strict=True):
            counts = cell[list(ENDS)]
            shares = 100 * counts.div(counts.sum(axis=1), axis=0)
            _stack(axes, [drawing.name(a, results) for a in cell["arm"]], shares, ENDS)
            axes.set_xlabel("share of questions (%)")
            axes.set_xlim(0, 100)
            axes.set_title(drawing.where(cell))
        seen = [e for e in ENDS if data[e].sum() > 0]
        _legend(figure, {e: ENDS[e] for e in seen})
        drawing.footer(figure, results, "provider_error and sandbox_error are owed, not failures.")
        figure.data = data
        return figure


def tokens_by_role(results: pd.DataFrame, calls: pd.DataFrame) -> Plot:
    """Where the tokens went, per question: root and sub, computed, cached, written."""
    if calls.empty:
        return drawing.empty("The run holds no calls.")
    split = token_split(results, calls)
    kinds = ("computed", "cached", "completion")
    long = split.melt([*split.columns[:4]], kinds, "kind", "tokens")
    long["part"] = long["role"] + " " + long["kind"]
    parts = [f"{role} {kind}" for role in long["role"].unique() for kind in kinds]
    data = long.pivot_table(
        index=["task", "target_tokens", "arm"], columns="part", values="tokens", sort=False
    )
    parts = [p for p in parts if data[p].sum() > 0]
    data = data.reindex(columns=parts).fillna(0)
    with drawing.style():
        palette = dict(zip(parts, _role_colours(parts), strict=True))
        data = data.reset_index()
        cells = list(data.groupby(["task", "target_tokens"], sort=False))
        tall = 1.3 + 0.28 * results["arm"].nunique()
        figure, grid = drawing.panels(len(cells), 4.6, tall, columns=2)
        for (_, cell), axes in zip(cells, grid, strict=True):
            names = [drawing.name(a, results) for a in cell["arm"]]
            _stack(axes, names, cell[list(palette)], palette)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
            axes.set_xlabel("tokens per question")
            axes.set_title(drawing.where(cell))
        _legend(figure, palette)
        note = (
            "computed: prompt tokens worked on; cached: from the prompt cache; completion: written."
        )
        drawing.footer(figure, results, note)
        figure.data = data
        return figure


def paired_forest(results: pd.DataFrame) -> Plot:
    """Paired differences on shared samples; only those with an RLM where there is one."""
    table = paired_table(results)
    kinds = results.drop_duplicates("arm").set_index("arm")["arm_kind"]
    if not table.empty and (kinds == "rlm").any():
        rlm = (table["arm"].map(kinds) == "rlm") | (table["against"].map(kinds) == "rlm")
        table = table[rlm]
    if table.empty:
        return drawing.empty("No two arms share a sample.")
    with drawing.style():
        cells = list(table.groupby(["task", "target_tokens"], sort=False))
        most = max(len(cell) for _, cell in cells)
        figure, grid = drawing.panels(len(cells), 5.4, 1.2 + 0.32 * most, columns=2)
        for (_, cell), axes in zip(cells, grid, strict=True):
            places = np.arange(len(cell))[::-1]
            found = 100 * cell["difference"]
            colours = ["#0072B2" if p <= 0.05 else MUTED for p in cell["p_holm"]]
            axes.hlines(places, 100 * cell["low"], 100 * cell["high"], color=colours, lw=1.4)
            axes.scatter(found, places, color=colours, zorder=3, s=22)
            axes.axvline(0, color="black", lw=0.8)
            arms = ([drawing.name(a, results) for a in cell[c]] for c in ("arm", "against"))
            labels = [f"{one} − {two}" for one, two in zip(*arms, strict=True)]
            axes.set_yticks(places, labels)
            axes.set_ylim(-0.6, len(cell) - 0.4)
            axes.grid(axis="x")
            axes.set_xlabel("difference in mean score (points)")
            axes.set_title(drawing.where(cell))
        note = (
            "Lines: 95 % intervals over contexts. Blue: p ≤ 0.05 after Holm over the task's pairs."
        )
        drawing.footer(figure, results, note)
        figure.data = table
        return figure


def _stack(axes: Axes, names: list[str], parts: pd.DataFrame, colours: dict[str, str]) -> None:
    places = np.arange(len(names))[::-1]
    left = np.zeros(len(names))
    for part, colour in colours.items():
        width = parts[part].to_numpy(dtype=float)
        axes.barh(places, width, left=left, color=colour, height=0.68, lw=0)
        left += width
    axes.set_yticks(places, names)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)


def _legend(figure: Plot, colours: dict[str, str]) -> None:
    handles = [mpl.patches.Patch(color=c, label=n) for n, c in colours.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))


def _role_colours(parts: list[str]) -> list[str]:
    """One hue per role, strongest for what was computed."""
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    roles = list(dict.fromkeys(p.split()[0] for p in parts))
    strength = {"computed": 1.0, "cached": 0.35, "completion": 0.7}
    colours = []
    for part in parts:
        role, kind = part.split()
        red, green, blue = (
            1 - strength[kind] * (1 - c)
            for c in mpl.colors.to_rgb(cycle[roles.index(role) % len(cycle)])
        )
        colours.append(mpl.colors.to_hex((red, green, blue)))
    return colours
