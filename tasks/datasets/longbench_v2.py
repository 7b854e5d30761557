"""longbench_v2: LongBench v2's multiple-choice questions over long documents and code.

Source: LongBench v2 (Bai et al. 2024), 503 rows; CodeQA is its domain ``Code Repository
Understanding`` (50 rows). Score: official. The letter is taken from ``The correct answer is (X)``;
no such sentence is wrong (the last lone letter: ``score_anywhere``); chance is 25 %, the least that
the best constant is taken to score. The question's wording is our own.

Known shortcuts: wrong choices are sometimes shorter, or nowhere in the text: ``code_oracle`` takes
the choice that occurs most often in the text, else the longest. Public texts: compare with a
no_context arm.
"""

from __future__ import annotations

import re
from typing import Literal

from rlm_eval.records import Context

from .dataset import Fields, Fixed, Name, Row, Text, shape

LETTERS = "ABCD"
FORM = (
    "\nOne choice is right. Reply in the form 'The correct answer is (X)', where X is A, B, C or D."
)


class LongBenchV2(Fixed):
    name, scorer = "longbench_v2", "choice"
    schema = shape(
        **dict.fromkeys(("domain", "sub_domain", "difficulty", "length", "question"), Text),
        **{f"choice_{letter}": Text for letter in LETTERS},
        _id=Name,
        answer=Literal["A", "B", "C", "D"],
        context=Text,
    )
    max_answer_tokens = 128

    def item(self, row: Row) -> Fields:
        choices = "\n".join(f"({letter}) {row[f'choice_{letter}'].strip()}" for letter in LETTERS)
        return {
            "content": row["context"],
            "question": f"{row['question'].strip()}\nChoices:\n{choices}{FORM}",
            "gold": (row["answer"],),
            "group": row["domain"],
            "knobs": {key: row[key] for key in ("_id", "sub_domain", "difficulty", "length")},
        }

    def query(self, question: str) -> str:
        return question.removesuffix(FORM)

    def code_oracle(self, question: str, context: Context) -> str | None:
        choices = re.findall(r"^\(([A-D])\) (.*)$", question, re.MULTILINE)
        if not choices:
            return None
        text = context.text.lower()
        best = max(choices, key=lambda choice: (text.count(choice[1].lower()), len(choice[1])))
        return f"The correct answer is ({best[0]})"
