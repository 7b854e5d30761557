"""What every figure shares: the style file, panels, legend and footer, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from rlm_eval.analysis.figures.styles import wrapped
from rlm_eval.analysis.paired import CELL, unit_of
from rlm_eval.analysis.stats import MIN_CONTEXTS
from rlm_eval.analysis.text import plural
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import replacing
from rlm_eval.journal.tables import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: Panels in a figure (twice as many of several models), and axes beside each other, at most.
PANELS, ACROSS = 12, 4
#: Inches of axes that are one of several models', at most; the letters of a title that fit an inch.
NARROW, HEAD = 2.6, 10.4
#: Inches around the panels before their size is known; the least width of a figure.
AROUND, LEAST = 6.0, 5.0
#: The footer's letters: their size in points, and how many fit an inch.
SMALL, FOOT = 7, 17
#: Pixels on either side of a picture, at most.
PIXELS = 30_000


@dataclass(frozen=True)
class Plot:
    """A figure and the ``data`` that it shows; without data there was nothing to draw."""

    figure: Figure
    data: pd.DataFrame

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        picture = BytesIO()
        with style():
            self.figure.savefig(picture)
        return picture.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The project's one style file, whatever the user's own matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context(fname=Path(__file__).with_name("style.mplstyle")):
        yield


class Facet(NamedTuple):
    """The rows of a panel, which are of one ``model`` where there are several; ``beside`` are those
    of all models, whose panels share a y axis."""

    cell: pd.DataFrame
    beside: pd.DataFrame
    model: str
    line: int
    column: int

    @property
    def inner(self) -> bool:
        """Whether the panel at its left has its y axis."""
        return self.column > 0 and self.model != ""

    @property
    def title(self) -> list[str]:
        """Its task, with its length where it has one, and its model."""
        lengths = [f"{int(length):,} tokens" for length in self.beside["target_tokens"].unique()]
        place = [str(self.beside["task"].iloc[0]), *(lengths if len(lengths) == 1 else ())]
        return [*(() if self.inner else [", ".join(place)]), self.model]


def _facets(table: pd.DataFrame, by: Sequence[str], views: int) -> tuple[list[Facet], str]:
    """A facet for each cell of the table and model, of as many axes as it has ``views``, and a
    sentence on the cells left out."""
    cells = [cell for _, cell in table.groupby(list(by))]
    models = sorted(set(table["facet"]) - {""})
    found: list[Facet] = []
    across = (ACROSS if models else 2) // views
    most = max(1, 2 * PANELS // len(models)) if models else PANELS
    place = 0
    for cell in cells[:most]:
        place += -place % across if models else 0  # each cell of several models begins a line
        for model in [model for model in models if (cell["facet"] == model).any()] or [""]:
            rows = cell[cell["facet"].isin(["", model])]
            found.append(Facet(rows, cell, model, *divmod(place, across)))
            place += 1
    left_out = f"The first {most} of {len(cells)} panels; the CSV has all."
    return found, left_out if len(cells) > most else ""


@dataclass(frozen=True)
class Sheet:
    """A figure being drawn: the axes of each of its facets, the inches that each column and each
    line of axes is to have, and what to say of the panels left out."""

    figure: Figure
    panels: list[tuple[Facet, list[Axes]]]
    widths: Sequence[float]
    heights: Sequence[float]
    left_out: str


def panels(
    table: pd.DataFrame,
    by: Sequence[str],
    height: float | Callable[[Facet], float],
    width: float,
    views: int = 1,
) -> Sheet:
    """Axes for each cell of the table (one of ``apart``) and model, so many inches wide (less for
    several models) and high, those of a line as high as the highest of them; its title above the
    first of its ``views``."""
    from matplotlib.figure import Figure

    facets, left_out = _facets(table, by, views)
    tall = [0.0] * (1 + facets[-1].line)
    for facet in facets:
        tall[facet.line] = max(tall[facet.line], height(facet) if callable(height) else height)
    width = min(width, NARROW) if any(facet.model for facet in facets) else width
    wide = [width] * views * (1 + max(facet.column for facet in facets))
    figure = Figure(figsize=(sum(wide) + AROUND, sum(tall) + AROUND))
    spec = figure.add_gridspec(len(tall), len(wide), height_ratios=tall)
    grid = []
    for facet in facets:
        places = range(views * facet.column, views * (facet.column + 1))
        axes = [figure.add_subplot(spec[facet.line, place]) for place in places]
        title = [wrapped(part, int(HEAD * width * views)) for part in facet.title if part]
        axes[0].set_title("\n".join(title))
        grid.append((facet, axes))
    return Sheet(figure, grid, wide, tall, left_out)


def finish(
    sheet: Sheet, data: pd.DataFrame, results: pd.DataFrame, notes: list[str], handles: list[Line2D]
) -> Plot:
    """Add a legend of ``handles`` and the footer; make the figure as large as all of it needs."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure, arrange = sheet.figure, ConstrainedLayoutEngine().execute
    for facet, (axes, *others) in sheet.panels:
        if facet.inner and not others:
            axes.set_ylabel("")
            axes.tick_params(axis="y", labelleft=False)
    foot = figure.supxlabel("", x=0.01, ha="left", size=SMALL)
    legends = [figure.legend(handles=handles, loc="outside right upper")] if handles else []
    text = "\n".join([*_basis(results), " ".join(filter(None, [*notes, sheet.left_out]))])
    for _ in range(2):
        wide, tall = figure.get_size_inches()
        lines = text.splitlines()
        foot.set_text("\n".join(wrapped(line, int(wide * FOOT)) for line in lines))
        arrange(figure)
        box = sheet.panels[0][1][0].get_position()
        wide += sum(sheet.widths) - wide * box.width * len(sheet.widths)
        tall += sum(sheet.heights) * (1 - tall * box.height / sheet.heights[0])
        beside = [part.get_window_extent().height / figure.dpi for part in (foot, *legends)]
        figure.set_size_inches(max(LEAST, wide), max(tall, sum(beside) + 0.2))
    arrange(figure)
    return Plot(figure, data)


def empty(message: str) -> Plot:
    """A figure of a message alone: why there is nothing to show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(LEAST, 1.6))
    figure.text(0.5, 0.5, message, ha="center", va="center")
    return Plot(figure, pd.DataFrame())


def save(plot: Plot, stem: Path, *, pdf: bool = False) -> None:
    """Write ``stem``.png and .csv (the data shown), and .pdf where asked for."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    if stem.parent.is_symlink():
        raise ConfigError(f"{stem.parent} is a link, which a folder of figures must not be")
    write_csv(plot.data, stem.with_suffix(".csv"))
    with style():
        figure = plot.figure
        dpi = min(figure.dpi, PIXELS / max(figure.get_size_inches()))
        with replacing(stem.with_suffix(".png")) as new:
            figure.savefig(new, dpi=dpi, format="png")
        if pdf:
            with replacing(stem.with_suffix(".pdf")) as new:
                figure.savefig(new, format="pdf", metadata={"CreationDate": None})


def log_axis(axes: Axes, values: pd.Series[float], ticks: str = "") -> None:
    """A logarithmic x axis around the values, ticks round as 2k and 5k or in the form ``ticks``."""
    from matplotlib.ticker import EngFormatter, LogLocator

    positive = values[values > 0]
    low, high = (positive.min() / 2, positive.max() * 2) if len(positive) else (1.0, 10.0)
    decades = log10(high / low)
    digits = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
    axes.set_xlim(low, high)  # before the scale, which else looks for positive data
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.xaxis.set_major_locator(LogLocator(subs=digits))
    axes.xaxis.set_major_formatter(ticks or EngFormatter(sep=""))


def _basis(results: pd.DataFrame) -> list[str]:
    """What a figure rests on: questions, contexts, models, dates; first whether all is scripted."""
    counts = results.groupby(CELL)[["sample_id", "context_id"]].nunique()
    pairs = results[["model", "sub_model"]].fillna("").drop_duplicates()
    models = [m if s in ("", m) else f"{m} with {s}" for m, s in pairs.itertuples(index=False) if m]
    parts = [
        f"n = {_range(counts['sample_id'], 'question')} in "
        f"{_range(counts['context_id'], 'context')} per length",
        f"{results['repeat'].nunique()} repeats" if results["repeat"].nunique() > 1 else "",
        f"model {', '.join(models)}" if models else "",
        dates(results),
    ]
    asked = results[results["asked"]]
    samples = asked.groupby([*CELL, "arm"])["sample_id"].agg(lambda s: str(sorted(set(s))))
    if (samples.groupby(CELL).nunique() > 1).any():
        parts.append("not the same samples for every method")
    line = " · ".join(part for part in parts if part)
    scripted = results.loc[results["model"] != "", "scripted"].astype(bool)
    if scripted.any():
        what = "SCRIPTED MODEL: says" if scripted.all() else "(scripted): these say"
        return [f"{what} nothing about any language model", line]
    return [line]


def _range(values: pd.Series[int], noun: str) -> str:
    low, high = int(values.min()), int(values.max())
    return plural(high, noun) if low == high else f"{low}–{plural(high, noun)}"


def dates(results: pd.DataFrame) -> str:
    """The day or days (UTC) on which the calls were made; empty when unknown."""
    ends = results["started_at"].agg(["min", "max"]).dropna()
    days = [datetime.fromtimestamp(t, UTC).date().isoformat() for t in ends]
    return " to ".join(dict.fromkeys(days))


def intervals(results: pd.DataFrame) -> str:
    """The footer's note on intervals, which need 4 contexts, or whatever counts as independent."""
    units = results[results["asked"]].groupby([*CELL, "arm"])["unit_id"].nunique()
    unit = unit_of(results)
    if (units < MIN_CONTEXTS).all():
        return f"No intervals: they need {MIN_CONTEXTS} {unit}s."
    return f"Bars: 95 % intervals over {unit}s (none under {MIN_CONTEXTS})."
