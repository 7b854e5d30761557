"""The summary of a run: computed from its two tables, written beside them, and printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from rlm_eval.analysis.aggregate import (
    BEST_CONSTANT,
    NOT_SAME,
    OUTCOMES,
    sets,
    summarize,
    with_readings,
)
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.figures import curves, drawing
from rlm_eval.analysis.figures.rows import score_and_cost
from rlm_eval.analysis.load import combine, load_run
from rlm_eval.analysis.paired import CELL, Comparison
from rlm_eval.analysis.tables import all_cut, forecast_table, judge_notes, stayed_within
from rlm_eval.analysis.text import Column, dollars, percent, plural, terminal_table
from rlm_eval.analysis.verdicts import Verdict, verdicts
from rlm_eval.journal.tables import write_csv

FIGURES = (curves.score_vs_length, curves.score_vs_cost, score_and_cost)
DEMONSTRATION = "A demonstration, not evidence."
#: Of what is computed: further digits differ from processor to processor.
DIGITS = "%.10g"
#: Terminals of fewer characters leave columns out that say more.
WIDE = 118
COLUMNS = (
    Column("method", "text"),
    Column("asked", "int", "n"),
    Column("accuracy", "percent", "acc %"),
    Column("accuracy", "range", "95 %", if_any=True),
    Column("mean_score", "percent", "score %"),
    Column("score", "range", "95 %", more=True, if_any=True),
    Column("score_unfiltered", "percent", "unfiltered %", if_any=True),
    Column("skill", "percent", "skill %", if_any=True),
    Column("evidence_recall", "percent", "recall %", more=True, if_any=True),
    Column("judge_flip_rate", "percent", "judge flips %", more=True, if_any=True),
    Column("subcalls", "count", "subs"),
    Column("calls", "count", more=True),
    Column("tokens", "count"),
    Column("cached_tokens", "count", "cached", more=True),
    Column("cost", "right", "USD"),
    Column("wall_s", "seconds", "s"),
    Column("wall_s_p95", "seconds", "s p95", more=True),
)
VERDICTS = (
    Column("task", "text", if_any=True),
    Column("length", "right"),
    Column("model", "text", if_any=True),
    Column("budget", "text", if_any=True),
    Column("arm", "text"),
    Column("decision", "text", "verdict"),
    Column("against", "text"),
    Column("difference", "points", "points"),
    Column("", "range", "95 %", if_any=True),
    Column("cost_ratio", "times", "cost", if_any=True),
    Column("contexts", "int", "ctx"),
)
#: What the columns of several verdicts mean.
LEGEND = (
    "Against: the alternative that decides; every one is compared. Points: score minus its score."
    " Cost: times its cost, in dollars where both have a price, else in tokens, as each would pay"
    " alone. Ctx: contexts, or questions where analysis.unit says so. In words, with what bears on"
    " it: verdicts.csv."
)


@dataclass(frozen=True)
class Summary:
    """``table`` as :func:`summarize` gives it, ``kept`` as ``stayed_within`` tells it; ``cut`` has
    what is to be said of inputs that were cut, by task and length."""

    table: pd.DataFrame
    verdicts: list[Verdict]
    demonstration: bool
    kept: str = ""
    cut: Mapping[Any, Sequence[str]] = field(default_factory=dict)


def write_summary(run_dir: Path) -> Summary:
    """Read a run's tables; write ``summary.csv``, ``verdicts.csv``, ``figures/`` and, where it was
    forecast, ``forecast.csv`` into it."""
    run = load_run(run_dir, texts=False)
    results = combine([run])
    if results.empty:
        return Summary(pd.DataFrame(), [], run.demonstration)
    table, found = summarize(results), verdicts(results, run.margin)
    write_csv(table, run_dir / "summary.csv", DIGITS)
    about = ["model", "budget", "scripted", "decision", "text"]
    columns = [*(named.name for named in fields(Comparison)), *about]
    rows = pd.DataFrame([verdict.row for verdict in found], columns=columns)
    write_csv(rows, run_dir / "verdicts.csv", DIGITS)
    for draw in FIGURES:
        drawing.save(draw(results, table), run_dir / "figures" / draw.__name__)
    forecast = forecast_table(run)
    if len(forecast):
        write_csv(forecast, run_dir / "forecast.csv")
    kept = stayed_within(forecast.to_dict("records"))
    return Summary(table, found, run.demonstration, kept, all_cut(results))


def joint_summary(run_dirs: Sequence[Path]) -> Summary:
    """Several runs as one: models and settings side by side."""
    runs = [load_run(path, texts=False) for path in run_dirs]
    results = by_method(combine(runs))
    shown = any(run.demonstration for run in runs)
    if results.empty:
        return Summary(pd.DataFrame(), [], shown)
    found = verdicts(results, min(run.margin for run in runs))
    return Summary(summarize(results), found, shown, cut=all_cut(results))


def print_summary(summary: Summary, console: Console) -> None:
    """One table per task and length, what went wrong in it, then the verdicts. Fits 80 columns,
    shows more on wider terminals, and is plain when piped."""
    table, verdicts = summary.table, summary.verdicts
    if summary.demonstration:
        console.print(Text(DEMONSTRATION, style="bold"))
    if table.empty:
        console.print("No results yet.")
        return
    if bool(table["scripted"].any()):
        console.print(Text("Rows marked (scripted) say nothing about any language model."))
    for (task, length), rows in table.groupby(CELL, sort=False):
        size = f"{plural(rows['n'].max(), 'question')} in "
        size += plural(rows["n_contexts"].max(), "context")
        rule = ", ".join(rows["score_rule"].dropna().unique())
        models = ", ".join(filter(None, rows["model"].unique()))
        head = f"\n{task} · {length:,} tokens · {size} · score: {rule} · {models}"
        console.print(Text(head.removesuffix(" · "), style="bold"))
        columns = with_readings(COLUMNS, table)
        columns = [c for c in columns if console.width >= WIDE or not c.more]
        console.print(terminal_table(columns, _shown(rows), console, "controls"))
        for note in [*_notes(rows), *summary.cut.get((task, length), ())]:
            console.print(Text(note), soft_wrap=not console.is_terminal)
    asked = table[table["arm"] != BEST_CONSTANT]
    if judged := float((asked["judge_cost_usd"] * asked["asked"]).sum(skipna=False)):
        console.print(f"Not in these costs, what the judge's calls took: {dollars(judged)}.")
    for note in judge_notes(table):
        console.print(Text(note), soft_wrap=not console.is_terminal)
    console.print(Text("\nIs the RLM worth it?", style="bold"))
    if len(verdicts) == 1:
        console.print(Text(verdicts[0].text, overflow="fold"))
    elif verdicts:
        console.print(terminal_table(VERDICTS, grid(verdicts), console))
        console.print(Text(LEGEND, overflow="fold"))
    else:
        console.print("No verdict: that takes an RLM arm, an alternative and gold answers.")
    if summary.kept:
        print(f"within the forecast's ranges: {summary.kept} rows (each in forecast.csv)")


def grid(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A row per verdict, with what is the same in all of them left out."""
    rows = pd.DataFrame([v.row for v in verdicts])
    rows["length"] = rows["target_tokens"].map(lambda n: f"{n:,}" if n else "all")
    rows["decision"] = rows["decision"].mask(rows["scripted"], rows["decision"] + " (scripted)")
    for column in ("task", "model", "budget"):
        if rows[column].nunique() == 1:
            rows[column] = ""
    return rows


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A summary's rows with what a terminal shows of them; controls are quiet."""
    control = rows["arm_kind"] == "control"
    modelless = control & (rows["model"] == "")
    names = rows["arm"].mask(rows["scripted"], rows["arm"] + " (scripted)")
    return rows.assign(
        method=names.mask(modelless & (rows["arm"] != BEST_CONSTANT), rows["arm"] + " (no model)"),
        tokens=rows["prompt_tokens"] + rows["completion_tokens"],
        cost=rows["cost_usd"].map(dollars).mask(rows["asked"] == 0, "–").mask(modelless, ""),
        quiet=control,
    )


def _notes(rows: pd.DataFrame) -> list[str]:
    notes = []
    if rows["score_low"].isna().all():
        contexts = plural(rows["n_contexts"].max(), "context")
        notes.append(f"No intervals: they need 4 contexts (see analysis.unit), this is {contexts}.")
    if sets(rows).any():
        notes.append(NOT_SAME)
    if rows["score_unfiltered"].notna().any():
        notes.append("Unfiltered: of the samples on which no arm met a content filter.")
    for row in rows.to_dict("records"):
        counts = {name: row[f"outcome_{name}"] for name in OUTCOMES if name != "answered"}
        listed = [f"{n:.0f} {name}" for name, n in counts.items() if n > 0]
        if listed:
            pending = f"; {row['pending']} pending, not counted" if row["pending"] else ""
            done = f" (accuracy over completed: {percent(row['accuracy_completed'])} %)"
            notes.append(f"{row['arm']}: {', '.join(listed)}{pending}{done}")
    return notes
