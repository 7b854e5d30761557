"""Two runs side by side: what differs in how they were made, and in what they scored."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Set
from dataclasses import dataclass
from math import inf, isinf
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
    """``models``, ``config``, ``environment`` and ``run_time``: what differs, as (key, in A, in B).
    Models by role. Settings of an arm that one run alone has are left out; ``run_time`` are those
    that change how a run is carried out but not what it measures. One change in several arms is
    one line.

    ``table``: one row per task, length and arm that both runs hold: B minus A on shared samples
    in points of score (0 to 1), with Holm over the rows that share any; ``score_a`` and
    ``score_b`` are then over the shared samples too. Where no sample is shared there is no
    difference, only each run's own mean. ``only_a``, ``only_b``: arms that one run alone has.
    """

    models: list[Change]
    config: list[Change]
    environment: list[Change]
    run_time: list[Change]
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
    family = sum(c is not None for c in found)
    rows = [
        r | (_paired(c, next(adjusted), family) if c else {})
        for r, c in zip(rows, found, strict=True)
    ]
    names = [list(f["method"].drop_duplicates()) for f in (first, second)]
    shared = set(names[0]) & set(names[1])
    one, two = (run.environment.get("run_time") or {} for run in (a, b))
    return RunComparison(
        models=[
            (role, ours or "no calls", theirs or "no calls")
            for role, ours, theirs in changes(_models(a), _models(b))
        ],
        config=_merged(changes(*(_measured(run, shared, {*one, *two}) for run in (a, b)))),
        environment=changes(*(_of_arms(run.environment, shared) for run in (a, b))),
        run_time=changes(one, two),
        table=pd.DataFrame(rows),
        only_a=[m for m in names[0] if m not in shared],
        only_b=[m for m in names[1] if m not in shared],
    )


def _models(run: Run) -> dict[str, str]:
    """The model of each role that was spoken to, from the calls; else of those the table names."""
    if run.calls.empty:
        found = run.results[["model", "sub_model"]].set_axis(["root", "sub"], axis=1)
        spoken = {role: found[role].dropna().unique() for role in found}
    else:
        spoken = {str(r): m.unique() for r, m in run.calls.groupby("role", sort=False)["model"]}
    return {str(role): ", ".join(sorted(map(str, names))) for role, names in spoken.items()}


def _measured(run: Run, arms: Set[str], aside: Set[str]) -> dict[str, Any]:
    """A run's configuration, of its arms those in ``arms``, less what is about carrying it out."""
    config = {key: value for key, value in run.config.items() if key not in aside}
    if isinstance(config.get("method"), dict):
        config["method"] = {n: arm for n, arm in config["method"].items() if n in arms}
    return config


def _of_arms(environment: dict[str, Any], arms: Set[str]) -> dict[str, Any]:
    """An environment record without settings, of what it says on single arms that on those in
    ``arms``."""
    environment = {key: value for key, value in environment.items() if key != "run_time"}
    about = {key: environment[key] for key in ("prompts", "sandbox") if key in environment}
    return environment | {
        key: {n: value for n, value in part.items() if n in arms} for key, part in about.items()
    }


def _merged(found: list[Change]) -> list[Change]:
    """The changes, those that several arms have in common as one."""
    merged: dict[tuple[str, str, str], tuple[list[str], Change]] = {}
    for key, one, two in found:
        top, _, rest = key.partition(".")
        arm, _, setting = rest.partition(".")
        name = setting if top == "method" and setting else key
        held = merged.setdefault((name, repr(one), repr(two)), ([], (key, one, two)))
        held[0].append(arm)
    return [
        change if len(arms) == 1 else (f"method.{{{', '.join(arms)}}}.{name}", *change[1:])
        for (name, _, _), (arms, change) in merged.items()
    ]


def changes(a: dict[str, Any], b: dict[str, Any]) -> list[Change]:
    """Dotted keys whose values differ; a key that one side lacks has None there."""
    one, two = flatten(a), flatten(b)
    keys = dict.fromkeys([*one, *two])
    return [(k, one.get(k), two.get(k)) for k in keys if one.get(k) != two.get(k)]


def _own(sides: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"scripted": bool(sides["scripted"].any())}
    row["arm_kind"] = sides["arm_kind"].iloc[0]
    for side in "AB":
        asked = sides[(sides["arm"] == side) & sides["asked"]]
        mean = stats.proportion(asked["points"], asked["context_id"].astype(str).tolist())
        row |= {
            f"n_{side.lower()}": asked["sample_id"].nunique(),
            f"score_{side.lower()}": mean.mean,
        }
    return row | {"shared_samples": 0}


def _paired(c: Comparison, p_holm: float, family: int) -> dict[str, Any]:
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
        "smallest_resolvable": stats.smallest_resolvable(d.spread, family),
    }


def print_comparison(comparison: RunComparison, a: str, b: str, console: Console) -> None:
    """Names of the runs, what differs in their making, then the paired table."""
    console.print(Text(f"A: {a}\nB: {b}"))
    for title, found in (
        ("Models", comparison.models),
        ("Configuration", comparison.config),
        ("Environment", comparison.environment),
        ("Settings that change no result", comparison.run_time),
    ):
        console.print(Text(f"\n{title}: " + ("" if found else "no difference"), style="bold"))
        for key, one, two in found:
            console.print(Text(f"  {key}: {_shown(one)} → {_shown(two)}", overflow="fold"))
    for side, arms in (("A", comparison.only_a), ("B", comparison.only_b)):
        if arms:
            console.print(Text(f"\nOnly in {side}, not compared: {', '.join(arms)}"))
    console.print()
    if comparison.table.empty:
        return  # the command says so
    console.print(_table(comparison.table))
    for note in _notes(comparison.table):
        console.print(Text(note))


def _notes(rows: pd.DataFrame) -> Iterator[str]:
    """What the table's figures are, and what they can't show."""
    if (rows["shared_samples"] < rows[["n_a", "n_b"]].max(axis=1)).any():
        sizes = " and ".join(f"{_range(rows[f'n_{s.lower()}'])} in {s}" for s in "AB")
        yield f"n: samples both runs have, the only ones compared (per row there are {sizes})."
    if (rows["shared_samples"] == 0).any():
        yield "Where n is 0 the runs share no sample: the two scores stand for themselves."
    paired = rows[rows["shared_samples"] > 0]
    if paired.empty:
        return
    tests = " or ".join(sorted(paired["test"].unique()))
    over = f", Holm over {len(paired)} comparisons" if len(paired) > 1 else ""
    units = " or ".join(sorted(paired["cost_unit"].unique()))
    yield (
        f"ctx: contexts. p: {tests}{over}. Cost: B's over A's, in {units}. Resolves: the smallest"
        " true difference, in points, that so many contexts find in 4 of 5 repetitions; – where"
        " none can be found."
    )
    few = paired.loc[paired["contexts"] < stats.LEAST_TO_TELL, "contexts"]
    if len(few):
        yield (
            f"Under {stats.LEAST_TO_TELL} contexts (here {_range(few)}) no difference, however"
            f" large, reaches p ≤ {stats.ALPHA:g}."
        )


#: What stands behind a method's name, by whether it is scripted and a control.
_MARKS = {
    (False, False): "",
    (True, False): " (scripted)",
    (False, True): " (control)",
    (True, True): " (scripted, control)",
}


HEADINGS = (
    *("task", "length", "method", "n", "ctx", "A %", "B %", "B − A"),
    *("95 %", "p", "resolves", "cost"),
)


def _table(rows: pd.DataFrame) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    mixed = "cost_unit" in rows and rows["cost_unit"].nunique() > 1

    def unit(row: dict[Hashable, Any]) -> str:
        return f" {row['cost_unit']}" if mixed else ""

    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i in (0, 2) else "right", overflow="fold")
    for r in rows.to_dict("records"):
        paired = bool(r["shared_samples"])
        interval = paired and not pd.isna(r["low"])
        least = r["smallest_resolvable"] if paired else inf
        table.add_row(
            str(r["task"]),
            f"{int(r['target_tokens']):,}",
            f"{r['method']}{_MARKS[bool(r['scripted']), r['arm_kind'] == 'control']}",
            str(int(r["shared_samples"])),
            str(int(r["contexts"])) if paired else "–",
            percent(r["score_a"]),
            percent(r["score_b"]),
            points(r["difference"]) if paired else "–",
            f"{points(r['low'])} to {points(r['high'])}" if interval else "–",
            f"{r['p_holm']:.2g}" if paired else "–",
            "–" if isinf(least) else f"{100 * least:.0f}",
            "–" if not paired or pd.isna(r["cost_ratio"]) else f"{r['cost_ratio']:.2g}×{unit(r)}",
        )
    return table


def _range(values: pd.Series[int]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _shown(value: Any) -> str:
    text = "not set" if value is None else " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:120]}…"
