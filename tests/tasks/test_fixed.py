"""Data sets whose rows bring their own context: read, sorted into lengths, scored as published."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from helpers.dataset_rows import SETS, longbench_v2, oolong
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.datasets.babilong import PROMPTS, BABILong
from rlm_eval.tasks.datasets.graphwalks import EDGE, GraphWalks, walk
from rlm_eval.tasks.datasets.longbench_v2 import LongBenchV2
from rlm_eval.tasks.datasets.mrcr import MRCR
from rlm_eval.tasks.datasets.oolong import Oolong, read_gold
from rlm_eval.tasks.scoring.scorers import LABELS
from rlm_eval.tokens import load_tokenizer


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    file = path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def longbench_row(i: int, words: int) -> dict[str, Any]:
    domain = "Code Repository Understanding" if i % 2 else "Single-Document QA"
    context = f"Row {i}. Here is choice C{i}. " + "word " * words
    return {**longbench_v2(i), "domain": domain, "context": context}


def test_longbench_rows_fall_into_the_smallest_length_that_holds_them(tmp_path: Path) -> None:
    rows = [longbench_row(i, words) for i, words in enumerate([100, 900, 100, 5000, 200, 20_000])]
    task = LongBenchV2(path=write(tmp_path, rows), lengths=[500, 2000, 8000], n=2)
    tok = load_tokenizer()
    pairs = list(task.build())
    found = [(sample.target_tokens, sample.knobs["_id"]) for _, sample in pairs]
    assert found == [(500, "id0"), (500, "id2"), (2000, "id1"), (8000, "id3")]
    for context, sample in pairs:
        used = tok.count(context.text) + tok.count(sample.question) + sample.max_answer_tokens
        assert used <= sample.target_tokens
        assert "(C) choice C" in sample.question
        assert task.code_oracle(sample.question, context) == "The correct answer is (C)"
        assert task.score(sample, "The correct answer is (C).").correct
    assert len(task.source["sha256"]) == 64


def test_a_row_that_comes_twice_is_asked_once(tmp_path: Path) -> None:
    path = write(tmp_path, [longbench_row(i, 50) for i in (0, 0, 1, 0, 2)])
    task = LongBenchV2(path=path, lengths=[1000], n=2)
    assert [s.knobs["_id"] for _, s in task.build()] == ["id0", "id1"]


def test_codeqa_is_a_filter(tmp_path: Path) -> None:
    path = write(tmp_path, [longbench_row(i, 50) for i in range(6)])
    where = {"domain": "Code Repository Understanding"}
    task = LongBenchV2(path=path, lengths=[1000], n=10, where=where)
    assert [s.knobs["_id"] for _, s in task.build()] == ["id1", "id3", "id5"]
    with pytest.raises(ConfigError, match="no row"):
        list(LongBenchV2(path=path, lengths=[1000], n=1, where={"domain": "x"}).build())
    with pytest.raises(ConfigError, match="no column nope"):
        LongBenchV2(path=path, lengths=[1000], n=1, where={"nope": 1})


@pytest.mark.parametrize("where", [{"context_window_id": 2}, {"answer_type": "ANSWER_TYPE.USER"}])
def test_a_filter_reads_what_the_row_says(tmp_path: Path, where: dict[str, Any]) -> None:
    rows = [oolong_row(0, 1, "[7]", "NUMERIC"), oolong_row(1, 2, "[44106]", "USER")]
    task = Oolong(path=write(tmp_path, rows), lengths=[1024], n=4, where=where)
    assert [sample.gold for _, sample in task.build()] == [("44106",)]


def test_mrcr_rows_fall_into_the_official_bins(tmp_path: Path) -> None:
    turns = [("user", "a " * 4000), ("assistant", "b " * 4000), ("user", "Prepend x to it.")]
    prompt = json.dumps([{"role": role, "content": text} for role, text in turns])
    row = {
        "prompt": prompt,
        "random_string_to_prepend": "x",
        "n_needles": 2,
        "desired_msg_index": 1,
    }
    tok, lengths = load_tokenizer("o200k_base"), [8192, 16384]
    room = 8192 - sum(tok.count(text) for _, text in turns)
    found = []
    for words in (room - 1, room):
        answer = "x" + " b" * words
        assert tok.count(answer) == words + 1
        task = MRCR(
            path=write(tmp_path, [row | {"answer": answer}]),
            lengths=lengths,
            n=1,
            tokenizer="o200k_base",
        )
        found += [sample.target_tokens for _, sample in task.build()]
    assert found == lengths


def test_mrcr(tmp_path: Path) -> None:
    turns = [("user", "Write a poem about owls"), ("assistant", "Owls one."),
             ("user", "Write a poem about tapirs"), ("assistant", "Tapirs."),
             ("user", "Write a poem about owls"), ("assistant", "Owls two."),
             ("user", "Prepend xK3 to the 2nd (1 indexed) poem about owls.")]  # fmt: skip
    row = {
        "prompt": json.dumps([{"role": role, "content": text} for role, text in turns]),
        "answer": "xK3Owls two.",
        "random_string_to_prepend": "xK3",
        "n_needles": 2,
        "desired_msg_index": 5,
    }
    task = MRCR(path=write(tmp_path, [row]), lengths=[4096], n=1)
    ((context, sample),) = task.build()
    assert len(context.content) == 6
    assert sample.question == turns[-1][1]
    assert task.code_oracle(sample.question, context) == "xK3Owls two."
    assert task.query(sample.question) == sample.question
    assert task.score(sample, "xK3Owls two.").correct
    assert task.score(sample, "Owls two.").value == 0.0


PROMPT = """You get a graph.

Here is an example:
The graph has the following edges:
uvwx -> alke

Operation:
Find the parents of node alke.
Final Answer: [uvwx]

Here is the graph to operate on:
The graph has the following edges:
aa -> bb
bb -> cc
aa -> cc
cc -> dd
dd -> aa


Operation:
Perform a BFS from node aa with depth 2.

Think."""


def test_graphwalks(tmp_path: Path) -> None:
    row = {"prompt": PROMPT, "answer_nodes": ["dd"], "problem_type": "bfs", "prompt_chars": 1}
    task = GraphWalks(path=write(tmp_path, [row]), lengths=[4096], n=1)
    ((context, sample),) = task.build()
    assert EDGE.findall(context.text)[0] == ("aa", "bb")
    assert "uvwx" not in context.text
    assert "BFS from node aa with depth 2." in sample.question
    assert task.query(sample.question) == "Perform a BFS from node aa with depth 2."
    assert task.code_oracle(sample.question, context) == "Final Answer: [dd]"
    assert task.score(sample, "Final Answer: [dd]").correct


def test_of_a_folder_the_files_of_the_split_are_read(tmp_path: Path) -> None:
    for split, gold in (("test", "zz"), ("train", "dd")):
        row = {"prompt": PROMPT, "answer_nodes": [gold], "problem_type": "bfs"}
        pd.DataFrame([row]).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    task = GraphWalks(path=str(tmp_path), split="train", lengths=[4096], n=1)
    assert [sample.gold for _, sample in task.build()] == [("dd",)]


def test_walk() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "a"), ("c", "d"), ("d", "d")]
    assert walk(edges, "Perform a BFS from node a with depth 1.") == ["b", "c"]
    assert walk(edges, "Perform a BFS from node a with depth 2.") == ["d"]
    assert walk(edges, "Find the parents of node d.") == ["c"]
    assert walk(edges, "Sort the nodes.") is None


def test_babilong(tmp_path: Path) -> None:
    rows = [
        {"input": f"A book. Mary went to the {place}. More book.", "question": "Where is Mary? ",
         "target": place}
        for place in ("garden", "kitchen")
    ]  # fmt: skip
    task = BABILong(path=write(tmp_path, rows), lengths=[512], n=2, split="qa1")
    for (context, sample), place in zip(task.build(), ("garden", "kitchen"), strict=True):
        assert sample.question_group == "qa1"
        assert sample.question.startswith("I will give you context with the facts about positions")
        assert sample.question.endswith("anything else after that.\n\nQuestion: Where is Mary? ")
        assert sample.question.count("<example>") == 2
        assert task.query(sample.question) == "Where is Mary? "
        assert task.code_oracle(sample.question, context) == place
        assert task.score(sample, f"Mary is in the {place}.").correct
        assert not task.score(sample, "Mary is in the garden or the kitchen.").correct


def test_babilong_has_a_prompt_for_each_task_and_no_other_tasks(tmp_path: Path) -> None:
    prompts = yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))
    assert list(prompts) == [f"qa{i}" for i in range(1, 21)]
    assert set(prompts) == set(LABELS)
    assert not [text for text in prompts.values() if "Question: " in text]
    with pytest.raises(ConfigError, match="split 'mine' is unknown; choose one of qa1"):
        BABILong(path=write(tmp_path, []), lengths=[512], n=1, split="mine")


def oolong_row(i: int, window: int, answer: str, kind: str) -> dict[str, Any]:
    said = {"answer": answer, "answer_type": f"ANSWER_TYPE.{kind}"}
    text = f"Window {window}. " * 20
    return {**oolong(i), **said, "context_window_id": window, "context_window_text": text}


def test_oolong_rows_share_windows_and_score_by_their_type(tmp_path: Path) -> None:
    rows = [
        oolong_row(0, 1, "['human being']", "LABEL"),
        oolong_row(1, 2, "[7]", "NUMERIC"),
        oolong_row(2, 1, "['more common than']", "COMPARISON"),
        oolong_row(3, 2, "[datetime.date(2023, 1, 6)]", "DATE"),
    ]
    task = Oolong(path=write(tmp_path, rows), lengths=[1024], n=4)
    samples = [sample for _, sample in task.build()]
    assert [s.question[9] for s in samples] == ["0", "2", "1", "3"]
    assert len({s.context_id for s in samples}) == 2
    replies = ["Label: human being", "Answer: more common", "Answer: 9", "Date: Jan 06, 2023"]
    values = [task.score(s, r).value for s, r in zip(samples, replies, strict=True)]
    assert values == [1.0, 1.0, 0.5625, 1.0]
    assert read_gold("[12345]") == "12345"
    with pytest.raises(ValueError, match="Python list literal"):
        read_gold("[oops")


def test_contexts_that_nobody_asks_about_are_not_kept(tmp_path: Path) -> None:
    rows = [longbench_row(i, 20_000) for i in range(16)]  # 100 KB each, where one is wanted
    task = LongBenchV2(path=write(tmp_path, rows), lengths=[30_000, 90_000], n=1)
    tracemalloc.start()
    try:
        assert len(list(task.build())) == 1
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("own", "Which colours has row 0?"),
        ("oolong_real", "Question 0?"),
        (
            "longbench_v2",
            "Question 0?\nChoices:\n(A) choice A0\n(B) choice B0\n(C) choice C0\n(D) choice D0",
        ),
    ],
)
def test_what_is_searched_for_has_no_form_of_reply(tmp_path: Path, name: str, query: str) -> None:
    kind = SETS[name]
    task = kind.make(write(tmp_path, [kind.row(0)]), tmp_path)
    ((_, sample),) = task.build()
    assert task.query(sample.question) == query
