"""What is wrong with where a figure's words are, measured as they are drawn."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

#: Pixels that boxes may share: a box holds room for the longest letters, drawn or not.
TOUCH = 2.0


def faults(figure: Figure) -> list[str]:
    """Words beyond the figure's edge, over other words or over axes."""
    figure.draw_without_rendering()
    words = [(text, _shrunk(text.get_window_extent())) for text in drawn(figure)]
    edge = figure.bbox
    found = [
        f"beyond the edge: {_name(text)}"
        for text, box in words
        if min(box.x0 - edge.x0, box.y0 - edge.y0, edge.x1 - box.x1, edge.y1 - box.y1) < 0
    ]
    for (a, one), (b, other) in combinations(words, 2):
        if one.overlaps(other):
            found.append(f"{_name(a)} over {_name(b)}")
    for axes in all_axes(figure):
        inner = _shrunk(axes.get_window_extent())
        found += [f"{_name(text)} over axes" for text, box in words if box.overlaps(inner)]
    return found


def all_axes(figure: Figure) -> list[Axes]:
    return [axes for outer in figure.axes for axes in (outer, *outer.child_axes)]


def drawn(figure: Figure) -> list[Text]:
    """The words that can be seen: not the labels of ticks beyond an axis."""
    hidden = set()
    for axes in all_axes(figure):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                hidden.add(tick.label2)
                if not low - slack <= tick.get_loc() <= high + slack:
                    hidden.add(tick.label1)
    texts = figure.findobj(Text)
    return [t for t in texts if t.get_visible() and t.get_text().strip() and t not in hidden]


def _shrunk(box: Bbox) -> Bbox:
    return Bbox.from_extents(box.x0 + TOUCH, box.y0 + TOUCH, box.x1 - TOUCH, box.y1 - TOUCH)


def _name(text: Text) -> str:
    return repr(text.get_text()[:40])
