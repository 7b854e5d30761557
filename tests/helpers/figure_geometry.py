"""What is wrong with where a figure's words stand, measured as they are drawn."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

#: Pixels that boxes may share: a box holds room for the longest letters, drawn or not.
TOUCH = 1.5
#: Inches on either side that no figure goes beyond, and the least of an axes.
LARGEST, LEAST = 45.0, 0.2


def faults(figure: Figure) -> list[str]:
    """Words beyond the figure's edge, over other words or over axes; sizes that no page holds."""
    figure.draw_without_rendering()
    words = [(text, _shrunk(text.get_window_extent())) for text in _drawn(figure)]
    found = [f"beyond the edge: {_name(t)}" for t, box in words if not _within(box, figure)]
    for (a, one), (b, other) in combinations(words, 2):
        if one.overlaps(other):
            found.append(f"{_name(a)} over {_name(b)}")
    for axes in figure.axes:
        inner = _shrunk(axes.get_window_extent())
        outside = [(t, box) for t, box in words if not (t.axes is axes and t in axes.texts)]
        found += [f"{_name(t)} over axes" for t, box in outside if box.overlaps(inner)]
        if min(inner.width, inner.height) / figure.dpi < LEAST - 0.03:
            found.append(f"axes of {inner.width:.0f} x {inner.height:.0f} pixels")
    if max(figure.get_size_inches()) > LARGEST:
        found.append(f"a figure of {figure.get_size_inches()} inches")
    return found


def _drawn(figure: Figure) -> list[Text]:
    hidden = {label for axes in figure.axes for label in _outside(axes)}
    texts = figure.findobj(Text)
    return [t for t in texts if t.get_visible() and t.get_text().strip() and t not in hidden]


def _outside(axes: Axes) -> list[Text]:
    """Labels of ticks that are not drawn."""
    labels = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            labels.append(tick.label2)
            shown = axes.axison and low - slack <= tick.get_loc() <= high + slack
            if not (shown and tick.get_visible()):
                labels.append(tick.label1)
    return labels


def _shrunk(box: Bbox) -> Bbox:
    return Bbox.from_extents(box.x0 + TOUCH, box.y0 + TOUCH, box.x1 - TOUCH, box.y1 - TOUCH)


def _within(box: Bbox, figure: Figure) -> bool:
    edge = figure.bbox
    return box.x0 >= edge.x0 and box.y0 >= edge.y0 and box.x1 <= edge.x1 and box.y1 <= edge.y1


def _name(text: Text) -> str:
    return repr(text.get_text()[:40])
