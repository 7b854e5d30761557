"""The default job's inputs are frozen: published results of ``task=aggregation`` refer to them.

A change of the labelled items, the windows' drawing or the questions' wording makes other samples,
and results that can't be compared with earlier ones. Where that is meant, the hashes here change in
the same commit.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import pytest

from rlm_eval.commands.export import make_task
from rlm_eval.records import Context, content_hash


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("reviews.tsv", "1d9ff1c009c2a12576a09eacaafc572e6b99be550ceb2ba24b6b7ff18b3ade40"),
        ("questions.tsv", "9f9e53fe281aa9f49b491abd006630bd519670248b846fc02c53401c4a46a5a4"),
        ("prose.txt.xz", "0291066d22aaa22f09d96b739d032f30d5f487a7428398091f236213bc948f46"),
    ],
)
def test_the_items_are_the_frozen_ones(name: str, sha256: str) -> None:
    data = files("rlm_eval.tasks").joinpath("items", name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256


@pytest.mark.parametrize(
    ("overrides", "golden"),
    [
        (["task.lengths=[1650,2300]", "task.n=2"], "420a21be4dda3e75"),
        (["task.domain=questions", "task.lengths=[4096]", "task.n=5"], "ac956a1b2e47ef82"),
        (["task.lengths=[1650,2300]", "task.n=2", "seed=7"], "d4cbf783bbb7a279"),
        ([], "f83c730685eeb581"),
    ],
)
def test_default_aggregation_has_the_same_bytes(overrides: list[str], golden: str) -> None:
    """A sample's id is the hash of its question, gold, knobs and its context's hash."""
    more = ["task.questions_per_context=5"] if overrides else []
    _, task = make_task(["task=aggregation", *more, *overrides])
    pairs = list(task.build())
    assert all(Context.of(context.content).id == sample.context_id for context, sample in pairs)
    assert content_hash([sample.id for _, sample in pairs]) == golden
