"""What every figure shares: the style file, panels, the footer, saving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlm_eval.analysis import layout, lettering
from rlm_eval.analysis.limits import Shown
from rlm_eval.analysis.looks import MUTED, Look
from rlm_eval.analysis.stats import MIN_CONTEXTS
from rlm_eval.analysis.text import plural

#: Models, and arms whose labels are cut, that a footer names; and characters of one name.
MODELS, NAMES, NAME = 6, 60, 200


class Plot(Figure):
    """A figure with the ``data`` it shows, and how many axes stand ``across`` a row. Drawn without
    pyplot, whose import costs a second."""

    data: pd.DataFrame
    across: int


@contextmanager
def style() -> Iterator[None]:
    """The project's one style file, whatever the user's own matplotlibrc says."""
    source = files("rlm_eval.analysis") / "rlm_eval.mplstyle"
    with as_file(source) as path, mpl.rc_context(fname=path):
        mpl.rcParams["font.family"] = lettering.installed(mpl.rcParams["font.family"])
        yield


def panels(heights: Sequence[float], width: float, columns: int = 3) -> tuple[Plot, list[Axes]]:
    """Axes of so many inches, those in a row as high as the highest, at most ``columns`` in it.
    :func:`finish` makes the figure large enough for what is around them."""
    across = min(len(heights), columns)
    rows = [max(heights[i : i + across]) for i in range(0, len(heights), across)]
    wide, tall = width * across, sum(rows)
    figure = Plot(figsize=(wide, tall))
    FigureCanvasAgg(figure)
    figure.across = across
    for i in range(len(heights)):
        row, column = divmod(i, across)
        below = sum(rows[row + 1 :])
        figure.add_axes((column / across, below / tall, 1 / across, rows[row] / tall))
    return figure, list(figure.axes)


def title(axes: Axes, text: str, points: float = 10) -> None:
    """A title no wider than the axes."""
    wide = axes.get_window_extent().width / axes.figure.dpi
    axes.set_title(lettering.wrapped(lettering.short(text, 90), wide, points, "bold"), size=points)


def finish(
    figure: Plot,
    results: pd.DataFrame,
    shown: Shown,
    known: Mapping[str, Look],
    note: str = "",
    handles: Sequence[Artist] = (),
) -> None:
    """Give the figure a legend of ``handles``, its footer, and the size that all of it needs."""
    cut = [look for arm, look in known.items() if look.cut and arm in shown.arms]
    parts = [_basis(results), note, shown.sentence, _key(cut)]
    if cut and "arm" in figure.data:
        labels = [known[arm].label for arm in figure.data["arm"]]
        figure.data = figure.data.assign(label=labels)
    layout.arrange(figure, figure.across, "\n".join(p for p in parts if p), MUTED, handles)


def _key(cut: Sequence[Look]) -> str:
    """The names of the arms whose labels are cut."""
    if not cut:
        return ""
    names = [f"{look.mark} {lettering.short(look.name, NAME)}" for look in cut[:NAMES]]
    more = ["the rest is in the CSV"] if len(cut) > NAMES else []
    return "Names in full: " + "; ".join(names + more) + "."


def _basis(results: pd.DataFrame) -> str:
    """What a figure rests on: questions, contexts, models, dates, and ``scripted`` when so."""
    size = results.groupby(["task", "target_tokens"]).agg(
        n=("sample_id", "nunique"), contexts=("context_id", "nunique")
    )
    parts = [
        f"n = {_range(size['n'], 'question')} in {_range(size['contexts'], 'context')} per length",
        "model " + ", ".join(_models(results)),
        dates(results),
    ]
    if results["repeat"].nunique() > 1:
        parts.insert(1, f"{results['repeat'].nunique()} repeats")
    if (revisions := results["code_revision"].nunique()) > 1:
        parts.append(f"{revisions} code revisions")
    if not same_samples(results):
        parts.append("not the same samples for every method")
    line = " · ".join(p for p in parts if p)
    asked = results.loc[results["model"] != "", "scripted"].astype(bool)
    if bool(asked.any()):
        what = "SCRIPTED MODEL: says" if asked.all() else "(scripted): these say"
        return f"{what} nothing about any language model\n{line}"
    return line


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
    names = [
        m if s in ("", m) else f"{m} with {s}"
        for m, s in pairs.itertuples(index=False)
        if m or s
    ]  # fmt: skip
    found = [lettering.short(name, NAME) for name in dict.fromkeys(names)]
    more = len(found) - MODELS
    return [*found[:MODELS], f"{more} more"] if more > 1 else found


def _range(values: pd.Series[int], noun: str) -> str:
    low, high = int(values.min()), int(values.max())
    return plural(high, noun) if low == high else f"{low}–{plural(high, noun)}"


def intervals(results: pd.DataFrame) -> str:
    """The footer's note on intervals, which need 4 contexts."""
    contexts = results[results["asked"]].groupby(["task", "target_tokens", "arm"])["context_id"]
    if (contexts.nunique() < MIN_CONTEXTS).all():
        return f"No intervals: they need {MIN_CONTEXTS} contexts."
    return f"Bars and bands: 95 % intervals over contexts (none under {MIN_CONTEXTS})."


def where(cell: pd.DataFrame) -> str:
    """A panel's title: task and length."""
    return f"{cell['task'].iloc[0]}, {int(cell['target_tokens'].iloc[0]):,} tokens"


def empty(message: str) -> Plot:
    """A figure that says why there is nothing to show."""
    figure, (axes,) = panels([1.6], 5.0)
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, wrap=True)
    figure.data = pd.DataFrame()
    return figure


def save(figure: Plot, stem: Path) -> list[Path]:
    """Write ``stem``.png, .pdf and .csv (the data shown); return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_suffix(s) for s in (".png", ".pdf", ".csv")]
    with style():
        figure.savefig(written[0])
        figure.savefig(written[1], metadata={"CreationDate": None})
    figure.data.to_csv(written[2], index=False)
    return written
