"""The summary on a terminal: fits 80 columns, shows more on wider ones, plain when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_eval.analysis.text import count, dollars, limits, percent, plural
from rlm_eval.analysis.verdicts import Verdict

WIDE = 118


class Column(NamedTuple):
    """A heading, how a summary row becomes its cell, and whether only wide terminals show it."""

    heading: str
    cell: Callable[[Any], str]
    wide: bool = False


def _cost(row: Any) -> str:
    return "" if row.arm == "best_constant" else dollars(row.cost_usd)


COLUMNS = (
    Column("method", lambda r: f"{r.arm}{' (scripted)' if r.scripted else ''}"),
    Column("n", lambda r: str(int(r.asked))),
    Column("acc %", lambda r: percent(r.accuracy)),
    Column("95 %", lambda r: limits(r.accuracy_low, r.accuracy_high)),
    Column("score %", lambda r: percent(r.mean_score)),
    Column("95 %", lambda r: limits(r.score_low, r.score_high), wide=True),
    Column("skill %", lambda r: percent(r.skill).replace("-", "−")),
    Column("subs", lambda r: count(r.subcalls)),
    Column("calls", lambda r: count(r.calls), wide=True),
    Column("tokens", lambda r: count(r.prompt_tokens + r.completion_tokens)),
    Column("cached", lambda r: count(r.cached_tokens), wide=True),
    Column("USD", _cost),
    Column("s", lambda r: count(r.wall_s)),
    Column("s p95", lambda r: count(r.wall_s_p95), wide=True),
)


def print_summary(
    summary: pd.DataFrame,
    verdicts: Sequence[Verdict],
    console: Console,
    *,
    demonstration: bool = False,
) -> None:
    """One table per task and length, what went wrong in it, then the verdicts."""
    if demonstration:
        console.print(Text("A demonstration, not evidence.", style="bold"))
    if summary.empty:
        console.print("No results yet.")
        return
    if bool(summary["scripted"].any()):
        console.print(Text("Rows marked (scripted) say nothing about any language model."))
    for _, rows in summary.groupby(["task", "target_tokens"], sort=False):
        first = rows.iloc[0]
        questions, contexts = int(rows["n"].max()), int(rows["n_contexts"].max())
        where = f"{first.task} · {int(first.target_tokens):,} tokens"
        title = f"{where} · {plural(questions, 'question')} in {plural(contexts, 'context')}"
        console.print()
        console.print(Text(title, style="bold"))
        console.print(_table(rows, console))
        for note in _notes(rows, contexts, first):
            console.print(Text(note), soft_wrap=not console.is_terminal)
    console.print()
    console.print(Text("Is the RLM worth it?", style="bold"))
    for verdict in verdicts:
        console.print(Text(verdict.text, overflow="fold"))
    if not verdicts:
        console.print(Text("No verdict: the run has no RLM arm beside an alternative."))


def _table(rows: pd.DataFrame, console: Console) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        padding=(0, 1, 0, 0) if not console.is_terminal else 0,
        pad_edge=False,
    )
    columns = [c for c in COLUMNS if console.width >= WIDE or not c.wide]
    for i, column in enumerate(columns):
        justify: Any = "right" if i else "left"
        table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=i > 0)
    for row in rows.itertuples():
        table.add_row(*(Text(c.cell(row)) for c in columns))
    return table


def _notes(rows: pd.DataFrame, contexts: int, first: Any) -> list[str]:
    notes = []
    if isnan(float(first.score_low)):
        notes.append(f"No intervals: they need 4 contexts, this is {plural(contexts, 'context')}.")
    if rows["sample_set"].nunique() > 1:
        notes.append("Not the same samples in every row: compare paired figures only.")
    for row in rows.to_dict("records"):
        counts = {
            str(k).removeprefix("outcome_"): int(v)
            for k, v in row.items()
            if str(k).startswith("outcome_") and v > 0 and k != "outcome_answered"
        }
        if counts:
            listed = ", ".join(f"{v} {k}" for k, v in counts.items())
            owed = f"; {int(row['owed'])} owed, not counted" if row["owed"] else ""
            done = f" (accuracy over completed: {percent(row['accuracy_completed'])} %)"
            notes.append(f"{row['arm']}: {listed}{owed}{done}")
    return notes
