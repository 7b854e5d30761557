"""oolong and oolong_real: OOLONG's own windows and questions, from the hub or a local file.

Source: OOLONG (Bertsch et al. 2025). ``oolong`` is the synthetic split,
``oolongbench/oolong-synth`` with its correction of 20 June 2026 (the RLM paper, which asks 50
questions of validation, trec_coarse, 131K, came before it). Score: official, dates by dateutil as
there, but that a part of a date is wrong where the original completes it from the day that it runs
on; ``score_strict`` reads the same answers in any wording. ``oolong_real`` is
``oolongbench/oolong-real``: counting and finding in transcripts of Dungeons and Dragons played on
air; score official, by answers in ``\\boxed{}``; without a box ``score_unboxed``. Both sets are
large (12 and 20 GB), so they are streamed and filtered (``where``); questions of one window share a
context. The room for the answer is no part of a length, as in the windows' own.

Known defects of the data, kept as published: ties for least common accept the first gold only, and
"exactly n times" counts only the fifty most frequent dates; a real gold with a comma in it is a
list, of which any superset scores 1. The questions' text is the sets' own; ``oolong_real`` adds the
form of the answer, which the set says at the window's beginning only. The transcripts are public:
compare with a no_context arm.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from ..scoring.oolong import Kind
from .dataset import Fields, Fixed, Name, Row, Text, many, shape

KINDS: dict[str, Kind] = {
    "LABEL": "label",
    "NUMERIC": "number",
    "COMPARISON": "comparison",
    "USER": "user",
    "DATE": "date",
    "MONTH_YEAR": "month",
}


def read_gold(text: str) -> str:
    """The first gold of a Python list literal, dates as YYYY-MM-DD. Raises ValueError for a text
    that is none or holds no text, whole number or date."""
    dated = re.fullmatch(
        r"\[datetime\.date(?:time)?\((\d{1,4}), (\d{1,2}), (\d{1,2})(?:, \d+)*\)(?:, .*)?\]", text
    )
    try:
        if dated:
            return date(*map(int, dated.groups())).isoformat()
        gold = ast.literal_eval(text)[0] if text.startswith("[") else None
    except (ValueError, SyntaxError, IndexError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError("a Python list literal whose first entry exists") from error
    if type(gold) is int or (isinstance(gold, str) and gold.strip()):
        return str(gold)
    raise ValueError("a Python list literal that begins with a text, a whole number or a date")


def _bare(name: object) -> object:
    return name.rpartition(".")[2] if isinstance(name, str) else name


def _fitting(row: Row) -> Row:
    """``row``. Raises ValueError where the gold is not of the kind that is asked for."""
    forms = {"NUMERIC": r"-?\d+", "DATE": r"\d{4}-\d\d-\d\d"}
    form = forms.get(row["answer_type"], "(?s).*")
    if not re.fullmatch(form, row["answer"]):
        raise ValueError(f"an answer of type {row['answer_type']}: {row['answer'][:60]!r} is none")
    return row


@dataclass(kw_only=True, eq=False)
class Oolong(Fixed):
    """oolong-synth as published."""

    max_answer_tokens: int = 64

    name = "oolong"
    answer_in_target = False
    schema = shape(
        _fitting,
        **dict.fromkeys(("context_window_text", "question", "task_group", "task", "dataset"), Text),
        answer=Annotated[Text, AfterValidator(read_gold)],
        answer_type=Annotated[Literal[tuple(KINDS)], BeforeValidator(_bare)],
        context_len=int,
        context_window_id=Name,
    )

    def item(self, row: Row) -> Fields:
        return {
            "content": row["context_window_text"],
            "question": row["question"],
            "gold": (row["answer"],),
            # Of one task answers are labels, dates, users or numbers, as the question says.
            "group": f"{row['task'].rpartition('.')[2].lower()}_{KINDS[row['answer_type']]}",
            "scorer": f"oolong:{KINDS[row['answer_type']]}",
            "knobs": {
                "family": row["task_group"],
                **{key: row[key] for key in ("dataset", "context_len", "context_window_id")},
            },
        }


@dataclass(kw_only=True, eq=False)
class OolongReal(Fixed):
    """oolong-real as published."""

    max_answer_tokens: int = 256

    name = scorer = "oolong_real"
    answer_in_target = False
    schema = shape(
        **dict.fromkeys(("context_window_text", "question", "question_type"), Text),
        **dict.fromkeys(("id", "context_window_id", "answer", "campaign"), Name),
        episodes=many(Name, 1),
    )
    form = (
        "Give the final answer as \\boxed{answer}: a number in digits, or the names alone, with"
        " commas between them where there are several."
    )

    def query(self, question: str) -> str:
        return question.removesuffix(f" {self.form}")

    def item(self, row: Row) -> Fields:
        return {
            "content": row["context_window_text"],
            "question": f"{row['question'].strip()} {self.form}",
            "gold": (row["answer"],),
            "group": row["question_type"],
            "knobs": {
                "row": row["id"],
                "campaign": row["campaign"],
                "n_episodes": len(row["episodes"]),
                "context_window_id": row["context_window_id"],
            },
        }
