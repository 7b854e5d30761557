"""The share of the evidence that was put before a model, by hand."""

from __future__ import annotations

import pytest

from rlm_eval.journal.tables import recall


@pytest.mark.parametrize(
    ("shown", "share"),
    [
        ([(0, 100)], 1.0),
        ([(10, 20)], 0.5),
        ([(10, 15), (15, 20), (50, 59)], 0.5),  # touching stretches join; one character is missing
        ([], 0.0),
    ],
)
def test_evidence_counts_where_all_of_it_was_shown(
    shown: list[tuple[int, int]], share: float
) -> None:
    assert recall([(10, 20), (50, 60)], shown) == share


def test_without_known_evidence_there_is_nothing_to_measure() -> None:
    assert recall([], [(0, 5)]) is None
