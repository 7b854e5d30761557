"""The static report: ``report.html`` with a ``report_data`` folder, read from disk by a browser.

All data are put into script files that the page loads when it needs them, so the report works
from ``file://`` without a network. Text of models and contexts reaches the page as data only and
is shown as text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from rlm_eval.analysis import figures, tables, trajectory
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.find import find_runs
from rlm_eval.analysis.load import Run, combine, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report_files import as_json, plain, put, replacing
from rlm_eval.analysis.report_samples import write_samples
from rlm_eval.analysis.report_tables import View, printed, values, views
from rlm_eval.analysis.verdict_groups import Group, grouped
from rlm_eval.analysis.verdicts import Verdict, verdicts
from rlm_eval.errors import ConfigError

PAGE, DATA = "report.html", "report_data"
#: Further forms of a table, which are files alone: what they are called, and their names.
ALSO = {
    "summary": (("method × length", "method_by_length"), ("method × task", "method_by_task")),
    "paired": (("as a matrix", "paired_matrix"),),
}
ASSETS = ("report.css", "page.js", "numbers.js", "table.js", "answers.js", "report.js")


def write_report(sources: Sequence[str | Path], out: Path | None = None) -> Path:
    """Write ``report.html`` and ``report_data/`` over one or several runs; return the page's path.

    ``out`` is the folder to write to: the run's own when there is one run, else it must be given.
    """
    runs = [load_run(path) for path in find_runs(*sources)]
    results = by_method(combine(runs))
    if results.empty:
        raise ConfigError(f"{runs[0].path} holds no results yet: resume the run first")
    folder = out or runs[0].path
    with replacing(folder, (DATA, PAGE)) as new:
        data = new / DATA
        data.mkdir()
        _write_data(runs, results, data)
        assets = files("rlm_eval.analysis") / "html"
        for name in ASSETS:
            (data / name).write_bytes((assets / name).read_bytes())
        (new / PAGE).write_bytes((assets / PAGE).read_bytes())
    return folder / PAGE


def _write_data(runs: Sequence[Run], results: pd.DataFrame, data: Path) -> None:
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
        "figures": _figures(results, calls, summary, pairs, data / "figures"),
        "answers": len(results),
        "calls": len(calls),
    }
    put(data, "main", as_json(plain(main)))
    if not calls.empty:
        replies = {k: v for run in runs for k, v in trajectory.read_replies(run.path).items()}
        calls["reply"] = calls["call_id"].map(replies)
    write_samples(results, calls, data)


def _write_tables(shown: Sequence[View], summary: pd.DataFrame, folder: Path) -> None:
    for view in shown:
        tables.write(view.frame, folder / view.id, *printed(view))
        if view.id == "paired":
            tables.write(tables.paired_matrix(view.frame), folder / "paired_matrix")
    tables.write(tables.method_by_length(summary), folder / "method_by_length")
    tables.write(tables.method_by_task(summary), folder / "method_by_task")


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
        "dates": figures.dates(frame),
        "answers": len(frame),
        "config": config.read_text("utf-8") if config.is_file() else "",
        "environment": json.dumps(run.environment, indent=1, ensure_ascii=False, default=str),
    }


def _group(group: Group) -> dict[str, Any]:
    """Verdicts that the page shows together."""
    members = [_verdict(verdict) for verdict in group.members]
    return {"headline": group.headline, "decision": group.decision, "members": members}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    place = {"task": verdict.task, "length": str(verdict.target_tokens), "samples": "shared"}
    place |= {"arm": verdict.arm, "against": verdict.against}
    return {"decision": verdict.decision, "text": verdict.text, "filter": place}


def _table(view: View) -> dict[str, Any]:
    columns = [[c.label, c.kind, c.link, c.more] for c in view.columns]
    shown = [values(view, c) for c in view.columns]
    return {
        "id": view.id,
        "title": view.title,
        "note": view.note,
        "also": ALSO.get(view.id, ()),
        "columns": columns,
        "rows": [list(row) for row in zip(*shown, strict=True)],
        "filters": view.filters,
        "quiet": view.quiet,
    }


def _figures(
    results: pd.DataFrame,
    calls: pd.DataFrame,
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    folder: Path,
) -> list[dict[str, str]]:
    """Drawn and listed; the page's summary shows the first."""
    shown = []
    for name, title, plot in figures.draw_all(results, calls, summary, pairs):
        figures.save(plot, folder / name)
        shown.append({"id": name, "title": title})
    return shown
