"""How arms look in every figure: a hue for each family, direct labels, controls in grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from rlm_eval.analysis.aggregate import BEST_CONSTANT
from rlm_eval.analysis.lettering import short

#: Okabe & Ito's colours, which colour-blind readers tell apart; one more for what has no family.
HUES = {
    "rlm": "#D55E00",
    "direct": "#0072B2",
    "retrieval": "#E69F00",
    "summaries": "#009E73",
    "code": "#CC79A7",
    "router": "#56B4E9",
    "other": "#8C6D1F",
}
MUTED = "#555555"
#: Members of a family: a marker each, and how far their hue goes to black (below 0) or white.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHADES = (0.0, -0.4, 0.35, -0.65)
DASHES = ("--", ":", "-.")
#: Height of a label, in points.
LABEL = 11.0
#: Contrast of a label on white that readers need (WCAG 2.1, level AA).
READABLE = 4.5


@dataclass(frozen=True)
class Look:
    """``style`` is for matplotlib's plot; ``control`` arms are lines to measure others by. The
    ``label`` is the arm's ``name``, cut where that is long and then with a ``mark`` of its own."""

    name: str
    label: str
    family: str
    colour: str
    control: bool
    style: dict[str, Any] = field(default_factory=dict)

    @property
    def cut(self) -> bool:
        return not self.label.startswith(self.name)

    @property
    def mark(self) -> str:
        return self.label[self.label.rindex("[") : self.label.rindex("]") + 1]


def looks(results: pd.DataFrame) -> dict[str, Look]:
    """The look of each arm, and of ``best_constant``, the same in all figures of one set."""
    found: dict[str, Look] = {}
    names = labels(results)
    members: dict[str, int] = {}
    for arm, family in _families(results).items():
        place = members.get(family, 0)
        members[family] = place + 1
        if family == "control":
            found[arm] = _control(arm, names[arm], place + 1)
            continue
        colour = shaded(HUES[family], SHADES[place % len(SHADES)])
        marker = MARKERS[(list(HUES).index(family) + place) % len(MARKERS)]
        style = {"color": colour, "marker": marker}
        found[arm] = Look(arm, names[arm], family, colour, False, style)
    return found | {BEST_CONSTANT: _control(BEST_CONSTANT, BEST_CONSTANT, 0)}


def labels(results: pd.DataFrame) -> dict[str, str]:
    """What figures call each arm: its name, or the beginning of a long one and a number, ``[1]``.
    ``(scripted)`` stands behind the arms of a scripted model where others are not; where all are,
    the figure's footer says it."""
    asked = results[results["model"] != ""]
    mixed = asked["scripted"].nunique() > 1
    scripted = set(asked.loc[asked["scripted"].astype(bool), "arm"]) if mixed else set()
    found: dict[str, str] = {}
    number = count(1)
    for arm in order(results):
        label = short(arm)
        label = label if label == arm else f"{label} [{next(number)}]"
        found[arm] = f"{label} (scripted)" if arm in scripted else label
    return found


def order(results: pd.DataFrame) -> list[str]:
    """Arms in the order in which they stand in the results."""
    return [str(a) for a in results["arm"].drop_duplicates()]


def _families(results: pd.DataFrame) -> dict[str, str]:
    arms = results.drop_duplicates("arm")
    return dict(zip(arms["arm"].astype(str), arms["arm_family"], strict=True))


def _control(name: str, label: str, place: int) -> Look:
    style = {"color": MUTED, "ls": DASHES[place % len(DASHES)], "lw": 1.0, "marker": ""}
    return Look(name, label, "control", MUTED, True, style)


def shaded(colour: str, shade: float) -> str:
    """The colour gone by ``shade`` of the way to black (below 0) or to white."""
    goal = 1.0 if shade > 0 else 0.0
    red, green, blue = ((1 - abs(shade)) * c + abs(shade) * goal for c in to_rgb(colour))
    return str(to_hex((red, green, blue)))


def contrast(colour: str) -> float:
    """The colour's contrast on white, 1 to 21, as WCAG 2.1 has it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (0.05 + 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


def with_contrast(colour: str, ratio: float) -> str:
    """The shade of the colour, lighter or darker, that comes nearest to this contrast above it."""
    shades = [shaded(colour, step / 50) for step in range(-50, 50)]
    return min((c for c in shades if contrast(c) >= ratio), key=contrast)


def ink(colour: str) -> str:
    """The colour, darker where words of it could not be read on white."""
    return colour if contrast(colour) >= READABLE else with_contrast(colour, READABLE)


@dataclass(frozen=True)
class End:
    """A label to be written right of the axes, led to from (x, y)."""

    x: float
    y: float
    look: Look


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write labels right of the axes, moved apart where they clash, none above or below.

    Call last: it needs the final axis limits. :func:`room_for` makes axes tall enough.
    """
    axes.autoscale_view()  # limits that follow the data are not known before
    tall = float(axes.get_window_extent().height * 72 / axes.figure.dpi)
    to_share = axes.transData + axes.transAxes.inverted()
    known = [end for end in ends if end.y == end.y]
    starts = [to_share.transform((end.x, end.y)).tolist() for end in known]
    places = untangled(starts, spread_out([y for _, y in starts], LABEL / tall))
    for end, (x, y), placed in zip(known, starts, places, strict=True):
        look, there = end.look, axes.transAxes
        name = axes.text(1.03, placed, look.label, transform=there, size=8, va="center")
        name.set(color=ink(look.colour), style="italic" if look.control else "normal")
        line = Line2D([x, 1.025], [y, placed], color=look.colour, lw=0.5, alpha=0.45)
        line.set(transform=there, clip_on=False, in_layout=False)
        axes.add_artist(line)


def untangled(starts: Sequence[tuple[float, float]], places: Sequence[float]) -> list[float]:
    """The places dealt anew among starts (x, y) of the same height, the nearest place to the
    rightmost: so the lines that lead to the labels don't cross."""
    level: dict[float, list[int]] = {}
    for i, (_, y) in enumerate(starts):
        level.setdefault(round(y, 6), []).append(i)
    dealt = list(places)
    for y, members in level.items():
        near = sorted((places[i] for i in members), key=lambda place: abs(place - y))
        for i, place in zip(sorted(members, key=lambda i: -starts[i][0]), near, strict=True):
            dealt[i] = place
    return dealt


def room_for(labels: int, least: float) -> float:
    """The height in inches, ``least`` or more, of axes with so many labels beside them."""
    return max(least, labels * LABEL / 72)


def spread_out(shares: Sequence[float], gap: float) -> list[float]:
    """The nearest places in [0, 1] at least ``gap`` apart that keep the order (pool adjacent
    clashes); closer together where there is no room for that."""
    gap = min(gap, 1 / max(1, len(shares) - 1))
    ranked = sorted(range(len(shares)), key=lambda i: shares[i])
    blocks: list[tuple[float, int]] = []  # (sum of wished-for starts, members)
    for rank, i in enumerate(ranked):
        blocks.append((shares[i] - rank * gap, 1))
        while len(blocks) > 1 and _start(blocks[-2]) > _start(blocks[-1]):
            (total, members), (other, more) = blocks.pop(), blocks.pop()
            blocks.append((total + other, members + more))
    most = max(0.0, 1 - (len(shares) - 1) * gap)
    starts = [min(max(_start(b), 0.0), most) for b in blocks for _ in range(b[1])]
    placed = [0.0] * len(shares)
    for rank, i in enumerate(ranked):
        placed[i] = starts[rank] + rank * gap
    return placed


def _start(block: tuple[float, int]) -> float:
    return block[0] / block[1]
