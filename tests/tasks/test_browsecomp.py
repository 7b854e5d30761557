"""BrowseComp-Plus: what a context holds, what its judge says, and that nothing leaks."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.answers import asked
from helpers.commands import export as run_export
from helpers.commands import rlm_eval
from helpers.encrypted_rows import CANARY, document, plain_row, write_rows
from rlm_eval.errors import ConfigError
from rlm_eval.journal.tables import recall
from rlm_eval.runs.runner import judge_of
from rlm_eval.tasks.datasets.browsecomp_plus import (
    BrowseCompPlus,
    decrypt,
    encrypt,
    keep_least,
)
from rlm_eval.tasks.generated.needle import Needle
from rlm_eval.tasks.scoring.scorers import by_verdict, read_verdict
from rlm_eval.tokens import load_tokenizer

ROWS = [plain_row(i) for i in range(8)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


def make(path: str, **knobs: Any) -> BrowseCompPlus:
    given = {"lengths": [16384], "n": 3, "documents": 20, "pool": 40, "canary": CANARY}
    return BrowseCompPlus(path=path, **(given | knobs))


def test_the_encryption_is_the_published_one() -> None:
    key = hashlib.sha256(b"canary").digest()
    text = "Füchse " * 10
    by_hand = bytes(b ^ key[i % 32] for i, b in enumerate(text.encode()))
    assert base64.b64decode(encrypt(text, "canary")) == by_hand
    assert decrypt(encrypt(text, "canary"), "canary") == text
    with pytest.raises(ValueError, match="decode"):
        decrypt(encrypt(text * 9, "canary"), "another")
    with pytest.raises(ValueError, match="base64"):
        decrypt("plain text", "canary")


def test_a_context_holds_gold_and_evidence_once_among_others(path: str) -> None:
    by_id = {row["query_id"]: row for row in ROWS}
    tok = load_tokenizer()
    task = make(path)
    for context, sample in task.build():
        row = by_id[str(sample.knobs["query_id"])]
        assert isinstance(context.content, tuple)
        assert len(set(context.content)) == len(context.content) == 20
        own = {d["text"].strip() for d in row["evidence_docs"]}
        assert own <= set(context.content)
        joined = "".join(context.content)
        assert {joined[start:end] for start, end in sample.evidence} == own
        assert recall(sample.evidence, sample.evidence) == 1
        assert sample.question == BrowseCompPlus.instruction + row["query"]
        assert task.query(sample.question) == row["query"]
        assert sample.gold == (row["answer"],)
        assert sample.length_tokens == tok.count(context.text)
        used = sample.length_tokens + tok.count(sample.question) + sample.max_answer_tokens
        assert used <= sample.target_tokens


def test_token_counts_add_up_where_they_are_not_counted_again(tmp_path: Path) -> None:
    rows = [plain_row(i, negatives=6, words=1500) for i in range(5)]
    path = write_rows(tmp_path / "rows.parquet", rows)
    task = make(path, lengths=[400_000], n=1, documents=38, pool=50)
    ((context, sample),) = task.build()
    assert sample.length_tokens > 200_000
    real = load_tokenizer().count(context.text)
    assert 0 <= sample.length_tokens - real <= 2


def test_the_first_samples_depend_on_the_seed_and_not_on_n(path: str) -> None:
    few, more = list(make(path, n=2).build()), list(make(path, n=5).build())
    assert more[:2] == few
    assert list(make(path, n=2).build()) == few
    other = list(make(path, n=5, seed=1).build())
    assert [s.knobs["query_id"] for _, s in other] != [s.knobs["query_id"] for _, s in more]
    assert not {s.id for _, s in other} & {s.id for _, s in more}


def test_hard_negatives_come_before_the_rest(path: str) -> None:
    for context, sample in make(path, documents=7, hard_negatives=True).build():
        row = next(r for r in ROWS if r["query_id"] == sample.knobs["query_id"])
        assert {d["text"].strip() for d in row["negative_docs"]} < set(context.content)
    contexts = [set(c.content) for c, _ in make(path, documents=7, n=8).build()]
    negatives = [{d["text"].strip() for d in row["negative_docs"]} for row in ROWS]
    assert not any(theirs <= content for content in contexts for theirs in negatives)


def test_a_short_length_ends_before_the_documents_do(path: str) -> None:
    for context, sample in make(path, lengths=[2500, 16384]).build():
        full = sample.target_tokens == 16384
        assert (sample.knobs["n_documents"] == 20) is full
        assert len(context.content) == sample.knobs["n_documents"] > 2


def test_a_larger_choice_begins_with_the_smaller() -> None:
    two: dict[int, str] = {}
    three: dict[int, str] = {}
    for rank in [50, 10, 40, 20, 30, 10, 60]:
        two[rank] = three[rank] = f"item {rank}"
        keep_least(two, 2)
        keep_least(three, 3)
    assert sorted(two) == [10, 20]
    assert sorted(three) == [10, 20, 30]
    assert keep_least(two, 2) == 20
    assert keep_least(two, 3) == math.inf


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"canary": "another"}, "canary does not open"),
        ({"documents": 41}, "pool must be"),
        ({"documents": 60, "pool": 60}, "holds 48 to fill a context"),
        ({"n": 9}, "only 8 questions"),
        ({"documents": 1}, "only 0 questions"),
        ({"lengths": [400]}, "the least is 456"),
        ({"path": None}, "path is missing"),
        ({"path": None, "hub": "x/y"}, "revision must be"),
        ({"judge_tokens": 0}, "judge_tokens must be"),
        ({"judge_repeats": 2}, "judge_repeats must be odd, not 2"),
        ({"judge_repeats": -1}, "judge_repeats must be odd, not -1"),
    ],
)
def test_bad_knobs_are_refused(path: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(make(**{"path": path, **knobs}).build())


def test_rows_in_the_clear_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    with pytest.raises(
        ConfigError, match="line 1: query: expected a text encrypted as published, in base64"
    ):
        make(str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("answer: Rome\nreason: the same city\ncorrect: yes", True),
        ("answer: none\nreason: nothing found\ncorrect: no", False),
        ("**answer**: Rome\n**correct:** Yes", True),
        ("correct: no, that is another city", False),
        ("- correct: yes", True),
        ("* **correct:** no", False),
        ("### correct: yes", True),
        ("3. correct: yes", True),
        ("> correct: no", False),
        ("reason: the same. correct: yes", True),
        ("it would be correct: no, but\ncorrect: yes", True),
        ("correct:\nno", False),
        ("Yes.", None),
        ("correct: `yes`", None),
        ("correct: yes/no", None),
        ("correct: yes or no", None),
        ("answer: correct: yes\ncorrect: no", False),
        ("correct: yes\ncorrect: no", None),
        ("It is correct: yes it is", True),
        ("The reply is right.", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_as_officially_and_a_contradiction_is_none(
    reply: str, verdict: bool | None
) -> None:
    assert read_verdict(reply) is verdict


def test_the_verdict_is_the_score_and_the_exact_match_stands_beside_it() -> None:
    yes = by_verdict(asked("Rome"), "It is Rome.", "answer: Rome\ncorrect: yes")
    assert yes is not None
    assert (yes.value, yes.readings["exact_match"], yes.correct) == (1.0, 0.0, True)
    assert yes.parsed == "Rome"
    no = by_verdict(asked("Paris", "Rome"), "the Rome", "correct: no")
    assert no is not None
    assert (no.value, no.readings["exact_match"], no.correct) == (0.0, 1.0, False)
    assert by_verdict(asked("Rome"), "Rome", "hm") is None


def test_the_judge_is_told_question_reference_and_a_bounded_answer(path: str) -> None:
    task = make(path, n=1, max_answer_tokens=5)
    assert task.seal is not None
    ((_, sample),) = task.build()
    values = task.judge_values(sample, " Mason and a long story about it")
    assert values["question"] == sample.question.removeprefix(BrowseCompPlus.instruction)
    assert values["answer"] == "Mason and a long sto"
    judge = judge_of(task)
    assert judge is not None
    (message,) = judge._prompt.messages(**values)
    assert sample.gold[0] in message["content"]
    assert message["content"].endswith("correct: yes or no")


def test_without_a_judge_the_exact_match_is_the_score(path: str) -> None:
    task = make(path, n=1, judge=None)
    ((_, sample),) = task.build()
    assert judge_of(task) is None
    assert task.score(sample, f"The {sample.gold[0]}").correct
    half = task.score(sample, sample.gold[0].split()[0])
    assert (half.value, half.readings) == (0.0, {"f1": 0.5})
    with pytest.raises(ConfigError, match="no prompt 'nope'"):
        judge_of(make(path, judge="nope"))


def test_the_oracle_answers_with_the_nearest_title(tmp_path: Path) -> None:
    rows = [plain_row(i) for i in range(3)]
    near = "who built the harbour of the town with a blue clock"
    rows[0]["gold_docs"] = [document("The Blue Clock", f"zinnia0 {near}")]
    task = make(write_rows(tmp_path / "r.jsonl", rows), n=3, documents=6, pool=20)
    found = {s.knobs["query_id"]: task.code_oracle(s.question, c) for c, s in task.build()}
    assert found["700"] == "The Blue Clock"


def test_a_task_without_them_has_no_judge_and_no_seal() -> None:
    task = Needle(lengths=[1000], n=1)
    assert judge_of(task) is None
    assert task.seal is None


def test_the_export_is_refused(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = [f"task.path={path}", f"task.canary='{CANARY}'", "task.documents=20", "task.n=1"]
    out = tmp_path / "out.jsonl"
    assert run_export([str(out), "task=browsecomp_plus", *knobs]) == 2
    assert "must not be stored in the clear" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_run_writes_nothing_in_the_clear(path: str, tmp_path: Path) -> None:
    arguments = [
        "model=scripted",
        "task=browsecomp_plus",
        f"task.path={path}",
        f"task.canary='{CANARY}'",
        "task.lengths=[16384]",
        "task.documents=20",
        "task.n=2",
        "method=[direct,rag_bm25,rlm]",
        f"results_dir={tmp_path}/runs",
    ]
    done = rlm_eval(*arguments)
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    leaks = [file.name for file in files if b"zinnia" in file.read_bytes()]
    assert not leaks
    assert "zinnia" not in done.stdout + done.stderr
    results = pd.read_parquet(run_dir / "results.parquet")
    assert len(results) == 6
    assert results.score.notna().all()
    opened = [decrypt(text, CANARY) for text in results.question]
    assert all(text.startswith(BrowseCompPlus.instruction + "zinnia") for text in opened)
    assert {decrypt(json.loads(text)[0], CANARY) for text in results.gold} <= {
        row["answer"] for row in ROWS
    }
    calls = pd.read_parquet(run_dir / "calls.parquet")
    assert (calls.groupby("role").size()["judge"], results.calls.sum()) == (
        6,
        (calls.role != "judge").sum(),
    )
    (answer, *_) = json.loads(
        (run_dir / "trajectories" / f"{results.result_key[0]}.jsonl").read_text().splitlines()[-1]
    ).items()
    assert answer == ("type", "answer")
