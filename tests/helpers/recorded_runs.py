"""A recorded run to replay, and ways to alter its record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from helpers.fake_provider import FakeProvider
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.journal import FILE_NAME


def record_run(place: Path) -> Path:
    """A finished run whose provider failed now and then, with sub-calls, some from memory."""
    plan = ["ok", "500", "ok", "empty_choices", "429", "ok", "reset"]
    with FakeProvider(plan) as provider:
        code = run_command(
            [
                *("model=litellm", "model.name=openai/fake", f"model.api_base={provider.api_base}"),
                *("model.price.input=100", "model.price.output=200", "concurrency=2"),
                *("task=needle", "task.lengths=[1024]", "task.n=2", f"results_dir={place}"),
                *("method=[direct,summarize_map_reduce,rlm]", "method.rlm.max_iterations=2"),
            ]
        )
    assert code == 0
    (found,) = place.iterdir()
    return found


def copied(run_dir: Path, place: Path) -> Path:
    return Path(shutil.copytree(run_dir, place / run_dir.name))


def edited(run_dir: Path, edit: Any) -> None:
    """The journal with each event passed through ``edit``."""
    path = run_dir / FILE_NAME
    events = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(edit(event)) + "\n" for event in events))
