"""Tables beside the summary, and every table as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlm_eval.analysis.aggregate import BEST_CONSTANT, sets
from rlm_eval.analysis.arms import marks
from rlm_eval.analysis.stats import ALPHA
from rlm_eval.analysis.text import limits, percent, points

ARM = ["task", "target_tokens", "arm"]
LEVELS = (0.5, 0.75, 0.95, 0.99)


def method_by_length(summary: pd.DataFrame, measure: str = "mean_score") -> pd.DataFrame:
    """One row per task and arm, one column per length: ``81 (70–88), n 40`` in per cent, and
    ``, set 2`` where an arm has answers to other samples than most.

    ``summary`` as ``summarize`` gives it; ``measure`` is mean_score, accuracy or skill.
    """
    cells = _shares(summary, measure) + ", n " + summary["asked"].astype(str) + _marked(summary)
    columns = [f"{int(length):,}" for length in summary["target_tokens"]]
    return _wide(summary, cells, columns, ["task", "method"])


def method_by_task(summary: pd.DataFrame, measure: str = "mean_score") -> pd.DataFrame:
    """One row per arm, one column per task and length: ``81 (70–88)`` in per cent. The heading
    has the column's n; a cell with another n says its own, and one with other samples than most
    that it has."""
    most = summary.groupby(["task", "target_tokens"])["asked"].transform("max")
    columns = [
        f"{task} {int(length):,} (n {n})"
        for task, length, n in zip(summary["task"], summary["target_tokens"], most, strict=True)
    ]
    own = ", n " + summary["asked"].astype(str)
    cells = _shares(summary, measure) + own.where(summary["asked"] != most, "") + _marked(summary)
    return _wide(summary, cells, columns, ["method"])


def _marked(summary: pd.DataFrame) -> pd.Series[str]:
    marked = sets(summary)
    return (", " + marked).where(marked != "", "")


def _shares(summary: pd.DataFrame, measure: str) -> pd.Series[str]:
    """Each row's measure with its interval, in per cent."""
    stem = {"mean_score": "score"}.get(measure, measure)
    shown = []
    for row in summary.to_dict("records"):
        interval = limits(row[f"{stem}_low"], row[f"{stem}_high"])
        shown.append(f"{percent(row[measure])}{f' ({interval})' if interval else ''}")
    return pd.Series(shown, index=summary.index, dtype=object)


def _wide(
    summary: pd.DataFrame, cells: pd.Series[str], columns: list[str], rows: list[str]
) -> pd.DataFrame:
    """``cells`` under ``columns``, both in the order in which they come; controls last. Where there
    are several models, rows are of one each."""
    if summary.loc[summary["model"] != "", "model"].nunique() > 1:
        rows = [*rows, "model"]
    long = summary.assign(method=summary["arm"].map(marks(summary)), cell=cells, column=columns)
    tasks = list(long["task"].drop_duplicates())
    ranks = pd.DataFrame(
        {
            "task": long["task"].map(tasks.index) if "task" in rows else 0,
            "control": long["arm_kind"] == "control",
            "constant": long["arm"] == BEST_CONSTANT,
        }
    )
    by = ["task", "control", "constant"]
    long = long.loc[ranks.sort_values(by, kind="stable").index]
    wide = long.pivot_table(index=rows, columns="column", values="cell", aggfunc="first")
    wide = wide[list(dict.fromkeys(columns))].reset_index()
    wide.columns = pd.Index(list(wide.columns))
    return long[rows].drop_duplicates().merge(wide, on=rows).fillna("")


def paired_matrix(paired: pd.DataFrame) -> pd.DataFrame:
    """Row minus column in points of score, ``*`` where p after Holm is at most 0.05.

    ``paired`` as ``paired_table`` gives it; one block of rows per task and length.
    """
    mirrored = paired.rename(columns={"arm": "against", "against": "arm"})
    both = pd.concat([paired, mirrored.assign(difference=-paired["difference"])])
    both["cell"] = [
        points(d) + ("*" if p <= ALPHA else "")
        for d, p in zip(both["difference"], both["p_holm"], strict=True)
    ]
    names = list(dict.fromkeys([*paired["against"], *paired["arm"]]))
    rows = []
    for (task, length), block in both.groupby(["task", "target_tokens"], sort=False):
        cells = block.set_index(["arm", "against"])["cell"].to_dict()
        for name in (n for n in names if n in set(block["arm"])):
            row = {"task": task, "target_tokens": length, "arm": name}
            rows.append(row | {other: cells.get((name, other), "") for other in names})
    return pd.DataFrame(rows)


def costs(results: pd.DataFrame) -> pd.DataFrame:
    """What a question and a right answer cost. USD columns are null where anything is unpriced.

    Owed rows take no part; ``right`` counts right answers, ``*_per_right`` is null when none is.
    ``judge_cost_usd_per_question`` is what grading took, and in no other column.
    """
    rows = []
    for keys, group in results[results["asked"]].groupby(ARM, sort=False):
        right = float(group["right"].sum())
        row = dict(zip(ARM, keys, strict=True)) | {"asked": len(group), "right": right}
        for column in ("tokens", "cost_usd", "wall_s"):
            total = group[column].sum() if group[column].notna().all() else nan
            row[f"{column}_per_question"] = total / len(group)
            row[f"{column}_per_right"] = total / right if right else nan
        judged = group["judge_cost_usd"].sum(min_count=len(group))
        row["judge_cost_usd_per_question"] = judged / len(group)
        rows.append(row)
    return pd.DataFrame(rows)


def quantiles(results: pd.DataFrame) -> pd.DataFrame:
    """p50, p75, p95 and p99 of tokens, cost, seconds and sub-calls per question.

    A quantile is null where fewer questions were asked than lie beyond it in the mean (20 for
    p95, 100 for p99). An arm with an unpriced question has no rows for cost.
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
                enough = len(values) * (1 - level) >= 1 - 1e-9
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
    for column in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        joined[column] = joined[column].where(~hits, 0)
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
    means = ["calls", "from_memory", "computed", "cached", "completion"]
    for column in means:
        split[column] = split[column] / split["asked"]
    return split[[*ARM, "role", "asked", *means]]


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
        whole = group[group["sample_id"].isin(counts.index[counts == repeats])]
        samples = whole["sample_id"].nunique()
        if repeats < 2 or samples < 2:
            continue
        by_sample = whole.groupby("sample_id")["points"]
        within = float(by_sample.var(ddof=1).mean())
        between = max(0.0, float(by_sample.mean().var(ddof=1)) - within / repeats)
        rows.append(
            dict(zip(ARM, keys, strict=True))
            | {"samples": samples, "left_out": len(counts) - samples, "repeats": repeats}
            | {"between_repeats": within, "between_samples": between}
            | {"repeat_share": within / (within + between) if within + between > 0 else nan}
        )
    columns = ["samples", "left_out", "repeats", "between_repeats", "between_samples"]
    return pd.DataFrame(rows, columns=[*ARM, *columns, "repeat_share"])


def outcomes(summary: pd.DataFrame) -> pd.DataFrame:
    """How questions ended: counts per arm, without the best_constant row."""
    columns = [c for c in summary.columns if c.startswith("outcome_")]
    shown = summary[summary["arm"] != BEST_CONSTANT]
    return shown[[*ARM, "asked", "completed", "owed", *columns]].rename(
        columns=lambda c: c.removeprefix("outcome_")
    )


def cell(column: str, value: object) -> str:
    """A cell in text; a cost that is null is unpriced, never 0."""
    shown = text(value)
    return "unpriced" if not shown and column.startswith("cost_usd") else shown


def text(value: Any) -> str:
    """A value in text: four significant digits, empty for null."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"{number:,.4g}" if abs(number) < 10_000 else f"{number:,.0f}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return str(value)


def to_markdown(table: pd.DataFrame, right: Sequence[bool] | None = None) -> str:
    """A GitHub-flavoured pipe table; columns of numbers, or those in ``right``, to the right."""
    rule = ["---:" if r else "---" for r in right or _numeric(table)]
    head, *rows = _cells(table, _pipe)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def to_latex(table: pd.DataFrame, right: Sequence[bool] | None = None) -> str:
    """A booktabs ``tabular`` (``\\usepackage{booktabs}``), aligned as in :func:`to_markdown`."""
    spec = "".join("r" if r else "l" for r in right or _numeric(table))
    head, *rows = (" & ".join(cells) + r" \\" for cells in _cells(table, _tex))
    parts = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _numeric(table: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]


def _cells(table: pd.DataFrame, escape: Callable[[str], str]) -> Iterator[list[str]]:
    names = [str(c) for c in table.columns]
    yield [escape(n) for n in names]
    for row in table.itertuples(index=False):
        yield [escape(cell(n, v)) for n, v in zip(names, row, strict=True)]


def _pipe(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


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


def _tex(cell: str) -> str:
    return "".join(_TEX.get(c, c) for c in cell)


def write(
    table: pd.DataFrame,
    stem: Path,
    shown: pd.DataFrame | None = None,
    right: Sequence[bool] | None = None,
) -> list[Path]:
    """Write ``table`` to ``stem``.csv, and ``shown`` (or the same) to .md and .tex."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_suffix(s) for s in (".csv", ".md", ".tex")]
    table.to_csv(written[0], index=False)
    shown = table if shown is None else shown
    written[1].write_text(to_markdown(shown, right), encoding="utf-8")
    written[2].write_text(to_latex(shown, right), encoding="utf-8")
    return written
