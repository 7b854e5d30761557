"""oolong and oolong_real: OOLONG's own windows and questions, from the hub or a local file.

Source: OOLONG (Bertsch et al. 2025). ``oolong`` is the synthetic split,
``oolongbench/oolong-synth``; the RLM paper asks 50 questions of validation, trec_coarse, 131K.
Score: official (:func:`rlm_eval.tasks.scoring.oolong.oolong`), dates by dateutil as there, but that
a part of a date is wrong where the original completes it from the day that it runs on;
``score_strict`` reads the same answers in any wording. ``oolong_real`` is
``oolongbench/oolong-real``: counting and finding in one or more transcripts of Dungeons and Dragons
played on air; score :func:`rlm_eval.tasks.scoring.oolong.oolong_real`, official, by answers in
``\\boxed{}``; without a box ``score_unboxed``. Both sets are large (12 and 20 GB), so they are
streamed and filtered (``where``); questions of one window share a context.

Known defects of the data, kept as published: ties for least common accept the first gold only, and
"exactly n times" counts only the fifty most frequent dates; a real gold with a comma in it is a
list, of which any superset scores 1. The questions' text is the sets' own; ``oolong_real`` adds the
form of the answer, which the set says at the window's beginning only. The transcripts are public:
compare with a no_context arm.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from rlm_eval.errors import ConfigError
from rlm_eval.records import Sample

from ..scoring.oolong import Kind
from .dataset import Fields, Row
from .fixed import Fixed

KINDS: dict[str, Kind] = {
    "LABEL": "label",
    "NUMERIC": "number",
    "COMPARISON": "comparison",
    "USER": "user",
    "DATE": "date",
    "MONTH_YEAR": "month",
}


def read_gold(text: str) -> str:
    """The first gold of a Python list literal, dates written as in the windows."""
    if found := re.search(r"datetime\.date(?:time)?\((\d+), (\d+), (\d+)", text):
        return date(*map(int, found.groups())).strftime("%Y-%m-%d")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"oolong: an answer is no list literal: {text[:60]!r}") from error
    return str(value[0] if isinstance(value, list) else value)


class Oolong(Fixed):
    """oolong-synth as published."""

    name = "oolong"
    columns = (
        *("context_window_text", "question", "task_group", "task", "answer", "answer_type"),
        *("dataset", "context_len", "context_window_id"),
    )
    max_answer_tokens = 64

    def items(self, row: Row) -> Iterator[Fields]:
        kind = KINDS.get(str(row["answer_type"]).rpartition(".")[2])
        if kind is None:
            raise ConfigError(f"{self.name}: unknown answer_type {row['answer_type']!r}")
        yield {
            "content": row["context_window_text"],
            "question": row["question"],
            "gold": (read_gold(str(row["answer"])),),
            "group": str(row["task"]).rpartition(".")[2].lower(),
            "scorer": f"oolong:{kind}",
            "knobs": {
                "family": str(row["task_group"]),
                "dataset": row["dataset"],
                "context_len": row["context_len"],
                "context_window_id": str(row["context_window_id"]),
            },
        }


class OolongReal(Fixed):
    """oolong-real as published."""

    name = scorer = "oolong_real"
    columns = (
        *("id", "context_window_id", "context_window_text", "question", "answer"),
        *("question_type", "episodes", "campaign"),
    )
    max_answer_tokens = 256
    form = (
        "Give the final answer as \\boxed{answer}: a number in digits, or the names alone, with"
        " commas between them where there are several."
    )

    def items(self, row: Row) -> Iterator[Fields]:
        yield {
            "content": row["context_window_text"],
            "question": f"{row['question'].strip()} {self.form}",
            "gold": (str(row["answer"]),),
            "group": str(row["question_type"]),
            "knobs": {
                "row": str(row["id"]),
                "campaign": str(row["campaign"]),
                "n_episodes": len(row["episodes"]),
                "context_window_id": str(row["context_window_id"]),
            },
        }

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        return dict.fromkeys(f"\\boxed{{{sample.gold[0]}}}" for sample in group_samples)
