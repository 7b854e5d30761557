"""The commands, in this process, as the command line runs them."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_eval.commands.cli import run_command


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
