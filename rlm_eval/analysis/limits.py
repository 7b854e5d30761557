"""How much a figure shows: the first arms of the first panels, so that its size is bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rlm_eval.analysis.paired import CELL

#: At most so many arms in a panel, panels, and arms of all panels.
ARMS, PANELS, ROWS = 50, 12, 120
#: What a column's values are called.
NOUNS = {"arm": "arms", "against": "methods at the left"}


@dataclass(frozen=True)
class Shown:
    """The rows of each panel, and a sentence on what is left out."""

    cells: list[pd.DataFrame]
    sentence: str

    @property
    def arms(self) -> list[str]:
        named = [c[column] for c in self.cells for column in NOUNS if column in c]
        return [str(arm) for arm in pd.concat(named).drop_duplicates()]

    @property
    def sizes(self) -> list[int]:
        """How many arms each panel has."""
        return [int(cell["arm"].nunique()) for cell in self.cells]


def limited(
    frame: pd.DataFrame,
    by: Sequence[str] = CELL,
    panels: int = PANELS,
    rows: int = ROWS,
    most: Mapping[str, int] | None = None,
) -> Shown:
    """A panel per group of ``by``, with the first so many values of each column of ``most``, of
    the last of which there are at most ``rows`` in all panels."""
    most = most or {"arm": ARMS}
    every = cells(frame, by)
    kept: list[pd.DataFrame] = []
    for cell in every:
        for column, limit in most.items():
            cell = cell[cell[column].isin(cell[column].drop_duplicates()[:limit])]
        tall = sum(c[list(most)[-1]].nunique() for c in (*kept, cell))
        if kept and (tall > rows or len(kept) == panels):
            break
        kept.append(cell)
    shown = pd.concat(kept) if kept else frame
    counts = [(len(kept), len(every), "panels")]
    counts += [(shown[c].nunique(), frame[c].nunique(), NOUNS[c]) for c in most]
    parts = [f"the first {few} of {many} {noun}" for few, many, noun in counts if few < many]
    sentence = f"Shown: {', '.join(parts)}; the rest is in the CSV." if parts else ""
    return Shown(kept, sentence)


def cells(frame: pd.DataFrame, by: Sequence[str] = CELL) -> list[pd.DataFrame]:
    """A panel's rows each: by task in the order in which they come, then by length."""
    places = {task: i for i, task in enumerate(frame["task"].drop_duplicates())}
    found = [group for _, group in frame.groupby(list(by), sort=False)]
    return sorted(found, key=lambda c: (places[c["task"].iloc[0]], c["target_tokens"].iloc[0]))
