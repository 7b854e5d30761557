"""The columns of the report's tables: under what names, shown how, linking to which samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What a number is of, as the page's list of samples calls it.
Link = Mapping[str, str]
ALL: Link = {}
ASKED: Link = {"outcome": "asked"}
SHARED: Link = {"samples": "shared"}
REPEATED: Link = {"samples": "repeated"}


@dataclass(frozen=True)
class Column:
    """``kind`` tells the page how to show a value: text, int, count, share, points, usd (null is
    unpriced), money (null is unknown), seconds, number, or range for an interval whose ends are
    ``name`` + ``_low`` and ``_high``. A value with a ``link`` leads to its samples, narrowed by
    what ``link`` says. ``more``: the page's summary leaves it out until all columns are wanted."""

    name: str
    label: str
    kind: str
    link: Link | None = None
    more: bool = False


CELL = (Column("task", "task", "text"), Column("target_tokens", "length", "int"))
ARM = (*CELL, Column("arm", "method", "text", ALL))
#: Columns that are left out where no row has a value.
IF_ANY = frozenset({"score_exact", "evidence_recall"})
SUMMARY = (
    *ARM,
    Column("n_contexts", "contexts", "int", ALL, more=True),
    Column("asked", "asked", "int", ASKED),
    Column("completed", "completed", "int", {"outcome": "scored"}, more=True),
    Column("owed", "owed", "int", {"outcome": "owed"}),
    Column("accuracy", "accuracy %", "share", {"outcome": "right"}, more=True),
    Column("accuracy", "95 %", "range", ASKED, more=True),
    Column("accuracy_completed", "of completed", "share", {"outcome": "scored"}, more=True),
    Column("mean_score", "score %", "share", ASKED),
    Column("score", "95 %", "range", ASKED),
    Column("score_exact", "exact %", "share", ASKED, more=True),
    Column("skill", "skill %", "share", ASKED),
    Column("skill", "95 %", "range", ASKED),
    Column("evidence_recall", "recall %", "share", {"outcome": "recall known"}),
    Column("subcalls", "sub-calls", "count", ASKED),
    Column("prompt_tokens", "prompt tokens", "count", ASKED),
    Column("cached_tokens", "cached", "count", ASKED, more=True),
    Column("completion_tokens", "completion", "count", ASKED, more=True),
    Column("cost_usd", "USD", "usd", ASKED),
    Column("wall_s", "seconds", "seconds", ASKED),
)
PAIRED = (
    *CELL,
    Column("arm", "method", "text", ALL),
    Column("against", "against", "text", ALL),
    Column("difference", "points", "points", SHARED),
    Column("", "95 %", "range", SHARED),
    Column("p", "p", "number", SHARED),
    Column("p_holm", "p, Holm", "number", SHARED),
    Column("test", "test", "text"),
    Column("effect_size", "d", "number", SHARED),
    Column("shared_samples", "shared samples", "int", SHARED),
    Column("contexts", "contexts", "int", SHARED),
    Column("cost_ratio", "cost ×", "number", SHARED),
    Column("cost_unit", "of", "text"),
    Column("smallest_resolvable", "resolvable %", "share", SHARED),
    Column("contexts_for_5_points", "contexts for 5 points", "count", SHARED),
)
COSTS = (
    *ARM,
    Column("asked", "asked", "int", ASKED),
    Column("right", "right", "int", {"outcome": "right"}),
    Column("tokens_per_question", "tokens/question", "count", ASKED),
    Column("tokens_per_right", "tokens/right", "count", ASKED),
    Column("cost_usd_per_question", "USD/question", "usd", ASKED),
    Column("cost_usd_per_right", "USD/right", "money", ASKED),
    Column("wall_s_per_question", "seconds/question", "seconds", ASKED),
    Column("wall_s_per_right", "seconds/right", "seconds", ASKED),
)
JUDGE = (Column("judge_cost_usd_per_question", "judge USD/question", "usd", ASKED),)
_RECALL = {"outcome": "recall known"}
_WHOLE, _PART = {"outcome": "all shown"}, {"outcome": "not all shown"}
RETRIEVAL = (
    *ARM,
    Column("n", "n", "int", _RECALL),
    Column("evidence_recall", "recall %", "share", _RECALL),
    Column("recall", "95 %", "range", _RECALL),
    Column("n_all", "all shown", "int", _WHOLE),
    Column("score_all", "score %, all shown", "share", _WHOLE),
    Column("n_part", "not all", "int", _PART),
    Column("score_part", "score %, not all", "share", _PART),
)
BUDGETS = (
    *ARM,
    Column("matched", "matched", "text"),
    Column("unit", "cap on", "text"),
    Column("cap", "cap", "count", ASKED),
    Column("asked", "asked", "int", ASKED),
    Column("mean_score", "score %", "share", ASKED),
    Column("score", "95 %", "range", ASKED),
    Column("constant_score", "best constant %", "share", ASKED),
    Column("spent", "spent", "count", ASKED),
    Column("spent_share", "of the cap %", "share", ASKED),
    Column("spent_p95", "spent p95", "count", ASKED),
    Column("over", "over", "int", {"outcome": "over the cap"}),
    Column("stopped", "budget exceeded", "int", {"outcome": "budget_exceeded"}),
)
FORECAST = (
    Column("task", "task", "text"),
    Column("arm", "method", "text", ALL),
    Column("results", "results", "int", ALL),
    Column("from", "from", "text"),
    *(
        Column(f"{measure}_{when}", f"{label}, {said}", kind, link)
        for measure, label, kind in (
            ("calls", "calls", "count"),
            ("prompt_tokens", "prompt tokens", "count"),
            ("completion_tokens", "completion tokens", "count"),
            ("usd", "USD", "money"),
            ("seconds", "seconds", "seconds"),
        )
        for when, said, link in (("forecast", "forecast", None), ("took", "took", ALL))
    ),
)
QUANTILES = (
    *ARM,
    Column("quantity", "quantity", "text"),
    Column("asked", "asked", "int", ASKED),
    Column("p50", "p50", "count", ASKED),
    Column("p75", "p75", "count", ASKED),
    Column("p95", "p95", "count", ASKED),
    Column("p99", "p99", "count", ASKED),
)
TOKENS = (
    *ARM,
    Column("role", "role", "text"),
    Column("asked", "asked", "int", ASKED),
    Column("calls", "calls", "count", ASKED),
    Column("from_memory", "from memory", "count", ASKED),
    Column("computed", "computed", "count", ASKED),
    Column("cached", "cached", "count", ASKED),
    Column("completion", "completion", "count", ASKED),
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
    Column("samples", "samples", "int", REPEATED),
    Column("left_out", "left out", "int", {"samples": "incomplete"}),
    Column("repeats", "repeats", "int", REPEATED),
    Column("between_repeats", "between repeats", "number", REPEATED),
    Column("between_samples", "between samples", "number", REPEATED),
    Column("repeat_share", "repeats' share %", "share", REPEATED),
)
