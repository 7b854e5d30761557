"""Real questions padded to length: what supports the answer is there, the rest is not about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.dataset_rows import musique
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.datasets.dataset import checked
from rlm_eval.tasks.datasets.docqa import HotpotQA, MuSiQue, SQuAD
from rlm_eval.tokens import load_tokenizer


@pytest.fixture
def path(tmp_path: Path) -> str:
    rows = [musique(i, 6) for i in range(30)]
    rows.append(musique(99, 6) | {"answerable": False})
    file = tmp_path / "musique.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def make(path: str, **knobs: Any) -> MuSiQue:
    return MuSiQue(**{"path": path, "lengths": [2000], "n": 5, **knobs})


def test_support_is_in_the_context_and_padding_fills_it(path: str) -> None:
    tok = load_tokenizer()
    task = make(path, lengths=[1000, 4000])
    for context, sample in task.build():
        row = str(sample.knobs["row"]).removeprefix("2hop__")
        assert isinstance(context.content, tuple)
        titles = [document.partition("\n")[0] for document in context.content]
        assert len(set(titles)) == len(titles) == sample.knobs["n_documents"]
        places = sorted(titles.index(f"Title {row}-{j}") + 1 for j in (1, 3))
        assert places == [sample.knobs["first_support"], sample.knobs["last_support"]]
        own = [title for title in titles if title.startswith(f"Title {row}-")]
        assert len(own) == 6
        used = tok.count(context.text) + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 120 < used <= sample.target_tokens
        assert sample.length_tokens == tok.count(context.text)
        assert sample.question_group == "2hop"
        assert task.query(sample.question) == f"What is told in row {row}?"
        assert sample.gold == (f"thing {row}", f"the matter {row}")


def test_questions_are_grouped_by_hops_whatever_their_shape(tmp_path: Path) -> None:
    file = tmp_path / "musique.jsonl"
    shapes = ("2hop", "3hop1", "3hop2", "4hop1", "4hop3") * 3
    rows = [musique(i, 6) | {"id": f"{shape}__{i}_7"} for i, shape in enumerate(shapes)]
    file.write_text("\n".join(map(json.dumps, rows)))
    task = make(str(file), n=len(rows))
    assert {s.question_group for _, s in task.build()} == {"2hop", "3hop", "4hop"}


def test_unanswerable_rows_are_left_out_and_order_comes_from_the_seed(path: str) -> None:
    samples = [s for _, s in make(path, n=30).build()]
    rows = [s.knobs["row"] for s in samples]
    assert len(set(rows)) == 30
    assert "2hop__99" not in rows
    assert [s.id for _, s in make(path, n=3).build()] == [s.id for s in samples[:3]]
    assert [s.knobs["row"] for _, s in make(path, n=3, seed=1).build()] != rows[:3]


def test_score_takes_aliases_and_ruler_rule_on_request(path: str) -> None:
    task = make(path)
    sample = next(task.build())[1]
    assert task.score(sample, sample.gold[1].upper()).correct
    assert task.score(sample, f"It is {sample.gold[0]}").value == 0.0
    ruler = make(path, scorer="string_match_part")
    sample = next(ruler.build())[1]
    assert ruler.score(sample, f"It is {sample.gold[0]}").correct


def test_constant_is_fitted_on_the_other_rows(path: str) -> None:
    task = make(path)
    samples = [s for _, s in task.build()]
    assert task.constant_scores(samples) == {s.id: 0.0 for s in samples}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"n": 31}, "only 30 of the 30 questions"),
        ({"lengths": [150]}, "only 0 of the 30"),
        ({"lengths": [100_000]}, "the most is"),
        ({"scorer": "rouge"}, "squad_em"),
        ({"path": None}, "path is missing"),
        ({"path": None, "hub": "a/b"}, "revision must be a commit"),
    ],
)
def test_bad_knobs_are_refused_at_once(path: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{"path": path, **knobs})
    with pytest.raises(ConfigError, match="no column context, supporting_facts"):
        HotpotQA(path=path, lengths=[2000], n=5)


def test_musique_row() -> None:
    (asked,) = MuSiQue.read(musique(7, 6) | {"answer_aliases": None})
    assert asked.gold == ("thing 7",)
    assert [document.partition("\n")[0] for document in asked.support] == ["Title 7-1", "Title 7-3"]
    assert len(asked.others) == 4


def test_hotpot_rows_of_the_hub_and_of_the_original_read_alike() -> None:
    original = {
        "_id": "x1",
        "question": "Q?",
        "answer": "yes",
        "type": "comparison",
        "supporting_facts": [["A", 0], ["C", 1]],
        "context": [["A", ["One. ", "Two."]], ["B", ["Three."]], ["C", ["Four."]]],
    }
    hub = {
        "id": "x1",
        "question": "Q?",
        "answer": "yes",
        "type": "comparison",
        "supporting_facts": {"title": ["A", "C"], "sent_id": [0, 1]},
        "context": {
            "title": ["A", "B", "C"],
            "sentences": [["One. ", "Two."], ["Three."], ["Four."]],
        },
    }
    (first,), (second,) = (
        HotpotQA.read(checked(HotpotQA.schema, row, "")) for row in (original, hub)
    )
    assert first == second
    assert first.support == ("A\nOne. Two.", "C\nFour.")
    assert first.others == ("B\nThree.",)


def test_squad_rows_of_the_hub_and_of_the_original() -> None:
    hub = {"id": "q", "title": "T", "context": "C c.", "question": "Q?", "answers": {"text": ["c"]}}
    article = {
        "title": "T",
        "paragraphs": [
            {
                "context": "C c.",
                "qas": [
                    {"id": "q", "question": "Q?", "answers": [{"text": "c"}, {"text": "c"}]},
                    {"id": "r", "question": "None?", "answers": []},
                ],
            }
        ],
    }
    one, other = (list(SQuAD.read(checked(SQuAD.schema, row, ""))) for row in (hub, article))
    assert one == other


def test_a_rows_own_distractor_with_a_supporting_title_stays(tmp_path: Path) -> None:
    rows = [musique(i, 6) for i in range(30)]
    for i, row in enumerate(rows):
        row["paragraphs"][0]["title"] = f"Title {i}-1"
    file = tmp_path / "musique.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    for context, sample in make(str(file), lengths=[1000]).build():
        title = f"Title {str(sample.knobs['row']).removeprefix('2hop__')}-1\n"
        assert sum(document.startswith(title) for document in context.content) == 2
