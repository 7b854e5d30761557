"""`dry_run=true`: what would be run, and what that is expected to take. Nothing is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from rlm_eval.config.check import ROLE_KEYS, RunConfig
from rlm_eval.config.compose import recorded_trees
from rlm_eval.errors import ConfigError
from rlm_eval.journal.past import Past, finished_beside, past_of
from rlm_eval.journal.tables import MEASURES
from rlm_eval.methods.method import SUB_CALLS_A_TURN
from rlm_eval.runs.assemble import Parts, model_keys
from rlm_eval.runs.experience import Experience
from rlm_eval.runs.forecast import (
    NO_ESTIMATE,
    Expected,
    expected,
    pilot_command,
    refuse_over_cap,
    shapes_of,
    together,
)
from rlm_eval.runs.progress import duration
from rlm_eval.runs.runner import Work, judge_of

#: Where runs worth learning from lie, beside the run's own folder.
_PUBLISHED = Path(__file__).parents[2] / "results" / "published"


def experience_of(parts: Parts) -> Experience:
    """What past runs beside this one, and the published ones, say about it."""
    folders = [Path(parts.config["results_dir"]), _PUBLISHED]
    roles = {arm.name: model_keys(arm.method) for arm in parts.arms}
    return Experience(parts.config.stored, folders, roles)


def show_plan(parts: Parts, run_dir: Path, work: Sequence[Work]) -> None:
    """The forecast of what is left to do, as a table; the run's folder on the last line."""
    past = past_of(run_dir)
    missing = {item.key for item in work} - past.done
    elsewhere = finished_beside(run_dir, missing).keys()
    left = missing - elsewhere
    todo = [item for item in work if item.key in left]
    experience = experience_of(parts)
    rows = expected(parts, todo, experience)
    console = Console()
    if not console.is_terminal:  # a file has room for long lines
        console = Console(width=max(console.width, 120))
    console.print(_table(rows, parts.at_once))
    for note in [*_notes(parts, rows), *warnings(parts, todo)]:
        console.print(note, markup=False, emoji=False)
    contexts = len({item.context.id for item in work})
    there = f"{len(work) - len(todo)} are there"
    if elsewhere:
        there += f", {len(elsewhere)} of them in other runs"
    print(f"{len(todo)} results to make ({there}), {contexts} contexts")
    if any(row.source in NO_ESTIMATE and row.results > 2 for row in rows):
        print(f"a pilot turns limits into an estimate: {pilot_command()}")
    try:
        stop_on_forecast(parts, rows, past)
    except ConfigError as refused:
        print(f"it would not begin: {refused}")
    if parts.unset:
        print(f"no key: set {' and '.join(parts.unset)} before the run")
    print(f"would go to: {run_dir}")


def stop_on_forecast(parts: Parts, rows: Sequence[Expected], past: Past) -> None:
    """Raise ConfigError where a run may pass its cap in dollars and is not to begin then."""
    cap = parts.run_budget.usd
    if cap is not None and parts.config["stop_on_forecast"] and not parts.scripted:
        refuse_over_cap(rows, cap, past.spent.usd or 0.0)


def _table(rows: Sequence[Expected], at_once: int) -> Table:
    table = Table(
        title="forecast", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    table.add_column("method", no_wrap=True)
    for heading in ("tokens", "n", "calls", "prompt", "reply", "USD", "time"):
        table.add_column(heading, justify="right", no_wrap=heading in ("tokens", "n"))
    table.add_column("from", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        table.add_row(row.arm, f"{row.target_tokens:,}", str(row.results), *cells, row.source)
    table.add_section()
    total = together(rows, at_once)
    table.add_row(total.arm, "", str(total.results), *_cells(total))
    return table


def _cells(row: Expected) -> list[str]:
    """The ranges of what a row takes: calls, prompt and reply tokens, USD, time."""
    from rlm_eval.analysis.text import count

    cells = []
    for name in MEASURES:
        shown = {"usd": _usd, "seconds": duration}.get(name, count)
        least, most = row.low.get(name, 0.0), row.high.get(name)
        low, high = shown(least), shown(most or 0.0)
        if most is None:
            cells.append(f"≥ {low}" if least else "–")
        elif low == high:
            cells.append(low)
        else:
            cells.append(f"{low} – {high}" if least else f"≤ {high}")
    return cells


def _usd(amount: float) -> str:
    from rlm_eval.analysis.text import digits

    return digits(amount, 2) if 0 < amount < 0.1 else f"{amount:,.2f}"


def _notes(parts: Parts, rows: Sequence[Expected]) -> list[str]:
    """What the table can't say itself."""
    notes = [
        "ranges are meant to hold what is taken in 8 of 10 cases; in the total, what past runs' "
        "rows are off by chance evens out, and time is that of "
        f"{parts.at_once} answers at once. From: means of past runs, at another length where none "
        "was at this one; the cap that budget.matched spends; or the sizes alone (a prompt sent "
        "again for the same answer takes no time)"
    ]
    bound = "no estimate but a bound, from one turn to all turns and sub-calls with full windows"
    if any(row.source == "limits" for row in rows):
        notes.append(f"limits: {bound}, as max_iterations, max_sub_calls and budget.sample allow")
    if any(row.source == "assumed" for row in rows):
        each = f"{SUB_CALLS_A_TURN} sub-calls a turn assumed"
        notes.append(f"assumed: {bound}, with {each}, for nothing limits them (but budget.sample)")
    if any("usd" not in row.high and row.source not in NO_ESTIMATE for row in rows):
        notes.append("USD –: unpriced, as far as the harness knows")
    thought = {i.name: i.reasoning_tokens for i in parts.infos.values() if i.reasoning_tokens}
    if thought and any(row.source == "sizes" for row in rows):
        each = ", ".join(f"{tokens:,} a call of {name}" for name, tokens in thought.items())
        notes.append(f"reply from sizes: with all the reasoning_tokens there may be ({each})")
    return notes


def warnings(parts: Parts, work: Sequence[Work]) -> list[str]:
    """The task's notes, and a line for what is set and has no effect on some methods, and for each
    arm whose model's window is too small for inputs of this work."""
    notes = list(parts.task.notes)
    for key in (*ROLE_KEYS.values(), "embed_model"):
        if parts.config[key] and key != "judge_model":
            without = [arm.name for arm in parts.arms if key not in model_keys(arm.method)]
            notes += [f"{key} is set, and not used by {', '.join(without)}"] if without else []
    if parts.config["judge_model"] and judge_of(parts.task) is None:
        notes.append(f"judge_model is set, and task {parts.task.name} is scored by rule")
    if own := [i.name for i in parts.infos.values() if i.own_temperature]:
        for key, off in (("temperature", None), ("memoize", False)):
            if (given := parts.config[key]) not in (off, None):
                told = f"{key}={given} has no effect on {', '.join(dict.fromkeys(own))}"
                notes.append(f"{told}, which takes no temperature but its own")
    if parts.config["budget"]["matched"]:
        idle = [arm.name for arm in parts.arms if not arm.method.matched]
        notes += [f"budget.matched: the cap is only a limit for {', '.join(idle)}"] if idle else []
    if parts.config["seed"] and "seed" not in parts.config["task"]:
        told = f"seed={parts.config['seed']} has no effect on task {parts.task.name}"
        notes.append(f"{told}, whose samples are fixed: repeats=N asks again")
    models = {  # by the margin that inputs are cut with
        role: replace(info, context_window=int(info.context_window / info.token_margin))
        for role, info in parts.infos.items()
    }
    shares: dict[str, list[float]] = {}
    for shape, item in zip(shapes_of(parts, work), work, strict=True):
        shares.setdefault(item.arm.name, []).append(item.arm.method.kept(shape, models))
    for arm, kept in shares.items():
        if cut := [share for share in kept if share < 1]:
            how = f"cut to some {100 * sum(cut) / len(cut):.0f} %" if any(cut) else "refused"
            notes.append(f"{arm}: {len(cut)} of {len(kept)} inputs are too large: {how}")
    longest = max((item.sample.max_answer_tokens for item in work), default=0)
    if 2 * longest > (window := parts.root.info.context_window):
        left = f"leaves {max(0, window - longest):,} of a window of {window:,} tokens"
        notes.append(f"task.max_answer_tokens={longest} {left}: lower it, or take another model")
    return notes


def in_one_line(rows: Sequence[Expected], at_once: int) -> str:
    """The forecast for a run that begins now: without upper ends where those are mere limits."""
    total, bounded = together(rows, at_once), [row.arm for row in rows if row.source in NO_ESTIMATE]
    if bounded:  # but what is free is free however much of it is taken
        total = replace(total, high={k: v for k, v in total.high.items() if k == "usd" and not v})
    calls, prompt, reply, money, time = _cells(total)
    tokens = f"{prompt} prompt tokens, {reply} reply tokens"
    told = f"forecast: {calls} calls, {tokens}, {money} USD, {time}"
    if bounded:
        arms = ", ".join(dict.fromkeys(bounded))
        told += f"; no more than limits is known of {arms} (dry_run=true)"
    return told


def published_runs(config: RunConfig, run_dir: Path, where: Path = _PUBLISHED) -> list[Path]:
    """Published runs of just this configuration, but for this one."""
    trees = {path: tree for path, tree in recorded_trees([where]) if path != run_dir.resolve()}
    return [path for path, tree in trees.items() if RunConfig(tree).identity == config.identity]
