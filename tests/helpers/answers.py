"""Scores without a task: an answer and its golds by a rule."""

from __future__ import annotations

from typing import Any

from rlm_eval.records import Sample, Score
from rlm_eval.tasks.scoring.rules import RULES


def asked(*gold: str, labels: str = "", **fields: Any) -> Sample:
    """A sample of which only what a rule reads matters."""
    plain = {"id": "", "task": "", "context_id": "", "question": "", "question_group": ""}
    sizes = {"target_tokens": 0, "length_tokens": 0, "scorer": ""}
    return Sample(**(plain | sizes | fields), gold=gold, knobs={"labels": labels})


def scored(rule: str, answer: str, *gold: str, labels: str = "", **fields: Any) -> Score:
    """The answer's score; ``labels`` are separated by ``|``."""
    return RULES[rule](asked(*gold, labels=labels, **fields), answer)
