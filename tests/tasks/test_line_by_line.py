"""The evidence's control: with a judge that is never wrong, its program answers every question."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from helpers.chat import Table, scripted
from rlm_eval.models.protocol import Message
from rlm_eval.records import Problem
from rlm_eval.tasks.generated.aggregation import Aggregation
from rlm_eval.tasks.generated.labels import load_domain

CONTROL = Path(__file__).parents[2] / "results/published/controls/line_by_line.py"


def test_what_it_lacks_is_lost_in_the_models_judgements() -> None:
    label_of = {
        text: label
        for label, texts in load_domain("short_reviews", None).texts.items()
        for text in texts
    }

    def judge(messages: Sequence[Message]) -> str:
        return label_of[messages[0]["content"].partition("\nInstance: ")[2]].capitalize() + "."

    program, table = runpy.run_path(str(CONTROL))["LineByLine"](), Table(scripted(judge))
    task = Aggregation(lengths=[1650], n=20, questions_per_context=5, seed=271)
    kinds = Counter[str]()
    for context, sample in task.build():
        problem = Problem(sample.id, sample.question, context, sample.max_answer_tokens)
        answer = program.answer(problem, table.lm(), table.ledger())
        assert task.score(sample, answer.text).correct, (sample.question, answer.text)
        kinds[sample.question_group] += 1
    assert len(kinds) == 5
    assert {call.role for call in table.calls} == {"sub"}
