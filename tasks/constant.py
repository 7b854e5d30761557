"""What the best fixed answer scores: a graded score means little without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rlm_eval.records import Sample

from .protocol import Task

Group = tuple[str, int]


def _group(sample: Sample) -> Group:
    return sample.question_group, sample.target_tokens


def fit_constant(task: Task, samples: Sequence[Sample]) -> str:
    """The candidate of ``task.constants`` with the best mean score on ``samples``; the first of
    equals."""

    def mean(answer: str) -> float:
        return sum(task.score(sample, answer).value for sample in samples) / len(samples)

    return max(task.constants(samples), key=mean)


def best_constant(task: Task, samples: Iterable[Sample]) -> dict[str, float]:
    """For each sample id, the score that the best fixed answer for its question group and length
    gets on it.

    The answer is fitted on the task's calibration samples; for a group that has none (tasks that
    read a file), on the run's samples of all other contexts. A group of one context alone can't
    be fitted and is left out.
    """
    groups: dict[Group, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[_group(sample)].append(sample)
    fitted: dict[Group, list[Sample]] = defaultdict(list)
    for length in sorted({target for _, target in groups}):
        for sample in task.calibration(length):
            fitted[_group(sample)].append(sample)
    scores: dict[str, float] = {}
    for group, members in groups.items():
        if fitted[group]:
            answer = fit_constant(task, fitted[group])
            scores.update({s.id: task.score(s, answer).value for s in members})
        else:
            scores.update(_leave_one_context_out(task, members))
    return scores


def _leave_one_context_out(task: Task, members: Sequence[Sample]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for context_id in dict.fromkeys(sample.context_id for sample in members):
        others = [sample for sample in members if sample.context_id != context_id]
        if others:
            answer = fit_constant(task, others)
            held_out = (sample for sample in members if sample.context_id == context_id)
            scores.update({s.id: task.score(s, answer).value for s in held_out})
    return scores
