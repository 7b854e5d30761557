"""Words in figures: made of glyphs that there are, cut to a length, broken into lines that fit."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache, partial

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path

#: Characters of an arm's name that a label shows.
LONGEST = 30
#: Stands for a character that no installed font has.
MISSING = "?"
#: How much wider letters become when they are fitted to pixels.
HINTED = 1.06
#: Faces that figures use: plain, titles, controls.
_FACES = (
    FontProperties,
    partial(FontProperties, weight="bold"),
    partial(FontProperties, style="italic"),
)


def installed(families: Sequence[str]) -> list[str]:
    """Those of the fonts that this machine has: matplotlib warns of each other at every word."""
    known = set(fontManager.get_font_names())
    return [family for family in families if family in known]


def drawable(text: str) -> str:
    """The text on one line, :data:`MISSING` for what the current style's fonts cannot draw."""
    known = _glyphs(tuple(mpl.rcParams["font.family"]))
    return "".join(
        c if c.isprintable() and ord(c) in known else MISSING for c in " ".join(text.split())
    )


@cache
def _glyphs(families: tuple[str, ...]) -> frozenset[int]:
    """What every face can draw, be it with one font or another."""
    faces = []
    for face in _FACES:
        fonts = [get_font(findfont(face(family=[family]))) for family in families]
        faces.append({code for font in fonts for code in font.get_charmap()})
    return frozenset(set.intersection(*faces))


def short(text: str, most: int = LONGEST) -> str:
    """The text as it can be drawn, cut after ``most`` characters."""
    text = drawable(text)
    return text if len(text) <= most else f"{text[: most - 1].rstrip(' (,')}…"


def inches(text: str, points: float, weight: str = "normal") -> float:
    """How wide one line of text is."""
    face = FontProperties(size=points, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, face, ismath=False)
    return HINTED * float(width) / 72


def wrapped(text: str, room: float, points: float, weight: str = "normal") -> str:
    """The text in lines of at most ``room`` inches."""
    lines: list[str] = []
    for line in text.splitlines():
        parts, most = [line], len(line)
        while most > 1 and (wide := max(inches(p, points, weight) for p in parts)) > room:
            most = max(1, min(most - 1, int(most * room / wide)))
            parts = textwrap.wrap(line, most, break_on_hyphens=False)
        lines += parts
    return "\n".join(lines)
