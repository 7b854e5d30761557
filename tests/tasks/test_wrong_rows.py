"""Wrong rows and files of every data set: the right samples or one clear line, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.dataset_rows import GOOD, SETS, Row, Set
from rlm_eval.errors import ConfigError
from rlm_eval.records import Sample
from rlm_eval.tasks.datasets.exported import to_row

#: More examples than CI takes: WRONG_ROWS=5000 pytest tests/tasks/test_wrong_rows.py
EXAMPLES = int(os.environ.get("WRONG_ROWS", "0"))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "  ", "E", "a", "[]", "{}", "None", "1,2", "\ud800", "x" * 5000, "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a row, down through its lists and objects."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


@st.composite
def damaged(draw: st.DrawFn, kind: Set) -> Row:
    """A row of which one place holds something else, or is gone."""
    row = copy.deepcopy(kind.row(GOOD))
    place = draw(st.sampled_from(list(places(row))))
    parent: Any = row
    for key in place[:-1]:
        parent = parent[key]
    if draw(st.booleans()) and draw(st.booleans()):
        del parent[place[-1]]
    else:
        parent[place[-1]] = draw(values)
    return row


def samples_of(kind: Set, rows: Sequence[Row], folder: Path) -> list[Sample]:
    """All that a run does with rows before a model answers, and some of what it does after."""
    path = folder / kind.file
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = kind.make(str(path), folder)
    pairs = list(task.build())
    samples = [sample for _, sample in pairs]
    assert task.constant_scores(samples) is not None
    for context, sample in pairs:
        json.dumps(to_row(context, sample), ensure_ascii=False).encode()
        task.code_oracle(sample.question, context)
        task.score(sample, sample.gold[0] if sample.gold else "")
    return samples


@pytest.mark.parametrize("name", SETS)
def test_good_rows_make_their_samples(name: str, tmp_path: Path) -> None:
    kind = SETS[name]
    rows = [kind.row(i) for i in range(GOOD)]
    samples = samples_of(kind, rows, tmp_path)
    assert sorted(sample.gold for sample in samples) == sorted(tuple(kind.golds(r)) for r in rows)


def put(row: Row, place: str, value: Any) -> Row:
    """``row`` with another value at ``place`` (``paragraphs.0.title``); ``...`` takes it out."""
    *path, last = (int(key) if key.isdigit() else key for key in place.split("."))
    parent: Any = row
    for key in path:
        parent = parent[key]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return row


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("babilong", "target", None, "target: expected a non-empty text, got null"),
        ("babilong", "input", " ", 'input: expected a non-empty text, got " "'),
        ("babilong", "question", ..., "no column question; it has input, target"),
        ("longbench_v2", "choice_B", 3, "choice_B: expected a non-empty text, got 3"),
        ("longbench_v2", "answer", "E", "answer: expected 'A', 'B', 'C' or 'D', got \"E\""),
        ("longbench_v2", "answer", "a", "answer: expected 'A', 'B', 'C' or 'D', got \"a\""),
        ("mrcr", "answer", None, "answer: expected a non-empty text, got null"),
        ("mrcr", "random_string_to_prepend", "", "random_string_to_prepend: expected a non-empty"),
        ("mrcr", "prompt", '[{"role": "user"}]', "prompt[0].content: is missing"),
        ("mrcr", "prompt", "[]", "prompt: expected a list of at least 2, got []"),
        ("mrcr", "prompt", "hello", 'prompt: expected a text that is JSON, got "hello"'),
        ("mrcr", "prompt", None, "prompt: expected a text that is JSON, got null"),
        ("mrcr", "n_needles", True, "n_needles: expected a whole number, got true"),
        ("graphwalks", "answer_nodes", "abcdef", 'answer_nodes: expected a list, got "abcdef"'),
        ("graphwalks", "answer_nodes", [["a"]], "answer_nodes[0]: expected a non-empty text"),
        ("graphwalks", "answer_nodes", None, "answer_nodes: expected a list, got null"),
        ("graphwalks", "prompt", "Sort these.", "prompt: expected a prompt with"),
        ("oolong", "answer", None, "answer: expected a non-empty text, got null"),
        ("oolong", "answer", "[]", 'answer: expected a Python list literal'),
        ("oolong", "answer", "None", 'answer: expected a Python list literal'),
        ("oolong", "answer", "[None]", 'answer: expected a Python list literal'),
        ("oolong", "answer", "[datetime.date(2023, 2, 30)]", "answer: expected a Python list"),
        ("oolong", "answer", "['seven']", "an answer of type NUMERIC: 'seven' is none"),
        ("oolong", "answer_type", "ANSWER_TYPE.SONG", "answer_type: expected 'LABEL', "),
        ("oolong", "context_window_text", 5, "context_window_text: expected a non-empty text"),
        ("oolong", "question", [], "question: expected a non-empty text, got []"),
        ("oolong", "context_len", "1024", 'context_len: expected a whole number, got "1024"'),
        ("oolong_real", "episodes", "1,2", 'episodes: expected a list, got "1,2"'),
        ("oolong_real", "episodes", None, "episodes: expected a list, got null"),
        ("oolong_real", "answer", None, "answer: expected a non-empty text, got null"),
        ("musique", "answer_aliases", "Anne", 'answer_aliases: expected a list, got "Anne"'),
        ("musique", "answer", None, "answer: expected a non-empty text, got null"),
        ("musique", "paragraphs", "Text.", 'paragraphs: expected a list, got "Text."'),
        ("musique", "paragraphs.1.title", None, "paragraphs[1].title: expected a non-empty text"),
        ("musique", "paragraphs.1.paragraph_text", ..., "paragraphs[1].paragraph_text: is missing"),
        ("musique", "paragraphs.1.is_supporting", 1, "expected true or false, got 1"),
        ("musique", "paragraphs", [], "expected a paragraph that is_supporting"),
        ("musique", "answerable", None, "answerable: expected true or false, got null"),
        ("hotpotqa", "context.sentences", [[]], "context: expected lists 'title' and 'sentences'"),
        ("hotpotqa", "supporting_facts.title", ["X", "Y"], "a document of context whose title is"),
        ("hotpotqa", "id", ..., "expected a column id or _id"),
        ("hotpotqa_original", "context.0", ["A"], "context[0][1]: is missing"),
        ("squad", "answers", "c", 'answers: expected an object, got "c"'),
        ("squad", "answers.text", "c", 'answers.text: expected a list, got "c"'),
        ("squad", "answers.text", [None], "answers.text[0]: expected a non-empty text, got null"),
        ("squad_original", "paragraphs.0.qas.0.answers", None, "qas[0].answers: expected a list"),
        ("browsecomp_plus", "gold_docs", None, "gold_docs: expected a list, got null"),
        ("browsecomp_plus", "gold_docs.0.text", None, "gold_docs[0].text: expected a text"),
        ("longmemeval", "haystack_dates", ["2023/05/20"], "expected as many haystack_dates"),
        ("longmemeval", "question_type", "riddle", "question_type: expected 'single-session-user'"),
        ("longmemeval", "haystack_sessions.0.0.role", "bot", "[0][0].role: expected 'user' or"),
        ("oolong_pairs", "answer", ["(1, 1)"], "answer[0]: expected a text '(id, id)' of two ids"),
        ("oolong_pairs", "answer", "(1, 2)", 'answer: expected a list, got "(1, 2)"'),
        ("own", "question", None, "question: expected a non-empty text, got null"),
        ("own", "answer", ..., "no column answer; it has question, context, id, scorer"),
        ("own", "answer", None, "answer: expected a non-empty text, a number, or a list of these"),
        ("own", "answer", True, "answer: expected a non-empty text, a number, or a list of these"),
        ("own", "answer", ["red", " "], "answer: expected a non-empty text, a number, or a list"),
        ("own", "answer", [], "answer: expected a non-empty text, a number, or a list of these"),
        ("own", "answer", "?!", "answer '?!': contains can't score it"),
        ("own", "answer", "word " * 300, "contains can't score it in 128 tokens (task.max"),
        ("own", "context", {"a.txt": 5}, "context: expected a non-empty text, or several"),
        ("own", "context", {}, "context: expected a non-empty text, or several"),
        ("own", "context", ..., "has neither file nor context: add one, or set task.path"),
        ("own", "scorer", "fuzzy", "scorer: expected 'exact', 'contains', 'f1', 'number', 'choice"),
        ("own", "scorer", "number", "answer 'red, dark blue': "),
        ("own", "scorer", "choice", "answer 'red, dark blue': "),
        ("own", "file", "nowhere.txt", "has both file and context: leave one out"),
        ("exported", "target_tokens", "1000", 'target_tokens: expected a whole number, got "1000"'),
        ("exported", "scorer", "rouge", "scorer: expected 'string_match_all', "),
        ("exported", "knobs", '{"a": [1]}', "knobs.a: expected a text, a number, true, false or"),
        ("exported", "knobs", "[]", "knobs: expected an object, got []"),
        ("exported", "evidence", [[5, 9000]], "expected evidence as [start, end) within the 38"),
        ("exported", "evidence", [[9, 2]], "expected evidence as [start, end) within the 38"),
        ("exported", "gold", [], "expected a gold that string_match_all can score by"),
        ("exported", "context", ["Changed."], "has been changed"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(
    name: str, place: str, value: Any, message: str, tmp_path: Path
) -> None:
    kind = SETS[name]
    rows = [kind.row(i) for i in range(GOOD)]
    put(rows[2], place, value)
    with pytest.raises(ConfigError) as caught:
        samples_of(kind, rows, tmp_path)
    assert f"{tmp_path / kind.file} line 3: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_wrong_row_is_refused_or_read_as_it_is(name: str) -> None:
    kind = SETS[name]
    good = [kind.row(i) for i in range(GOOD)]

    @settings(max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, deadline=None, database=None)
    @given(damaged(kind), st.integers(0, GOOD - 1))
    def check(row: Row, at: int) -> None:
        rows = [*good[:at], row, *good[at:]]
        with tempfile.TemporaryDirectory() as folder:
            try:
                samples = samples_of(kind, rows, Path(folder))
            except ConfigError as error:
                assert "\n" not in str(error)  # noqa: PT017
                return
        golds = [tuple(kind.golds(row)) for row in rows]
        read = {*golds, *(tuple(dict.fromkeys(gold)) for gold in golds)}
        assert {sample.gold for sample in samples} <= read

    check()


FORMS = {
    "utf-8": None,
    "utf-8-sig": None,
    "latin-1": "is not in UTF-8 (",
    "utf-16": "is not in UTF-8 (invalid start byte): convert it",
    "utf-16-le": "is not in UTF-8 (",
}


@pytest.mark.parametrize("encoding", FORMS)
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_encodings_are_read_or_named(form: str, encoding: str, tmp_path: Path) -> None:
    rows = [{**SETS["babilong"].row(i), "question": "Où est-elle ?"} for i in range(GOOD)]
    path = tmp_path / f"rows.{form}"
    each = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(each) if form == "jsonl" else f"[{', '.join(each)}]"
    path.write_bytes(text.encode(encoding))
    task = SETS["babilong"].make
    wrong = FORMS[encoding]
    if wrong is None:
        samples = [sample for _, sample in task(str(path), tmp_path).build()]
        assert all("Où est-elle ?" in sample.question for sample in samples)
        return
    with pytest.raises(ConfigError) as caught:
        task(str(path), tmp_path)
    place = f"{path} line 1 " if form == "jsonl" else f"{path} "
    assert f"{place}{wrong}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1 can't be read: "),
        ('{"input": 1' + "0" * 5000 + "}", "line 1 can't be read: "),
        ("\n\n[1]", "line 3: must be a JSON object"),
        ("\n\n{", "line 3 can't be read: Expecting property name"),
        ("null", "line 1: must be a JSON object"),
        ('"text"', "line 1: must be a JSON object"),
        ('{"a\\nb": 1}', "no column input, question, target; it has a b"),
    ],
)
def test_odd_json_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        SETS["babilong"].make(str(path), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["musique", "hotpotqa", "squad", "graphwalks", "browsecomp_plus"])
def test_parquet_rows_are_the_same_rows(name: str, tmp_path: Path) -> None:
    kind = SETS[name]
    rows = [kind.row(i) for i in range(GOOD)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    expected = samples_of(kind, rows, tmp_path)
    assert [sample for _, sample in kind.make(str(path), tmp_path).build()] == expected
    del rows[3][next(iter(rows[3]))]
    pq.write_table(pa.Table.from_pylist(rows), path)  # a missing value is null there
    with pytest.raises(ConfigError, match=r"rows\.parquet row 4: "):
        kind.make(str(path), tmp_path)
