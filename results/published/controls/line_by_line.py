"""Control of the evidence's run 2: a program that a person wrote, who knows the task.

It asks the model about each line what the RLM of that run asked most often, and computes the answer
from the replies. What it scores above the RLM, the RLM's own programs lose; what it lacks of 100 %,
the model's judgements of single lines lose. ``plan.md`` has the command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlm_eval.errors import SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Method, without_failures
from rlm_eval.models.client import LM, CallTags
from rlm_eval.models.protocol import user
from rlm_eval.records import Answer, Problem
from rlm_eval.tasks.generated import questions
from rlm_eval.tasks.generated.windows import DAY_OF, read_lines

PROMPT = """\
Was this review positive or negative? Reply with one word, positive or negative.
Instance: """
LABELS = ("negative", "positive")


@dataclass
class LineByLine(Method):
    """Each line that the question is about is judged by a sub-call of its own, once per window."""

    reply_tokens: int = 8
    concurrency: int = 64

    roles = ("sub",)

    def prompt_source(self) -> str:
        return PROMPT

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        query = questions.read(problem.question)
        if query is None:
            raise SampleFailure("this program doesn't know such a question")
        lines = read_lines(problem.context.text)
        if "users" in query.args:
            lines = [x for x in lines if str(x.user) in query.args["users"].split(", ")]
        if "until" in query.args:
            first, last = DAY_OF[query.args["day"]], DAY_OF[query.args["until"]]
            lines = [x for x in lines if first <= x.day <= last]
        replies = without_failures(
            lm.complete_batch(
                [[user(PROMPT + line.text)] for line in lines],
                ledger=ledger,
                max_tokens=self.reply_tokens,
                tags=CallTags("sub", 1),
                concurrency=self.concurrency,
            )
        )
        judged = [
            line._replace(label=re.sub(r"\W", "", reply.text).lower())
            for line, reply in zip(lines, replies, strict=True)
        ]
        found = questions.answer(query, judged, LABELS)
        form = "Label" if questions.KINDS[query.kind].form == "label" else "Answer"
        return Answer(
            text=f"{form}: {found}",
            outcome="answered",
            iterations=1,
            trajectory=({"type": "judged", "labels": [[x.text, x.label] for x in judged]},),
        )
