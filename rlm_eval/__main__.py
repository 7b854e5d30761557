"""``python -m rlm_eval`` and the console script ``rlm-eval``: see commands/help.py."""

from __future__ import annotations

import sys


def main() -> None:
    """Print the help page without importing anything heavy, or hand over to the command line."""
    arguments = sys.argv[1:]
    words = [a for a in arguments[:1] if a != "help" and "=" not in a and not a.startswith("-")]
    if not words and {"help", "--help", "-h"}.intersection(arguments):
        from rlm_eval.commands.help import HELP

        print(HELP, end="")
        return
    from rlm_eval.commands.cli import run_command

    sys.exit(run_command(arguments))


if __name__ == "__main__":
    main()
