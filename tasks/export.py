"""``rlm-eval export OUT.jsonl task=NAME task.KEY=VALUE …``: a task's samples as a file, which comes
back with ``task=exported task.path=OUT.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlm_eval.config.build import build
from rlm_eval.config.check import check_task
from rlm_eval.config.compose import compose_tree
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError

from .datasets.exported import to_row
from .task import Task


def make_task(overrides: Sequence[str]) -> tuple[str, Task]:
    """The task that ``task=NAME task.KEY=VALUE seed=S …`` configure. Raises ConfigError."""
    names = [text.removeprefix("task=") for text in overrides if text.startswith("task=")]
    if len(names) != 1:
        raise ConfigError("name one task: task=NAME")
    tree = compose_tree(overrides)
    task: Task = build("task", check_task(tree["task"], tree["allow_targets"]))
    return names[0], task


def write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """One row a line; the number of rows."""
    with path.open("w", encoding="utf-8") as stream:
        return sum(bool(stream.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Write the samples and say how they come back. Raises ConfigError for bad input."""
    parser = Arguments(prog="rlm-eval export", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("overrides", nargs="+", metavar="task=NAME task.KEY=VALUE")
    options = parser.parse_args(arguments)
    out: Path = options.out
    if out.exists() or out.suffix != ".jsonl":
        raise ConfigError(f"OUT must be a new file that ends in .jsonl, got {out}")
    name, task = make_task(options.overrides)
    if task.seal is not None:
        raise ConfigError(
            f"{name} is not exported: its text must not be stored in the clear; run it from its own"
            " encrypted files (task.path)"
        )
    try:
        count = write_jsonl((to_row(*pair) for pair in task.build()), out)
    except ConfigError as error:
        raise error.within("task") from error
    print(f"{count} samples of {name}: task=exported task.path={out}")
    return 0
