"""``rlm-eval resume RUN``: go on with a run from its own configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import recorded_environment
from rlm_eval.run.assemble import Parts, assemble
from rlm_eval.run.run import carry_out_parts

_SHOWN = 5


def resume(run_dir: Path, *, changed_sources: bool = False) -> int:
    """Continue the run in ``run_dir``, whatever its folder is called now; the exit code.

    Raises ConfigError if it is no run, and where the sources that made its results have changed
    since, unless ``changed_sources`` allows a new run beside it. That one reuses the results of
    arms whose sources are the same.
    """
    tree = {**recorded_tree(run_dir), "results_dir": str(run_dir.resolve().parent)}
    parts = assemble(check_config(tree))
    changed = _changed_sources(run_dir, parts)
    if not changed:
        return carry_out_parts(parts, run_dir)
    if changed_sources:
        return carry_out_parts(parts)
    names = ", ".join(changed[:_SHOWN]) + (", …" if len(changed) > _SHOWN else "")
    raise ConfigError(
        f"the sources of {run_dir} have changed since it was begun ({names}): check out what made "
        "it, or add --changed-sources to begin a new run that reuses what they left valid"
    )


def _changed_sources(run_dir: Path, parts: Parts) -> list[str]:
    """The source files that differ from the recorded ones, by name."""
    recorded = recorded_environment(run_dir).get("sources") or {}
    names = sorted({*recorded, *parts.sources})
    return [name for name in names if recorded.get(name) != parts.sources.get(name)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="rlm-eval resume", description="Go on with a run from its own configuration."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--changed-sources",
        action="store_true",
        help="where the sources have changed, begin a new run that reuses what is still valid",
    )
    options = parser.parse_args(arguments)
    return resume(options.run, changed_sources=options.changed_sources)
