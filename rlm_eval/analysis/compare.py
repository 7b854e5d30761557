"""Two runs side by side: what differs in how they were made, and in what they scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from rlm_eval.analysis import stats
from rlm_eval.analysis.arms import differing, marks
from rlm_eval.analysis.load import Run, combine, common_units, is_log
from rlm_eval.analysis.paired import CELL, Comparison, Pair, comparisons
from rlm_eval.analysis.text import Column, terminal_table
from rlm_eval.journal.environment import OF_ARMS
from rlm_eval.records import plain

Change = tuple[str, Any, Any]
COLUMNS = (
    Column("task", "text"),
    Column("target_tokens", "int", "length"),
    Column("name", "text", "method"),
    Column("shared_samples", "int", "n"),
    Column("contexts", "int", "ctx"),
    Column("score_a", "percent", "A %"),
    Column("score_b", "percent", "B %"),
    Column("difference", "points", "B − A"),
    Column("", "range", "95 %"),
    Column("p_holm", "number", "p"),
    Column("smallest_resolvable", "percent", "resolves"),
    Column("cost_ratio", "times", "cost"),
    Column("cost_unit", "text", "in"),
    Column("same_answers", "int", "same"),
)


@dataclass(frozen=True)
class RunComparison:
    """``changes``: what differs, as (key, in A, in B), by title. Models go by role; settings of an
    arm that one run alone is configured with are left out; one change in several arms is one line.

    ``table``: one row per task, length and arm that both runs hold: B minus A on shared samples
    in points of score (0 to 1), with Holm over the methods of a task and length; ``score_a`` and
    ``score_b`` are then over the shared samples too. Where no sample is shared there is no
    difference, only each run's own mean. ``same_answers``: results that both runs have with the
    same answer, to the letter. ``only_a``, ``only_b``: arms that one run alone has.
    """

    changes: Mapping[str, list[Change]]
    table: pd.DataFrame
    only_a: list[str]
    only_b: list[str]


def compare_runs(
    a: Run, b: Run, changes_nothing: Callable[[str], bool] = lambda _: False
) -> RunComparison:
    """Run B compared with run A by arms' names. ``changes_nothing``: whether a setting, by its
    dotted key, changes no result."""
    first, second = combine([a]), combine([b])
    names = [list(frame["method"].drop_duplicates()) for frame in (first, second)]
    shared = set(names[0]) & set(names[1])
    settings = _merged(changes(a.config, b.config, ["method"]))
    harmless = [change for change in settings if changes_nothing(change[0])]
    models = [_models(a), _models(b)]
    silent = dict.fromkeys([*models[0], *models[1]], "no calls")
    found = {"Models": changes(silent | models[0], silent | models[1])}
    if not (is_log(a.path) or is_log(b.path)):  # which has no such record
        found["Configuration"] = [change for change in settings if change not in harmless]
        found["Environment"] = changes(a.environment, b.environment, OF_ARMS)
        found["Settings that change no result"] = harmless
    both = pd.concat([first.assign(side="a"), second.assign(side="b")], ignore_index=True)
    both = both.assign(unit_id=common_units(both))
    return RunComparison(
        found,
        _table(both[both["method"].isin(shared)]),
        only_a=[m for m in names[0] if m not in shared],
        only_b=[m for m in names[1] if m not in shared],
    )


def _models(run: Run) -> dict[str, str]:
    """The model of each role that was spoken to."""
    spoken = run.calls.groupby("role", sort=False)["model"]
    return {str(role): ", ".join(sorted(models.unique())) for role, models in spoken}


def changes(
    a: Mapping[str, Any], b: Mapping[str, Any], of_arms: Iterable[str] = ()
) -> list[Change]:
    """Dotted keys whose values differ; a key that one side lacks has None there, and an arm in the
    parts ``of_arms`` that one side lacks has none."""
    return [(key, one, two) for key, (one, two) in differing([a, b], of_arms).items()]


def _merged(found: list[Change]) -> list[Change]:
    """The changes, those that several arms have in common as one."""
    merged: dict[tuple[str, str, str], list[Change]] = {}
    for key, one, two in found:
        name = key.split(".", 2)[-1] if key.startswith("method.") else key
        merged.setdefault((name, repr(one), repr(two)), []).append((key, one, two))
    lines = []
    for (name, _, _), same in merged.items():
        key, one, two = same[0]
        if len(same) > 1:
            key = f"method.{{{', '.join(k.split('.')[1] for k, _, _ in same)}}}.{name}"
        lines.append((key, one, two))
    return lines


def _table(both: pd.DataFrame) -> pd.DataFrame:
    def pairs(cell: pd.DataFrame) -> Iterable[Sequence[Pair]]:
        """All methods are one family, each control is one of its own."""
        control = cell.groupby("method", sort=False)["arm_kind"].first() == "control"
        sides = {method: (f"b{method}", f"a{method}") for method in control.index}
        yield [sides[method] for method in control.index[~control]]
        yield from ([sides[method]] for method in control.index[control])

    sides = both.assign(arm=both["side"] + both["method"])
    compared = comparisons(sides, pairs)
    found: dict[Any, Comparison] = {(c.task, c.target_tokens, c.arm[1:]): c for c in compared}
    names, rows = marks(both.assign(arm=both["method"])), []
    for key, cell in both.groupby([*CELL, "method"], sort=False):
        task, length, method = key
        if cell["side"].nunique() < 2:
            continue
        row: dict[str, Any] = {"task": task, "target_tokens": length, "method": method}
        row |= {"name": names[str(task), str(method)], "shared_samples": 0, "n_a": 0, "n_b": 0}
        for side, own in cell[cell["asked"]].groupby("side"):
            row |= {f"n_{side}": own["sample_id"].nunique(), f"score_{side}": own["points"].mean()}
        if c := found.get(key):
            row |= asdict(c) | {"arm": "B", "against": "A"}
            row |= {"score_a": c.score_against, "score_b": c.score}
            row["same_answers"] = _same_answers(cell)
        rows.append(row)
    return pd.DataFrame(rows)


def _same_answers(cell: pd.DataFrame) -> int:
    a, b = (cell[cell["side"] == side] for side in "ab")
    both = a.merge(b, on=["sample_id", "repeat"])
    return int((both["answer_x"] == both["answer_y"]).sum())


def print_comparison(comparison: RunComparison, a: str, b: str, console: Console) -> None:
    """Names of the runs, what differs in their making, then the paired table."""
    console.print(Text(f"A: {a}\nB: {b}"))
    for title, found in comparison.changes.items():
        console.print(Text(f"\n{title}: " + ("" if found else "no difference"), style="bold"))
        for key, one, two in found:
            console.print(Text(f"  {plain(key)}: {_shown(one)} → {_shown(two)}", overflow="fold"))
    for side, arms in (("A", comparison.only_a), ("B", comparison.only_b)):
        if arms:
            console.print(Text(plain(f"\nOnly in {side}, not compared: {', '.join(arms)}")))
    console.print()
    table = comparison.table
    if not table.empty:
        mixed = "cost_unit" in table and table["cost_unit"].nunique() > 1
        shown = table if mixed else table.drop(columns="cost_unit", errors="ignore")
        console.print(terminal_table(COLUMNS, shown, console))
        for note in _notes(table):
            console.print(Text(note))


def _notes(rows: pd.DataFrame) -> Iterator[str]:
    """What the table's figures are, and what they can't show."""
    if (rows["shared_samples"] < rows[["n_a", "n_b"]].max(axis=1)).any():
        yield "n: samples that both runs have, the only ones compared."
    if (rows["shared_samples"] == 0).any():
        yield "Where n is 0 the runs share no sample: each score is of its own samples."
    paired = rows[rows["shared_samples"] > 0]
    if paired.empty:
        return
    tests = " or ".join(sorted(paired["test"].unique()))
    most = int(paired["comparisons"].max())
    over = f", Holm over the {most} methods of a task and length" if most > 1 else ""
    units = " or ".join(sorted(paired["cost_unit"].unique()))
    yield (
        f"ctx: contexts, or questions where analysis.unit says so. p: {tests}{over}. Cost: B's"
        f" over A's, in {units}. Resolves: the smallest true difference, in points, that so many"
        " contexts find in 4 of 5 repetitions; – where none can be found. Same: answers that are"
        " equal to the letter."
    )
    if (paired["contexts"] < stats.LEAST_TO_TELL).any():
        yield (
            f"Under {stats.LEAST_TO_TELL} contexts no difference, however large, reaches"
            f" p ≤ {stats.ALPHA:g}."
        )


def _shown(value: Any) -> str:
    text = "not set" if value is None else plain(" ".join(str(value).split()))
    return text if len(text) <= 120 else f"{text[:120]}…"
