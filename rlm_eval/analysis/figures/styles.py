"""How each method looks in every figure: a hue for each family, a marker for each member."""

from __future__ import annotations

import re
from textwrap import TextWrapper
from typing import Any

import pandas as pd

from rlm_eval.analysis.aggregate import BEST_CONSTANT
from rlm_eval.analysis.arms import apart, marks

#: Okabe & Ito's colours, which colour-blind readers tell apart; one more for what has no family.
HUES = {
    "rlm": "#D55E00",
    "direct": "#0072B2",
    "retrieval": "#E69F00",
    "summaries": "#009E73",
    "code": "#CC79A7",
    "other": "#8C6D1F",
    "control": "#666666",
}
MARKERS = "os^DvPX*"
#: How far the hues of a family's members go to black (below 0) or to white.
SHADES = (0.0, -0.4, 0.35, -0.65)
#: Beside an RLM so many alternatives are in colour, the best ones, and the rest in grey.
BEST, GREY = 4, "#BBBBBB"
#: Characters in a line of a label.
LINE = 44

#: Keywords of matplotlib's ``plot``.
Style = dict[str, Any]


def styles(results: pd.DataFrame) -> dict[str, Style]:
    """The style of each arm and of ``best_constant``, families together and controls last; the
    same for an arm of each model, called as :func:`apart` does."""
    results = apart(results, results)
    if results["facet"].any():
        results = results.assign(scripted=False)  # the facet says it
    arms = results.drop_duplicates("arm")
    families = dict(zip(arms["arm"].astype(str), arms["arm_family"], strict=True))
    families[BEST_CONSTANT] = "control"
    grey = _others(results)
    names = marks(results)  # of an arm's several, as of several tasks, the longest stands
    labels = {arm: label for (_, arm), label in sorted(names.items(), key=lambda one: len(one[1]))}
    labels[BEST_CONSTANT] = f"{BEST_CONSTANT} (control, no model)"
    found: dict[str, Style] = {}
    for offset, (family, hue) in enumerate(HUES.items()):
        members = [arm for arm, its in families.items() if its == family]
        for i, arm in enumerate(members):
            found[arm] = {
                "label": wrapped(labels[arm]),
                "color": GREY if arm in grey else shaded(hue, SHADES[i % len(SHADES)]),
                "marker": MARKERS[(offset + i) % len(MARKERS)],
                "linestyle": "--" if family == "control" else "-",
            }
    return found


def _others(results: pd.DataFrame) -> set[str]:
    """The alternatives that a figure about an RLM shows in grey."""
    if not (results["arm_kind"] == "rlm").any():
        return set()
    own = results[results["asked"] & (results["arm_kind"] == "alternative")]
    means = own.groupby("arm")["points"].mean().sort_values(ascending=False, kind="stable")
    return set(means.index[BEST:])


class _Wrapper(TextWrapper):
    """Breaks the names of models too, but no dates."""

    wordsep_re = re.compile(r"(\s+)|(?<=[/-])(?=[a-z])")


def wrapped(text: str, characters: int = LINE) -> str:
    return _Wrapper(characters).fill(text)


def shaded(colour: str, share: float) -> str:
    """The colour mixed with a share of white, or of black (below 0)."""
    from matplotlib.colors import to_hex, to_rgb

    goal = 1.0 if share > 0 else 0.0
    red, green, blue = (c + abs(share) * (goal - c) for c in to_rgb(colour))
    return to_hex((red, green, blue))
