"""``python -m rlm_eval`` and the console script ``rlm-eval``: see commands/help.py."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class _Patient(io.TextIOWrapper):
    """Standard output or error that takes any text, and what nobody reads any more."""

    def write(self, text: str) -> int:
        return self._kept(super().write, text) or 0

    def flush(self) -> None:
        self._kept(super().flush)

    def _kept(self, action: Any, *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except OSError as error:  # a closed pipe, as after `| head -1`, or a terminal that is gone
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return None


def _patient(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, lines, through = stream.encoding, stream.line_buffering, stream.write_through
    return _Patient(stream.detach(), encoding, "replace", None, lines, through)


def main() -> None:
    """Print the help page without importing anything heavy, or hand over to the command line."""
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)
    arguments = sys.argv[1:]
    words = [a for a in arguments[:1] if a != "help" and "=" not in a and not a.startswith("-")]
    if not words and {"help", "--help", "-h"}.intersection(arguments):
        from rlm_eval.commands.help import HELP

        print(HELP, end="")
        return
    if arguments[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"rlm_eval {version('rlm_eval')}")
        return
    from rlm_eval.commands.cli import run_command

    sys.exit(run_command(arguments))


if __name__ == "__main__":
    main()
