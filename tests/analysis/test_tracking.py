"""A run's summary handed to a tracker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.commands import report as main
from helpers.fake_results import handmade, write_run
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.load import load_run
from rlm_eval.analysis.report.tracking import log, metrics

SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct",)}


def test_metrics_are_named_and_hold_what_is_known() -> None:
    base = {"method": "rlm", "context_id": "c", "correct": True, "scripted": True}
    found = metrics(summarize(handmade([base | {"sample_id": f"s{i}"} for i in range(2)])))
    assert found["aggregation/1000/rlm_scripted/mean_score"] == 1
    assert found["aggregation/1000/rlm_scripted/asked"] == 2
    assert not any(
        name.endswith(("cost_usd", "score_low")) for name in found if "judge" not in name
    )


def test_mlflow_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason='needs pip install -e ".[mlflow]"')
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    log(load_run(write_run(tmp_path / "run", {"seed": 3}, **SMALL)), "mlflow")
    experiment = mlflow.MlflowClient().get_experiment_by_name("rlm_eval")
    (kept,) = mlflow.MlflowClient().search_runs([experiment.experiment_id])
    assert kept.data.metrics["aggregation/1000/direct/asked"] == 4
    assert kept.data.params == {"seed": "3"}


def test_a_missing_client_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main([str(write_run(tmp_path / "run", {}, **SMALL)), "--log-to", "wandb"]) == 2
    assert 'pip install -e ".[wandb]"' in capsys.readouterr().err
