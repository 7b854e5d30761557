"""Two runs side by side: what differs in how they were made, and in what they scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_eval.analysis import stats
from rlm_eval.analysis.arms import flatten
from rlm_eval.analysis.load import Run, combine
from rlm_eval.analysis.paired import Comparison, compare
from rlm_eval.analysis.text import percent, points

Change = tuple[str, Any, Any]


@dataclass(frozen=True)
class RunComparison:
    """``config`` and ``environment``: keys whose values differ, as (key, in A, in B).

    ``table``: one row per task, length and arm that both runs hold: B minus A on shared samples
    in points of score (0 to 1), with Holm over the rows that share any; ``score_a`` and
    ``score_b`` are then over the shared samples too. Where no sample is shared there is no
    difference, only each run's own mean. ``only_a``, ``only_b``: arms that one run alone has.
    """

    config: list[Change]
    environment: list[Change]
    table: pd.DataFrame
    only_a: list[str]
    only_b: list[str]


def compare_runs(a: Run, b: Run) -> RunComparison:
    """Compare run B with run A, arm by arm (arms are matched by name)."""
    first, second = combine([a]), combine([b])
    cells = ["task", "target_tokens", "method"]
    both = pd.concat([first.assign(side="A"), second.assign(side="B")], ignore_index=True)
    found, rows = [], []
    for keys, group in both.groupby(cells, sort=False):
        sides = group.assign(arm=group["side"])
        if set(sides["arm"]) != {"A", "B"}:
            continue
        pair = compare(sides, "B", "A")
        found.append(pair)
        rows.append(dict(zip(cells, keys, strict=True)) | _own(sides))
    adjusted = iter(stats.holm([c.difference.p for c in found if c is not None]))
    rows = [r | (_paired(c, next(adjusted)) if c else {}) for r, c in zip(rows, found, strict=True)]
    names = [list(f["method"].drop_duplicates()) for f in (first, second)]
    return RunComparison(
        config=changes(a.config, b.config),
        environment=changes(a.environment, b.environment),
        table=pd.DataFrame(rows),
        only_a=[m for m in names[0] if m not in names[1]],
        only_b=[m for m in names[1] if m not in names[0]],
    )


def changes(a: dict[str, Any], b: dict[str, Any]) -> list[Change]:
    """Dotted keys whose values differ; a key that one side lacks has None there."""
    one, two = flatten(a), flatten(b)
    keys = dict.fromkeys([*one, *two])
    return [(k, one.get(k), two.get(k)) for k in keys if one.get(k) != two.get(k)]


def _own(sides: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"scripted": bool(sides["scripted"].any())}
    for side in "AB":
        asked = sides[(sides["arm"] == side) & sides["asked"]]
        mean = stats.proportion(asked["points"], asked["context_id"].astype(str).tolist())
        row |= {
            f"n_{side.lower()}": asked["sample_id"].nunique(),
            f"score_{side.lower()}": mean.mean,
        }
    return row | {"shared_samples": 0}


def _paired(c: Comparison, p_holm: float) -> dict[str, Any]:
    d = c.difference
    return {
        "shared_samples": c.shared,
        "score_a": c.score_against,
        "score_b": c.score,
        "contexts": d.interval.contexts,
        "difference": d.interval.mean,
        "low": d.interval.low,
        "high": d.interval.high,
        "p": d.p,
        "p_holm": p_holm,
        "test": d.test,
        "cost_ratio": c.cost_ratio,
        "cost_unit": c.cost_unit,
        "smallest_resolvable": stats.smallest_resolvable(d.spread),
    }


def print_comparison(comparison: RunComparison, a: str, b: str, console: Console) -> None:
    """Names of the runs, what differs in their making, then the paired table."""
    console.print(Text(f"A: {a}\nB: {b}"))
    for title, found in (
        ("Configuration", comparison.config),
        ("Environment", comparison.environment),
    ):
        console.print(Text(f"\n{title}: " + ("" if found else "no difference"), style="bold"))
        for key, one, two in found:
            console.print(Text(f"  {key}: {_shown(one)} → {_shown(two)}", overflow="fold"))
    for side, arms in (("A", comparison.only_a), ("B", comparison.only_b)):
        if arms:
            console.print(Text(f"\nOnly in {side}, not compared: {', '.join(arms)}"))
    console.print()
    if comparison.table.empty:
        console.print(Text("The runs have no arm, task and length in common."))
        return
    console.print(_table(comparison.table))
    rows = comparison.table
    if (rows["shared_samples"] < rows[["n_a", "n_b"]].max(axis=1)).any():
        sizes = " and ".join(f"{_range(rows[f'n_{s.lower()}'])} in {s}" for s in "AB")
        text = f"n: samples both runs have, the only ones compared (per row there are {sizes})."
        console.print(Text(text))
    if (rows["shared_samples"] == 0).any():
        text = "Where n is 0 the runs share no sample: the two scores stand for themselves."
        console.print(Text(text))


def _table(rows: pd.DataFrame) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for i, heading in enumerate(
        ("task", "length", "method", "n", "A %", "B %", "B − A", "95 %", "p Holm", "cost ×")
    ):
        table.add_column(heading, justify="left" if i in (0, 2) else "right", overflow="fold")
    for r in rows.to_dict("records"):
        paired = bool(r["shared_samples"])
        interval = paired and not pd.isna(r["low"])
        table.add_row(
            str(r["task"]),
            f"{int(r['target_tokens']):,}",
            f"{r['method']}{' (scripted)' if r['scripted'] else ''}",
            str(int(r["shared_samples"])),
            percent(r["score_a"]),
            percent(r["score_b"]),
            points(r["difference"]) if paired else "–",
            f"{points(r['low'])} to {points(r['high'])}" if interval else "–",
            f"{r['p_holm']:.2g}" if paired else "–",
            "–" if not paired or pd.isna(r["cost_ratio"]) else f"{r['cost_ratio']:.2g}",
        )
    return table


def _range(values: pd.Series[int]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
