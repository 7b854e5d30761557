"""Pieces of bounded size that together are the whole input, wherever they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rlm_eval.methods.fitting import Chunk, ChunkBy, chunks_of
from rlm_eval.tokens import load_tokenizer

LINES = tuple(f"Record {i}: the lamp in room {i} is red. It is on.\n" for i in range(300))
TEXT = "".join(LINES) + "a very long line without an end " * 400 + "\n" + "x" * 5000
WAYS: list[ChunkBy] = ["lines", "tokens"]


def test_white_space_of_any_length_is_counted() -> None:
    tokenizer, text = load_tokenizer(), f"x{' ' * 1_100_000}x"
    starts = tokenizer.starts(text)
    assert (len(starts), starts[0], starts[-1]) == (tokenizer.count(text), 0, len(text) - 2)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("size", [16, 100, 1000])
def test_chunks_are_the_whole_input_in_pieces_of_bounded_size(size: int, by: ChunkBy) -> None:
    chunks = chunks_of(TEXT, size, by=by)
    assert "".join(c.text for c in chunks) == TEXT
    count = load_tokenizer().count
    assert all(c.tokens <= size and count(c.text) <= size + 1 for c in chunks)
    assert all(TEXT[slice(*c.span)] == c.text for c in chunks)


@pytest.mark.parametrize("by", WAYS)
def test_documents_are_never_joined_in_a_chunk_and_keep_their_names(by: ChunkBy) -> None:
    listed = chunks_of(("first doc", "", "second doc"), 100, by=by)
    assert [(c.text, c.start, c.source) for c in listed] == [
        ("first doc", 0, ""),
        ("second doc", 9, ""),
    ]
    named = chunks_of({"a.py": "first doc", "b.py": "second doc"}, 100, by=by)
    assert [(c.text, c.start, c.source) for c in named] == [
        ("first doc", 0, "a.py"),
        ("second doc", 9, "b.py"),
    ]
    assert named[1].passage == "b.py:\nsecond doc"
    assert listed[1].passage == "Document 3:\nsecond doc"
    assert listed[1].indexed == "second doc", "no number for a question's to be found by"
    assert chunks_of("one text", 100, by=by)[0].passage == "one text"


def test_a_line_too_long_is_cut_at_its_sentences() -> None:
    text = "One is here.\nTwo is far away. Three is near. Four is lost.\nFive.\n"
    size = load_tokenizer().count("Two is far away. ") + load_tokenizer().count("Three is near. ")
    assert [c.text for c in chunks_of(text, size)] == [
        "One is here.\nTwo is far away. ",
        "Three is near. Four is lost.\nFive.\n",
    ]


def test_token_windows_are_full_and_cut_anywhere() -> None:
    tokenizer = load_tokenizer()
    text = "word " * 100
    chunks = chunks_of(text, 16, by="tokens")
    starts = [*tokenizer.starts(text)[::16], len(text)]
    assert [c.text for c in chunks] == [text[a:b] for a, b in pairwise(starts)]
    assert [c.tokens for c in chunks[:-1]] == [16] * (len(chunks) - 1)


def test_a_character_of_several_tokens_is_never_torn() -> None:
    text = "日本語🎉のテキスト🧪。" * 40
    for size in (8, 9, 10, 11):
        assert "".join(c.text for c in chunks_of(text, size, by="tokens")) == text


def test_overlap_repeats_whole_lines_up_to_so_many_tokens() -> None:
    lines = [f"Line {i} here.\n" for i in range(10)]
    one = load_tokenizer().count(lines[0])
    chunks = chunks_of("".join(lines), 3 * one, overlap_tokens=one + 1)
    assert [c.text for c in chunks] == ["".join(lines[i : i + 3]) for i in range(0, 8, 2)] + [
        "".join(lines[8:])
    ]
    assert [c.start for c in chunks] == [i * len(lines[0]) for i in range(0, 9, 2)]


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("overlap", [1, 30, 99])
def test_overlapping_chunks_leave_no_gap_and_always_go_on(by: ChunkBy, overlap: int) -> None:
    text = TEXT[:9000]
    chunks = chunks_of(text, 100, by=by, overlap_tokens=overlap)
    reached = 0
    for chunk in chunks:
        assert chunk.start <= reached < chunk.span[1]
        assert text[slice(*chunk.span)] == chunk.text
        assert chunk.tokens <= 100
        reached = chunk.span[1]
    assert reached == len(text)


def test_token_windows_overlap_by_exactly_so_many_tokens() -> None:
    text = "word " * 100
    chunks = chunks_of(text, 20, by="tokens", overlap_tokens=5)
    assert [c.start for c in chunks[:4]] == [0, 74, 149, 224]
    assert {a.span[1] - b.start for a, b in pairwise(chunks)} == {25}


def test_of_nothing_there_are_no_chunks() -> None:
    nothing: list[Chunk] = []
    assert chunks_of("", 16) == chunks_of((), 16) == chunks_of({}, 16, by="tokens") == nothing
