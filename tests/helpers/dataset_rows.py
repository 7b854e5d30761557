"""A made-up row of every data set, in each form that is published, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.encrypted_rows import CANARY, encrypted, plain_row
from rlm_eval.records import Context, Sample
from rlm_eval.tasks.datasets.babilong import BABILong
from rlm_eval.tasks.datasets.browsecomp_plus import BrowseCompPlus, decrypt
from rlm_eval.tasks.datasets.dataset import DataSet
from rlm_eval.tasks.datasets.docqa import HotpotQA, MuSiQue, SQuAD
from rlm_eval.tasks.datasets.exported import Exported, to_row
from rlm_eval.tasks.datasets.graphwalks import GraphWalks
from rlm_eval.tasks.datasets.longbench_v2 import LongBenchV2
from rlm_eval.tasks.datasets.longmemeval import LongMemEval
from rlm_eval.tasks.datasets.mrcr import MRCR
from rlm_eval.tasks.datasets.oolong import Oolong, OolongReal
from rlm_eval.tasks.datasets.oolong_pairs import OolongPairs, as_roles
from rlm_eval.tasks.own import Own, each, written

Row = dict[str, Any]

#: So many good rows make so many samples.
GOOD = 5
LONG = "Something was said about it. " * 8


def babilong(i: int = 0) -> Row:
    text = f"Row {i}. Mary went to the garden. {LONG}"
    return {"input": text, "question": "Where is Mary? ", "target": "garden"}


def longbench_v2(i: int = 0) -> Row:
    return {
        "_id": f"id{i}",
        "domain": "Code Repository Understanding",
        "sub_domain": "Code repo QA",
        "difficulty": "hard",
        "length": "short",
        "question": f"Question {i}?",
        **{f"choice_{letter}": f"choice {letter}{i}" for letter in "ABCD"},
        "answer": "C",
        "context": f"Row {i}. Here is choice C{i}. {LONG}",
    }


def mrcr(i: int = 0) -> Row:
    turns = [
        ("user", "Write a poem about owls"),
        ("assistant", f"Owls {i}."),
        ("user", "Write a poem about owls"),
        ("assistant", "Owls two."),
        ("user", "Prepend xK3 to the 2nd (1 indexed) poem about owls."),
    ]
    return {
        "prompt": json.dumps([{"role": role, "content": text} for role, text in turns]),
        "answer": "xK3Owls two.",
        "random_string_to_prepend": "xK3",
        "n_needles": 2,
        "desired_msg_index": 3,
        "total_messages": 5,
        "n_chars": 130,
    }


GRAPH = """You will be given a graph as a list of directed edges.

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


Operation:
Perform a BFS from node aa with depth 2.

Return the nodes in the form Final Answer: [a, b]."""


def graphwalks(i: int = 0) -> Row:
    prompt = GRAPH.replace("aa -> bb", f"aa -> bb\naa -> n{i}")
    return {"prompt": prompt, "answer_nodes": ["dd"], "problem_type": "bfs", "prompt_chars": 1}


def oolong(i: int = 0) -> Row:
    return {
        "id": i,
        "context_window_text": f"Window {i}. Date: Jan 06, 2023 || User: 44106 || Instance: x\n"
        * 9,
        "question": f"Question {i}? Answer: X",
        "task_group": "counting",
        "task": "TASK_TYPE.NUMERIC_ONE_CLASS",
        "answer": "[7]",
        "answer_type": "ANSWER_TYPE.NUMERIC",
        "dataset": "trec_coarse",
        "context_len": 1024,
        "context_window_id": i,
    }


def oolong_real(i: int = 0) -> Row:
    return {
        "id": f"row{i}",
        "context_window_id": f"w{i}",
        "context_window_text": f"[START OF EPISODE] {i}: I rolled a 4. " * 20,
        "question": f"Question {i}?",
        "answer": "84",
        "question_type": "singledoc_rolls",
        "episodes": [1],
        "campaign": "campaign2",
    }


def musique(i: int = 0, paragraphs: int = 4) -> Row:
    texts = [
        {
            "idx": j,
            "title": f"Title {i}-{j}",
            "paragraph_text": f"Paragraph {j} of row {i} tells of thing {i * 10 + j}. " * 4,
            "is_supporting": j in (1, 3),
        }
        for j in range(paragraphs)
    ]
    return {
        "id": f"2hop__{i}",
        "paragraphs": texts,
        "question": f"What is told in row {i}?",
        "answer": f"thing {i}",
        "answer_aliases": [f"the matter {i}"],
        "answerable": True,
    }


def hotpotqa(i: int = 0) -> Row:
    return {
        "id": f"x{i}",
        "question": f"Question {i}?",
        "answer": "yes",
        "type": "comparison",
        "supporting_facts": {"title": [f"A{i}", f"C{i}"], "sent_id": [0, 1]},
        "context": {
            "title": [f"A{i}", f"B{i}", f"C{i}"],
            "sentences": [["One. ", LONG], [LONG], [f"Four {i}.", LONG]],
        },
    }


def hotpotqa_original(i: int = 0) -> Row:
    hub = hotpotqa(i)
    pairs = [list(pair) for pair in zip(*hub["context"].values(), strict=True)]
    facts = [list(pair) for pair in zip(*hub["supporting_facts"].values(), strict=True)]
    return {**hub, "context": pairs, "supporting_facts": facts}


def squad(i: int = 0) -> Row:
    text = f"Row {i} says c. {LONG}"
    answers = {"text": ["c"], "answer_start": [11]}
    return {"id": f"q{i}", "title": f"T{i}", "context": text, "question": "Q?", "answers": answers}


def squad_original(i: int = 0) -> Row:
    asked = {"id": f"q{i}", "question": "Q?", "answers": [{"text": "c", "answer_start": 11}]}
    passage = {"context": f"Row {i} says c. {LONG}", "qas": [asked]}
    return {"title": f"T{i}", "paragraphs": [passage]}


def browsecomp_plus(i: int = 0) -> Row:
    found: Row = encrypted(plain_row(i))
    return found


def longmemeval(i: int = 0) -> Row:
    turns = [
        {"role": "user", "content": "I bought a red bicycle.", "has_answer": True},
        {"role": "assistant", "content": f"A fine choice, number {i}."},
    ]
    return {
        "question_id": f"q{i}",
        "question_type": "single-session-user",
        "question": "What colour is my bicycle?",
        "answer": "red",
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["other", f"answer_{i}"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/20 (Sat) 02:57"],
        "haystack_sessions": [[{"role": "user", "content": LONG}], turns],
        "answer_session_ids": [f"answer_{i}"],
    }


def oolong_pairs(i: int = 0) -> Row:
    return {
        "id": str(i + 1),
        "question": f"In the above data, list all pairs of users ({i}).",
        "answer": ["(21177, 44106)", "(21177, 71214)", "(44106, 71214)"],
        "type": "pairs",
    }


def exported(i: int = 0) -> Row:
    context = Context.of((f"Row {i}: the colour is red.", "Nothing else."))
    sample = Sample.of(
        task="colours",
        context_id=context.id,
        question="Which colour?",
        gold=("red",),
        scorer="string_match_all",
        question_group="colour",
        target_tokens=1000,
        length_tokens=20,
        max_answer_tokens=16,
        knobs={"seed": i, "share": 0.5},
    )
    return json.loads(json.dumps(to_row(context, sample)))


def own(i: int = 0) -> Row:
    return {
        "question": f"Which colours has row {i}?",
        "answer": ["red", "dark blue"],
        "context": {"a.txt": f"Row {i}: red.", "b.txt": "And dark blue."},
        "id": f"q{i}",
        "scorer": "contains",
    }


def windows(folder: Path) -> Oolong:
    """Two windows of 1024 tokens, of which the second holds the users of the pairs."""
    rows = []
    for i, users in enumerate(((10000, 20000), (21177, 44106, 71214))):
        lines = (f"Date: Jan 06, 2023 || User: {user} || Instance: Who?\n" for user in users)
        rows.append({**oolong(i), "context_window_text": "".join(lines)})
    path = folder / "windows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return Oolong(path=str(path), lengths=[1024], n=1)


@dataclass(frozen=True)
class Set:
    """One form of a data set: how it is made of a file, a row of it, its golds as they stand in
    the row, and the file's name."""

    make: Callable[[str, Path], DataSet]
    row: Callable[[int], Row]
    golds: Callable[[Row], Sequence[str]]
    file: str = "rows.jsonl"


def plain(kind: Any, **settings: Any) -> Callable[[str, Path], DataSet]:
    return lambda path, _: kind(**{"path": path, "lengths": [4096], "n": GOOD, **settings})


SETS = {
    "babilong": Set(plain(BABILong, split="qa1"), babilong, lambda row: [row["target"]]),
    "longbench_v2": Set(plain(LongBenchV2), longbench_v2, lambda row: [row["answer"]]),
    "mrcr": Set(plain(MRCR), mrcr, lambda row: [row["answer"], row["random_string_to_prepend"]]),
    "graphwalks": Set(plain(GraphWalks), graphwalks, lambda row: row["answer_nodes"]),
    "oolong": Set(plain(Oolong), oolong, lambda row: [row["answer"].split(",")[0].strip("[]'\" ")]),
    "oolong_real": Set(plain(OolongReal), oolong_real, lambda row: [str(row["answer"])]),
    "musique": Set(
        plain(MuSiQue, lengths=[400]),
        musique,
        lambda row: [row["answer"], *(row.get("answer_aliases") or [])],
    ),
    "hotpotqa": Set(plain(HotpotQA, lengths=[300]), hotpotqa, lambda row: [row["answer"]]),
    "hotpotqa_original": Set(
        plain(HotpotQA, lengths=[300]), hotpotqa_original, lambda row: [row["answer"]]
    ),
    "squad": Set(plain(SQuAD, lengths=[150]), squad, lambda row: row["answers"]["text"]),
    "squad_original": Set(
        plain(SQuAD, lengths=[150]),
        squad_original,
        lambda row: [a["text"] for p in row["paragraphs"] for q in p["qas"] for a in q["answers"]],
    ),
    "longmemeval": Set(plain(LongMemEval), longmemeval, lambda row: [str(row["answer"])]),
    "browsecomp_plus": Set(
        plain(BrowseCompPlus, canary=CANARY, documents=2, pool=20, lengths=[9000]),
        browsecomp_plus,
        lambda row: [decrypt(row["answer"], CANARY)],
    ),
    "oolong_pairs": Set(
        lambda path, folder: OolongPairs(path=path, lengths=[1024], n=20, windows=windows(folder)),
        oolong_pairs,
        lambda row: as_roles(tuple(map(int, pair[1:-1].split(","))) for pair in row["answer"]),
        "oolong-pairs-1024.jsonl",
    ),
    "own": Set(
        lambda path, _: Own(path=path),
        own,
        lambda row: [written(one) for one in each(row["answer"])],
    ),
    "exported": Set(lambda path, _: Exported(path=path), exported, lambda row: row["gold"]),
}
