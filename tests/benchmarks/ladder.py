"""The method ladder as Markdown, and what its forecast was worth, from finished runs:

    python tests/benchmarks/ladder.py results/published/ladder-*

The runs' own commands stand in results/published/README.md.
"""

from __future__ import annotations

import shlex
import sys

import pandas as pd

from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.load import combine, find_runs, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.views import printed, views
from rlm_eval.analysis.tables import method_by_task, to_markdown
from rlm_eval.analysis.text import plural

SHOWN = ("costs", "retrieval", "outcomes", "forecast")


def main(sources: list[str]) -> None:
    runs = [load_run(path) for path in find_runs(*sources)]
    results = by_method(combine(runs))
    calls = pd.concat([run.calls for run in runs], ignore_index=True)
    summary = summarize(results)
    models = ", ".join(sorted(filter(None, results["model"].unique())))
    told = f"`python tests/benchmarks/ladder.py {shlex.join(sources)}`. "
    told += f"Model: {models}. {len(results)} results, {plural(len(runs), 'run')}. Mean score in "
    told += "per cent by the official rule; a failed question counts 0."
    if any(run.demonstration for run in runs):
        told += " A demonstration, not evidence: n is too small to tell methods apart."
    print(f"# The method ladder\n\n{told}\n\n{to_markdown(method_by_task(summary))}", end="")
    for view in views(results, calls, summary, paired_table(results), runs):
        if view.id in SHOWN:
            print(f"\n## {view.title}\n\n{view.note}\n\n{to_markdown(*printed(view))}", end="")


if __name__ == "__main__":
    main(sys.argv[1:])
