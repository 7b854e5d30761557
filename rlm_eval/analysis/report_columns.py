"""The columns of the report's tables: under what names, shown how, linking to which samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """``kind`` tells the page how to show a value: text, int, count, share, points, usd (null is
    unpriced), money (null is unknown), seconds, number, or range for an interval whose ends are
    ``name`` + ``_low`` and ``_high``. A value with a ``link`` leads to its samples, narrowed by
    what ``link`` says."""

    name: str
    label: str
    kind: str
    link: Mapping[str, str] | None = None


CELL = (Column("task", "task", "text"), Column("target_tokens", "length", "int"))
ARM = (*CELL, Column("arm", "method", "text", {}))
#: Columns that are left out where no row has a value.
IF_ANY = frozenset({"score_exact", "evidence_recall"})
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
    Column("score_exact", "exact %", "share"),
    Column("skill", "skill %", "share"),
    Column("skill", "95 %", "range"),
    Column("evidence_recall", "recall %", "share"),
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
    Column("cost_usd_per_right", "USD/right", "money"),
    Column("wall_s_per_question", "seconds/question", "seconds"),
    Column("wall_s_per_right", "seconds/right", "seconds"),
)
JUDGE = (Column("judge_cost_usd_per_question", "judge USD/question", "usd"),)
RETRIEVAL = (
    *ARM,
    Column("n", "n", "int", {}),
    Column("evidence_recall", "recall %", "share", {}),
    Column("recall", "95 %", "range"),
    Column("n_all", "all shown", "int"),
    Column("score_all", "score %, all shown", "share"),
    Column("n_part", "not all", "int"),
    Column("score_part", "score %, not all", "share"),
)
BUDGETS = (
    *ARM,
    Column("matched", "matched", "text"),
    Column("unit", "cap on", "text"),
    Column("cap", "cap", "count"),
    Column("asked", "asked", "int"),
    Column("mean_score", "score %", "share"),
    Column("score", "95 %", "range"),
    Column("constant_score", "best constant %", "share"),
    Column("spent", "spent", "count"),
    Column("spent_share", "of the cap %", "share"),
    Column("spent_p95", "spent p95", "count"),
    Column("over", "over", "int"),
    Column("stopped", "budget exceeded", "int"),
)
FORECAST = (
    Column("task", "task", "text"),
    Column("arm", "method", "text", {}),
    Column("results", "results", "int", {}),
    Column("from", "from", "text"),
    *(
        Column(f"{measure}_{when}", f"{label}, {said}", kind)
        for measure, label, kind in (
            ("calls", "calls", "count"),
            ("prompt_tokens", "prompt tokens", "count"),
            ("completion_tokens", "completion tokens", "count"),
            ("usd", "USD", "money"),
            ("seconds", "seconds", "seconds"),
        )
        for when, said in (("forecast", "forecast"), ("took", "took"))
    ),
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
    Column("calls", "calls", "count"),
    Column("from_memory", "from memory", "count"),
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
