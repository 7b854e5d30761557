"""Figures with a row for each method: score and cost, differences, failures, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rlm_eval.analysis.figures.curves import UNSCORED, legend, unscored
from rlm_eval.analysis.figures.drawing import (
    Plot,
    Sheet,
    empty,
    facets,
    finish,
    intervals,
    log_axis,
    panels,
    style,
    title,
)
from rlm_eval.analysis.figures.styles import HUES, Style, shaded, styles
from rlm_eval.analysis.stats import ALPHA
from rlm_eval.analysis.tables import ARM, token_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Roles of calls in the order of the stacked bars, and their hues.
ROLES = {
    "root": "#0072B2",
    "sub": "#D55E00",
    "summarize": "#009E73",
    "embed": "#CC79A7",
    "judge": "#777777",
}
#: What a role's tokens were, and how much paler than its hue each part is.
PARTS = {"computed": 0.0, "cached": 0.65, "completion": 0.3}
#: How a question ended, in the order of the stacked bars; the colour tells the kind of end.
ENDS = {
    "right": "#009E73",
    "wrong": "#D9D9D9",
    "no_answer": "#E69F00",
    "thoughts_only": "#F0C675",
    "refusal": "#8C564B",
    "tool_call": "#B8860B",
    "content_filter": "#56B4E9",
    "invalid_answer": "#D55E00",
    "context_overflow": "#CC79A7",
    "budget_exceeded": "#0072B2",
    "provider_error": "#777777",
    "sandbox_error": "#333333",
}


@style()
def score_and_cost(results: pd.DataFrame, summary: pd.DataFrame) -> Plot:
    """Every arm's mean score with its interval, and its tokens per question (prompt and
    completion, all calls), a row per arm and a dot per length. Readable with many arms, where
    lines are not."""
    from matplotlib.lines import Line2D

    if summary.empty or unscored(summary):
        return empty(UNSCORED)
    table = summary.assign(tokens=summary["prompt_tokens"] + summary["completion_tokens"])
    cells, left_out = facets(table, ["task"])
    known = styles(results)
    lengths = sorted(table["target_tokens"].unique())
    opacity = dict(zip(lengths, np.linspace(1, 0.4, len(lengths))[::-1], strict=True))
    sheet = _panels([cell for cell in cells for _ in range(2)], known, "arm", len(lengths))
    for cell, score, tokens in zip(cells, sheet.grid[::2], sheet.grid[1::2], strict=True):
        arms = _name_rows(score, cell["arm"], known)
        _name_rows(tokens, cell["arm"], known)
        tokens.tick_params(axis="y", labelleft=False)
        colours = [known[arm]["color"] for arm in arms]
        for beside, (length, alpha) in zip(_beside(len(lengths)), opacity.items(), strict=True):
            rows = cell[cell["target_tokens"] == length].set_index("arm").reindex(arms)
            y = np.arange(len(arms)) + beside
            score.hlines(y, 100 * rows["score_low"], 100 * rows["score_high"], colours, alpha=alpha)
            score.scatter(100 * rows["mean_score"], y, 16, colours, alpha=alpha, zorder=3)
            tokens.scatter(rows["tokens"], y, 16, colours, alpha=alpha, zorder=3)
        score.set(xlim=(-3, 103), xlabel="mean score (%)")
        log_axis(tokens, cell["tokens"])
        tokens.set(xlabel="tokens per question")
        for axes in (score, tokens):
            title(axes, cell)
    handles = [
        Line2D([], [], ls="", marker="o", color=HUES["control"], alpha=alpha, label=f"{v:,} tokens")
        for v, alpha in opacity.items()
    ]
    return finish(sheet, summary, results, [intervals(results), left_out], handles)


@style()
def paired_forest(results: pd.DataFrame, pairs: pd.DataFrame) -> Plot:
    """Paired differences on shared samples and, beside them, cost ratios; only those with an RLM
    where there is one. ``pairs`` is ``paired_table(results)``."""
    if pairs.empty:
        return empty("No two methods share a sample.")
    rlms = set(results.loc[results["arm_kind"] == "rlm", "arm"])
    table = _rlm_first(pairs, rlms) if rlms else pairs
    if table.empty:
        return empty("No RLM shares a sample with another method.")
    cells, left_out = facets(table)
    known = styles(results)
    first = [arm for arm in known if arm in set(table["arm"])]
    sheet = _panels([cell for cell in cells for _ in range(2)], known, "against", len(first))
    ratios = ["cost_ratio", "cost_low", "cost_high"]
    reach = 3 + 100 * float(table[["difference", "low", "high"]].abs().max().max())
    for cell, score, cost in zip(cells, sheet.grid[::2], sheet.grid[1::2], strict=True):
        rows = _name_rows(score, cell["against"], known)
        _name_rows(cost, cell["against"], known)
        cost.tick_params(axis="y", labelleft=False)
        for arm, beside in zip(first, _beside(len(first)), strict=True):
            its = known[arm]
            pair = cell[cell["arm"] == arm]
            y = pair["against"].map(rows.index) + beside
            points = 100 * pair[["difference", "low", "high"]]
            costs = pair[ratios]
            sure = (points["low"] > 0) | (points["high"] < 0)
            for axes, found, certain in (
                (score, points, sure & (pair["p_holm"] <= ALPHA)),
                (cost, costs, (costs["cost_low"] > 1) | (costs["cost_high"] < 1)),
            ):
                mid, low, high = (found[column] for column in found)
                axes.hlines(y, low, high, its["color"], linewidth=1.2)
                fill = [its["color"] if is_certain else "white" for is_certain in certain]
                edges = {"marker": its["marker"], "edgecolors": its["color"]}
                axes.scatter(mid, y, 20, fill, zorder=3, **edges)
        score.axvline(0, color="black", linewidth=0.8)
        score.set(xlim=(-reach, reach), xlabel="difference of mean scores (points)")
        log_axis(cost, pd.concat([cell[c] for c in ratios]), "{x:.3g}×")
        cost.axvline(1, color="black", linewidth=0.8)
        units = " or ".join(cell["cost_unit"].unique())
        cost.set(xlabel=f"times its cost ({units})")
        for axes in (score, cost):
            title(axes, cell)
    notes = [
        "Against the method at the left. Lines: 95 % intervals over contexts. Filled: for certain "
        "(score: after Holm over the alternatives). Costs as each method would pay alone.",
        left_out,
    ]
    return finish(sheet, table, results, notes, legend(known, table))


def _rlm_first(pairs: pd.DataFrame, rlms: set[str]) -> pd.DataFrame:
    """The pairs with an RLM, it being the first of the two."""
    swapped = {"arm": "against", "against": "arm", "low": "high", "high": "low"}
    swapped |= {"arm_samples": "against_samples", "against_samples": "arm_samples"}
    second = pairs["against"].isin(rlms) & ~pairs["arm"].isin(rlms)
    turned = pairs[second].rename(columns=swapped)
    signed = ["difference", "low", "high", "effect_size"]
    turned[signed] = -turned[signed]
    for name, other in (("cost_ratio", "cost_ratio"), ("cost_low", "cost_high")):
        turned[name], turned[other] = 1 / turned[other], 1 / turned[name]
    return pd.concat([pairs[pairs["arm"].isin(rlms)], turned[pairs.columns]]).sort_index()


@style()
def failures(results: pd.DataFrame) -> Plot:
    """How questions ended, per arm and length: right, wrong, each kind of failure, pending."""
    if results.empty:
        return empty("There are no answers yet.")
    right = results["right"].map({1.0: "right", 0.0: "wrong"})
    ends = right.where(results["outcome"].isin(["answered", "forced"]), results["outcome"])
    counts = pd.crosstab([results[column] for column in ARM], ends)
    data = counts.reindex(columns=list(ENDS), fill_value=0).reset_index()
    note = "provider_error and sandbox_error are pending, not failures."
    return _stacks(data, ENDS, results, "questions", note)


@style()
def tokens_by_role(results: pd.DataFrame, calls: pd.DataFrame) -> Plot:
    """Where the tokens went, per question: each role's, computed, cached, written."""
    if calls.empty:
        return empty("The run holds no calls.")
    split = token_split(results, calls)
    if split.empty:
        return empty("No question has an answer that counts.")
    wide = split.pivot_table(index=ARM, columns="role", values=list(PARTS), fill_value=0)
    wide.columns = [" ".join(reversed(names)) for names in wide.columns]
    palette = {
        f"{role} {part}": shaded(hue, paler)
        for role, hue in ROLES.items()
        for part, paler in PARTS.items()
        if f"{role} {part}" in wide
    }
    note = (
        "computed: prompt tokens worked on; completion: written; cached: from the prompt cache, "
        "which methods share: who comes later finds more. judge: grading, no part of a method's "
        "cost."
    )
    return _stacks(wide.reset_index(), palette, results, "tokens per question", note)


def _stacks(
    data: pd.DataFrame, palette: Mapping[str, str], results: pd.DataFrame, what: str, note: str
) -> Plot:
    """A bar per arm, its parts from left to right as wide as the columns of ``data`` say."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import EngFormatter

    used = {part: colour for part, colour in palette.items() if data[part].sum() > 0}
    cells, left_out = facets(data)
    known = styles(results)
    sheet = _panels(cells, known, "arm", 1)
    for cell, axes in zip(cells, sheet.grid, strict=True):
        rows = cell.set_index("arm").loc[_name_rows(axes, cell["arm"], known)]
        left = np.zeros(len(rows))
        for part, colour in used.items():
            axes.barh(range(len(rows)), rows[part], left=left, color=colour, height=0.7)
            left += rows[part].to_numpy()
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(what)
        title(axes, cell)
    handles = [Patch(color=colour, label=part) for part, colour in used.items()]
    return finish(sheet, data, results, [note, left_out], handles)


def _panels(
    cells: Sequence[pd.DataFrame], known: Mapping[str, Style], column: str, marks: int
) -> Sheet:
    """Panels with room for a row per arm of each cell, as high as its name and ``marks`` marks."""
    heights = []
    for cell in cells:
        lines = (1 + known[arm]["label"].count("\n") for arm in cell[column].unique())
        heights.append(sum(max(0.08 + 0.13 * n, 0.13 + 0.06 * marks) for n in lines) + 0.1)
    return panels(heights, 3.2)


def _beside(marks: int) -> np.ndarray:
    """The places of several marks within a row, whose middle is 0."""
    return 0.7 * ((np.arange(marks) + 0.5) / marks - 0.5)


def _name_rows(axes: Axes, found: pd.Series, known: Mapping[str, Style]) -> list[str]:
    """The arms of the rows from the top, named at the left; lines between them."""
    arms = [arm for arm in known if arm in set(found)]
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_yticks(range(len(arms)), [known[arm]["label"] for arm in arms])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
    for between in range(1, len(arms)):
        axes.axhline(between - 0.5, color="#EEEEEE", linewidth=0.6)
    return arms
