"""The report's tables: which columns, under what names, linking to which samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from rlm_eval.analysis import tables
from rlm_eval.analysis.aggregate import BEST_CONSTANT
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.text import count, dollars, points


@dataclass(frozen=True)
class Column:
    """``kind`` tells the page how to show a value: text, int, count, share, points, usd, seconds,
    number, or range for an interval whose ends are ``name`` + ``_low`` and ``_high``. A value
    with a ``link`` leads to its samples, narrowed by what ``link`` says."""

    name: str
    label: str
    kind: str
    link: Mapping[str, str] | None = None


@dataclass(frozen=True)
class View:
    """A table with its columns; ``frame`` is what is written as CSV, Markdown and LaTeX."""

    id: str
    title: str
    note: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    filters: list[dict[str, str]] = field(default_factory=list)


CELL = (Column("task", "task", "text"), Column("target_tokens", "length", "int"))
ARM = (*CELL, Column("arm", "method", "text", {}))


def views(results: pd.DataFrame, calls: pd.DataFrame, summary: pd.DataFrame) -> list[View]:
    """Every table that has a row."""
    found = [
        _view(
            "summary",
            "Score per method and length",
            "Accuracy and score over the answers that count (own failures 0); limits are 95 %, by "
            "context, and missing under 4 contexts. Skill: gain over the best constant answer.",
            SUMMARY,
            summary,
        ),
        _paired(paired_table(results)),
        _view(
            "costs",
            "Cost per question and per right answer",
            "A right answer's cost is all that the method spent, over its right answers.",
            COSTS,
            tables.costs(results),
        ),
        _view(
            "quantiles",
            "Spread of cost, time and sub-calls",
            "Per question. A quantile is left out where too few questions lie beyond it.",
            QUANTILES,
            tables.quantiles(results),
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
    if not calls.empty:
        note = "Means per question. computed: prompt tokens the server worked on; cached: taken "
        note += "from its prompt cache; completion: written."
        split = tables.token_split(results, calls)
        found.insert(4, _view("tokens", "Where the tokens went", note, TOKENS, split))
    scripted = set(results.loc[results["scripted"].astype(bool), "arm"])
    return [_labelled(view, scripted) for view in found if len(view.frame)]


def _labelled(view: View, scripted: set[str]) -> View:
    """The view with ``(scripted)`` behind the arms a scripted model took part in."""
    names = [c for c in ("arm", "against") if c in view.frame.columns]
    frame = view.frame.assign(
        **{n: [f"{a} (scripted)" if a in scripted else a for a in view.frame[n]] for n in names}
    )
    return replace(view, frame=frame)


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
        "seconds": count,
        "share": lambda v: f"{100 * v:.1f}",
        "points": points,
        "number": lambda v: "< 0.001" if 0 < abs(v) < 0.001 else f"{v:.3g}",
    }
    text = shown[kind](value)
    return text if kind == "text" else text.replace("-", "−")


def _view(id: str, title: str, note: str, columns: tuple[Column, ...], frame: pd.DataFrame) -> View:
    known = tuple(c for c in columns if c.kind == "range" or c.name in frame.columns)
    filters = [_filter(row) for row in frame.to_dict("records")]
    return View(id, title, note, known, frame, filters)


def _filter(row: Mapping[Any, Any]) -> dict[str, str]:
    if row["arm"] == BEST_CONSTANT:
        return {}
    arms = f"{row['arm']}|{row['against']}" if "against" in row else str(row["arm"])
    return {"task": str(row["task"]), "length": str(int(row["target_tokens"])), "arm": arms}


def _paired(frame: pd.DataFrame) -> View:
    family = int(frame["comparisons"].max()) if len(frame) else 0
    note = (
        "Score of the first method minus the second's, on the samples both were asked. p after "
        f"Holm over all pairs of a task (up to {family}). Resolvable: the smallest true difference "
        "that this n finds in 4 of 5 repetitions."
    )
    return _view("paired", "Paired differences", note, PAIRED, frame)


SUMMARY = (
    *ARM,
    Column("n_contexts", "contexts", "int"),
    Column("asked", "asked", "int", {}),
    Column("completed", "completed", "int", {"outcome": "scored"}),
    Column("owed", "owed", "int", {"outcome": "owed"}),
    Column("accuracy", "accuracy %", "share", {"outcome": "right"}),
    Column("accuracy", "95 %", "range"),
    Column("accuracy_completed", "of completed", "share", {"outcome": "scored"}),
    Column("mean_score", "score %", "share", {}),
    Column("score", "95 %", "range"),
    Column("skill", "skill %", "share"),
    Column("skill", "95 %", "range"),
    Column("subcalls", "sub-calls", "count"),
    Column("prompt_tokens", "prompt tokens", "count"),
    Column("cached_tokens", "cached", "count"),
    Column("completion_tokens", "completion", "count"),
    Column("cost_usd", "USD", "usd"),
    Column("wall_s", "seconds", "seconds"),
)
PAIRED = (
    *CELL,
    Column("arm", "method", "text", {}),
    Column("against", "against", "text", {}),
    Column("difference", "points", "points", {}),
    Column("", "95 %", "range"),
    Column("p", "p", "number"),
    Column("p_holm", "p, Holm", "number"),
    Column("test", "test", "text"),
    Column("effect_size", "d", "number"),
    Column("shared_samples", "shared samples", "int", {}),
    Column("contexts", "contexts", "int"),
    Column("cost_ratio", "cost ×", "number"),
    Column("cost_unit", "of", "text"),
    Column("smallest_resolvable", "resolvable %", "share"),
    Column("contexts_for_5_points", "contexts for 5 points", "count"),
)
COSTS = (
    *ARM,
    Column("asked", "asked", "int", {}),
    Column("right", "right", "int", {"outcome": "right"}),
    Column("tokens_per_question", "tokens/question", "count"),
    Column("tokens_per_right", "tokens/right", "count"),
    Column("cost_usd_per_question", "USD/question", "usd"),
    Column("cost_usd_per_right", "USD/right", "usd"),
    Column("wall_s_per_question", "seconds/question", "seconds"),
    Column("wall_s_per_right", "seconds/right", "seconds"),
)
QUANTILES = (
    *ARM,
    Column("quantity", "quantity", "text"),
    Column("asked", "asked", "int", {}),
    Column("p50", "p50", "count"),
    Column("p75", "p75", "count"),
    Column("p95", "p95", "count"),
    Column("p99", "p99", "count"),
)
TOKENS = (
    *ARM,
    Column("role", "role", "text"),
    Column("asked", "asked", "int", {}),
    Column("computed", "computed", "count"),
    Column("cached", "cached", "count"),
    Column("completion", "completion", "count"),
)
_ENDS = (
    "answered",
    "forced",
    "no_answer",
    "budget_exceeded",
    "context_overflow",
    "invalid_answer",
    "provider_error",
    "sandbox_error",
)
OUTCOMES = (*ARM, *(Column(e, e.replace("_", " "), "int", {"outcome": e}) for e in _ENDS))
REPEATS = (
    *ARM,
    Column("samples", "samples", "int", {}),
    Column("left_out", "left out", "int"),
    Column("repeats", "repeats", "int"),
    Column("between_repeats", "between repeats", "number"),
    Column("between_samples", "between samples", "number"),
    Column("repeat_share", "repeats' share %", "share"),
)
