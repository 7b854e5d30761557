"""Figures with a row for each method: score and cost, differences, failures, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rlm_eval.analysis.arms import apart
from rlm_eval.analysis.figures import drawing
from rlm_eval.analysis.figures.curves import UNSCORED, legend, unscored
from rlm_eval.analysis.figures.drawing import Facet, Plot, Sheet, empty, finish, log_axis, style
from rlm_eval.analysis.figures.styles import HUES, Style, shaded, styles
from rlm_eval.analysis.paired import CELL
from rlm_eval.analysis.stats import ALPHA
from rlm_eval.analysis.tables import ARM, token_split
from rlm_eval.records import NO_GOLD

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
    known = styles(results)
    lengths = sorted(table["target_tokens"].unique())
    opacity = dict(zip(lengths, np.linspace(1, 0.4, len(lengths))[::-1], strict=True))
    sheet = _panels(apart(table, results), ["task"], known, "arm", len(lengths), views=2)
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
    sheet = _panels(shown, CELL, known, "against", len(first), views=2)
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
            for axes, measured, certain in (
                (score, points, sure & (pair["p_holm"] <= ALPHA)),
                (cost, costs, (costs["cost_low"] > 1) | (costs["cost_high"] < 1)),
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
        "Against the method at the left. Lines: 95 % intervals over contexts. Filled: for certain "
        "(score: after Holm over the alternatives). Costs as each method would pay alone."
    )
    return finish(sheet, table, results, [note], legend(known, shown))


@style()
def failures(results: pd.DataFrame) -> Plot:
    """How questions ended, per arm and length: right, wrong, each kind of failure, pending."""
    results = results[results["score_rule"] != NO_GOLD]
    if results.empty:
        return empty("There are no answers with a gold one yet.")
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
    known = styles(results)
    sheet = _panels(apart(data, results), CELL, known, "arm", 1)
    for facet, (axes,) in sheet.panels:
        arms = _name_rows([axes], facet, "arm", known)
        rows = facet.cell.set_index("arm").reindex(arms, fill_value=0)
        left = np.zeros(len(rows))
        for part, colour in used.items():
            axes.barh(range(len(rows)), rows[part], left=left, color=colour, height=0.7)
            left += rows[part].to_numpy()
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlim(0, 1.05 * facet.beside[list(used)].sum(axis=1).max())
        axes.set_xlabel(what)
    handles = [Patch(color=colour, label=part) for part, colour in used.items()]
    return finish(sheet, data, results, [note], handles)


def _panels(
    table: pd.DataFrame,
    by: Sequence[str],
    known: Mapping[str, Style],
    column: str,
    marks: int,
    views: int = 1,
) -> Sheet:
    """Panels with room for a row per arm of each facet, as high as its name and ``marks`` marks."""

    def height(facet: Facet) -> float:
        lines = (1 + known[arm]["label"].count("\n") for arm in facet.beside[column].unique())
        return float(sum(max(0.08 + 0.13 * n, 0.13 + 0.06 * marks) for n in lines)) + 0.1

    return drawing.panels(table, by, height, 3.2, views)


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
