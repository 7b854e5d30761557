"""Where the parts of a figure stand: axes keep their inches, and the figure grows around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlm_eval.analysis.lettering import wrapped

#: Inches between the parts; the least width of a figure; the size of the footer's letters.
GAP, LEAST, SMALL = 0.12, 5.0, 7
#: Entries side by side in a legend, at most.
ABREAST = 6


@dataclass(frozen=True)
class _Margins:
    """Inches that titles, labels and ticks of an axes take outside it."""

    left: float
    right: float
    top: float
    bottom: float


def arrange(
    figure: Figure, across: int, note: str, colour: str, handles: Sequence[Artist] = ()
) -> None:
    """Make the figure as large as its axes, ``across`` in a row, and all around them need: a
    legend of ``handles`` above, ``note`` below."""
    sizes = [_inches(axes) for axes in figure.axes]
    margins = [_margins(axes) for axes in figure.axes]
    columns = [margins[i::across] for i in range(across)]
    rows = [range(i, min(i + across, len(sizes))) for i in range(0, len(sizes), across)]
    left = [GAP + max(m.left for m in column) for column in columns]
    right = [GAP + max(m.right for m in column) for column in columns]
    wide = max(LEAST, sum(left) + sum(right) + across * sizes[0][0])
    head = _legend(figure, handles, wide - 2 * GAP) if handles else 0.0
    text = figure.text(0, 0, wrapped(note, wide - 2 * GAP, SMALL), size=SMALL, color=colour)
    foot = GAP + _inches(text)[1]
    tops = [GAP + max(margins[i].top for i in row) for row in rows]
    bottoms = [GAP + max(margins[i].bottom for i in row) for row in rows]
    tall = head + foot + sum(tops) + sum(bottoms) + sum(sizes[row[0]][1] for row in rows)
    figure.set_size_inches(wide, tall)
    text.set(x=GAP / wide, y=GAP / tall, va="bottom")
    y = tall - head
    for row, top, bottom in zip(rows, tops, bottoms, strict=True):
        width, height = sizes[row[0]]
        y -= top + height
        for column, i in enumerate(row):
            x = sum(left[: column + 1]) + sum(right[:column]) + column * width
            place = (x / wide, y / tall, width / wide, height / tall)
            figure.axes[i].set_position(place)
        y -= bottom
    for legend in figure.legends:
        legend.set_bbox_to_anchor((GAP / wide, 1 - GAP / tall))


def _inches(part: Artist) -> tuple[float, float]:
    figure = cast(Figure, part.get_figure(root=True))
    box = part.get_window_extent()
    return float(box.width / figure.dpi), float(box.height / figure.dpi)


def _margins(axes: Axes) -> _Margins:
    figure = cast(Figure, axes.get_figure(root=True))
    box, inner = axes.get_tightbbox(), axes.get_window_extent()
    if box is None:
        return _Margins(0, 0, 0, 0)
    outside = inner.x0 - box.x0, box.x1 - inner.x1, box.y1 - inner.y1, inner.y0 - box.y0
    return _Margins(*(max(0.0, float(pixels / figure.dpi)) for pixels in outside))


def _legend(figure: Figure, handles: Sequence[Artist], room: float) -> float:
    """A legend as wide as there is room; returns its height."""
    for ncols in range(min(ABREAST, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles, loc="upper left", ncols=ncols, borderpad=0, borderaxespad=0
        )
        wide, tall = _inches(legend)
        if wide <= room or ncols == 1:
            return GAP + tall
        legend.remove()
    return 0.0
