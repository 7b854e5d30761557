"""Lengths: how much context fits a target, and refusing what can't be built.

A sample's budget is ``tokens(context) + tokens(question) + max_answer_tokens ≤ target``.

Contexts are made of pieces whose tokens are counted once per distinct piece and added. The sum is
exact because no pre-token of cl100k or o200k spans the seam between two pieces: a piece either
starts with one space and a printable character after a piece that ends in none, or follows a piece
that ends in a newline and itself starts with a letter or digit. Pre-tokens are split before BPE
merges are looked for, so the tokens on both sides are those of the pieces alone. Contexts up to
``EXACT_UP_TO`` tokens are counted again as a whole; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample
from rlm_eval.tokens import Tokenizer

EXACT_UP_TO = 200_000
#: Larger samples are refused: their text alone would take some 0.5 GB.
LONGEST = 100_000_000


def whole_numbers(task: str, knob: str, values: Sequence[Any], least: int = 1) -> tuple[int, ...]:
    """``values`` as a tuple of ints ≥ ``least``, or ConfigError."""
    if isinstance(values, str | int) or not values:
        raise ConfigError(f"task.{knob} of {task} must be a list such as [4000,16000]")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"task.{knob} of {task}: {value!r} is no whole number ≥ {least}")
    return tuple(values)


def at_least(task: str, knob: str, value: Any, least: int = 1) -> int:
    """``value`` as an int ≥ ``least``, or ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"task.{knob} of {task} must be a whole number ≥ {least}, not {value!r}")
    return value


def at_most(task: str, knob: str, value: int, most: int) -> int:
    """``value``, or ConfigError if it is larger than ``most``."""
    if value > most:
        raise ConfigError(f"task.{knob} of {task} may be {most} at most, not {value}")
    return value


def check_lengths(
    task: str, lengths: Sequence[Any], shortest: int, longest: int = LONGEST
) -> tuple[int, ...]:
    """The lengths in rising order without repeats. Raises ConfigError, naming the limit, for one
    that can't be built."""
    values = sorted(set(whole_numbers(task, "lengths", lengths)))
    if values[0] < shortest:
        raise ConfigError(
            f"task.lengths: {values[0]} tokens are too few for {task}; the least is {shortest}"
        )
    if values[-1] > longest:
        raise ConfigError(
            f"task.lengths: {values[-1]} tokens are more than {task} can build;"
            f" the most is {longest}"
        )
    return tuple(values)


def one_of(task: str, knob: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ConfigError(
            f"task.{knob} of {task}: unknown {value!r}; choose one of {', '.join(choices)}"
        )
    return value


def heading(number: int) -> str:
    """What ``Context.text`` puts before document ``number``, by a specimen with as many digits."""
    return f"Document {10 ** (len(str(number)) - 1)}:\n"


def context_tokens(tokenizer: Tokenizer, context: Context, summed: int) -> int:
    """The context's tokens: counted again as a whole up to ``EXACT_UP_TO``; beyond, the sum, which
    is at most a few tokens larger."""
    return tokenizer.count(context.text) if summed <= EXACT_UP_TO else summed


def within_target(tokenizer: Tokenizer, sample: Sample) -> Sample:
    """``sample``, checked to keep its budget."""
    used = sample.length_tokens + tokenizer.count(sample.question) + sample.max_answer_tokens
    if used > sample.target_tokens:
        raise AssertionError(
            f"{sample.task} sample {sample.id} takes {used} of {sample.target_tokens} tokens"
        )
    return sample
