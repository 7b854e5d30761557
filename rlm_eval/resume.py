"""``python -m rlm_eval.resume RUN``: go on with a run from its own configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from rlm_eval.cli import BAD_INPUT, run_tree
from rlm_eval.compose import recorded_tree
from rlm_eval.errors import ConfigError


def resume(run_dir: Path) -> int:
    """Continue the run in ``run_dir``; the exit code. Raises ConfigError if it is no run."""
    return run_tree({**recorded_tree(run_dir), "results_dir": str(run_dir.parent)})


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python -m rlm_eval.resume RUN", file=sys.stderr)
        sys.exit(BAD_INPUT)
    try:
        sys.exit(resume(Path(sys.argv[1])))
    except ConfigError as error:
        print(f"rlm_eval: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
