"""The static report: ``report.html`` with a ``report_data`` folder, read from disk by a browser.

All data are put into script files that the page loads when it needs them, so the report works
from ``file://`` without a network. Text of models and contexts reaches the page as data only and
is shown as text, never as markup.
"""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from rlm_eval.analysis import figures, tables
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method, within_models
from rlm_eval.analysis.load import Run, calls_of, combine
from rlm_eval.analysis.paired import paired_table, unit_of
from rlm_eval.analysis.report import samples
from rlm_eval.analysis.report.samples import Contexts, put
from rlm_eval.analysis.report.views import View, printed, views
from rlm_eval.analysis.text import points, shown
from rlm_eval.analysis.verdicts import Decision, Verdict, verdicts
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import damage

PAGE, DATA = "report.html", "report_data"
#: What a verdict's cell is coloured as, where it says something; else "open".
KINDS: Mapping[Decision, str] = {
    "better": "good",
    "as good and cheaper": "good",
    "better but dearer": "mixed",
    "worse but cheaper": "mixed",
    "as good but dearer": "bad",
    "worse": "bad",
}
#: Further forms of a table, which are files alone: what they are called, and their names.
ALSO = {"summary": (("method × task", "method_by_task"),)}
ASSETS = ("report.css", "page.js", "table.js", "answers.js", "report.js")


def write_report(
    runs: Sequence[Run], contexts: Contexts, out: Path | None = None, *, one_file: bool = False
) -> Path:
    """Write ``report.html`` and ``report_data/`` over one or several runs; return the page's path.

    ``out`` is the folder to write to, by default the first run's own. ``one_file``: the page has
    all of ``report_data/`` in it.
    """
    results = by_method(combine(list(runs)))
    if results.empty:
        raise ConfigError(f"{runs[0].path} holds no results yet: resume the run first")
    folder = out or runs[0].path
    with _replacing(folder) as new:
        assets = files("rlm_eval.analysis.report") / "html"
        for name in ASSETS:
            (new / DATA / name).write_bytes((assets / name).read_bytes())
        (new / PAGE).write_bytes((assets / PAGE).read_bytes())
        _write_data(runs, results, new / DATA)
        room = samples.CHARS_IN_ONE if one_file else samples.ALL_CHARS
        samples.write_contexts(runs, new / DATA, contexts, room)
        if one_file:
            _put_in_one(new)
    return folder / PAGE


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write a report to. At the end the report takes the place of the one in
    ``folder``; after an error that one stays as it was."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = TemporaryDirectory(prefix=".report-", dir=folder)
    except OSError as error:
        what = "it is a file" if folder.is_file() else error.strerror
        raise ConfigError(f"can't write to {folder}: {what}; name a folder with --out") from error
    with beside as place:
        new = Path(place, "new")
        (new / DATA).mkdir(parents=True)
        yield new
        for name in (DATA, PAGE):
            if (folder / name).exists():
                (folder / name).rename(Path(place, name))
            if (new / name).exists():
                (new / name).rename(folder / name)


def _put_in_one(folder: Path) -> None:
    """Put all that lies beside the page of the report in ``folder`` into it, with one script and
    one style, the only ones that its policy admits."""
    data, files = folder / DATA, {}
    code = [data / name for name in ASSETS if name.endswith(".js")]
    given = sorted(set(data.rglob("*.js")) - set(code), key=lambda path: path.name == "main.js")
    for path in sorted(data.glob("[ft]*/*.[!j]*")):  # figures and tables
        kind = "image/png" if path.suffix == ".png" else "text/plain"
        content = b64encode(path.read_bytes()).decode()
        files[path.relative_to(data).as_posix()] = f"data:{kind};base64,{content}"
    texts = [path.read_text("utf-8") for path in (*code, *given)]
    texts.insert(len(code), f"REPORT.files = {json.dumps(files)};\n")
    inside = {"script": "".join(texts), "style": (data / ASSETS[0]).read_text("utf-8")}
    hashes = {tag: sha256(text.encode()).digest() for tag, text in inside.items()}
    sources = [f"{tag}-src 'sha256-{b64encode(its).decode()}'" for tag, its in hashes.items()]
    policy = "; ".join(["default-src 'none'", "img-src data:", *sources])
    page = (folder / PAGE).read_text("utf-8")
    for old, new in (
        ('default-src[^"]*', policy),
        ("<link [^>]*>", f"<style>{inside['style']}</style>"),
        ("Its tables are also .*</script>", f"</noscript>\n<script>{inside['script']}</script>"),
    ):
        before, after = re.split(old, page, maxsplit=1, flags=re.DOTALL)
        page = before + new + after
    (folder / PAGE).write_text(page, encoding="utf-8")
    shutil.rmtree(data)


def _write_data(runs: Sequence[Run], results: pd.DataFrame, data: Path) -> None:
    calls = calls_of(runs, results)
    summary, pairs = summarize(results), paired_table(results)
    found = views(results, calls, summary, pairs)
    for view in found:
        tables.write(view.frame, data / "tables" / view.id, *printed(view))
    tables.write(tables.method_by_task(summary), data / "tables" / "method_by_task")
    drawn = []
    units = {task: unit_of(own) for task, own in results.groupby("task")}
    names = {key: name for key, (_, name) in within_models(results).items()}
    for name, title, plot in figures.draw_all(results, calls, summary, pairs):
        figures.drawing.save(plot, data / "figures" / name)
        drawn.append({"id": name, "title": title})
    main = {
        "runs": [_run(run) for run in runs],
        "scripted": bool(results["scripted"].any()),
        "changed": _changed(runs),
        "demonstration": any(run.demonstration for run in runs),
        "verdicts": [
            _verdict(v, names, units[v.main.task])
            for v in verdicts(results, min(r.margin for r in runs))
        ],
        "tables": [_table(view) for view in found],
        "figures": drawn,
        "answers": len(results),
        "calls": len(calls),
    }
    put(data, "main", json.dumps(main, allow_nan=False))
    samples.write_samples(runs, results, calls, data)


def _changed(runs: Sequence[Run]) -> list[str]:
    """The sources of which the runs had several versions, the first three by name."""
    hashes = {pair for run in runs for pair in (run.environment.get("sources") or {}).items()}
    names = sorted(name for name, n in Counter(name for name, _ in hashes).items() if n > 1)
    return [*names[:3], *["…"] * (len(names) > 3)]


def _run(run: Run) -> dict[str, Any]:
    config = run.path / "config.yaml"
    return {
        "name": run.path.name,
        "path": " · ".join(filter(None, (str(run.path), damage(run.path)))),
        "models": sorted(filter(None, run.results["model"].dropna().unique())),
        "dates": figures.drawing.dates(run.results),
        "answers": len(run.results),
        "config": config.read_text("utf-8") if config.is_file() else "",
        "environment": json.dumps(run.environment, indent=1, ensure_ascii=False, default=str),
    }


def _verdict(v: Verdict, names: Mapping[tuple[str, str], str], unit: str) -> dict[str, Any]:
    """A cell of the grid; ``names`` are what tasks' arms are called beside their model, ``unit``
    is what counts as independent."""
    c = v.main
    place = {"task": c.task, "samples": "shared", "arm": c.arm, "against": c.against}
    place |= {"length": str(c.target_tokens)} if c.target_tokens else {}
    cost = "" if isnan(c.cost_ratio) else f"{shown(c.cost_ratio, 'times')} {c.cost_unit}"
    return {
        "task": c.task,
        "length": c.target_tokens,
        "all": "all lengths" in v.text.partition(":")[0],
        "row": [part for part in (v.model, names.get((c.task, c.arm), c.arm), v.budget) if part],
        "decision": v.decision + (" (scripted)" if v.scripted else ""),
        "kind": KINDS.get(v.decision, "open"),
        "points": " · ".join(filter(None, (f"{points(c.difference)} points", cost))),
        "against": names.get((c.task, c.against), c.against),
        "n": f"{c.shared_samples}" + f" in {c.contexts}" * (unit == "context"),
        "text": v.text,
        "filter": place,
    }


def _table(view: View) -> dict[str, Any]:
    columns = []
    for column in view.columns:
        number = column.kind != "text" and column.name != "target_tokens"
        link = view.link if column.link is None and number else column.link
        columns.append([column.heading, column.kind, link, column.more])
    rows = pd.DataFrame({i: column.values(view.frame) for i, column in enumerate(view.columns)})
    return {
        "id": view.id,
        "title": view.title,
        "note": view.note,
        "also": ALSO.get(view.id, ()),
        "columns": columns,
        "rows": json.loads(rows.to_json(orient="values", double_precision=15)),
        "filters": view.filters,
        "quiet": view.quiet,
    }
