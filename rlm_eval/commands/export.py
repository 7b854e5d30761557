"""``rlm-eval export OUT.jsonl task=NAME …``: a task's samples as a file, which comes back with
``task=exported task.path=OUT.jsonl``. ``rlm-eval export RUN --to FORM``: a run for other tools.
"""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlm_eval.config.check import build, check_task
from rlm_eval.config.compose import compose_tree, recorded_tree
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.chats import training_rows
from rlm_eval.journal.journal import replacing
from rlm_eval.records import storable
from rlm_eval.tasks.datasets.exported import to_row
from rlm_eval.tasks.task import Task


def make_task(overrides: Sequence[str]) -> tuple[str, Task]:
    """The task that ``task=NAME task.KEY=VALUE seed=S …`` configure. Raises ConfigError."""
    names = [text.removeprefix("task=") for text in overrides if text.startswith("task=")]
    if len(names) != 1:
        raise ConfigError("name one task: task=NAME")
    tree = compose_tree(overrides)
    task: Task = build("task", check_task(tree["task"], tree["allow_targets"]))
    return names[0], task


def write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """One row a line; the number of rows. Where one can't be made, there is no file."""
    count = 0
    with replacing(path) as new, new.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(storable(json.dumps(row, ensure_ascii=False)) + "\n")
            count += 1
    return count


def main(arguments: Sequence[str]) -> int:
    """Write the samples, or the run, and say how to read them. Raises ConfigError for bad input."""
    parser = Arguments(
        "export",
        "A task's samples as a file: OUT.jsonl task=NAME task.KEY=VALUE. "
        "A run for other tools: RUN --to inspect or sft.",
    )
    parser.add_argument("place", type=Path, metavar="OUT.jsonl|RUN")
    parser.add_argument("overrides", nargs="*", metavar="task=NAME task.KEY=VALUE")
    parser.add_argument(
        "--to",
        choices=("inspect", "sft"),
        help="inspect: a log of inspect_ai for each arm; sft: an RLM's chats, for datasets",
    )
    parser.add_argument("--out", type=Path, help="where to (default: beside the run's tables)")
    parser.add_argument(
        "--min-score", type=float, default=1.0, help="sft: of answers with this score or more"
    )
    options = parser.parse_args(arguments)
    run_dir: Path = options.place
    if options.to is None:
        return _export_task(run_dir, options.overrides)
    if not (run_dir / "results.parquet").is_file():
        raise ConfigError(f"{run_dir} is no run with tables: give the folder it printed")
    tree = recorded_tree(run_dir)
    target = tree["task"]["_target_"]
    module, _, name = target.rpartition(".")
    ours = target.startswith("rlm_eval.")
    if ours and getattr(getattr(importlib.import_module(module), name), "seal", None) is not None:
        raise ConfigError(f"{name} is sealed: its texts are encrypted, and no export has them")
    out = options.out or run_dir / options.to
    if options.to == "inspect":
        from rlm_eval.journal.inspect_log import write_logs

        for path in write_logs(run_dir, out, tree):
            print(path)
        print(f"to look at them: inspect view --log-dir {shlex.quote(str(out))}")
    else:
        path = out if out.suffix == ".jsonl" else out / "chats.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        count = write_jsonl(training_rows(run_dir, options.min_score), path)
        print(f"{count} chats of answers with a score of {options.min_score:g} or more")
        print(f"datasets.load_dataset('json', data_files='{path}')")
    return 0


def _export_task(out: Path, overrides: Sequence[str]) -> int:
    if out.exists() or out.suffix != ".jsonl":
        raise ConfigError(
            f"{out} must be a new file that ends in .jsonl; of a run say --to inspect or sft"
        )
    name, task = make_task(overrides)
    if task.seal is not None:
        raise ConfigError(
            f"{name} is not exported: its text must not be stored in the clear; run it from its own"
            " encrypted files (task.path)"
        )
    if task.judge is not None:
        told = f"a model grades the answers of {name}, which no file of samples brings with it"
        raise ConfigError(f"{told}: with task.judge=null it is exported, to score by exact match")
    try:
        count = write_jsonl((to_row(*pair) for pair in task.build()), out)
    except ConfigError as error:
        raise error.within("task") from error
    print(f"{count} samples of {name}: task=exported {shlex.quote(f'task.path={out}')}")
    return 0
