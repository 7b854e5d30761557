"""babilong: bAbI's reasoning tasks, their facts scattered through books.

Source: BABILong (Kuratov et al. 2024); the hub set has a config per length (0k … 10M) and a split
per task (qa1 …). Score: official. Of the task's fixed labels those in the answer up to its first
period, less those of the question, must be exactly the target's. Parts of words count, so qa7's
``none`` holds ``one`` and is never right, and ``now`` says ``no``: the official number has these
defects, ``score_strict`` (whole words, the complete answer) has not. Instruction, examples and form
of the answer are BABILong's per task (items/babilong.yaml). BABILong puts them before the text and
the question after it; here they are together, where ``method.direct.question_at`` says.

Known shortcut: bAbI's sentences have few words and fixed forms, so code that looks for the
question's name finds them; ``code_oracle`` takes the label named in the last sentence that holds
one of the question's names (right for qa1, a guess elsewhere).
"""

from __future__ import annotations

import re

import yaml

from rlm_eval.records import Context

from ..generated.haystack import ITEMS
from ..scoring.scorers import LABELS
from ..task import one_of
from .dataset import Fields, Fixed, Row, Text, shape

PROMPTS = ITEMS / "babilong.yaml"


class BABILong(Fixed):
    name = scorer = "babilong"
    schema = shape(input=Text, question=Text, target=Text)
    max_answer_tokens = 32

    def __post_init__(self) -> None:
        one_of("split", self.split, LABELS)
        self._prompt = yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))[self.split]
        super().__post_init__()

    def item(self, row: Row) -> Fields:
        return {
            "content": row["input"],
            "question": f"{self._prompt}\n\nQuestion: {row['question']}",
            "gold": (row["target"],),
            "group": self.split,
        }

    def query(self, question: str) -> str:
        return question.partition("Question: ")[2]

    def code_oracle(self, question: str, context: Context) -> str | None:
        names = re.findall(r"\b[A-Z][a-z]+\b", self.query(question))[1:]
        for sentence in reversed(re.split(r"(?<=[.!?])\s+", context.text)):
            if any(name in sentence for name in names):
                for label in LABELS[self.split].split():
                    if re.search(rf"\b{re.escape(label)}\b", sentence.lower()):
                        return label
        return None
