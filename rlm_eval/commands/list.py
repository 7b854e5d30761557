"""``rlm-eval list [GROUP...]``: what may be chosen, a line each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from rlm_eval.config.spelling import Arguments, groups, nearest, options
from rlm_eval.errors import ConfigError

#: The most characters of what is said of a choice.
_WIDTH = 90


def main(arguments: Sequence[str]) -> int:
    """Print the choices of the groups, all by default. Raises ConfigError for what is no group."""
    parser = Arguments(prog="rlm-eval list", description="What may be chosen, one line each.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="task, method, model, ...")
    known = [group for group in groups() if group not in ("prompt", "budget")]
    for name in parser.parse_args(arguments).groups or known:
        group = name if name in known else name.removesuffix("s")
        if group not in known:
            near = nearest(group, known) or known
            raise ConfigError(f"there is no group {name!r}: did you mean {' or '.join(near)}?")
        files = options(group)
        wide = max(map(len, files))
        for option, file in files.items():
            told = textwrap.shorten(about(file.read_text("utf-8")), _WIDTH, placeholder=" …")
            print(f"{group}={option:<{wide}}  {told}")
    return 0


def about(text: str) -> str:
    """The first sentence of the comment that a file begins with."""
    block = re.sub(r"\A# @package.*\n", "", text).partition("\n_")[0]
    lines = [line[1:].strip() for line in block.splitlines() if line[:1] == "#"]
    return " ".join(lines).partition(". ")[0].removesuffix(".")
