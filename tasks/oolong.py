"""oolong: OOLONG's own windows and questions, from the hub or a local file.

Source: OOLONG (Bertsch et al. 2025), synthetic split: ``oolongbench/oolong-synth``; the RLM paper
asks 50 questions of validation, trec_coarse, 131K. Score as in :mod:`rlm_eval.tasks.aggregation`.
The set is 12 GB, so it is streamed and filtered (``where``); questions of one window share a
context.

Known defects of the data, kept as published: ties for least common accept the first gold only, and
"exactly n times" counts only the fifty most frequent dates. The question's text is the set's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import date

from rlm_eval.errors import ConfigError

from .fixed import Fixed, Item
from .scorers import OolongKind
from .sources import Row

CARD = __doc__ or ""

KINDS: dict[str, OolongKind] = {
    "LABEL": "label",
    "NUMERIC": "number",
    "COMPARISON": "comparison",
    "USER": "user",
    "DATE": "date",
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
    """oolong-synth as published; see the module's docstring."""

    name = "oolong"
    card = CARD
    columns = (
        *("context_window_text", "question", "task_group", "task", "answer", "answer_type"),
        *("dataset", "context_len", "context_window_id"),
    )
    max_answer_tokens = 64

    def items(self, row: Row) -> Iterator[Item]:
        kind = KINDS.get(str(row["answer_type"]).rpartition(".")[2])
        if kind is None:
            raise ConfigError(f"{self.name}: unknown answer_type {row['answer_type']!r}")
        yield Item(
            content=row["context_window_text"],
            question=row["question"],
            gold=(read_gold(str(row["answer"])),),
            group=str(row["task"]).rpartition(".")[2].lower(),
            scorer=f"oolong:{kind}",
            knobs={
                "family": str(row["task_group"]),
                "dataset": row["dataset"],
                "context_len": row["context_len"],
                "context_window_id": str(row["context_window_id"]),
            },
        )
