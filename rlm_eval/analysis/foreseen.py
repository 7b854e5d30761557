"""What a run's forecast said beside what the run took."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rlm_eval.analysis.load import Run
from rlm_eval.analysis.reading import read_records

#: Columns of forecast.json and of results.parquet that mean the same.
MEASURES = {
    "calls": "calls",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "usd": "cost_usd",
    "seconds": "wall_s",
}


def forecast_table(run: Run) -> pd.DataFrame:
    """One row per arm, all lengths together: ``results`` that are there, where the forecast came
    ``from``, and per measure ``*_forecast`` and ``*_took``. A forecast is null where one length's
    was unknown, or where it was made for other results than these (some were taken over from
    another run). Empty where the run has no forecast.json."""
    path = run.path / "forecast.json"
    if not path.is_file():
        return pd.DataFrame()
    foreseen = pd.DataFrame(read_records(path))
    rows = []
    for arm, expected in foreseen.groupby("arm", sort=False):
        took = run.results[run.results["method"] == arm]
        if took.empty:
            continue  # nothing there yet, or the judge, which is no arm
        row: dict[str, Any] = {
            "arm": arm,
            "results": len(took),
            "from": ", ".join(expected["source"].unique()),
        }
        for ours, theirs in MEASURES.items():
            known = expected[ours].notna().all() and expected["results"].sum() == len(took)
            row[f"{ours}_forecast"] = expected[ours].sum() if known else None
            row[f"{ours}_took"] = took[theirs].sum(min_count=len(took))
        rows.append(row)
    return pd.DataFrame(rows)
