"""Answers with the score that each benchmark's own published scorer gives them (tests/parity)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.answers import asked
from rlm_eval.records import Sample, Score
from rlm_eval.tasks.datasets.oolong import KINDS, read_gold
from rlm_eval.tasks.scoring.rules import RULES
from rlm_eval.tasks.scoring.scorers import read_verdict

FOLDER = Path(__file__).parents[1] / "parity"
FILES = sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.gz"))


@dataclass(frozen=True)
class Case:
    """One answer, by the rule that the benchmark's task names, and what the official code says."""

    row: dict[str, Any]
    sample: Sample

    @property
    def score(self) -> Score:
        return RULES[self.sample.scorer](self.sample, self.row["answer"])

    def agrees(self, score: Score) -> bool:
        """Bit for bit. RULER prints a percentage of two decimals: so much of it is known."""
        value = score.value
        if self.sample.scorer.startswith("string_match"):
            value = round(round(100 * value, 2) / 100, 4)
        f1 = self.row.get("official_f1")
        return value == self.row["official"] and f1 in (None, score.readings.get("f1"))


def verdicts() -> Iterator[tuple[str, float, float]]:
    """(judge's reply, what it says to us, what it says officially): 1, 0, or −1 for nothing."""
    for row in rows("browsecomp_plus_judge"):
        said = read_verdict(row["answer"])
        yield row["answer"], -1.0 if said is None else float(said), row["official"]


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def cases(name: str) -> Iterator[Case]:
    for row in rows(name):
        yield Case(row, sample_of(name, row))


def sample_of(name: str, row: dict[str, Any]) -> Sample:
    """The sample that the benchmark's task makes of such a row, as far as its rule reads it."""
    gold = row["gold"]
    if name == "oolong_synth":
        labels = ", ".join(row["labels"])
        question = f"Answer with one of the labels: {labels}." if labels else ""
        rule = f"oolong:{KINDS[row['answer_type']]}"
        return asked(read_gold(gold), scorer=rule, question=question)
    if name.startswith("babilong"):
        question = f"Question: {row['question']}"
        return asked(gold, scorer="babilong", question=question, question_group=row["task"])
    if name == "mrcr":
        return asked(gold, row["prefix"], scorer="mrcr")
    if name in ("ruler", "graphwalks"):
        return asked(*gold, scorer=row.get("rule", name))
    return asked(gold, scorer={"hotpotqa": "hotpot_em", "longbench_v2": "choice"}.get(name, name))
