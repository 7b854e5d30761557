"""A run's summary in MLflow or Weights & Biases, through their own clients.

Where it goes is up to them: ``MLFLOW_TRACKING_URI``, ``WANDB_MODE`` and the like.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pandas as pd

from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import flatten, marks
from rlm_eval.analysis.load import Run, combine
from rlm_eval.errors import ConfigError

PROJECT = "rlm_eval"
MEASURES = (
    *("asked", "completed", "pending", "mean_score", "score_low", "score_high", "accuracy"),
    *("skill", "evidence_recall", "calls", "subcalls", "prompt_tokens", "completion_tokens"),
    *("cost_usd", "judge_cost_usd", "wall_s"),
)


def log(run: Run, tracker: str) -> None:
    """Log a run's settings and :func:`metrics` as a new run of project ``rlm_eval``."""
    found, settings = metrics(summarize(combine([run]))), flatten(run.config)
    if tracker == "mlflow":
        mlflow = client(tracker)
        mlflow.set_experiment(PROJECT)
        with mlflow.start_run(run_name=run.path.name):
            mlflow.log_params({k: str(v)[:500] for k, v in settings.items()})
            mlflow.log_metrics(found)
    else:
        wandb = client(tracker)
        with wandb.init(project=PROJECT, name=run.path.name, config=settings) as logged:
            logged.summary.update(found)


def client(tracker: str) -> Any:
    """The tracker's own client. Raises ConfigError where it is not installed."""
    try:
        return import_module(tracker)
    except ImportError as error:
        what = f'pip install -e ".[{tracker}]"'
        raise ConfigError(f"--log-to {tracker} needs its client: {what}") from error


def metrics(summary: pd.DataFrame) -> dict[str, float]:
    """What is known of each row of ``summarize``, as ``task/length/arm/measure``. ``scripted`` and
    ``control`` arms say so in their names."""
    shown_as = marks(summary)
    found: dict[str, float] = {}
    for row in summary.to_dict("records"):
        name = f"{row['task']}/{row['target_tokens']}/{shown_as[row['arm']]}"
        stem = re.sub(r"[^\w./-]+", "_", name).rstrip("_")
        found |= {f"{stem}/{m}": float(row[m]) for m in MEASURES if not pd.isna(row[m])}
    return found
