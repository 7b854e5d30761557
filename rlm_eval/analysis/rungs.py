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
from rlm_eval.analysis.figures import UNSCORED, unscored
from rlm_eval.analysis.limits import ARMS, limited
from rlm_eval.analysis.looks import HUES, MUTED, Look, looks, order, with_contrast
from rlm_eval.analysis.text import count
from rlm_eval.analysis.ticks import log_ticks

#: Tasks side by side, score above and cost below; another number has a row of panels for each.
ABREAST = (2, 3, 4)
#: Rows of all panels, at most.
ROWS = 100
KINDS = ("score", "tokens")
#: Contrast on white of the dots of the shortest and the longest length.
PALEST, DARKEST = 3.0, 7.0


def score_and_cost(results: pd.DataFrame) -> Plot:
    """Every arm's mean score with its interval, and its tokens per question (prompt and
    completion, all calls, logarithmic), a row per arm and a dot per length; controls stand apart
    below. Readable with many arms, where labelled lines are not."""
    with drawing.style():
        if results.empty or unscored(table := summarize(results)):
            return drawing.empty(UNSCORED)
        table["tokens"] = table["prompt_tokens"] + table["completion_tokens"]
        known = looks(results)
        shown = limited(table, ["task"], rows=ROWS)
        abreast = len(shown.cells) in ABREAST and len(shown.arms) <= ARMS
        rows = [
            _Rows.of(shown.arms if abreast else order(cell), cell, known) for cell in shown.cells
        ]
        tasks = list(zip(rows, shown.cells, strict=True))
        if abreast:
            views = [(*task, kind) for kind in KINDS for task in tasks]
        else:
            views = [(*task, kind) for task in tasks for kind in KINDS]
        columns = len(tasks) if abreast else len(KINDS)
        lengths = sorted(int(v) for c in shown.cells for v in c["target_tokens"].unique())
        shades = _Shades(sorted(set(lengths)))
        figure, grid = drawing.panels([view[0].inches for view in views], 2.7, columns)
        for i, ((row, cell, kind), axes) in enumerate(zip(views, grid, strict=True)):
            row.frame(axes, named=i % columns == 0)
            _panel(axes, cell, row, shades, kind)
            drawing.title(axes, str(cell["task"].iloc[0]))
        figure.data = table
        note = f"{drawing.intervals(results)} Tokens: prompt and completion of all calls."
        drawing.finish(figure, results, shown, known, note, shades.legend())
        return figure


@dataclass(frozen=True)
class _Shades:
    """The colour of the dots: the family's hue, the darker the longer the context."""

    lengths: Sequence[int]

    def of(self, look: Look, length: int) -> str:
        return self._shade(HUES.get(look.family, look.colour), length)

    def _shade(self, colour: str, length: int) -> str:
        steps = len(self.lengths) - 1
        share = self.lengths.index(length) / steps if steps else 0.5
        return with_contrast(colour, PALEST * (DARKEST / PALEST) ** share)

    def legend(self) -> list[Line2D]:
        return [
            Line2D([], [], ls="", marker="o", color=self._shade(MUTED, v), label=f"{v:,} tokens")
            for v in self.lengths
        ]


@dataclass(frozen=True)
class _Rows:
    """Where each arm's row and each length's dot within it stand."""

    known: Mapping[str, Look]
    places: Mapping[str, float]
    lengths: Sequence[int]

    @classmethod
    def of(cls, arms: Sequence[str], cell: pd.DataFrame, known: Mapping[str, Look]) -> _Rows:
        methods = [a for a in known if a in arms and not known[a].control]
        controls = [a for a in known if a in arms and known[a].control]
        places = {a: float(i) for i, a in enumerate(_by_family(methods, known))}
        places |= {a: len(methods) + 0.5 + i for i, a in enumerate(controls)}
        return cls(known, places, sorted(int(v) for v in cell["target_tokens"].unique()))

    @property
    def inches(self) -> float:
        each = 0.13 + 0.055 * len(self.lengths)
        return each * (max(self.places.values()) + 1.2)

    def place(self, arm: str, length: int) -> float:
        share = (self.lengths.index(length) + 0.5) / len(self.lengths) - 0.5
        return self.places[arm] + 0.66 * share

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


def _by_family(methods: Sequence[str], known: Mapping[str, Look]) -> list[str]:
    """Members of a family below each other, families in the order in which they come."""
    families = [known[a].family for a in methods]
    first = {family: families.index(family) for family in families}
    return sorted(methods, key=lambda a: first[known[a].family])


def _panel(axes: Axes, table: pd.DataFrame, rows: _Rows, shades: _Shades, kind: str) -> None:
    if kind == "score":
        axes.set_xlim(-2, 102)
        axes.set_xlabel("mean score (%)")
    else:
        axes.set_xlabel("tokens per question")
        axes.set_xscale("log")
    for row in table.to_dict("records"):
        arm, length = str(row["arm"]), int(row["target_tokens"])
        place, colour = rows.place(arm, length), shades.of(rows.known[arm], length)
        value = 100 * row["mean_score"] if kind == "score" else row["tokens"]
        if not value >= (0 if kind == "score" else 1):
            continue  # not scored, or asks no model
        if kind == "score":
            axes.hlines(place, 100 * row["score_low"], 100 * row["score_high"], colour, lw=1.1)
        axes.plot([value], [place], ls="", marker="o", ms=4, color=colour, zorder=3)
    if kind == "tokens" and bool((table["tokens"] >= 1).any()):
        log_ticks(axes.xaxis, count)
