"""OOLONG-Pairs of its authors' files: the right window, golds as roles, F1 over explicit pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.answers import scored
from helpers.dataset_rows import oolong_pairs, windows
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.datasets.oolong_pairs import OolongPairs, as_roles

USERS = st.sets(st.integers(1, 9))
steady = settings(derandomize=True, deadline=None, database=None)


def make(folder: Path, rows: list[Any], name: str = "oolong-pairs-1024.json") -> OolongPairs:
    path = folder / name
    path.write_text(json.dumps(rows))
    return OolongPairs(path=str(path), lengths=[1024, 2048], n=20, windows=windows(folder))


def test_the_window_is_the_first_with_all_users_of_the_answers(tmp_path: Path) -> None:
    rows = [oolong_pairs(0), {**oolong_pairs(1), "answer": []}]
    task = make(tmp_path, rows)
    pairs = list(task.build())
    assert {context.text.count("User: 71214") for context, _ in pairs} == {1}
    assert {context.text.count("User: 10000") for context, _ in pairs} == {0}
    assert [sample.target_tokens for _, sample in pairs] == [1024, 1024]
    assert [sample.question for _, sample in pairs] == [row["question"] for row in rows]
    assert [sample.knobs["gold_pairs"] for _, sample in pairs] == [3, 0]
    full, empty = (sample for _, sample in pairs)
    assert task.score(full, "(21177, 44106)\n(44106, 71214)\n(71214, 21177)").value == 1.0
    assert task.score(full, "(21177, 44106)").value == 0.5
    assert task.score(empty, "[]").value == 1.0
    alone = replace(task, where={"id": rows[1]["id"]})
    assert [sample.id for _, sample in alone.build()] == [empty.id]
    assert set(task.source) == {"path", "sha256", "windows_path", "windows_sha256"}


def test_answers_of_users_that_no_window_has_are_refused(tmp_path: Path) -> None:
    row = {**oolong_pairs(), "answer": ["(1, 44106)"]}
    with pytest.raises(ConfigError, match="windows have no trec_coarse window of length 1024"):
        list(make(tmp_path, [row]).build())
    with pytest.raises(ConfigError, match="path must end in its length"):
        make(tmp_path, [row], "pairs.json")


@steady
@given(USERS, USERS)
def test_pairs_of_two_roles_are_stored_as_the_roles(first: set[int], second: set[int]) -> None:
    pairs = {(min(p), max(p)) for p in product(first, second) if p[0] != p[1]}
    golds = as_roles(pairs)
    assert len(golds) == 2
    answer = "\n".join(map(str, sorted(pairs)))
    assert scored("pairs_f1", answer, *golds).value == 1.0


@steady
@given(st.sets(st.sampled_from(list(combinations(range(1, 8), 2)))), st.data())
def test_any_pairs_score_as_a_set(pairs: set[tuple[int, int]], data: st.DataObject) -> None:
    given = data.draw(st.sets(st.sampled_from(list(combinations(range(1, 8), 2)))))
    expected = 2 * len(given & pairs) / (len(given) + len(pairs)) if given or pairs else 1.0
    answer = "\n".join(map(str, given))
    assert scored("pairs_f1", answer, *as_roles(pairs)).value == pytest.approx(expected)
