"""The strict rule of tasks that we generate: good answers in any ordinary wording are right, and
text that merely holds the answer is not."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest

from helpers.answers import scored
from rlm_eval.commands.export import make_task
from rlm_eval.records import Context, Sample

ONE = (
    "A special magic number for careful-harbor is hidden in the text. What is the special magic"
    " number for careful-harbor? Answer with the number alone."
)
MANY = (
    "Special magic numbers for careful-harbor are hidden in the text. What are all the special"
    " magic numbers for careful-harbor? Answer with the numbers alone, separated by commas."
)
VARIABLES = (
    "Some lines of the text assign variables: 'VAR X = 123' gives X the value 123, and 'VAR Y ="
    " VAR X' gives Y the value of X. Which variables have, directly or through others, the value"
    " 48210? There are 5. Answer with their names alone, separated by commas."
)
WORDS = (
    "The numbered list holds some words more often than the others. What are the ten most common"
    " words in it? Answer with the ten words alone, separated by commas."
)
PERSON = "One of the persons in the text must live in France. Who? Answer with the name alone."
VALUES = ("1111111", "2222222", "3333333", "4444444")
NAMES = ("KQWDA", "PLMEX", "ABCDE", "FGHIJ", "KLMNO")
COMMON = (
    *("island", "eager", "brave", "bold", "castle"),
    *("fiddle", "goblet", "harbor", "anchor", "comet"),
)
OTHERS = (
    *("apron", "arrow", "atlas", "attic", "axle"),
    *("badge", "bagel", "banjo", "barn", "barrel"),
)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("1111111", 1.0),
        ("**1111111**", 1.0),
        ("1,111,111", 1.0),
        ("```\n1111111\n```", 1.0),
        ("The special magic number for careful-harbor mentioned in the text is 1111111.", 1.0),
        ("I looked through all 128 lines. It is 1111111 (line 12).", 1.0),
        ("2222222 belongs to another key.\n\n**Final answer:** 1111111", 1.0),
        ("2222222", 0.0),
        ("1111111, 2222222, 3333333, 4444444", 0.0),
        ("- 1111111\n- 2222222\n- 3333333\n- 4444444", 0.0),
        ("It is either 1111111 or 2222222.", 0.0),
        ("On we walk. " * 90 + "One of the special magic numbers is 1111111.", 0.0),
        ("", 0.0),
    ],
)
def test_one_number(answer: str, value: float) -> None:
    score = scored("strict_match", answer, "1111111", question=ONE, max_answer_tokens=128)
    assert score.value == value
    assert score.readings == {"official": float("1111111" in answer)}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("The values are 1111111, 2222222, 3333333 and 4444444.", 1.0),
        ("1. 1111111\n2. 2222222\n3. 3333333\n4. 4444444", 1.0),
        ("['1111111', '2222222', '3333333', '4444444']", 1.0),
        ("1111111 and 3333333", 0.5),
        ("1111111, 2222222, 3333333, 5555555", 0.5),
        ("1111111, 2222222, 5555555, 6666666, 7777777", 0.0),
    ],
)
def test_a_wrong_value_takes_a_right_one_away(answer: str, value: float) -> None:
    score = scored("strict_match", answer, *VALUES, question=MANY, max_answer_tokens=128)
    assert score.value == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (", ".join(NAMES), 1.0),
        ("The variables with the value 48210 are **KQWDA**, PLMEX, ABCDE, FGHIJ and KLMNO.", 1.0),
        ("FINAL ANSWER: KQWDA, PLMEX, ABCDE, FGHIJ, KLMNO", 1.0),
        ("**FINAL ANSWER**\n\n" + "\n".join(NAMES), 1.0),
        (
            "VAR KQWDA = 48210\nVAR PLMEX = VAR KQWDA\nVAR ABCDE = VAR PLMEX\nVAR FGHIJ = VAR"
            " ABCDE\nVAR KLMNO = VAR FGHIJ",
            1.0,
        ),
        ("KQWDA, PLMEX, ABCDE", 0.6),
        (" ".join(NAMES) + " AAAAA BBBBB CCCCC DDDDD EEEEE", 0.0),
    ],
)
def test_variables(answer: str, value: float) -> None:
    score = scored("strict_match", answer, *NAMES, question=VARIABLES, max_answer_tokens=30)
    assert score.value == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (", ".join(COMMON), 1.0),
        (" ".join(COMMON), 1.0),
        (str(list(COMMON)), 1.0),
        (f"The ten most common words are: {', '.join(COMMON[:-1])} and comet.", 1.0),
        (f"After counting, the ten words that occur most often are {', '.join(COMMON)}.", 1.0),
        (f"Sure! Here is the list:\n\n{', '.join(map(str.title, COMMON))}", 1.0),
        ("\n".join(f"{i}. {word} (30 times)" for i, word in enumerate(COMMON, 1)), 1.0),
        ("\n".join(f"- **{word}**: 30" for word in COMMON), 1.0),
        ("\n".join(f"{i}. {word}: in lines {i}" for i, word in enumerate(COMMON, 1)), 1.0),
        ("| word | count |\n|---|---|\n" + "\n".join(f"| {w} | 30 |" for w in COMMON), 1.0),
        (", ".join((*COMMON[:-1], "apron")), 0.8),
        (", ".join((*COMMON, *OTHERS)), 0.0),
        (" ".join(sorted((*COMMON, *OTHERS))), 0.0),
        ("The words are " + ", ".join((*COMMON, *OTHERS)), 0.0),
        ("\n".join(f"- {word}" for word in (*COMMON, *OTHERS)), 0.0),
    ],
)
def test_words(answer: str, value: float) -> None:
    score = scored("strict_match", answer, *COMMON, question=WORDS, max_answer_tokens=120)
    assert score.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Troaneith", 1.0),
        ("**Name:** Troaneith.", 1.0),
        ("The person who lives in France is Troaneith.", 1.0),
        ("Troaneith, because the Eiffel Tower is in Paris, France.", 1.0),
        ("Troaneith, Blaxor, Cleou, Dmitri", 0.0),
        ("Troaneith Blaxor Cleou Dmitri", 0.0),
        ("It is Troaneith Blaxor", 0.0),
        ("Either Troaneith or Blaxor.", 0.0),
        ("- Troaneith\n- Blaxor\n- Cleou\n- Dmitri", 0.0),
        ("Blaxor", 0.0),
        ("The mayor of Dovek: Troaneith.", 1.0),
        ("Troaneith\n\nExplanation: the Eiffel Tower is in Paris.", 1.0),
        ("Troaneith\n\nExplanation: Troaneith lives in Paris, which is in France.", 1.0),
    ],
)
def test_a_name(answer: str, value: float) -> None:
    score = scored("strict_answer", answer, "Troaneith", question=PERSON, max_answer_tokens=32)
    assert score.value == value
    assert score.readings["exact_match"] == float(answer == "Troaneith")


COUNT = "How many lines of these users: 12345, 23456 should be classified as 'positive'?"
BEFORE = (
    "Among the lines dated before Mar 05, 2024, is the label 'positive' more common than, less"
    " common than, or as often as after it?"
)
COMPARE = "Is the label 'positive' more common than, less common than, or as often as 'negative'?"


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "value"),
    [
        ("number", "7", "Answer: 7", 1.0),
        ("number", "7", "**Answer:** 7.", 1.0),
        ("number", "7", "Answer: 7.0", 1.0),
        ("number", "7", "There are 7 lines.", 1.0),
        ("number", "7", "Of the lines of users 12345 and 23456, 7 should be positive.", 1.0),
        ("number", "7", "Answer: 7 (of 31)", 1.0),
        ("number", "7", "Answer: (7)", 1.0),
        ("number", "7", r"The answer is \(\boxed{7}\).", 1.0),
        ("number", "7", "Answer: 7\n\n7 of 31 are positive, 24 negative.", 1.0),
        ("number", "7", "From Mar 07, 2024 to Apr 19, 2025, 7 lines are positive.", 1.0),
        ("number", "1234", "I count 1,234 of them.", 1.0),
        ("number", "7", "Answer: 9", 0.75**2),
        ("number", "7", "Answer: 7.5", 0.0),
        ("number", "7", "Answer: 6, 7, 8", 0.0),
        ("number", "7", "between 6 and 8", 0.0),
        ("number", "7", "many", 0.0),
        ("label", "positive", "Label: positive", 1.0),
        ("label", "positive", "The most common label is **Positive**.", 1.0),
        ("label", "positive", "not negative but positive", 1.0),
        ("label", "positive", "Label: positive\n\nI counted 26 positive, 16 negative.", 1.0),
        (
            "label",
            "positive",
            "Label: positive\n\nCounts by label:\n- positive: 26\n- negative: 16",
            1.0,
        ),
        ("number", "7", "Answer: 7\n\nCounts by label:\n- positive: 7\n- negative: 33", 1.0),
        ("label", "positive", "I counted 26 positive, 16 negative.\n\nLabel:\npositive", 1.0),
        ("label", "positive", "Label: not positive", 0.0),
        ("label", "positive", "positive, negative", 0.0),
        ("label", "positive", "Label: positive or negative", 0.0),
        ("comparison", "more common than", "Answer: more common than.", 1.0),
        ("comparison", "more common than", "'positive' is more frequent than 'negative'", 1.0),
        ("comparison", "more common than", "'negative' is less common than 'positive'", 1.0),
        ("comparison", "more common than", "'negative' is more common than 'positive'", 0.0),
        ("comparison", "less common than", "'positive' is not as common as 'negative'", 1.0),
        ("comparison", "less common than", "'positive' does not occur as often as 'negative'", 1.0),
        ("comparison", "same frequency as", "'positive' isn't as common as 'negative'", 0.0),
        ("comparison", "more common than", "'positive' is twice as common as 'negative'", 1.0),
        ("comparison", "less common than", "The label 'negative' is more common.", 1.0),
        ("comparison", "more common than", "The more common label is 'positive'.", 1.0),
        ("comparison", "less common than", "The more common label is 'negative'.", 1.0),
        (
            "comparison",
            "more common than",
            "16 negative, 26 positive: 'positive' is more common",
            1.0,
        ),
        (
            "comparison",
            "more common than",
            "Of 16 negative and 26 positive, positive is more common",
            1.0,
        ),
        ("comparison", "more common than", "Unlike 'negative', 'positive' is more common.", 1.0),
        ("comparison", "less common than", "negative, compared with positive, is more common", 1.0),
        ("comparison", "less common than", "less common than 'negative'", 1.0),
        ("comparison", "more common than", "It is more common. 'negative' has 16 lines.", 1.0),
        ("comparison", "less common than", "Lines classified as 'negative' are more common.", 1.0),
        ("comparison", "more common than", "positive is listed as more common than negative", 1.0),
        ("comparison", "less common than", "not as common as 'negative'", 1.0),
        (
            "before",
            "less common than",
            "Among lines dated after Mar 05, 2024, it is more common.",
            1.0,
        ),
        ("before", "less common than", "'positive' is more common after that day.", 1.0),
        ("before", "less common than", "'positive' is less common before it than after.", 1.0),
        ("before", "less common than", "After Mar 05, 2024, 'positive' is more common.", 1.0),
        ("before", "less common than", "It is more common on or after that day.", 1.0),
        ("before", "more common than", "'positive' is more common than after it.", 1.0),
        ("comparison", "same frequency as", "They are equally common.", 1.0),
        ("comparison", "more common than", "more common or less common", 0.0),
        ("comparison", "more common than", "hard to say", 0.0),
        ("user", "48211", "User: 48211", 1.0),
        ("user", "48211", "The user with the most lines is 48211, with 12 of them.", 1.0),
        ("user", "48211", "48211, 48212, 48213", 0.0),
        ("user", "12345", "User: 12345, 23456", 0.0),  # both stand in the question
        ("user", "12345", "12,345", 1.0),
        ("date", "Mar 05, 2024", "Date: 03/05/2024", 1.0),
        ("date", "Mar 05, 2024", "The most frequent date is March 5th, 2024.", 1.0),
        ("date", "Mar 05, 2024", "20240305", 1.0),
        ("date", "Mar 05, 2024", "Mar 05, 2024 or Mar 06, 2024", 0.0),
        ("date", "Mar 05, 2024", "March 2024", 0.0),
        ("date", "Mar 05, 2024", "never", 0.0),
        ("month", "October 2022", "In October 2022.", 1.0),
        ("month", "October 2022", "October 2022, November 2022", 0.0),
    ],
)
def test_questions_about_a_window(kind: str, gold: str, answer: str, value: float) -> None:
    asked = {"number": COUNT, "comparison": COMPARE, "before": BEFORE}
    question, kind = asked.get(kind, "Which one?"), kind.replace("before", "comparison")
    labels = "negative|positive"
    score = scored(f"strict:{kind}", answer, gold, labels=labels, question=question)
    assert score.value == value
    assert set(score.readings) == {"official"}


def test_labels_come_from_the_question_where_no_knob_has_them() -> None:
    question = "Answer in the form 'Label: answer', where answer is one of the labels: ham, spam."
    for answer, value in (("It is spam.", 1.0), ("Label: [ spam ]", 1.0), ("ham and spam", 0.0)):
        assert scored("oolong:label", answer, "spam", question=question).value == 0.0
        assert scored("oolong:label", answer, "spam", question=question).readings["strict"] == value


def test_no_pair_at_all_is_right_only_in_a_short_answer() -> None:
    window = "Date: Mar 05, 2024 || User: 1 || Instance: x\n" * 40
    assert scored("strict_pairs", "There is no such pair.", "", "1").value == 1.0
    assert scored("strict_pairs", window, "", "1").value == 0.0
    said = "There is no such pair: only user 48211 has such a line."
    assert scored("strict_pairs", said, "", "48211").value == 1.0
    for other_notation in ("[[48211, 58212]]", "12345, 23456", "(User 48211, User 58212)"):
        assert scored("strict_pairs", other_notation, "", "48211").value == 0.0
    assert scored("strict_pairs", "(1, 1)", "1 2", "1 2").value == 0.0
    question = "List all pairs. If there is none, reply 'none'."
    assert scored("strict_pairs", "none", "", "1", question=question).value == 1.0
    assert scored("strict_pairs", question, "", "1", question=question).value == 0.0
    assert scored("strict_pairs", "", "", "1").value == 0.0


#: Tasks whose ``code_oracle`` knows the answer.
SOLVED = [
    *(["task=needle", f"task.variant={v}"] for v in ("single_1", "single_2", "multikey_2")),
    *(["task=needle", f"task.variant={v}"] for v in ("multivalue", "multiquery", "multikey_3")),
    ["task=multihop"],
    ["task=multihop", "task.chains=3"],
    *([f"task={name}"] for name in ("cwe", "fwe")),
    ["task=pairs", "task.structured=true"],
    ["task=aggregation", "task.kinds=[counting,user,timeline]", "task.structured=true"],
]
OTHERS_TOO = [
    ["task=multihop", "task.variant=semantic"],
    ["task=aggregation", "task.domain=questions", "task.kinds=[counting,user,timeline]"],
]


@pytest.mark.parametrize("overrides", SOLVED + OTHERS_TOO, ids=" ".join)
def test_handing_in_the_context_scores_nothing(overrides: list[str]) -> None:
    """Nor does its end. The answer itself, as the script that knows it gives it, is right."""
    _, task = make_task([*overrides, "task.lengths=[4300]", "task.n=20"])
    pairs = list(task.build())

    def mean(answer_of: Callable[[Context, Sample], str | None]) -> float:
        said = [(sample, answer_of(context, sample)) for context, sample in pairs]
        return fmean(task.score(sample, answer or "").value for sample, answer in said)

    assert mean(lambda context, _: context.text) == 0.0
    assert mean(lambda context, _: f"It is in here:\n{context.text}\nThere it is.") == 0.0
    assert mean(lambda context, _: context.text[-1500:]) < 0.11
    if overrides in SOLVED:
        assert mean(lambda context, sample: task.code_oracle(sample.question, context)) == 1.0
