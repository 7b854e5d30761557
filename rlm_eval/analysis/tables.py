"""Tables beside the summary, and every table as Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.analysis.aggregate import BEST_CONSTANT, sets
from rlm_eval.analysis.arms import flatten, marks
from rlm_eval.analysis.load import Run
from rlm_eval.analysis.paired import CELL
from rlm_eval.analysis.text import percent
from rlm_eval.journal.environment import read
from rlm_eval.journal.tables import MEASURES, write_csv
from rlm_eval.records import PENDING

ARM = [*CELL, "arm"]
LEVELS = (0.25, 0.5, 0.75, 0.95, 0.99)
#: Of each measure of a forecast, what :func:`forecast_table` has.
SAID = ("forecast", "low", "high", "took", "within")
#: What :func:`token_split` has means of.
SPLIT = ("calls", "from_memory", "computed", "cached", "completion")


def method_by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per arm (and model, of several), controls last; one column per task and length: the
    mean score with its limits, ``81 (70–88)``, in per cent. The heading has the column's n; a cell
    with another n says its own, and one with other samples than most that it has. ``summary`` as
    ``summarize`` gives it."""
    most = summary.groupby(CELL)["asked"].transform("max")
    sizes = (", n " + summary["asked"].astype(str)).where(summary["asked"] != most, "")
    columns = [
        f"{task} {int(length):,} (n {n})"
        for task, length, n in zip(summary["task"], summary["target_tokens"], most, strict=True)
    ]
    cells = []
    for row in summary.to_dict("records"):
        low, high = 100 * row["score_low"], 100 * row["score_high"]
        limits = "" if pd.isna(low) else f" ({low:.0f}–{high:.0f})"
        cells.append(percent(row["mean_score"]) + limits)
    marked, names = sets(summary), marks(summary)
    several = summary.loc[summary["model"] != "", "model"].nunique() > 1
    rows = ["method", "model"] if several else ["method"]
    long = summary.assign(
        method=[names[at] for at in zip(summary["task"], summary["arm"], strict=True)],
        column=columns,
        cell=pd.Series(cells, summary.index) + sizes + (", " + marked).where(marked != "", ""),
        place=(summary["arm_kind"] == "control") + 1 * (summary["arm"] == BEST_CONSTANT),
    )
    long = long.sort_values("place", kind="stable")
    how: dict[str, Any] = {"values": "cell", "aggfunc": "first", "sort": False}
    wide = long.pivot_table(index=rows, columns="column", **how)[list(dict.fromkeys(columns))]
    return wide.fillna("").reset_index().rename_axis(columns=None)


def costs(results: pd.DataFrame) -> pd.DataFrame:
    """What a question and a right answer cost. USD columns are null where anything is unpriced.

    Pending rows take no part; ``right`` counts right answers, ``*_per_right`` is null when none is.
    ``judge_cost_usd_per_question`` is what grading took, and in no other column.
    """
    groups = results[results["asked"]].groupby(ARM, sort=False)
    table = groups.agg(asked=("right", "size"))
    table["right"] = groups["right"].sum(min_count=1)  # null without gold answers
    for column in ("tokens", "cost_usd", "list_usd", "own_usd", "wall_s", "judge_cost_usd"):
        total = groups[column].sum(skipna=False)
        table[f"{column}_per_question"] = total / table["asked"]
        table[f"{column}_per_right"] = total / table["right"].where(table["right"] > 0)
    return table.drop(columns="judge_cost_usd_per_right").reset_index()


def quantiles(results: pd.DataFrame) -> pd.DataFrame:
    """Quantiles (:data:`LEVELS`) of tokens, cost, seconds and sub-calls per question.

    One is null where fewer questions were asked than lie beyond it in the mean (4 for p25 and p75,
    20 for p95, 100 for p99). An arm with an unpriced question has no rows for cost.
    """
    rows = []
    for keys, group in results[results["asked"]].groupby(ARM, sort=False):
        for column in ("tokens", "cost_usd", "wall_s", "subcalls"):
            values = group[column].astype("float64")
            if column == "cost_usd" and bool(values.isna().any()):
                continue
            row: dict[str, Any] = dict(zip(ARM, keys, strict=True))
            row |= {"quantity": column, "asked": len(values)}
            for level in LEVELS:
                enough = len(values) * min(level, 1 - level) >= 1 - 1e-9
                row[f"p{100 * level:.0f}"] = values.quantile(level) if enough else nan
            rows.append(row)
    return pd.DataFrame(rows)


def token_split(results: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """Where tokens went: per arm and role, means per question asked.

    ``computed`` are prompt tokens the server worked on, ``cached`` those it took from its prompt
    cache, ``completion`` those it wrote; retries are included. ``calls`` were sent, and
    ``from_memory`` answered without a model, so without tokens. The role ``judge`` is grading, no
    part of what the method took.
    """
    asked = results.loc[results["asked"], [*ARM, "result_key"]]
    joined = asked.merge(calls, on="result_key")
    hits = joined["cached_response"].astype(bool)
    tokens = ["prompt_tokens", "cached_tokens", "completion_tokens"]
    joined[tokens] = joined[tokens].mul(~hits, axis=0)
    joined["sent"] = ~hits & (joined["attempt"] == 1)
    sums = joined.assign(hit=hits).groupby([*ARM, "role"], sort=False, as_index=False)
    split = sums.agg(
        calls=("sent", "sum"),
        from_memory=("hit", "sum"),
        prompt=("prompt_tokens", "sum"),
        cached=("cached_tokens", "sum"),
        completion=("completion_tokens", "sum"),
    )
    questions = asked.groupby(ARM, sort=False, as_index=False).agg(asked=("result_key", "size"))
    split = split.merge(questions, on=ARM)
    split["computed"] = split["prompt"] - split["cached"]
    split[[*SPLIT]] = split[[*SPLIT]].div(split["asked"], axis=0)
    return split[[*ARM, "role", "asked", *SPLIT]]


def repeat_variance(results: pd.DataFrame) -> pd.DataFrame:
    """Variance of the score between repeats of a sample and between samples, per arm.

    One-way random-effects analysis of variance over samples with equally many answers (the
    others are left out and counted in ``left_out``); ``between_samples`` is at least 0. Empty
    when nothing was repeated. ``repeat_share`` of the variance of one answer is luck of the draw.
    """
    rows = []
    for keys, group in results[results["asked"]].groupby(ARM, sort=False):
        counts = group.groupby("sample_id")["points"].size()
        repeats = int(counts.max())
        complete = group[group["sample_id"].isin(counts.index[counts == repeats])]
        samples = complete["sample_id"].nunique()
        if repeats < 2 or samples < 2:
            continue
        by_sample = complete.groupby("sample_id")["points"]
        within = float(by_sample.var(ddof=1).mean())
        between = max(0.0, float(by_sample.mean().var(ddof=1)) - within / repeats)
        row: dict[str, Any] = dict(zip(ARM, keys, strict=True))
        row |= {"samples": samples, "left_out": len(counts) - samples, "repeats": repeats}
        row |= {"between_repeats": within, "between_samples": between}
        row["repeat_share"] = within / (within + between) if within + between > 0 else nan
        rows.append(row)
    return pd.DataFrame(rows)


def judge_notes(summary: pd.DataFrame) -> list[str]:
    """How often each task's judge contradicts itself, over all arms and lengths, a line each."""
    if "judge_verdicts" not in summary:
        return []
    notes = []
    for task, rows in summary.dropna(subset=["judge_verdicts"]).groupby("task", sort=False):
        told, judged = "not measured (task.judge_repeats=3 does)", rows["judged"].sum()
        if judged:
            rate = (rows["judge_flip_rate"] * rows["judged"]).sum() / judged
            each = f"{rows['judge_verdicts'].max():.0f} verdicts on each of {judged:,.0f} answers"
            told = f"{100 * rate:.1f} % ({each})"
        notes.append(f"The judge's flip rate on {task}: {told}.")
    return notes


def inputs_cut(arm: str, own: pd.DataFrame) -> list[str]:
    """What is to be said of an arm that was shown less than the input; nothing of others."""
    asked = own[own["asked"]]
    cut = asked[asked["truncated_tokens"] > 0]
    of = flatten(json.loads(own["arm_config"].iloc[0])) if len(cut) else {}
    if "omit" in (of.get("overflow"), of.get("of.overflow")):
        told = "are too large to be shown: its code searches them"
        return [f"{arm}: {len(cut)} of {len(asked)} inputs {told}."]
    # Of the model's own tokens, as what was left out is counted: a turn's prompt, nearly. Not
    # where sub-calls' tokens are in the same sum.
    read = (cut["prompt_tokens"] / cut["iterations"].clip(lower=1)).sum()
    kept = read / max(1, read + cut["truncated_tokens"].sum())
    how = "" if cut["subcalls"].any() else f" to {percent(kept)} %"
    told = f"{arm}: {len(cut)} of {len(asked)} inputs cut{how}."
    return [told] if len(cut) else []


def all_cut(results: pd.DataFrame) -> dict[Any, list[str]]:
    """What is to be said of inputs that were cut, by task and length."""
    found: dict[Any, list[str]] = {}
    for (task, length, arm), own in results.groupby([*CELL, "arm"], sort=False):
        found.setdefault((task, length), []).extend(inputs_cut(str(arm), own))
    return found


def by_kind(results: pd.DataFrame) -> pd.DataFrame:
    """Each arm's mean score on each kind of question (``question_group``), beside the best
    constant's, where a task has several: a mean over all may hide that they differ."""
    several = results.groupby(CELL)["question_group"].transform("nunique") > 1
    asked = results[several & results["points"].notna()]
    by = asked.groupby([*CELL, "question_group", "arm"], sort=False)
    return by.agg(
        scripted=("scripted", "any"),
        asked=("points", "size"),
        right=("right", "sum"),
        mean_score=("points", "mean"),
        constant_score=("constant_score", "mean"),
    ).reset_index()


def outcomes(summary: pd.DataFrame) -> pd.DataFrame:
    """How questions ended: counts per arm, without the best_constant row."""
    columns = [c for c in summary.columns if c.startswith("outcome_")]
    shown = summary[summary["arm"] != BEST_CONSTANT]
    return shown[[*ARM, "asked", "completed", "pending", *columns]].rename(
        columns=lambda c: c.removeprefix("outcome_")
    )


def forecast_table(run: Run) -> pd.DataFrame:
    """What a run's forecast was beside what the run took: one row per method and length.

    ``results`` that ended, where the forecast came ``from``, and per measure ``*_forecast``, its
    range ``*_low`` to ``*_high``, ``*_took``, and whether that stayed ``*_within``; ``outside``
    names those that did not. Null is what was unknown, or forecast for other results than these
    (some are pending, or reused from another run). Empty where the run has no forecast.json."""
    path = run.path / "forecast.json"
    if not path.is_file():
        return pd.DataFrame()
    ended, rows = run.results[~run.results["outcome"].isin(list(PENDING))], []
    for said in read(path, lambda p: json.loads(p.read_text("utf-8"))):
        method, length = said["arm"], said["target_tokens"]
        took = ended[(ended["method"] == method) & (ended["target_tokens"] == length)]
        if took.empty:
            continue  # nothing there yet, or the judge, which is no arm
        row: dict[str, Any] = {"method": method, "target_tokens": length, "results": len(took)}
        row["from"] = said["source"]
        known, outside = said if said["results"] == len(took) else {}, []
        for ours, theirs in MEASURES.items():
            low, high = (known.get(end, {}).get(ours, nan) for end in ("low", "high"))
            total, point = float(took[theirs].sum(min_count=len(took))), known.get(ours)
            within = None
            if not (isnan(high) or isnan(total)):
                within = low * (1 - 1e-9) <= total <= high * (1 + 1e-9) or isnan(low)
            outside += [ours.replace("_", " ")] if within is False else []
            values = (nan if point is None else point, low, high, total, within)
            row |= dict(zip([f"{ours}_{which}" for which in SAID], values, strict=True))
        rows.append(row | {"outside": ", ".join(outside)})
    return pd.DataFrame(rows)


def stayed_within(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Of how many ``rows`` of :func:`forecast_table` each figure stayed within its range:
    ``calls 9 of 10, …``; empty where none can tell."""
    found = {m: [row[f"{m}_within"] for row in rows] for m in MEASURES}
    known = {m: [within for within in there if within is not None] for m, there in found.items()}
    told = (f"{m.replace('_', ' ')} {sum(k)} of {len(k)}" for m, k in known.items() if k)
    return ", ".join(told)


def to_markdown(table: pd.DataFrame, right: Sequence[bool] = ()) -> str:
    """A table of texts as a GitHub-flavoured pipe table; columns in ``right`` to the right."""
    rule = ["---:" if r else "---" for r in right or [False] * table.shape[1]]
    escape = {"\\": "\\\\", "|": "\\|", "\n": " ", "<": "&lt;"}
    head, *rows = _cells(table, escape)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def to_latex(table: pd.DataFrame, right: Sequence[bool] = ()) -> str:
    """A booktabs ``tabular`` (``\\usepackage{booktabs}``), aligned as in :func:`to_markdown`."""
    spec = "".join("r" if r else "l" for r in right or [False] * table.shape[1])
    head, *rows = (" & ".join(cells) + r" \\" for cells in _cells(table, _TEX))
    parts = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"


_TEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "\n": " ",
}


def _cells(table: pd.DataFrame, escape: Mapping[str, str]) -> list[list[str]]:
    codes = {ord(character): text for character, text in escape.items()}
    rows = [list(table.columns), *table.to_numpy().tolist()]
    return [[str(cell).translate(codes) for cell in row] for row in rows]


def write(
    table: pd.DataFrame, stem: Path, shown: pd.DataFrame | None = None, right: Sequence[bool] = ()
) -> None:
    """Write ``table`` to ``stem``.csv, and ``shown``, its cells as text, to .md and .tex."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    shown = table if shown is None else shown
    write_csv(table, stem.with_suffix(".csv"))
    stem.with_suffix(".md").write_text(to_markdown(shown, right), encoding="utf-8")
    stem.with_suffix(".tex").write_text(to_latex(shown, right), encoding="utf-8")
