"""The static report: ``report.html`` with a ``report_data`` folder, read from disk by a browser.

All data are put into script files that the page loads when it needs them, so the report works
from ``file://`` without a network. Text of models and contexts reaches the page as data only and
is shown as text, never as markup.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.analysis import diagnostics, drawing, figures, forest, tables, trajectory
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method, marks
from rlm_eval.analysis.budgets import score_vs_budget
from rlm_eval.analysis.load import Run, combine, find_runs, load_run
from rlm_eval.analysis.looks import order
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report_tables import View, printed, values, views
from rlm_eval.analysis.rungs import score_and_cost
from rlm_eval.analysis.verdict_groups import Group, grouped
from rlm_eval.analysis.verdicts import Verdict, verdicts
from rlm_eval.errors import ConfigError

DATA = "report_data"
#: Trajectories are bundled into files of about this many bytes.
BUNDLE_BYTES = 500_000
#: Characters of an answer or error, and of a question, in the list of samples.
SHORT, QUESTION = 400, 4000
ASSETS = ("report.css", "page.js", "numbers.js", "table.js", "answers.js", "report.js")


def write_report(sources: Sequence[str | Path], out: Path | None = None) -> Path:
    """Write ``report.html`` and ``report_data/`` over one or several runs; return the page's path.

    ``out`` is the folder to write to: the run's own when there is one run, else it must be given.
    """
    runs = [load_run(path) for source in sources for path in find_runs(source)]
    folder = out or runs[0].path
    data = folder / DATA
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    results = by_method(combine(runs))
    if results.empty:
        raise ConfigError(f"{runs[0].path} holds no results yet: resume the run first")
    calls = _calls(runs, results)
    summary = summarize(results)
    pairs = paired_table(results)
    shown = views(results, calls, summary, pairs, runs)
    _write_tables(shown, summary, data / "tables")
    main = {
        "runs": [_run(run) for run in runs],
        "scripted": bool(results["scripted"].any()),
        "revisions": results["code_revision"].nunique(),
        "demonstration": any(run.demonstration for run in runs),
        "verdicts": [_group(group) for group in grouped(verdicts(results))],
        "tables": [_table(view) for view in shown],
        "figures": _figures(results, calls, pairs, data / "figures"),
        "answers": len(results),
        "calls": len(calls),
    }
    if not calls.empty:
        replies = {k: v for run in runs for k, v in trajectory.read_replies(run.path).items()}
        calls["reply"] = calls["call_id"].map(replies)
    bundles = _write_bundles(results, calls, data)
    _put(data, "samples", _json(_plain(_samples(results, bundles))))
    _put(data, "main", _json(_plain(main)))
    assets = files("rlm_eval.analysis") / "html"
    for name in ASSETS:
        (data / name).write_bytes((assets / name).read_bytes())
    page = folder / "report.html"
    page.write_bytes((assets / "report.html").read_bytes())
    return page


def _write_tables(shown: Sequence[View], summary: pd.DataFrame, folder: Path) -> None:
    for view in shown:
        tables.write(view.frame, folder / view.id, *printed(view))
        if view.id == "paired":
            tables.write(tables.paired_matrix(view.frame), folder / "paired_matrix")
    tables.write(tables.method_by_length(summary), folder / "method_by_length")
    tables.write(tables.method_by_task(summary), folder / "method_by_task")


def _put(folder: Path, name: str, data: str) -> None:
    """A script that hands ``data``, JSON, to the page. ``<`` is escaped even so, for good
    measure."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data.replace("<", "\\u003c")
    path.write_text(f"REPORT.put({json.dumps(name)},{text});\n", encoding="ascii")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """JSON data: nan and infinities are null, numpy scalars are Python's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA else value


def _calls(runs: Sequence[Run], results: pd.DataFrame) -> pd.DataFrame:
    """The calls of each result in the run that its row is from."""
    known = []
    for run in runs:
        if not run.calls.empty:
            own = results.loc[results["run_dir"] == str(run.path), "result_key"]
            known.append(run.calls[run.calls["result_key"].isin(own)])
    if not known:
        return pd.DataFrame()
    return pd.concat(known, ignore_index=True).drop_duplicates(["call_id", "attempt"])


def _run(run: Run) -> dict[str, Any]:
    config = run.path / "config.yaml"
    frame = combine([run])
    return {
        "name": run.path.name,
        "path": str(run.path),
        "models": sorted(m for m in frame["model"].dropna().astype(str).unique() if m),
        "dates": drawing.dates(frame),
        "answers": len(frame),
        "config": config.read_text("utf-8") if config.is_file() else "",
        "environment": json.dumps(run.environment, indent=1, ensure_ascii=False, default=str),
    }


def _group(group: Group) -> dict[str, Any]:
    """Verdicts that the page shows together."""
    members = [_verdict(verdict) for verdict in group.members]
    return {"headline": group.headline, "decision": group.decision, "members": members}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    arms = f"{verdict.arm}|{verdict.against}"
    place = {"task": verdict.task, "length": str(verdict.target_tokens), "arm": arms}
    return {"decision": verdict.decision, "text": verdict.text, "filter": place}


def _table(view: View) -> dict[str, Any]:
    columns = [[c.label, c.kind, c.link] for c in view.columns]
    shown = [values(view, c) for c in view.columns]
    return {
        "id": view.id,
        "title": view.title,
        "note": view.note,
        "columns": columns,
        "rows": [list(row) for row in zip(*shown, strict=True)],
        "filters": view.filters,
        "quiet": view.quiet,
    }


def _figures(
    results: pd.DataFrame, calls: pd.DataFrame, pairs: pd.DataFrame, folder: Path
) -> list[dict[str, str]]:
    """Drawn and listed; the page's summary shows the first."""
    rows = ("score_and_cost", "Score and cost", lambda: score_and_cost(results))
    lines = ("score_vs_length", "Score against length", lambda: figures.score_vs_length(results))
    many = results["arm"].nunique() > figures.BANDS
    draws: list[tuple[str, str, Callable[[], drawing.Plot]]] = [
        *((rows, lines) if many else (lines, rows)),
        ("score_vs_cost", "Score against cost", lambda: figures.score_vs_cost(results)),
        ("paired_forest", "Paired differences", lambda: forest.paired_forest(results, pairs)),
        ("failures", "How questions ended", lambda: diagnostics.failures(results)),
        ("tokens", "Where tokens went", lambda: diagnostics.tokens_by_role(results, calls)),
        ("cost_quantiles", "Spread of cost", lambda: diagnostics.cost_quantiles(results)),
        ("subcalls", "Sub-calls against length", lambda: diagnostics.subcalls_vs_length(results)),
        ("score_vs_budget", "Score against budget", lambda: score_vs_budget(results, calls)),
        ("depth_heatmap", "Depth of the needle", lambda: figures.depth_heatmap(results)),
    ]
    shown = []
    for name, title, draw in draws:
        plot = draw()
        if len(plot.data):
            drawing.save(plot, folder / name)
            shown.append({"id": name, "title": title})
    return shown


CALL_FIELDS = (
    "call_id", "parent_call_id", "role", "depth", "prompt_tokens", "cached_tokens",
    "completion_tokens", "cost_usd", "latency_s", "attempt", "cached_response", "error", "reply",
)  # fmt: skip


def _write_bundles(results: pd.DataFrame, calls: pd.DataFrame, data: Path) -> list[int]:
    """Write the trees in files ``t/0.js``, ``t/1.js``, …; return each row's file number."""
    numbers: list[int] = []
    bundle: list[str] = []
    number = size = 0
    for key, folder, rows in _calls_by_result(results, calls):
        events = trajectory.read_events(Path(folder) / "trajectories" / f"{key}.jsonl")
        nodes = _json([node.plain() for node in trajectory.tree(events, rows)])
        bundle.append(f"{json.dumps(key)}:{nodes}")
        numbers.append(number)
        size += len(nodes)
        if size > BUNDLE_BYTES:
            _put(data, f"t/{number}", f"{{{','.join(bundle)}}}")
            bundle, size, number = [], 0, number + 1
    if bundle:
        _put(data, f"t/{number}", f"{{{','.join(bundle)}}}")
    return numbers


def _calls_by_result(
    results: pd.DataFrame, calls: pd.DataFrame
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    if not calls.empty:
        ordered = calls.sort_values("started_at", kind="stable")
        columns = [ordered[f].astype(object).where(ordered[f].notna(), None) for f in CALL_FIELDS]
        rows = zip(ordered["result_key"], *columns, strict=True)
        for key, *values in rows:
            groups.setdefault(key, []).append(dict(zip(CALL_FIELDS, values, strict=True)))
    for key, folder in zip(results["result_key"], results["run_dir"], strict=True):
        yield str(key), str(folder), groups.get(str(key), [])


#: Columns of an answer's row in samples.js, in this order; ``sample`` and ``arm`` are numbers
#: into its lists of samples and arms.
ROW_FIELDS = (
    "repeat", "outcome", "points", "right", "answer", "error", "iterations", "subcalls",
    "tokens", "cost_usd", "wall_s", "truncated_tokens", "code_errors", "result_key",
)  # fmt: skip


def _samples(results: pd.DataFrame, bundles: Sequence[int]) -> dict[str, Any]:
    first = results.drop_duplicates("sample_id")
    sample_fields = ["sample_id", "task", "target_tokens", "question_group", "context_id"]
    sample_fields += ["length_tokens", "question", "gold", "knobs"]
    gold = first["gold"].map(lambda g: " | ".join(map(str, json.loads(g))))
    samples = _records(first.assign(gold=gold), sample_fields)
    places = {s: i for i, s in enumerate(first["sample_id"])}
    arms, shown_as = order(results), marks(results)
    names = {arm: i for i, arm in enumerate(arms)}
    rows = [
        [places[sample], names[arm], bundle, *row]
        for sample, arm, bundle, row in zip(
            results["sample_id"],
            results["arm"],
            bundles,
            _records(results, list(ROW_FIELDS)),
            strict=True,
        )
    ]
    return {
        "sample_fields": sample_fields,
        "samples": samples,
        "arms": [shown_as[arm] for arm in arms],
        "arm_keys": arms,
        "row_fields": ["sample", "arm", "bundle", *ROW_FIELDS],
        "rows": rows,
    }


def _records(frame: pd.DataFrame, fields: list[str]) -> list[list[Any]]:
    columns = []
    for name in fields:
        column = frame[name].astype(object).where(frame[name].notna(), None)
        most = QUESTION if name == "question" else SHORT
        columns.append([v[:most] if isinstance(v, str) else v for v in column])
    return [list(row) for row in zip(*columns, strict=True)]
