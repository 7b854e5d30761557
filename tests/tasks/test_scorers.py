"""Each official rule by cases worked out from its definition, and answers as people write them."""

from __future__ import annotations

from difflib import SequenceMatcher

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


def test_rulers_control_characters_and_case() -> None:
    """Control characters are line breaks to RULER; case is lowered, not folded."""
    assert scored("string_match_all", "ABC\x00DEF", "abc", "def").value == 1.0
    assert scored("string_match_all", "a\tb", "a\tb").value == 0.0
    assert scored("string_match_all", "strasse", "stra\u00dfe").value == 0.0


def test_rulers_number_is_not_cut_and_the_strict_reading_stands_beside_it() -> None:
    dump = " ".join(str(i) for i in range(1_000_000, 1_001_000)) + " 7654321"
    score = scored("string_match_all", dump, "7654321", max_answer_tokens=128)
    assert (score.value, score.readings) == (1.0, {"strict": 0.0})
    qa = scored("string_match_part", "It is Paris.", "Paris, France", "Paris")
    assert (qa.value, qa.readings) == (1.0, {"exact_match": 0.0, "f1": 0.5})


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ("23", "23"),
        ("nineteen characters", "nineteen characters"),
        ("there are twenty-three of them", "them"),
        ("short with a tail \n", "short with a tail \n"),
        ("Answer: A is more common than B, as I counted", "more common"),
        ("Answer: less common than B, not more common", "more common"),
        ("Answer: 23", "23"),
        ("First I think: 7. Then **Answer: [23]**", "23"),
        ("", ""),
        ("   \n                              ", ""),
        ("Label: [ spam ]", " spam "),
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
        ("Answer: as I see it, it is more common", "more common than", "comparison", 1.0),
        ("Answer: more common than.", "more common than", "comparison", 0.0),
        ("Answer: less common than", "more common than", "comparison", 0.0),
        ("Answer: more common or less common", "more common than", "comparison", 1.0),
        ("User: 48211", "48211", "user", 1.0),
        ("User: 48212", "48211", "user", 0.0),
        ("**Label:** spam", "spam", "label", 0.0),
        ("spam\n", "spam", "label", 0.0),
        ("Answer: October 2022", "October 2022", "month", 1.0),
        ("Answer: 10/2022", "October 2022", "month", 0.0),
        ("Answer: 0", "9" * 5000, "number", 0.0),
    ],
)
def test_oolong(answer: str, gold: str, kind: str, value: float) -> None:
    score = scored(f"oolong:{kind}", answer, gold, labels="negative|positive")
    assert score.value == value
    assert score.correct is (value == 1.0)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Date: 01/15/2023", 1.0),
        ("1/15/2023", 1.0),
        ("2023/01/15", 1.0),
        ("January 15th, 2023", 1.0),
        ("Date: Jan. 15, 2023", 1.0),
        ("Date: 2023-01-15.", 1.0),
        ("Date: Sunday, January 15, 2023", 1.0),
        ("Date: 20230115", 1.0),
        ("Date: 15/01/2023", 1.0),
        ("Date: Jan 16, 2023", 0.0),
        ("Date: January 2023", 0.0),
        ("Date: the 15th", 0.0),
        ("Date: 2023-01-15 UTC", 0.0),
        ("Date: 99999999999999999999", 0.0),
        ("Date: ", 0.0),
    ],
)
@pytest.mark.parametrize("gold", ["2023-01-15", "Jan 15, 2023"])
def test_oolongs_dates_are_read_by_dateutil(answer: str, value: float, gold: str) -> None:
    """But what names only a part of a date is wrong on every day of the month."""
    assert scored("oolong:date", answer, gold).value == value


def test_squad_normalisation_runs_in_the_official_order() -> None:
    assert scorers.squad_normalise("The  Cat's   an-swer, A  dog!") == "cats answer dog"


def test_squad_em_and_f1() -> None:
    assert scored("squad_em", "The Beatles.", "beatles").value == 1.0
    # 2 words in common, 3 said, 4 in the reference: 2·2/(3+4)
    assert scorers.squad_f1("old red barn", "big old red house") == pytest.approx(4 / 7)
    assert scorers.squad_f1("", "x") == 0.0
    assert scorers.squad_f1("the", "a") == 1.0
    assert scorers.squad_f1("the", "a", hotpot=True) == 0.0


def test_hotpot_yes_and_no_must_agree() -> None:
    assert scorers.squad_f1("yes indeed", "yes") == pytest.approx(2 / 3)
    assert scorers.squad_f1("yes indeed", "yes", hotpot=True) == 0.0
    assert scorers.squad_f1("yes", "yes", hotpot=True) == 1.0


def test_short_answer_takes_the_best_reference() -> None:
    score = scored("squad_em", "NYC", "New York City", "NYC")
    assert (score.value, score.readings, score.correct) == (1.0, {"f1": 1.0}, True)
    wordy = scored("squad_em", "The answer is NYC", "New York City", "NYC")
    assert (wordy.value, wordy.readings) == (0.0, {"f1": 0.5})


def test_pairs_are_unordered_and_written_in_parentheses() -> None:
    assert scorers.parse_pairs("(3, 7)\n( 7,3 ) (5, 5) (10, 2)") == {(3, 7), (5, 5), (2, 10)}
    assert scorers.parse_pairs("[3, 7] and 1 - 2") == set()
    assert scorers.parse_pairs("none") == set()
    assert scorers.parse_pairs("<think>(1, 2)</think>(3, 4)") == {(3, 4)}
    assert scorers.parse_pairs("(" + "9" * 5000 + ", 3)") == set()


@pytest.mark.parametrize(
    ("answer", "pairs"),
    [
        ("12345, 23456\n34567/45678", {(12345, 23456), (34567, 45678)}),
        ("12345, 23456 (7, 8)", {(7, 8)}),
        ("1 - 2", set()),
        ("all dated after Jan 06, 2023: 12345, 23456", {(12345, 23456)}),
        ("before 03/15/2023 and 2023-04-10, 6 May, 2023, 15 June 2023", set()),
    ],
)
def test_bare_pairs_are_the_other_reading_and_dates_are_none(
    answer: str, pairs: set[tuple[int, int]]
) -> None:
    assert scorers.parse_pairs(answer, bare=True) == pairs


def test_pairs_score_as_the_authors_code() -> None:
    gold = ("1 2 3", "1 2 3")  # three pairs
    score = scored("pairs_f1", "(2, 1) and (3, 1)", *gold)
    assert score.value == score.readings["bare_pairs"] == pytest.approx(0.8)
    assert scored("pairs_f1", "(1, 2), (5, 5)", "1", "2").value == pytest.approx(2 / 3)
    assert scored("pairs_f1", "(1, 2), (1, 1)", "1 2", "1 2").value == pytest.approx(2 / 3)
    bare = scored("pairs_f1", "1, 2", "1", "2")
    assert (bare.value, bare.readings) == (0.0, {"bare_pairs": 1.0})
    assert scored("pairs_f1", "There are none. " * 99, "", "").value == 1.0
    assert scored("pairs_f1", "(1, 2), (8, 9)", "1", "2 3", "8", "9").value == pytest.approx(0.8)


def test_f1_of_two_empty_sets_is_one() -> None:
    assert scorers.f1(0, 0, 0) == 1.0
    assert scorers.f1(0, 3, 0) == 0.0
    assert scorers.f1(4, 2, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "value", "anywhere"),
    [
        ("The correct answer is (B)", 1.0, 1.0),
        ("**The correct answer is B**", 1.0, 1.0),
        ("The correct answer is (A). No: B", 0.0, 1.0),
        ("B", 0.0, 1.0),
        ("I can't say", 0.0, 0.0),
    ],
)
def test_choice(answer: str, value: float, anywhere: float) -> None:
    score = scored("choice", answer, "B")
    assert (score.value, score.readings) == (value, {"anywhere": anywhere})


def test_mrcr_needs_the_prefix_first() -> None:
    assert scored("mrcr", "xyz abc", "xyz abc", "xyz ").value == 1.0
    late = scored("mrcr", "well, xyz abc", "xyz abc", "xyz ")
    assert (late.value, late.readings) == (0.0, {"anywhere": 1.0})
    # 'abcd' against 'abxy': 2 matching characters of 8
    assert scored("mrcr", "xyz abxy", "xyz abcd", "xyz ").value == pytest.approx(0.5)
    assert scored("mrcr", "abxy", "abcd", "").value == pytest.approx(0.5)
    assert scored("mrcr", "", "", "").value == 1.0


def test_long_mrcr_replies_are_compared_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece stands behind 60,000 other characters; only past a bound in time is the rest left
    out, and the length still counts."""
    piece = "a quiet otter walks under seven cold stars. " * 4
    reply = "zx" * 30_000 + piece
    official = SequenceMatcher(None, reply, piece).ratio()
    assert scored("mrcr", f"xyz {reply}", f"xyz {piece}", "xyz ").value == official > 0.005
    monkeypatch.setattr(scorers, "COMPARED", 10 * len(piece))
    assert scored("mrcr", f"xyz {reply}", f"xyz {piece}", "xyz ").value == 0.0
    near = scored("mrcr", f"xyz {piece[:10]}{reply}", f"xyz {piece}", "xyz ").value
    assert near == 20 / (len(reply) + 10 + len(piece))


@pytest.mark.parametrize(
    ("answer", "value", "anywhere"),
    [
        ("thinking\nFinal Answer: [a, b, c]", 1.0, 1.0),
        ("Final Answer: [a, z]", 0.4, 0.4),
        ("Final Answer: [[a, b], c]", 1 / 3, 1 / 3),
        ("Final Answer: ['a', \"b\", c]\n\n", 1.0, 1.0),
        ("Final Answer: [a, b, c]\nbye", 0.0, 1.0),
        ("final answer: [a, b, c]", 0.0, 0.0),
        ("Final Answer: []", 0.0, 0.0),
    ],
)
def test_graphwalks(answer: str, value: float, anywhere: float) -> None:
    score = scored("graphwalks", answer, "a", "b", "c")
    assert (score.value, score.readings["anywhere"]) == pytest.approx((value, anywhere))


def test_graphwalks_of_an_empty_gold() -> None:
    """Empty against empty is 1; an answer without a list is not empty."""
    assert scored("graphwalks", "Final Answer: []").value == 1.0
    assert scored("graphwalks", "Final Answer: [ ]").value == 1.0
    assert scored("graphwalks", "Final Answer: [a]").value == 0.0
    assert scored("graphwalks", "I don't know").value == 0.0
    assert scored("graphwalks", "").value == 0.0


@pytest.mark.parametrize(
    ("task", "gold", "answer", "value", "strict"),
    [
        ("qa1", "garden", "The garden. Not bathroom.", 1.0, 0.0),
        ("qa1", "garden", "kitchen then garden", 1.0, 1.0),
        ("qa1", "garden", "bathroom or garden", 0.0, 0.0),
        ("qa1", "garden", "### Response\n\nSandra is in the garden.", 1.0, 1.0),
        ("qa1", "garden", "garden <context> office", 1.0, 0.0),
        ("qa1", "garden", "garden\n<example>\noffice", 1.0, 0.0),
        ("qa7", "none", "none", 0.0, 1.0),
        ("qa7", "one", "one", 1.0, 1.0),
        ("qa9", "no", "I know: no", 1.0, 1.0),
        ("qa9", "yes", "Now yes", 0.0, 1.0),
        ("qa8", "apple,milk", "milk and an apple", 1.0, 1.0),
        ("qa8", "apple,milk", "milk", 0.0, 0.0),
        ("qa19", "n,e", "n,e", 1.0, 1.0),
        ("qa19", "n,e", "e,n", 0.0, 0.0),
        ("qa19", "n,e", "north, then east", 0.0, 1.0),
    ],
)
def test_babilong_by_its_fixed_labels(
    task: str, gold: str, answer: str, value: float, strict: float
) -> None:
    """``none`` holds ``one``, ``now`` holds ``no``: the official number has these."""
    question = "Question: Where was the apple before the kitchen?" if task == "qa1" else "?"
    score = scored("babilong", answer, gold, question=question, question_group=task)
    assert (score.value, score.readings) == (value, {"strict": strict})


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("Schedule A", "See Schedule B", 0.0),
        ("Schedule “A”", "Schedule “B”", 0.0),
        ("Schedule A", "It is Schedule A.", 1.0),
        ("To Kill A Mockingbird", "To Kill a Mockingbird", 1.0),
        ("a letter", "letter", 1.0),
        ("letter", "It is a letter", 1.0),
        ("€500", "500 €", 1.0),
        ("10m", "£10m", 1.0),
        ("€10m", "10m €", 1.0),
        ("500-600", "€500-600", 1.0),
        ("€1,200", "€1,200/month", 1.0),
        ("€500/month", "500 €/month", 1.0),
        ("£10bn", "£10 bn", 1.0),
        ("€500", "€500+", 1.0),
        ("500/month", "€500/month", 1.0),
        ("§ 12", "§12", 1.0),
        ("20°C", "20 °C", 1.0),
        ("Sunrise Ltd", "“Sunrise” Ltd", 1.0),
        ("Sunrise", "Sunrise™", 1.0),
        ("Ada Smith", "Ada Smith（CEO）", 1.0),
        ("non-compete", "non‑compete", 1.0),
        ("50 m²", "50 m2", 1.0),
        ("final offer", "\ufb01nal o\ufb00er", 1.0),
        ("राम", "रामायण", 0.0),
        ("राम", "राम।", 1.0),
        ("กรุงเทพ", "อยู่ที่กรุงเทพมหานคร", 1.0),
        ("田中", "マネージャー田中", 1.0),
        ("true", "False, as it isn't true", 0.0),
        ("False", "True, and not false", 0.0),
        ("Assemblée nationale", "L'Assemblée nationale", 1.0),
        ("Unione europea", "dell’Unione europea", 1.0),
        ("l'État", "État", 1.0),
        ("Brien", "O'Brien", 0.0),
    ],
)
def test_a_users_answer_is_found_as_whole_words_however_it_is_set(
    gold: str, answer: str, value: float
) -> None:
    assert scored("contains", answer, gold).value == value


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("10000000001", "10000000002", 0.0),
        ("1200", "1 200", 1.0),
        ("1200", "1\u202f200 €", 1.0),
        ("1200", "1’200", 1.0),
        ("1234567", "₹12,34,567", 1.0),
        ("1234567", "Rs.12,34,567", 1.0),
        ("100", "In 2019 100 units", 1.0),
        ("3.5", "3,5 %", 1.0),
        ("5", "2,5", 0.0),
        ("2.5", "2,5, by the lease", 1.0),
        ("2024", "May 12,2024", 1.0),
        ("0.125", "0,125", 1.0),
        ("1234567", "1.234.567 €", 1.0),
        ("1234.56", "1.234,56", 1.0),
        ("56", "1.234,56", 0.0),
        ("1234.5", "1 234,5", 1.0),
        ("1200", "1,200", 1.0),
        ("3", "1,2,3", 1.0),
    ],
)
def test_a_users_number_is_wanted_in_full_however_its_thousands_are_parted(
    gold: str, answer: str, value: float
) -> None:
    assert scored("number", answer, gold).value == value
