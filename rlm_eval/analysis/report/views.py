"""The report's tables, ready to be shown and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from rlm_eval.analysis import tables
from rlm_eval.analysis.aggregate import BEST_CONSTANT, NOT_SAME, OUTCOMES, sets, with_readings
from rlm_eval.analysis.arms import marks
from rlm_eval.analysis.budgets import budget_table
from rlm_eval.analysis.report.claims import SHOWN, claims_table, known_claims
from rlm_eval.analysis.text import Column, shown


@dataclass(frozen=True)
class View:
    """A table with its columns; ``frame`` is what is written as CSV, Markdown and LaTeX. Numbers
    lead to the answers that a column's link or, without one, ``link`` names, of the samples in a
    row's ``filters``. ``quiet`` are the places of rows to be shown in grey: controls.

    A link is as the page's list of samples calls it (html/answers.js): an outcome, a class of
    outcomes, or a set of samples; "" is all of the row's answers.
    """

    id: str
    title: str
    note: str
    columns: Sequence[Column]
    link: str = "asked"
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    filters: Sequence[Mapping[str, str]] = ()
    quiet: Sequence[int] = ()


CELL = (Column("task", "text"), Column("target_tokens", "int", "length"))
METHOD = (Column("arm", "text", "method", link=""), Column("models", "text", "model", if_any=True))
ARM = (*CELL, *METHOD)
SUMMARY = View(
    "summary",
    "Score per method and length",
    "Accuracy and score over the answers that count (own failures 0); limits are 95 %, by context, "
    "or by question where analysis.unit says so, and missing under 4 of these. Skill: gain over "
    "the best constant answer. Controls come last: they say what a score is worth, and compete "
    "with nobody. Unfiltered: without the samples on which any arm met a content filter, for all "
    "arms.",
    (
        *ARM,
        Column("set", "text", "samples", if_any=True),
        Column("n_contexts", "int", "contexts", more=True, link=""),
        Column("asked", "int"),
        Column("completed", "int", more=True, link="scored"),
        Column("pending", "int", link="pending"),
        Column("accuracy", "share", "accuracy %", more=True, link="right"),
        Column("accuracy", "range", "95 %", more=True),
        Column("accuracy_completed", "share", "of completed", more=True, link="scored"),
        Column("mean_score", "share", "score %"),
        Column("score", "range", "95 %"),
        Column("score_unfiltered", "share", "unfiltered %", if_any=True),
        Column("score_rule", "text", "scored by", more=True, if_any=True, link=""),
        Column("skill", "share", "skill %"),
        Column("skill", "range", "95 %"),
        Column("evidence_recall", "share", "recall %", if_any=True, link="recall known"),
        Column("judge_flip_rate", "share", "judge flips %", if_any=True),
        Column("subcalls", "count", "sub-calls"),
        Column("prompt_tokens", "count"),
        Column("cached_tokens", "count", "cached", more=True),
        Column("completion_tokens", "count", "completion", more=True),
        Column("cost_usd", "usd", "USD"),
        Column("wall_s", "seconds", "seconds"),
    ),
)
KINDS = View(
    "kinds",
    "Score per kind of question",
    "What a mean over all questions may hide. Best constant: what the best answer that reads "
    "nothing would score on these.",
    (
        *CELL,
        Column("question_group", "text", "kind"),
        *METHOD,
        Column("asked", "int"),
        Column("right", "int", link="right"),
        Column("mean_score", "share", "score %"),
        Column("constant_score", "share", "best constant %"),
    ),
)
PAIRED = View(
    "paired",
    "Paired differences",
    "Score of the first method minus the second's, on the samples both were asked. p after Holm "
    "over the pairs of one question (an RLM against the alternatives, RLMs, alternatives); "
    "controls take no part. Contexts: questions where analysis.unit says so. Resolvable: the "
    "smallest true difference that this n finds in 4 of 5 repetitions (by Holm, but for the gains "
    "of an RLM on alternatives, which verdicts tell without it).",
    (
        *CELL,
        Column("arm", "text", "method", link=""),
        Column("against", "text", link=""),
        Column("models", "text", "model", if_any=True),
        Column("difference", "points", "points"),
        Column("", "range", "95 %"),
        Column("p", "number"),
        Column("p_holm", "number", "p, Holm"),
        Column("test", "text"),
        Column("effect_size", "number", "d"),
        Column("shared_samples", "int"),
        Column("contexts", "int"),
        Column("cost_ratio", "number", "cost ×"),
        Column("cost_unit", "text", "of"),
        Column("smallest_resolvable", "share", "resolvable %"),
        Column("contexts_needed", "count"),
    ),
    link="shared",
)
BUDGETS = View(
    "budgets",
    "Score against budget",
    "One cap per sample and run. Matched: the method was told to spend up to it; else it spends "
    "what it needs. Spent: mean per question, without the calls of an embedding model, whose "
    "index the run pays for. Over: questions that spent more than the cap.",
    (
        *ARM,
        Column("matched", "text"),
        Column("unit", "text", "cap on"),
        Column("cap", "count"),
        Column("asked", "int"),
        Column("mean_score", "share", "score %"),
        Column("score", "range", "95 %"),
        Column("constant_score", "share", "best constant %"),
        Column("spent", "count"),
        Column("spent_share", "share", "of the cap %"),
        Column("spent_p95", "count", "spent p95"),
        Column("over", "int", link="over the cap"),
        Column("stopped", "int", "budget exceeded", link="budget_exceeded"),
    ),
)
COSTS = View(
    "costs",
    "Cost per question and per right answer",
    "A right answer's cost is all that the method spent, over its right answers; what a judge "
    "took is in no such column. Dollars and seconds are as billed and as waited for: a prompt "
    "that begins like one another method sent before may have been cheaper and quicker for it. "
    "Own cache: with nothing cached but the method's own prefixes, modelled; verdicts use it.",
    (
        *ARM,
        Column("asked", "int"),
        Column("right", "int", link="right"),
        Column("tokens_per_question", "count", "tokens/question"),
        Column("tokens_per_right", "count", "tokens/right"),
        Column("cost_usd_per_question", "usd", "USD/question"),
        Column("list_usd_per_question", "money", "nothing cached", more=True, if_any=True),
        Column("own_usd_per_question", "money", "own cache", more=True, if_any=True),
        Column("cost_usd_per_right", "money", "USD/right"),
        Column("judge_cost_usd_per_question", "usd", "judge USD/question"),
        Column("wall_s_per_question", "seconds", "seconds/question"),
        Column("wall_s_per_right", "seconds", "seconds/right"),
    ),
)
TOKENS = View(
    "tokens",
    "Where the tokens went",
    "Means per question. computed: prompt tokens the server worked on; cached: taken from its "
    "prompt cache; completion: written; from memory: calls answered without a model. summarize, "
    "embed and judge are roles of their own; a judge's tokens are no part of what a method took.",
    (
        *ARM,
        Column("role", "text"),
        Column("asked", "int"),
        *(Column(name, "count") for name in tables.SPLIT),
    ),
)
QUANTILES = View(
    "quantiles",
    "Spread of cost, time and sub-calls",
    "Per question. A quantile is left out where too few questions lie beyond it.",
    (
        *ARM,
        Column("quantity", "text"),
        Column("asked", "int"),
        *(Column(f"p{100 * level:.0f}", "count") for level in tables.LEVELS),
    ),
)
ENDS = View(
    "outcomes",
    "How questions ended",
    "provider_error and sandbox_error are pending: neither right nor wrong.",
    (*ARM, *(Column(outcome, "int", link=outcome) for outcome in OUTCOMES)),
)
CLAIMS = View(
    "claims",
    "What others have published",
    "Claims of conf/claims/ on whose two arms these runs say something, in points of the first "
    "minus the second. Published limits are made of the scores and the number of questions. In "
    "another setting than the claim's the direction alone is held against it.",
    SHOWN,
    link="shared",
)
REPEATS = View(
    "repeats",
    "Luck of the draw",
    "Variance of a score between repeats of one sample, and between samples.",
    (
        *ARM,
        Column("samples", "int"),
        Column("left_out", "int", link="incomplete"),
        Column("repeats", "int"),
        Column("between_repeats", "number"),
        Column("between_samples", "number"),
        Column("repeat_share", "share", "repeats' share %"),
    ),
    link="repeated",
)


def views(
    results: pd.DataFrame, calls: pd.DataFrame, summary: pd.DataFrame, pairs: pd.DataFrame
) -> list[View]:
    """Every table that has a row, the summary first. ``pairs`` is ``paired_table(results)``."""
    claims = claims_table(results, known_claims())
    lengths = claims["target_tokens"].astype(object)
    claims = claims.assign(target_tokens=lengths.where(claims["target_tokens"] > 0, None))
    marked, costs, judge = sets(summary), tables.costs(results), "judge_cost_usd_per_question"
    if len(costs) and (costs[judge] == 0).all():
        costs = costs.drop(columns=judge)
    more = [f"{NOT_SAME} A marked row has other samples."] if marked.any() else []
    for (task, length), lines in tables.all_cut(results).items():
        more += [f"{task}, {length:,} tokens: {line}" for line in lines]
    note = " ".join([SUMMARY.note, *more, *tables.judge_notes(summary)])
    columns = with_readings(SUMMARY.columns, summary)
    if not (summary["cost_usd"].isna() & (summary["asked"] > 0)).any():  # but pending, not unpriced
        columns = [replace(c, kind="money") if c.kind == "usd" else c for c in columns]
    filled = (
        replace(SUMMARY, columns=columns, frame=summary.assign(set=marked), note=note),
        replace(KINDS, frame=tables.by_kind(results)),
        replace(PAIRED, frame=pairs),
        replace(CLAIMS, frame=claims[claims["state"] != "not measured"]),
        replace(BUDGETS, frame=budget_table(results, calls)),
        replace(COSTS, frame=costs),
        replace(TOKENS, frame=tables.token_split(results, calls)),
        replace(QUANTILES, frame=tables.quantiles(results)),
        replace(ENDS, frame=tables.outcomes(summary)),
        replace(REPEATS, frame=tables.repeat_variance(results)),
    )
    models = results[results["model"] != ""].drop_duplicates(["task", "arm", "model"])
    several = models["model"].nunique() > 1
    model_of = models.groupby(["task", "arm"])["model"].agg(", ".join).to_dict() if several else {}
    controls = set(summary.loc[summary["arm_kind"] == "control", "arm"])
    return [_named(v, marks(summary), model_of, controls) for v in filled if len(v.frame)]


def _named(
    view: View, names: Mapping[tuple[str, str], str], models: Mapping[Any, str], controls: set[str]
) -> View:
    """The view with what a reader must know of its arms, and which samples its rows are about."""
    frame = view.frame.assign(models="")
    filters: list[dict[str, str]] = []
    quiet: list[int] = []
    for i, row in zip(frame.index, frame.to_dict("records"), strict=True):
        arm = str(row.get("results_arm", row["arm"]))
        place = {"task": str(row["task"]), "arm": arm}
        place |= {"length": str(n)} if (n := row.get("target_tokens")) else {}
        place |= {"against": str(row["against"])} if "against" in row else {}
        place |= {"group": str(kind)} if (kind := row.get("question_group")) else {}
        if arm == BEST_CONSTANT:  # all that is known is what it would score
            place |= {"arm": "", "samples": "constant", "outcome": ""}
        quiet += [len(filters)] if arm in controls else []
        filters.append(place)
        frame.loc[i, "models"] = models.get((row["task"], arm), "")
        for column in {"arm", "against"} & row.keys():
            scripted = " (scripted)" if row.get("scripted") else ""
            name = names.get((row["task"], row[column]), f"{row[column]}{scripted}")
            frame.loc[i, column] = name
    columns = [column for column in view.columns if column.has_values(frame)]
    return replace(view, frame=frame, columns=columns, filters=filters, quiet=quiet)


def printed(view: View) -> tuple[pd.DataFrame, list[bool]]:
    """The columns shown, as text for Markdown and LaTeX, and which of them go to the right."""
    cells = [[shown(v, c.kind, "") for v in c.values(view.frame)] for c in view.columns]
    table = pd.DataFrame(list(zip(*cells, strict=True)))
    table.columns = pd.Index([column.heading for column in view.columns])
    return table, [column.kind != "text" for column in view.columns]
