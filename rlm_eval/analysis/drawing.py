"""What every figure shares: the style file, colours, direct labels, the footer, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from rlm_eval.analysis.stats import MIN_CONTEXTS
from rlm_eval.analysis.text import plural

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MUTED = "#555555"


class Plot(Figure):
    """A figure with the ``data`` it shows. Drawn without pyplot, whose import costs a second."""

    data: pd.DataFrame


@contextmanager
def style() -> Iterator[None]:
    """The project's one style file, whatever the user's own matplotlibrc says."""
    source = files("rlm_eval.analysis") / "rlm_eval.mplstyle"
    with as_file(source) as path, mpl.rc_context(fname=path):
        yield


def panels(count: int, width: float, height: float, columns: int = 3) -> tuple[Plot, list[Axes]]:
    """``count`` panels of ``width`` × ``height`` inches, at most ``columns`` in a row."""
    across = min(count, columns)
    down = -(-count // across)
    figure = Plot(figsize=(width * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for unused in grid[count:]:
        unused.remove()
    return figure, grid[:count]


def looks(arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker for each arm, the same in all figures of one set of results."""
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    return {
        arm: {"color": colours[i % len(colours)], "marker": MARKERS[i % len(MARKERS)]}
        for i, arm in enumerate(arms)
    }


def order(results: pd.DataFrame) -> list[str]:
    """Arms in the order in which they stand in the results."""
    return [str(a) for a in results["arm"].drop_duplicates()]


def spread_out(positions: Sequence[float], gap: float) -> list[float]:
    """The nearest positions at least ``gap`` apart that keep the order (pool adjacent clashes)."""
    ranked = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[tuple[float, int]] = []  # (sum of wished-for starts, members)
    for rank, i in enumerate(ranked):
        blocks.append((positions[i] - rank * gap, 1))
        while len(blocks) > 1 and _start(blocks[-2]) > _start(blocks[-1]):
            (total, members), (other, more) = blocks.pop(), blocks.pop()
            blocks.append((total + other, members + more))
    starts = [_start(block) for block in blocks for _ in range(block[1])]
    placed = [0.0] * len(positions)
    for rank, i in enumerate(ranked):
        placed[i] = starts[rank] + rank * gap
    return placed


def _start(block: tuple[float, int]) -> float:
    return block[0] / block[1]


def label_ends(
    axes: Axes, ends: Sequence[tuple[float, float, str, str]], points: float = 11.0
) -> None:
    """Write names right of line ends ``(x, y, name, colour)``, moved apart where they clash.

    Call last: it needs the final axis limits.
    """
    if not ends:
        return
    height = axes.get_window_extent().height * 72 / axes.figure.dpi
    heights = axes.transScale.transform([(x, y) for x, y, _, _ in ends])[:, 1]
    low, high = axes.transScale.transform([(ends[0][0], y) for y in axes.get_ylim()])[:, 1]
    shares = [float(h - low) / float(high - low) for h in heights]
    gap = points / max(height * 0.8, 1)
    for (x, y, name, colour), placed in zip(ends, spread_out(shares, gap), strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, placed),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.5},
        )


def footer(figure: Figure, results: pd.DataFrame, note: str = "") -> None:
    """What the figure rests on: questions, contexts, models, dates, and ``scripted`` when so."""
    size = results.groupby(["task", "target_tokens"]).agg(
        n=("sample_id", "nunique"), contexts=("context_id", "nunique")
    )
    parts = [
        f"n = {_range(size['n'], 'question')} in {_range(size['contexts'], 'context')} per length",
        "model " + ", ".join(dict.fromkeys(_models(results))),
        dates(results),
    ]
    if results["repeat"].nunique() > 1:
        parts.insert(1, f"{results['repeat'].nunique()} repeats")
    if not same_samples(results):
        parts.append("not the same samples for every method")
    lines = " · ".join(p for p in parts if p) + (f"\n{note}" if note else "")
    if bool(results["scripted"].any()):
        lines = "SCRIPTED MODEL: says nothing about any language model\n" + lines
    figure.supxlabel(lines, fontsize=7, color=MUTED, x=0.01, ha="left", wrap=True)


def same_samples(results: pd.DataFrame) -> bool:
    """Whether all arms of each task and length have answers that count to the same samples."""
    asked = results[results["asked"]]
    for _, cell in asked.groupby(["task", "target_tokens"], sort=False):
        if cell.groupby("arm")["sample_id"].nunique().nunique() > 1:
            return False
        if cell.groupby("sample_id")["arm"].nunique().nunique() > 1:
            return False
    return True


def name(arm: str, results: pd.DataFrame) -> str:
    """The arm's label, marked where a scripted model took part."""
    rows = results[results["arm"] == arm]
    return f"{arm} (scripted)" if bool(rows["scripted"].any()) else arm


def dates(results: pd.DataFrame) -> str:
    """The day or days (UTC) on which the calls were made; empty when unknown."""
    started = results["started_at"].dropna() if "started_at" in results else pd.Series(dtype=float)
    if started.empty:
        return ""
    ends = (float(started.min()), float(started.max()))
    first, last = (datetime.fromtimestamp(s, UTC).date().isoformat() for s in ends)
    return first if first == last else f"{first} to {last}"


def _models(results: pd.DataFrame) -> list[str]:
    pairs = results[["model", "sub_model"]].fillna("").astype(str).drop_duplicates()
    return [
        m if s in ("", m) else f"{m} with {s}"
        for m, s in pairs.itertuples(index=False)
        if m or s
    ]  # fmt: skip


def _range(values: pd.Series[int], noun: str) -> str:
    low, high = int(values.min()), int(values.max())
    return plural(high, noun) if low == high else f"{low}–{plural(high, noun)}"


def intervals(results: pd.DataFrame) -> str:
    """The footer's note on intervals, which need 4 contexts."""
    contexts = results[results["asked"]].groupby(["task", "target_tokens", "arm"])["context_id"]
    if (contexts.nunique() < MIN_CONTEXTS).all():
        return f"No intervals: they need {MIN_CONTEXTS} contexts."
    return f"Bars and bands: 95 % intervals over contexts (none under {MIN_CONTEXTS})."


def log_ticks(axis: Axis, low: float, high: float, text: Callable[[float], str]) -> None:
    """Few and plain ticks on a logarithmic axis from ``low`` to ``high``."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 50 else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: text(v)))


def where(cell: pd.DataFrame) -> str:
    """A panel's title: task and length."""
    return f"{cell['task'].iloc[0]}, {int(cell['target_tokens'].iloc[0]):,} tokens"


def empty(message: str) -> Plot:
    """A figure that says why there is nothing to show."""
    figure, (axes,) = panels(1, 5.0, 1.6)
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, wrap=True)
    figure.data = pd.DataFrame()
    return figure


def save(figure: Plot, stem: Path) -> list[Path]:
    """Write ``stem``.png, .pdf and .csv (the data shown); return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_suffix(s) for s in (".png", ".pdf", ".csv")]
    with style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out: not again for each format
        figure.savefig(written[0])
        figure.savefig(written[1], metadata={"CreationDate": None})
    figure.data.to_csv(written[2], index=False)
    return written
