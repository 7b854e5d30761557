"""Evidence found and what it was worth, by hand."""

from __future__ import annotations

import pytest

from helpers.fake_results import handmade
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.retrieval import retrieval


def answers(recalls: list[float | None], right: str) -> list[dict[str, object]]:
    """One row per recall; a letter each: r right, w wrong, f own failure, o owed."""
    ends = {"f": {"outcome": "no_answer"}, "o": {"outcome": "provider_error"}}
    return [
        {"method": "rag_bm25", "sample_id": f"s{i}", "context_id": f"c{i}", "evidence_recall": r}
        | ends.get(letter, {"correct": letter == "r"})
        for i, (r, letter) in enumerate(zip(recalls, right, strict=True))
    ]


def test_recall_and_the_score_with_and_without_all_of_the_evidence() -> None:
    rows = answers([1.0, 1.0, 1.0, 0.5, 0.0, 1.0, None], "rrwrfor")
    (row,) = retrieval(handmade(rows)).to_dict("records")
    assert row["n"] == 5  # not the owed one, nor the one whose evidence is unknown
    assert row["evidence_recall"] == pytest.approx(3.5 / 5)
    assert row["recall_low"] < 0.7 < row["recall_high"]
    assert (row["n_all"], row["n_part"]) == (3, 2)
    assert row["score_all"] == pytest.approx(2 / 3)
    assert row["score_part"] == pytest.approx(1 / 2)  # the failure counts 0


def test_without_evidence_there_is_no_row() -> None:
    frame = handmade(answers([None, None], "rw"))
    assert retrieval(frame).empty
    assert summarize(frame)["evidence_recall"].isna().all()


def test_the_summary_has_the_mean_over_those_that_are_known() -> None:
    table = summarize(handmade(answers([1.0, 0.5, None], "rrr")))
    assert table["evidence_recall"].tolist() == [0.75]
