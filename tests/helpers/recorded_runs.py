"""A recorded run to replay, and ways to alter its record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.fake_provider import FakeProvider
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.journal import FILE_NAME, _checked, read_events
from rlm_eval.records import SCHEMA_VERSION


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
    events = [edit(event) for event in read_events(run_dir)]
    write_events(run_dir, events)


def write_events(run_dir: Path, events: Iterable[Mapping[str, Any]], version: int = 0) -> None:
    """A journal of these events, as another writer, say of another ``version``, would write it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    own = {"v": version or SCHEMA_VERSION}
    lines = (json.dumps({**own, **event, **own}).encode() for event in events)
    (run_dir / FILE_NAME).write_bytes(b"".join(_checked(line, b"0123abcd") for line in lines))
