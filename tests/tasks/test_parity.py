"""Official scores are official: bit for bit what each benchmark's own code says of an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.parity import FILES, Case, cases, sample_of, verdicts

RULED = [name for name in FILES if name != "browsecomp_plus_judge"]


@pytest.mark.parametrize("name", RULED)
def test_every_answer_scores_as_officially(name: str) -> None:
    found = list(cases(name))
    wrong = [(case.row, case.score) for case in found if not case.agrees(case.score)]
    assert wrong == []
    assert len(found) > 200


def test_every_judges_reply_is_read_as_officially() -> None:
    found = list(verdicts())
    assert [each for each in found if each[1] != each[2]] == []
    assert len(found) == 30


@pytest.mark.parametrize("name", ["ruler", "graphwalks", "mrcr", "hotpotqa"])
def test_other_names_score_the_same(name: str) -> None:
    """Digits and, in MRCR's pieces, letters change places, in golds and answers alike."""
    new = str.maketrans("0123456789", "7294508163")
    if name == "mrcr":
        new |= str.maketrans("abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm")
    for case in cases(name):
        row, gold = dict(case.row), case.row["gold"]
        row["answer"] = row["answer"].translate(new)
        row["gold"] = (
            gold.translate(new) if isinstance(gold, str) else [g.translate(new) for g in gold]
        )
        row |= {"prefix": row["prefix"].translate(new)} if "prefix" in row else {}
        renamed = Case(row, sample_of(name, row))
        assert renamed.agrees(renamed.score), row


def test_a_wrong_gold_is_noticed() -> None:
    """The comparison itself can fail: golds that nobody said."""
    for name in RULED:
        right = next(case for case in cases(name) if case.row["official"] == 1.0)
        odd = tuple(f"{gold} other" for gold in right.sample.gold)
        other = Case(right.row, replace(right.sample, gold=odd))
        assert not other.agrees(other.score), name
