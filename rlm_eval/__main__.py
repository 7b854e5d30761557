"""``python -m rlm_eval`` and the console script ``rlm-eval``."""

from __future__ import annotations

import sys


def main() -> None:
    """Print the help page without importing anything heavy, or hand over to the command line."""
    arguments = sys.argv[1:]
    if any(a in ("--help", "-h", "help") for a in arguments):
        from rlm_eval.help import HELP

        print(HELP, end="")
        return
    from rlm_eval.cli import run_command

    sys.exit(run_command(arguments))


if __name__ == "__main__":
    main()
