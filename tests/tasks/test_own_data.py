"""A user's own documents and questions: what is read, by which rule it is scored, what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample
from rlm_eval.tasks.own import Own
from rlm_eval.tasks.task import UNJUDGED

FILES = {
    "lease.md": "# Lease\nThe lease runs for 24 months, until May.\n",
    "letter.html": "<p>Signed by <b>Ada Smith</b> and Ben Jones.</p>",
    "src/tax.py": "RATE = 0.19\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "docs"


def jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def on(folder: Path, *rows: dict[str, Any], **settings: Any) -> list[tuple[Context, Sample]]:
    """The samples of questions about the folder, which itself holds their file."""
    questions = jsonl(folder / "questions.jsonl", *rows)
    return list(Own(path=str(folder), questions=questions, **settings).build())


def asked(answer: Any, **columns: Any) -> dict[str, Any]:
    return {"question": f"What of {answer}?", "answer": answer, **columns}


def test_a_row_is_about_a_file_several_a_folder_a_context_or_everything(folder: Path) -> None:
    everything = {**FILES, "letter.html": "Signed by Ada Smith and Ben Jones."}
    pairs = on(
        folder,
        asked(24, file="lease.md", id=7),
        asked("Ada", file=["lease.md", "letter.html"]),
        asked(0.19, file="src"),
        asked("RATE", file=["src", "lease.md"]),
        asked("red", context="It is red."),
        asked("blue", context=["It is red.", "It is blue."]),
        asked("green", context={"a": "It is green."}),
        asked("May"),
        asked("24 months", file=None, context=None, scorer=None, id=None),
    )
    assert [context.content for context, _ in pairs] == [
        FILES["lease.md"],
        {name: everything[name] for name in ("lease.md", "letter.html")},
        {"tax.py": FILES["src/tax.py"]},
        {"src/tax.py": FILES["src/tax.py"], "lease.md": FILES["lease.md"]},
        "It is red.",
        ("It is red.", "It is blue."),
        {"a": "It is green."},
        everything,
        everything,
    ]
    assert pairs[0][1].knobs == {"id": "7", "file": "lease.md"}
    assert pairs[1][1].knobs == {"file": "lease.md, letter.html"}
    assert {sample.target_tokens for _, sample in pairs} == {256}


def test_samples_that_share_a_context_are_adjacent_and_n_takes_the_first(folder: Path) -> None:
    rows = [asked(str(i), file=name) for i, name in enumerate(["lease.md", "src/tax.py"] * 2)]
    assert [s.gold[0] for _, s in on(folder, *rows)] == ["0", "2", "1", "3"]
    whole, part = on(folder, *rows), on(folder, *rows, n=3)
    assert part == [whole[0], whole[1], whole[2]]


def test_documents_alone_and_rows_alone(folder: Path) -> None:
    questions = jsonl(folder.parent / "rows.jsonl", asked(24), asked("May"))
    for path in (folder / "lease.md", folder / "letter.html"):
        pairs = list(Own(path=str(path), questions=questions).build())
        assert len({context.id for context, _ in pairs}) == 1
        assert isinstance(pairs[0][0].content, str)
    rows = jsonl(folder / "rows.jsonl", asked(24, file="lease.md"), asked("red", context="red"))
    assert [c.content for c, _ in Own(path=rows).build()] == [FILES["lease.md"], "red"]


CSV = """question{0}answer{0}file{0}note
How long?{0}24{0}lease.md{0}
"Who signed,
and how?"{0}"[""Ada Smith"", ""Ben Jones""]"{0}"[""letter.html"", ""lease.md""]"{0}two lines

"Until ""when""?"{0}May{0}{0}x
{0}{0}{0}
"""


@pytest.mark.parametrize("parting", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_is_read_as_jsonl_is(folder: Path, parting: str, end: str) -> None:
    path = folder.parent / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.format(parting).replace("\n", end).encode())
    read = list(Own(path=str(folder), questions=str(path)).build())
    assert read == on(
        folder,
        {"question": "How long?", "answer": 24, "file": "lease.md"},
        {
            "question": f"Who signed,{end}and how?",
            "answer": ["Ada Smith", "Ben Jones"],
            "file": ["letter.html", "lease.md"],
        },
        {"question": 'Until "when"?', "answer": "May"},
    )


def test_a_cell_of_csv_may_hold_a_whole_context(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'context,question,answer\n"[1] {"word, " * 100_000}",Q?,word\n')
    ((context, _),) = Own(path=str(path)).build()
    assert len(context.content) == 600_004


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\nQ?,a\nQ2?,b,c\n", "rows.csv line 3 can't be read: it has more cells"),
        ('question,answer\nQ?,a\nQ2?,"b" c\n', "rows.csv line 3 can't be read: "),
        ('question,answer\nQ?,"a\n', "rows.csv line 2 can't be read: unexpected end of data"),
        ("question,answer\nQ?,a\nQ2?,\n", "line 3: no column answer; it has question"),
        ("frage,antwort\nQ?,a\n", "line 2: no column question, answer; it has frage, antwort"),
        ("question,answer\nQ?,a\nOù ?,b\n", "rows.csv line 3 is not in UTF-8 ("),
        ("question,answer\n", "rows.csv holds no rows"),
        ("", "rows.csv holds no rows"),
    ],
)
def test_wrong_csv_is_named_by_its_line(
    folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "rows.csv").write_text(text, encoding="cp1252")
    with pytest.raises(ConfigError) as caught:
        Own(path=str(folder), questions=str(tmp_path / "rows.csv"))
    assert message in str(caught.value)
    assert str(caught.value).startswith("questions ")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "nowhere.md"}, "docs/nowhere.md can't be read: No such file or directory"),
        ({"file": "pic.png"}, "docs/pic.png is neither text nor HTML nor PDF"),
        ({"file": "latin.txt"}, "docs/latin.txt is not in UTF-8"),
        ({"file": "empty.txt"}, "docs/empty.txt is empty"),
        ({"file": "empty"}, "docs/empty holds 0 characters of text"),
        ({"file": "../secret.txt"}, "file '../secret.txt' is not below"),
        ({"file": "/etc/passwd"}, "file '/etc/passwd' is not below"),
        ({"file": "a\0"}, r"file 'a\x00' is not below"),
        ({"file": 5}, "file: expected a non-empty text, or several, got 5"),
        ({"file": "lease.md", "context": "text"}, "has both file and context: leave one out"),
        ({"answer": "24"}, "asks what "),
        ({"answer": "the"}, "answer 'the': contains can't score it"),
        ({"answer": "the", "scorer": "exact"}, "answer 'the': exact can't score it"),
        ({"answer": "many", "scorer": "number"}, "answer 'many': number can't score it"),
        ({"answer": "yes", "scorer": "choice"}, "answer 'yes': choice can't score it"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_by_file_and_line(
    folder: Path, row: dict[str, Any], message: str
) -> None:
    (folder / "pic.png").write_bytes(b"\x89PNG\0")
    (folder / "latin.txt").write_bytes("Où ?".encode("latin-1"))
    (folder / "empty.txt").touch()
    (folder / "empty").mkdir()
    (folder.parent / "secret.txt").write_text("secret")
    good = {"question": "Q?", "answer": "24", "file": "lease.md"}
    with pytest.raises(ConfigError) as caught:
        on(folder, good, {**good, "answer": "25", **row})
    assert str(caught.value).startswith(f"questions {folder}/questions.jsonl line 2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "max_answer_tokens" not in str(caught.value), "more room helps none of these"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "questions must be a .jsonl or .csv file with the columns question, answer and"),
        ({"path": "docs"}, "questions must be a .jsonl or .csv file with the columns"),
        ({"path": "docs/lease.md"}, "questions must be a .jsonl or .csv file with the columns"),
        ({"questions": "docs/lease.md"}, "questions must be a .jsonl or .csv file with the"),
        ({"path": "doc", "questions": "rows.jsonl"}, "path doc is no file and no folder"),
        ({"path": "docs", "questions": "row.jsonl"}, "questions row.jsonl is no file"),
        ({"path": "rows.jsonl"}, "path rows.jsonl line 1: has neither file nor context"),
        ({"path": "docs", "questions": "rows.jsonl", "n": 0}, "n must be at least 1, got 0"),
        ({"path": "docs", "questions": "rows.jsonl", "judge_repeats": 2}, "judge_repeats must be"),
        (
            {"path": "docs", "questions": "rows.jsonl", "max_answer_tokens": 3},
            "questions rows.jsonl line 2: answer 'it runs out in early summer': contains",
        ),
    ],
)
def test_wrong_settings_are_told(
    folder: Path, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    jsonl(folder.parent / "rows.jsonl", asked(24), asked("it runs out in early summer"))
    with pytest.raises(ConfigError) as caught:
        Own(**settings)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("answers", "rules"),
    [
        ([24, "24", "1,200", "-3.5", 0.5], ["number"] * 5),
        ([".5", "-.5", 0.00001, 1e16, "1e-05"], ["number"] * 5),
        (["Ada Smith", "by the end of May 2024", "1,5"], ["contains"] * 3),
        (["the lease runs out at the end of May"], ["f1"]),
        ([["Ada", "Ben"], [3, 4]], ["contains"] * 2),
        (["A", "C", "D"], ["choice"] * 3),
        (["A", "F"], ["choice"] * 2),
        (["b", "D", "j"], ["choice"] * 3),
        (["Y", "N"], ["contains"] * 2),
        (["B", 7, "yes"], ["contains", "number", "contains"]),
    ],
)
def test_the_rule_follows_from_the_answers_and_is_told(
    folder: Path, answers: Sequence[Any], rules: Sequence[str]
) -> None:
    rows = [asked(answer, question=f"{i}?") for i, answer in enumerate(answers)]
    questions = jsonl(folder / "q.jsonl", *rows)
    task = Own(path=str(folder), questions=questions)
    assert [sample.scorer for _, sample in task.build()] == rules
    assert all(f"{rule} ({rules.count(rule)})" in task.notes[0] for rule in rules)
    assert "as the answers suggest" in task.notes[0]
    for word in ("exact", "f1") if "A" not in answers else ("choice",):
        named = Own(path=str(folder), questions=questions, scorer=word)
        assert {sample.scorer for _, sample in named.build()} == {word}
        assert "suggest" not in named.notes[0]


def test_a_row_names_its_rule(folder: Path) -> None:
    rows = [
        asked("May", scorer="exact"),
        asked("B", scorer="choice"),
        asked("5 m", scorer="number"),
    ]
    assert [s.scorer for _, s in on(folder, *rows, scorer="f1")] == ["exact", "choice", "number"]


@pytest.mark.parametrize(
    ("rule", "gold", "answer", "score"),
    [
        ("exact", "Ada Smith", "ada smith.", 1),
        ("exact", ["Ada", "Ada Smith"], "Ada Smith", 1),
        ("exact", "Ada Smith", "It is Ada Smith", 0),
        ("contains", "Ada Smith", "It was signed by Ada Smith, I think.", 1),
        ("contains", "Ada", "Adam", 0),
        ("contains", "30", "It is 2030 or 30.5", 0),
        ("contains", "2024", "12/05/2024", 0),
        ("contains", "10", "10/20", 0),
        ("contains", ["Ada", "Ben Jones"], "**Answer:** Ben Jones", 0.5),
        ("contains", "北京", "答案是北京。", 1),
        ("contains", "Ada", "word " * 300 + "Ada", 0),
        ("f1", "at the end of May", "end of May", 1 - 1 / 7),
        ("f1", ["June", "May"], "May", 1),
        ("number", "1,200", "There are 1200.", 1),
        ("number", 24, "It is 24 of 30 months; so: 24", 1),
        ("number", 0.5, "0.50", 1),
        ("number", 24, "24 months in 2019", 0),
        ("number", 24, "many", 0),
        ("number", [1, 2], "2", 1),
        ("contains", "2.5 mg", "25 mg", 0),
        ("contains", "2.5 mg", "It is 2.5 mg.", 1),
        ("contains", "5 mg", "2.5 mg", 0),
        ("contains", "-5 degrees", "5 degrees", 0),
        ("contains", "-5 degrees", "It was −5 degrees", 1),
        ("contains", "10-20", "1020", 0),
        ("contains", "10-20", "10–20, I think", 1),
        ("contains", "C++", "C", 0),
        ("contains", "C++", "It is C++.", 1),
        ("contains", "O’Brien", "O'Brien", 1),
        ("contains", "Café", "Cafe\u0301 Central", 1),
        ("contains", "Paris", "In Paris, date: 5 May", 1),
        ("contains", "Paris", "The capital is Paris—a city on the Seine.", 1),
        ("contains", "42", "It is clear—42", 1),
        ("contains", "Tokyo", "The line Tokyo–Osaka", 1),
        ("number", 17, "The answer is 17 as of 5pm.", 1),
        ("number", 5, "Its weight–5 kg–is small", 1),
        ("number", -5, "The change was −5.", 1),
        ("number", 5, "−5", 0),
        ("number", 15, "15km", 1),
        ("number", 0.5, ".5", 1),
        ("number", 3, "3 (items 1, 2 and 5)", 1),
        ("number", 17, "17, on the 2nd line", 1),
        ("number", 17, "Invoice 17, date: May", 1),
        ("number", 2.5, "2.5km", 1),
        ("number", 2, "2.5km", 0),
        ("number", 3.5, "It holds 3.5GB.", 1),
        ("number", 3, "3.9GB", 0),
        ("number", 2.5, "$2.5M", 1),
        ("number", 1500000, "1.5e6", 1),
        ("number", 0.00001, "1e-05", 1),
        ("number", 1200, "Rs.1,200", 1),
        ("number", 1200, "USD1200", 1),
        ("number", 5, "No.5", 1),
        ("choice", "B", "The correct answer is (B)", 1),
        ("choice", "B", "The correct answer is (C), not B", 0),
        ("choice", "F", "The correct answer is **F**", 1),
        ("choice", ["A", "B"], "The correct answer is (B)", 1),
        ("choice", ["E", "F"], "The correct answer is F", 1),
        ("choice", ["A", "B"], "The correct answer is (C)", 0),
        ("choice", "b", "The correct answer is (B)", 1),
        ("choice", ["e", "f"], "The correct answer is F", 1),
        ("judge", "May", "may", 1),
        ("contains", ["Ada Smith", "Ben Jones"], '["Ada Smith","Ben Jones"]', 1),
        ("contains", ["Ada Smith", "Ben Jones"], "Ada Smith,Ben Jones", 1),
        ("contains", ["Ada Smith", "Ben Jones"], "Ada Smith/Ben Jones", 1),
        ("contains", ["Ada Smith", "Ben Jones"], "Ben Jones;Ada Smith", 1),
        ("contains", ["Ada Smith", "Ben Jones"], "|Ada Smith|Ben Jones|", 1),
        ("contains", [5, 6], "5,6", 1),
        ("contains", "lease-03", "lease-03,lease-07", 1),
        ("contains", "$1,000", "It is $1000.", 1),
        ("contains", "1000 items", "1,000 items", 1),
        ("contains", "24/7", "open 24/7", 1),
        ("contains", "7", "open 24/7", 0),
        ("contains", "80 km/h", "at 80 km/h", 1),
        ("contains", ["lease-03", "lease-7"], "lease-7.md and lease-03.md", 1),
        ("contains", "acme.com", "https://acme.com", 1),
        ("contains", "Node.js", "NodeJS", 1),
        ("contains", "U.S.", "in the U.S. alone", 1),
        ("contains", "Ben", "Ben’s", 1),
        ("contains", "McDonald's", "McDonalds", 1),
        ("contains", "10 kg", "10kg", 1),
        ("contains", "5 mg", "2.5mg", 0),
        ("contains", "2", "the 2nd", 0),
        ("contains", "GPT-4", "GPT-4o", 0),
        ("contains", 0.00001, "It is 0.00001.", 1),
        ("contains", "No", "No, unless the landlord says yes.", 1),
        ("contains", "No", "Yes, with no further consent needed.", 0),
        ("contains", "Yes", "No, unless the landlord says yes.", 0),
        ("contains", ["Yes", "No"], "First yes, then no.", 1),
    ],
)
def test_each_rule_scores_as_its_word_says(
    folder: Path, rule: str, gold: Any, answer: str, score: float
) -> None:
    task = Own(
        path=str(folder), questions=jsonl(folder / "q.jsonl", asked(gold, question="Which?")),
        scorer=rule,
    )  # fmt: skip
    ((context, sample),) = task.build()
    assert sample.scorer == rule
    assert task.score(sample, answer).value == pytest.approx(score)
    assert task.score(sample, context.text * 40).value < 0.1, "the input is no answer"


def test_a_number_of_the_question_is_not_taken_for_the_answer(folder: Path) -> None:
    ((_, sample),) = on(folder, {"question": "How many months in 2019?", "answer": 24})
    task = Own(path=str(folder), questions=str(folder / "questions.jsonl"))
    assert task.score(sample, "24 months in 2019").correct


def test_the_question_asks_for_the_form_that_is_read(folder: Path) -> None:
    pairs = on(folder, asked(24), asked("B", scorer="choice"), asked("May"))
    ends = [sample.question.rpartition("\n")[2] for _, sample in pairs]
    assert ends[0] == "Reply with the number alone, in digits."
    assert "'The correct answer is (X)'" in ends[1]
    assert ends[2].startswith("Reply with the answer alone")


def test_a_judge_grades_all_or_none(folder: Path) -> None:
    rows = [asked("May"), asked("June", scorer="judge")]
    with pytest.raises(ConfigError, match=r"judge grades all rows or none: set task\.scorer"):
        on(folder, *rows)
    questions = jsonl(folder / "q.jsonl", asked("May"), asked("June"))
    judged = Own(path=str(folder), questions=questions, scorer="judge", judge_repeats=3)
    assert (judged.judge, judged.scoring["judge_repeats"]) == ("equivalence", 3)
    assert Own(path=str(folder), questions=questions).judge is None
    alone = Own(path=str(folder), questions=questions, scorer="judge", judge=None)
    assert (UNJUDGED in alone.notes, UNJUDGED in judged.notes) == (True, False)
    ((_, sample), _) = judged.build()
    assert judged.judged(sample, "in May", "correct: yes") is not None
    rating = [asked("A", file="lease.md"), asked("BBB"), asked("%")]  # nothing to rules of words
    assert len(on(folder, *rating, scorer="judge")) == 3


def test_a_changed_document_is_another_sample_and_another_source(folder: Path) -> None:
    rows = [asked(24, file="lease.md"), asked(0.19, file="src/tax.py"), asked("May")]
    before = on(folder, *rows)
    task = Own(path=str(folder), questions=str(folder / "questions.jsonl"))
    (folder / "lease.md").write_text("The lease runs for 25 months.\n")
    changed = Own(path=str(folder), questions=str(folder / "questions.jsonl"))
    same = [a[1].id == b[1].id for a, b in zip(before, changed.build(), strict=True)]
    assert same == [False, True, False]
    assert task.source is not None
    assert changed.source is not None
    assert task.source["sha256"] == changed.source["sha256"]
    assert task.source["samples"] != changed.source["samples"]


def test_what_a_user_should_know_is_told(folder: Path) -> None:
    (folder / "pic.png").write_bytes(b"\x89PNG\0")
    questions = jsonl(folder / "q.jsonl", asked("May"), asked(24))
    told = Own(path=str(folder), questions=questions).notes
    assert told[0].startswith("2 questions on 1 context, scored by contains (1), number (1)")
    assert "under 6 contexts no difference can be told from chance" in told[1]
    assert told[2] == "left out, since binary or a link out: pic.png"
    rows = [asked(i, context=f"It is {i}.") for i in range(6)]
    assert len(Own(path=jsonl(folder / "rows.jsonl", *rows)).notes) == 1
    rows[0] |= {"files": "lease.md", "Scorer": "f1"}
    told = Own(path=jsonl(folder / "rows.jsonl", *rows)).notes
    assert told[1:] == ("columns not read: Scorer, files",)


def test_the_best_constant_is_fitted_on_other_contexts(folder: Path) -> None:
    rows = [asked(24 if i < 4 else i, context=f"Text {i}.", id=i) for i in range(6)]
    task = Own(path=jsonl(folder / "rows.jsonl", *rows))
    samples = [sample for _, sample in task.build()]
    constants = task.constant_scores(samples)
    assert [constants[sample.id] for sample in samples] == [1, 1, 1, 1, 0, 0]
    lists = [asked(["Ada", "Ben"], context=f"Text {i}.", id=i) for i in range(3)]
    task = Own(path=jsonl(folder / "lists.jsonl", *lists))
    samples = [sample for _, sample in task.build()]
    assert set(task.constant_scores(samples).values()) == {1.0}


def test_rows_with_one_context_share_it(folder: Path) -> None:
    rows = [asked(i, context=["It is red.", "It is blue."]) for i in range(2)]
    (one, _), (other, _) = on(folder, *rows)
    assert one is other


def test_chance_grows_with_the_letters_that_are_right(folder: Path) -> None:
    rows = [asked([letter, "H", "I", "J"], context=letter) for letter in "ABCDE"]
    task = Own(path=jsonl(folder / "rows.jsonl", *rows), scorer="choice")
    assert set(task.constant_scores([s for _, s in task.build()]).values()) == {0.4}
