"""Each official rule against cases worked out from its definition."""

from __future__ import annotations

import pytest

from helpers.answers import scored
from rlm_eval.tasks.scoring import oolong, scorers


def test_string_match_all_is_the_share_of_references_found() -> None:
    gold = ("1111111", "2222222", "3333333", "4444444")
    assert scored("string_match_all", "2222222 and 4444444", *gold).value == 0.5
    assert scored("string_match_all", "ABCDE", "abcde").value == 1.0
    assert scored("string_match_all", "", *gold).value == 0.0


def test_string_match_part_takes_the_best_reference() -> None:
    assert scored("string_match_part", "In Paris, France", "paris", "rome").value == 1.0
    assert scored("string_match_part", "London", "paris", "rome").value == 0.0


def test_ruler_does_not_pay_for_dumping_the_context() -> None:
    dump = " ".join(str(i) for i in range(1000)) + " 7654321"
    score = scored("string_match_all", dump, "7654321", max_answer_tokens=128)
    assert score.value == 0.0
    assert not score.correct
    assert score.lenient == 1.0
    assert len(score.parsed) == 512


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ("23", "23"),
        ("nineteen characters", "nineteen characters"),
        ("there are twenty-three of them", "them"),
        ("Answer: 23", "23"),
        ("First I think: 7. Then **Answer: [23]**", "23"),
        ("", ""),
        ("   \n                              ", ""),
    ],
)
def test_oolong_parse(answer: str, parsed: str) -> None:
    assert oolong.parse(answer) == parsed


@pytest.mark.parametrize(
    ("answer", "gold", "kind", "value"),
    [
        ("Answer: 20", "20", "number", 1.0),
        ("Answer: 18", "20", "number", 0.5625),
        ("Answer: 23", "20", "number", 0.421875),
        ("Answer: 20.", "20", "number", 0.0),
        ("Answer: many", "20", "number", 0.0),
        ("Answer: -99999999", "20", "number", pytest.approx(0.0)),
        ("Label: positive", "positive", "label", 1.0),
        ("Label: Positive", "positive", "label", 0.0),
        ("Answer: more common than", "more common than", "comparison", 1.0),
        ("Answer: it is more common", "more common than", "comparison", 1.0),
        ("Answer: less common than", "more common than", "comparison", 0.0),
        ("Answer: more common or less common", "more common than", "comparison", 0.0),
        ("User: 48211", "48211", "user", 1.0),
        ("User: 48212", "48211", "user", 0.0),
        ("Date: Mar 05, 2024", "Mar 05, 2024", "date", 1.0),
        ("Date: March 5, 2024", "Mar 05, 2024", "date", 1.0),
        ("Date: 2024-03-05", "Mar 05, 2024", "date", 1.0),
        ("Date: Mar 06, 2024", "Mar 05, 2024", "date", 0.0),
    ],
)
def test_oolong(answer: str, gold: str, kind: str, value: float) -> None:
    score = scored(f"oolong:{kind}", answer, gold, labels="negative|positive")
    assert score.value == value
    assert score.correct is (value == 1.0)
    assert score.lenient >= score.value


@pytest.mark.parametrize(
    ("answer", "gold", "kind", "lenient"),
    [
        ("Answer: 20.", "20", "number", 1.0),
        ("I count 1,234 of them.", "1234", "number", 1.0),
        ("Label: Positive.", "positive", "label", 1.0),
        ("not negative but positive.", "positive", "label", 1.0),
        ("It was on Mar 05, 2024.", "Mar 05, 2024", "date", 1.0),
        ("The user is 48211.", "48211", "user", 1.0),
        ("nothing here", "positive", "label", 0.0),
    ],
)
def test_oolong_lenient(answer: str, gold: str, kind: str, lenient: float) -> None:
    assert scored(f"oolong:{kind}", answer, gold, labels="negative|positive").lenient == lenient


def test_lenient_label_prefers_the_longer_of_two_labels_in_one_place() -> None:
    answer, labels = "Label: Numeric Value!", "value|numeric value"
    assert scored("oolong:label", answer, "numeric value", labels=labels).lenient == 1.0


def test_squad_normalisation_runs_in_the_official_order() -> None:
    assert scorers.squad_normalise("The  Cat's   an-swer, A  dog!") == "cats answer dog"


def test_squad_em_and_f1() -> None:
    assert scored("squad_em", "The Beatles.", "beatles").value == 1.0
    # 2 words in common, 3 said, 4 in the reference: 2·2/(3+4)
    assert scorers.squad_f1("old red barn", "big old red house") == pytest.approx(4 / 7)
    assert scorers.squad_f1("", "x") == 0.0
    assert scorers.squad_f1("the", "a") == 1.0


def test_hotpot_yes_and_no_must_agree() -> None:
    assert scorers.squad_f1("yes indeed", "yes") == pytest.approx(2 / 3)
    assert scorers.squad_f1("yes indeed", "yes", hotpot=True) == 0.0
    assert scorers.squad_f1("yes", "yes", hotpot=True) == 1.0


def test_short_answer_takes_the_best_reference() -> None:
    score = scored("squad_em", "NYC", "New York City", "NYC")
    assert (score.value, score.lenient, score.correct) == (1.0, 1.0, True)
    wordy = scored("squad_em", "Let me see.\nThe answer is: **NYC**", "NYC")
    assert (wordy.value, wordy.lenient) == (0.0, 1.0)


def test_pairs_are_unordered_and_distinct() -> None:
    assert scorers.parse_pairs("(3, 7)\n[7,3] (5, 5) (10, 2)") == {(3, 7), (2, 10)}
    assert scorers.parse_pairs("none") == set()
    assert scorers.parse_pairs("9" * 5000 + ", 3") == set()


def test_set_f1_of_two_empty_sets_is_one() -> None:
    assert scorers.set_f1(0, 0, 0) == 1.0
    assert scorers.set_f1(0, 3, 0) == 0.0
    assert scorers.set_f1(4, 2, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "value", "lenient"),
    [
        ("The correct answer is (B)", 1.0, 1.0),
        ("**The correct answer is B**", 1.0, 1.0),
        ("The correct answer is (A). No: B", 0.0, 1.0),
        ("B", 0.0, 1.0),
        ("I can't say", 0.0, 0.0),
    ],
)
def test_choice(answer: str, value: float, lenient: float) -> None:
    score = scored("choice", answer, "B")
    assert (score.value, score.lenient) == (value, lenient)


def test_mrcr_needs_the_prefix_first() -> None:
    assert scored("mrcr", "xyz abc", "xyz abc", "xyz ").value == 1.0
    late = scored("mrcr", "well, xyz abc", "xyz abc", "xyz ")
    assert (late.value, late.lenient) == (0.0, 1.0)
    # 'abcd' against 'abxy': 2 matching characters of 8
    assert scored("mrcr", "xyz abxy", "xyz abcd", "xyz ").value == pytest.approx(0.5)


def test_graphwalks() -> None:
    gold = ("a", "b", "c")
    assert scored("graphwalks", "thinking\nFinal Answer: [a, b, c]", *gold).value == 1.0
    assert scored("graphwalks", "Final Answer: [a, z]", *gold).value == pytest.approx(2 / 5)
    assert scored("graphwalks", "Final Answer: []").value == 1.0
    early = scored("graphwalks", "Final Answer: [a, b, c]\nbye", *gold)
    assert (early.value, early.lenient) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "value", "lenient"),
    [
        ("The garden. Not bathroom.", 1.0, 1.0),
        ("kitchen then garden", 1.0, 1.0),
        ("bathroom or garden", 0.0, 1.0),
    ],
)
def test_babilong_reads_the_first_sentence_less_the_question(
    answer: str, value: float, lenient: float
) -> None:
    question = "Question: Where was the apple before the kitchen?"
    labels = "bathroom|garden|kitchen"
    score = scored("babilong", answer, "garden", labels=labels, question=question)
    assert (score.value, score.lenient) == (value, lenient)
