"""Answers graded by a model, for tasks whose official rule is a judge's verdict.

The judge is called after the answer, through the same client and under its own role. The run's
budget pays for it, the sample's cap does not, and a row's sums leave it out (``judge_cost_usd``
has it): what grading takes says nothing about the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlm_eval.errors import ProviderError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Forecast
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.client import LM, CallTags
from rlm_eval.records import Sample, Score


class Judge:
    """Grades a task's answers. Raises ConfigError for a prompt that is not there."""

    def __init__(self, task: Any, prompt: str) -> None:
        self._task = task
        self._prompt = load_prompt("judge", prompt)
        #: Results graded by another prompt are other results.
        self.source = self._prompt.source

    def forecast(self, sample: Sample) -> Forecast:
        """What grading the longest answer to ``sample`` will take, by sizes alone."""
        messages = self._prompt.messages(**self._task.judge_values(sample, ""))
        prompt = offline_tokens(messages) + sample.max_answer_tokens
        n, tokens = self._task.judge_repeats, self._task.judge_tokens
        return Forecast(n, n * prompt, n * tokens, "judge", repeated_tokens=(n - 1) * prompt)

    def score(self, sample: Sample, answer: str, lm: LM, ledger: Ledger) -> Score:
        """The score by the judge's verdicts. Raises a failed one's failure, and ProviderError where
        none can be read: a judge that fails makes an answer neither right nor wrong."""
        messages = self._prompt.messages(**self._task.judge_values(sample, answer))
        tokens, asked = self._task.judge_tokens, [messages] * self._task.judge_repeats
        tags = CallTags("judge")
        replies = lm.complete_batch(asked, ledger=ledger, max_tokens=tokens, tags=tags)
        scores = []
        for reply in replies:
            if isinstance(reply, SampleFailure):
                raise reply
            score = self._task.judged(sample, answer, reply.text)
            if score is None:
                raise ProviderError(
                    f"no verdict in the reply of {lm.info('judge').name} ({reply.finish_reason}):"
                    " take another judge_model, or raise task.judge_tokens or"
                    " judge_model.reasoning_tokens",
                    kind="no verdict",
                    retryable=False,
                )
            scores.append(score)
        return majority(scores)


def majority(scores: Sequence[Score]) -> Score:
    """The middle one of ``scores``, an odd number, one a verdict, in whatever order they came."""
    middle = sorted(scores, key=lambda score: (score.value, score.parsed))[len(scores) // 2]
    dissents = sum(score.value != middle.value for score in scores)
    return replace(middle, verdicts=len(scores), dissents=dissents)


def judge_of(task: Any) -> Judge | None:
    """The judge a task asks for, None where its answers are scored by rule."""
    return Judge(task, task.judge) if task.judge is not None else None
