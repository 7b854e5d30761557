"""The figure for many methods: a row each, its score beside what a question costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rlm_eval.analysis import drawing
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.drawing import Plot
from rlm_eval.analysis.looks import MUTED, Look, looks, shaded
from rlm_eval.analysis.text import count

#: Tasks side by side, score above and cost below; another number has a row of panels for each.
ABREAST = (2, 3, 4)
#: How far the colour of the shortest length goes to white; the longest has the full colour.
PALEST = 0.55


def score_and_cost(results: pd.DataFrame) -> Plot:
    """Every arm's mean score with its interval, and its tokens per question (prompt and
    completion, all calls, logarithmic), a row per arm and a dot per length; controls stand apart
    below. Readable with many arms, where labelled lines are not."""
    with drawing.style():
        table = summarize(results)
        table["tokens"] = table["prompt_tokens"] + table["completion_tokens"]
        if not bool(table["mean_score"].notna().any()):
            return drawing.empty("No question has a score yet.")
        rows = _Rows.of(table, looks(results))
        tasks = list(table["task"].drop_duplicates())
        kinds = ["score", "tokens"]
        if len(tasks) in ABREAST:
            shown = [(task, kind) for kind in kinds for task in tasks]
        else:
            shown = [(task, kind) for task in tasks for kind in kinds]
        columns = len(tasks) if len(tasks) in ABREAST else len(kinds)
        figure, grid = drawing.panels(len(shown), 3.7, 1.1 + rows.inches, columns)
        for i, ((task, kind), axes) in enumerate(zip(shown, grid, strict=True)):
            rows.frame(axes, named=i % columns == 0)
            _panel(axes, table[table["task"] == task], rows, kind)
            axes.set_title(str(task))
        rows.legend(figure)
        note = f"{drawing.intervals(results)} Tokens: prompt and completion of all calls."
        drawing.footer(figure, results, note)
        figure.data = table
        return figure


@dataclass(frozen=True)
class _Rows:
    """Where each arm's row and each length's dot within it stand."""

    known: Mapping[str, Look]
    places: Mapping[str, float]
    lengths: Sequence[int]

    @classmethod
    def of(cls, table: pd.DataFrame, known: Mapping[str, Look]) -> _Rows:
        arms = set(table["arm"])
        methods = [a for a, look in known.items() if a in arms and not look.control]
        controls = [a for a, look in known.items() if a in arms and look.control]
        places = {a: float(i) for i, a in enumerate(_by_family(methods, known))}
        places |= {a: len(methods) + 0.5 + i for i, a in enumerate(controls)}
        return cls(known, places, sorted(int(v) for v in table["target_tokens"].unique()))

    @property
    def inches(self) -> float:
        """The height of an axes: never so little that ticks and titles leave it none."""
        return max(1.0, (0.13 + 0.055 * len(self.lengths)) * (len(self.places) + 0.5))

    def place(self, arm: str, length: int) -> float:
        share = (self.lengths.index(length) + 0.5) / len(self.lengths) - 0.5
        return self.places[arm] + 0.66 * share

    def colour(self, arm: str, length: int) -> str:
        return _paler(self.known[arm].colour, self.lengths, length)

    def frame(self, axes: Axes, *, named: bool) -> None:
        arms = list(self.places)
        axes.set_ylim(max(self.places.values()) + 0.6, -0.6)
        axes.set_yticks(list(self.places.values()), [self.known[a].label for a in arms])
        for tick, arm in zip(axes.get_yticklabels(), arms, strict=True):
            if self.known[arm].control:
                tick.set(color=MUTED, style="italic")
        axes.tick_params(axis="y", labelleft=named, length=0)
        for place in list(self.places.values())[1:]:
            axes.axhline(place - 0.5, color="#EEEEEE", lw=0.6)
        axes.grid(axis="x")
        axes.grid(axis="y", visible=False)

    def legend(self, figure: Plot) -> None:
        dots = [
            Line2D(
                [],
                [],
                ls="",
                marker="o",
                color=_paler(MUTED, self.lengths, v),
                label=f"{v:,} tokens",
            )
            for v in self.lengths
        ]
        figure.legend(handles=dots, loc="outside upper left", ncols=min(5, len(dots)))


def _by_family(methods: Sequence[str], known: Mapping[str, Look]) -> list[str]:
    """Members of a family below each other, families in the order in which they come."""
    families = [known[a].family for a in methods]
    first = {family: families.index(family) for family in families}
    return sorted(methods, key=lambda a: first[known[a].family])


def _paler(colour: str, lengths: Sequence[int], length: int) -> str:
    steps = len(lengths) - 1
    return shaded(colour, PALEST * (steps - lengths.index(length)) / steps) if steps else colour


def _panel(axes: Axes, table: pd.DataFrame, rows: _Rows, kind: str) -> None:
    if kind == "score":
        axes.set_xlim(-2, 102)
        axes.set_xlabel("mean score (%)")
    else:
        axes.set_xlabel("tokens per question")
        axes.set_xscale("log")
    for row in table.to_dict("records"):
        arm, length = str(row["arm"]), int(row["target_tokens"])
        place, colour = rows.place(arm, length), rows.colour(arm, length)
        value = 100 * row["mean_score"] if kind == "score" else row["tokens"]
        if not value >= (0 if kind == "score" else 1):
            continue  # not scored, or asks no model
        if kind == "score":
            axes.hlines(place, 100 * row["score_low"], 100 * row["score_high"], colour, lw=1.1)
        axes.plot([value], [place], ls="", marker="o", ms=4, color=colour, zorder=3)
    if kind == "tokens" and (used := table["tokens"][table["tokens"] > 0]).size:
        drawing.log_ticks(axes.xaxis, float(used.min()), float(used.max()), count)
