"""The summary on a terminal: fits 80 columns, shows more on wider ones, plain when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from math import isnan
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_eval.analysis.aggregate import BEST_CONSTANT, NOT_SAME, sets
from rlm_eval.analysis.text import count, dollars, limits, percent, plural, seconds
from rlm_eval.analysis.verdict_groups import Group, group_table, grouped
from rlm_eval.analysis.verdicts import Verdict

WIDE = 118
#: What stands in the table of several verdicts.
LEGEND = (
    "Points: score minus that of the best alternative here. p: after Holm over all that is"
    " compared on the task. Cost: times its cost, in dollars where both have a price, else in"
    " tokens. Resolves: the smallest difference in points that this n can show; where it is missing"
    " none can be. No interval and no verdict under 4 contexts. In words: verdicts.csv."
)


class Column(NamedTuple):
    """A heading, how a summary row becomes its cell, and whether only wide terminals show it, or
    only tables where a row has something to say."""

    heading: str
    cell: Callable[[Any], str]
    wide: bool = False
    if_any: bool = False


def _name(row: Any) -> str:
    if row.arm_kind == "control" and not row.model and row.arm != BEST_CONSTANT:
        return f"{row.arm} (no model)"
    return f"{row.arm}{' (scripted)' if row.scripted else ''}"


def _cost(row: Any) -> str:
    return "" if row.arm_kind == "control" and not row.model else dollars(row.cost_usd)


COLUMNS = (
    Column("method", _name),
    Column("n", lambda r: str(int(r.asked))),
    Column("acc %", lambda r: percent(r.accuracy)),
    Column("95 %", lambda r: limits(r.accuracy_low, r.accuracy_high)),
    Column("score %", lambda r: percent(r.mean_score)),
    Column("95 %", lambda r: limits(r.score_low, r.score_high), wide=True),
    Column("skill %", lambda r: percent(r.skill), if_any=True),
    Column(
        "recall %",
        lambda r: "" if isnan(r.evidence_recall) else percent(r.evidence_recall),
        wide=True,
        if_any=True,
    ),
    Column("subs", lambda r: count(r.subcalls)),
    Column("calls", lambda r: count(r.calls), wide=True),
    Column("tokens", lambda r: count(r.prompt_tokens + r.completion_tokens)),
    Column("cached", lambda r: count(r.cached_tokens), wide=True),
    Column("USD", _cost),
    Column("s", lambda r: seconds(r.wall_s)),
    Column("s p95", lambda r: seconds(r.wall_s_p95), wide=True),
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
    for note in _judges(summary):
        console.print(Text(note))
    console.print()
    console.print(Text("Is the RLM worth it?", style="bold"))
    groups = grouped(verdicts)
    for group in groups:
        _print_group(group, console)
    if any(len(group.members) > 1 for group in groups):
        console.print(Text(LEGEND, overflow="fold"))
    if not verdicts:
        console.print(Text("No verdict: the run has no RLM arm beside an alternative."))


def _judges(summary: pd.DataFrame) -> list[str]:
    """What grading took, which no row's cost holds."""
    asked = summary[summary["arm"] != BEST_CONSTANT]
    spent = float((asked["judge_cost_usd"] * asked["asked"]).sum(skipna=False))
    if spent == 0:
        return []
    return [f"Not in these costs, what the judge's calls took: {dollars(spent)}."]


def _print_group(group: Group, console: Console) -> None:
    """One RLM arm: its verdict. Several: one line on all of them, and a row for each."""
    if len(group.members) == 1:
        console.print(Text(group.members[0].text, overflow="fold"))
        return
    console.print(Text(group.headline, overflow="fold"))
    table = _plain_table(console)
    rows = group_table(group)
    rows = rows[[c for c in rows.columns if rows[c].any()]]
    for i, heading in enumerate(rows.columns):
        table.add_column(heading, justify="right" if i > 1 else "left", overflow="fold")
    for cells in rows.itertuples(index=False):
        table.add_row(*map(Text, cells))
    console.print(table)
    console.print()


def _plain_table(console: Console) -> Table:
    """With rules and without padding on a terminal, the other way round where it is piped."""
    return Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        padding=(0, 1, 0, 0) if not console.is_terminal else 0,
        pad_edge=False,
    )


def _table(rows: pd.DataFrame, console: Console) -> Table:
    table = _plain_table(console)
    records = list(rows.itertuples())
    columns = [c for c in COLUMNS if console.width >= WIDE or not c.wide]
    columns = [c for c in columns if not c.if_any or any(_says(c.cell(r)) for r in records)]
    for i, column in enumerate(columns):
        justify: Any = "right" if i else "left"
        table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=i > 0)
    for control, group in groupby(records, lambda row: row.arm_kind == "control"):
        if control:
            table.add_row(Text("controls", style="dim italic"))
        for row in group:
            table.add_row(*(Text(c.cell(row), style="dim" if control else "") for c in columns))
    return table


def _says(cell: str) -> bool:
    return cell not in ("", "–")


def _notes(rows: pd.DataFrame, contexts: int, first: Any) -> list[str]:
    notes = []
    if isnan(float(first.score_low)):
        notes.append(f"No intervals: they need 4 contexts, this is {plural(contexts, 'context')}.")
    if sets(rows).any():
        notes.append(NOT_SAME)
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
