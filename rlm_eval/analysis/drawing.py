"""What every figure shares: the style file, panels, the footer, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from rlm_eval.analysis.looks import MUTED
from rlm_eval.analysis.paired import CELL
from rlm_eval.analysis.stats import MIN_CONTEXTS
from rlm_eval.analysis.text import plural


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
    if (revisions := results["code_revision"].nunique()) > 1:
        parts.append(f"{revisions} code revisions")
    if not same_samples(results):
        parts.append("not the same samples for every method")
    lines = " · ".join(p for p in parts if p) + (f"\n{note}" if note else "")
    asked = results.loc[results["model"] != "", "scripted"].astype(bool)
    if bool(asked.any()):
        what = "SCRIPTED MODEL: says" if asked.all() else "(scripted): these say"
        lines = f"{what} nothing about any language model\n{lines}"
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


def cells(frame: pd.DataFrame, by: Sequence[str] = CELL) -> list[pd.DataFrame]:
    """A panel's rows each: by task in the order in which they come, then by length."""
    places = {task: i for i, task in enumerate(frame["task"].drop_duplicates())}
    groups = frame.groupby(list(by), sort=False)
    found = [group for _, group in groups]
    return sorted(found, key=lambda c: (places[c["task"].iloc[0]], c["target_tokens"].iloc[0]))


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
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine("none")  # laid out: not again for each format
        figure.savefig(written[0])
        figure.savefig(written[1], metadata={"CreationDate": None})
    figure.data.to_csv(written[2], index=False)
    return written
