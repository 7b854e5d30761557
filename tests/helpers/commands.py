"""The commands, in this process, as the command line runs them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from subprocess import CompletedProcess
from typing import Any

import pytest

from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import carry_out_parts


def rlm_eval(*arguments: str, **environment: str) -> CompletedProcess[str]:
    """As ``python -m rlm_eval`` with these arguments, but in this process, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(arguments)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def report(arguments: Sequence[str]) -> int:
    return run_command(["report", *arguments])


def compare(arguments: Sequence[str]) -> int:
    return run_command(["compare", *arguments])


def replay(arguments: Sequence[str]) -> int:
    return run_command(["replay", *arguments])


def merge(arguments: Sequence[str]) -> int:
    return run_command(["merge", *arguments])


def export(arguments: Sequence[str]) -> int:
    return run_command(["export", *arguments])


def run_tree(tree: Mapping[str, Any]) -> int:
    """The run of a composed configuration; its exit code. Raises ConfigError."""
    return carry_out_parts(assemble(check_config(tree)))
