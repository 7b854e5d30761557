"""The report's tables, ready to be shown and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from rlm_eval.analysis import tables
from rlm_eval.analysis.aggregate import BEST_CONSTANT, NOT_SAME, sets
from rlm_eval.analysis.arms import marks
from rlm_eval.analysis.budgets import budget_table
from rlm_eval.analysis.foreseen import forecast_table
from rlm_eval.analysis.load import Run
from rlm_eval.analysis.report_columns import (
    BUDGETS,
    COSTS,
    FORECAST,
    IF_ANY,
    JUDGE,
    OUTCOMES,
    PAIRED,
    QUANTILES,
    REPEATS,
    RETRIEVAL,
    SUMMARY,
    TOKENS,
    Column,
)
from rlm_eval.analysis.retrieval import retrieval
from rlm_eval.analysis.text import count, dollars, points, seconds

SCORES = "Score per method and length"


@dataclass(frozen=True)
class View:
    """A table with its columns; ``frame`` is what is written as CSV, Markdown and LaTeX. ``quiet``
    are the places of rows to be shown in grey: controls. ``arms`` has each row's task and arm."""

    id: str
    title: str
    note: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    filters: list[dict[str, str]] = field(default_factory=list)
    quiet: list[int] = field(default_factory=list)
    arms: list[tuple[str, str]] = field(default_factory=list)


def views(
    results: pd.DataFrame,
    calls: pd.DataFrame,
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    runs: Sequence[Run],
) -> list[View]:
    """Every table that has a row, the summary first. ``pairs`` is ``paired_table(results)``."""
    found = [
        _summary(summary),
        _paired(pairs),
        _budgets(budget_table(results, calls)),
        _view(
            "retrieval",
            "Evidence found, and what it was worth",
            "Answers whose method says what it put before a model. Recall: the share of the "
            "evidence in that. The two scores are of different questions: what is hard to find may "
            "be hard to answer.",
            RETRIEVAL,
            retrieval(results),
        ),
        _costs(tables.costs(results)),
        _tokens(results, calls),
        _view(
            "quantiles",
            "Spread of cost, time and sub-calls",
            "Per question. A quantile is left out where too few questions lie beyond it.",
            QUANTILES,
            tables.quantiles(results),
        ),
        _view(
            "forecast",
            "Forecast and run",
            "All lengths together: what was forecast before the first call, and what the results "
            "took. Seconds were forecast for one call after another. Empty: unknown, or made for "
            "other results than these.",
            FORECAST,
            _forecasts(runs, results),
        ),
        _view(
            "outcomes",
            "How questions ended",
            "provider_error and sandbox_error are owed: neither right nor wrong.",
            OUTCOMES,
            tables.outcomes(summary),
        ),
        _view(
            "repeats",
            "Luck of the draw",
            "Variance of a score between repeats of one sample, and between samples.",
            REPEATS,
            tables.repeat_variance(results),
        ),
    ]
    shown_as = marks(summary)
    controls = set(summary.loc[summary["arm_kind"] == "control", "arm"])
    found = [_labelled(view, shown_as, controls) for view in found if len(view.frame)]
    return _with_models(found, results)


def _forecasts(runs: Sequence[Run], results: pd.DataFrame) -> pd.DataFrame:
    """The forecast of every run that kept one, its arms called as in ``results``; controls last."""
    found = []
    for run in runs:
        here = results[results["run_dir"] == str(run.path)].drop_duplicates("method")
        table = forecast_table(run)
        if len(table) and len(here):
            arms = here[["method", "arm", "arm_kind", "task"]].astype(str)
            found.append(table.rename(columns={"arm": "method"}).merge(arms, on="method"))
    if not found:
        return pd.DataFrame()
    table = pd.concat(found, ignore_index=True)
    return table.iloc[(table["arm_kind"] == "control").to_numpy().argsort(kind="stable")]


def _labelled(view: View, shown_as: Mapping[str, str], controls: Set[str]) -> View:
    """The view with what a reader must know behind the arms' names."""
    columns = [c for c in ("arm", "against") if c in view.frame.columns]
    names = {c: [shown_as.get(a, a) for a in view.frame[c]] for c in columns}
    quiet = [i for i, arm in enumerate(view.frame["arm"]) if arm in controls]
    return replace(view, frame=view.frame.assign(**names), quiet=quiet)


def _with_models(found: Sequence[View], results: pd.DataFrame) -> list[View]:
    """The views with each row's model, where there is more than one."""
    asked = results[results["model"] != ""].drop_duplicates(["task", "arm", "model"])
    if asked["model"].nunique() < 2:
        return list(found)
    models = asked.groupby(["task", "arm"])["model"].agg(", ".join).to_dict()
    return [
        _with_column(view, Column("model", "model", "text"), [models.get(a, "") for a in view.arms])
        for view in found
    ]


def _with_column(view: View, column: Column, cells: Sequence[Any]) -> View:
    """The view with one more column behind the methods' names."""
    place = 1 + max(i for i, c in enumerate(view.columns) if c.name in ("arm", "against"))
    columns = (*view.columns[:place], column, *view.columns[place:])
    return replace(view, columns=columns, frame=view.frame.assign(**{column.name: cells}))


def values(view: View, column: Column) -> list[Any]:
    """A column's values; for a range, pairs of its ends."""
    if column.kind != "range":
        return view.frame[column.name].tolist()
    stem = f"{column.name}_" if column.name else ""
    ends = (view.frame[f"{stem}{end}"] for end in ("low", "high"))
    return [list(pair) for pair in zip(*ends, strict=True)]


def printed(view: View) -> tuple[pd.DataFrame, list[bool]]:
    """The columns shown, as text for Markdown and LaTeX, and which of them go to the right."""
    cells = [[_printed(v, c.kind) for v in values(view, c)] for c in view.columns]
    table = pd.DataFrame(list(zip(*cells, strict=True)))
    table.columns = pd.Index([c.label for c in view.columns])
    return table, [c.kind != "text" for c in view.columns]


def _printed(value: Any, kind: str) -> str:
    if kind == "range":
        low, high = value
        return "" if pd.isna(low) else f"{100 * low:.0f} to {100 * high:.0f}".replace("-", "−")
    if kind == "usd":
        return dollars(value)
    if pd.isna(value):
        return ""
    shown: dict[str, Callable[[Any], str]] = {
        "text": str,
        "int": lambda v: f"{v:,.0f}",
        "count": count,
        "seconds": seconds,
        "money": dollars,
        "share": lambda v: f"{round(100 * v, 1) + 0.0:.1f}",
        "points": points,
        "number": lambda v: "< 0.001" if 0 < abs(v) < 0.001 else f"{v:.3g}",
    }
    text = shown[kind](value)
    return text if kind == "text" else text.replace("-", "−")


def _view(id: str, title: str, note: str, columns: tuple[Column, ...], frame: pd.DataFrame) -> View:
    known = tuple(c for c in columns if c.kind == "range" or _has(frame, c.name))
    rows = frame.to_dict("records")
    arms = [(str(row["task"]), str(row.get("results_arm", row["arm"]))) for row in rows]
    return View(id, title, note, known, frame, [_filter(row) for row in rows], arms=arms)


def _has(frame: pd.DataFrame, column: str) -> bool:
    """Whether the table has the column, and where not every task can fill it, anything in it."""
    return column in frame and (column not in IF_ANY or bool(frame[column].notna().any()))


def _filter(row: Mapping[Any, Any]) -> dict[str, str]:
    """Which samples a row is about."""
    place = {"task": str(row["task"])}
    if "target_tokens" in row:
        place["length"] = f"{row['target_tokens']:.0f}"
    if row["arm"] == BEST_CONSTANT:  # all that is known is what it would score
        return place | {"samples": "constant", "outcome": ""}
    place["arm"] = str(row.get("results_arm", row["arm"]))
    return place | ({"against": str(row["against"])} if "against" in row else {})


def _summary(frame: pd.DataFrame) -> View:
    note = (
        "Accuracy and score over the answers that count (own failures 0); limits are 95 %, by "
        "context, and missing under 4 contexts. Skill: gain over the best constant answer. "
        "Controls come last: they say what a score is worth, and compete with nobody."
    )
    marked = sets(frame)
    if not marked.any():
        return _view("summary", SCORES, note, SUMMARY, frame)
    note += f" {NOT_SAME} A row marked as a set has answers to other samples than those without."
    view = _view("summary", SCORES, note, SUMMARY, frame)
    return _with_column(view, Column("set", "samples", "text"), marked.tolist())


def _paired(frame: pd.DataFrame) -> View:
    family = int(frame["comparisons"].max()) if len(frame) else 0
    note = (
        "Score of the first method minus the second's, on the samples both were asked. p after "
        f"Holm over all pairs of a task (up to {family}); controls take no part. Resolvable: the "
        "smallest true difference that this n finds in 4 of 5 repetitions."
    )
    return _view("paired", "Paired differences", note, PAIRED, frame)


def _costs(frame: pd.DataFrame) -> View:
    judged = bool((frame["judge_cost_usd_per_question"] != 0).any()) if len(frame) else False
    note = (
        "A right answer's cost is all that the method spent, over its right answers. Dollars and "
        "seconds are as billed and as waited for: a prompt that begins like one another method "
        "sent before may have been cheaper and quicker for it. Tokens know no such luck."
    )
    if judged:
        note += " The judge's calls are in no other column."
    columns = (*COSTS, *JUDGE) if judged else COSTS
    return _view("costs", "Cost per question and per right answer", note, columns, frame)


def _tokens(results: pd.DataFrame, calls: pd.DataFrame) -> View:
    split = pd.DataFrame() if calls.empty else tables.token_split(results, calls)
    note = "Means per question. computed: prompt tokens the server worked on; cached: taken from "
    note += "its prompt cache; completion: written; from memory: calls answered without a model. "
    note += "summarize, embed and judge are roles of their own; a judge's tokens are no part of "
    note += "what a method took."
    return _view("tokens", "Where the tokens went", note, TOKENS, split)


def _budgets(frame: pd.DataFrame) -> View:
    note = "One cap per sample and run. Matched: the method was told to spend up to it; else it "
    note += "spends what it needs. Spent: mean per question, without the calls of an embedding "
    note += "model, whose index the run pays for. Over: questions that spent more than the cap."
    view = _view("budgets", "Score against budget", note, BUDGETS, frame)
    if frame.empty:
        return view
    marked = zip(frame["arm"], frame["scripted"], strict=True)
    named = [f"{arm} (scripted)" if scripted else arm for arm, scripted in marked]
    return replace(view, frame=frame.assign(arm=named))
