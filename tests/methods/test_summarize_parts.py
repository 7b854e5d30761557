"""An input cut into parts that fit a prompt."""

from __future__ import annotations

import pytest

from helpers.summaries import LINES, TEXT
from rlm_eval.methods.summarize.parts import parts_of
from rlm_eval.tokens import load_tokenizer


@pytest.mark.parametrize("size", [50, 400])
def test_parts_are_the_whole_input_within_their_size(size: int) -> None:
    count = load_tokenizer().count
    parts = parts_of(TEXT, size)
    assert "".join(part.text for part in parts) == TEXT
    assert all(part.tokens <= size for part in parts)
    for content in (LINES, {"a": TEXT, "b": "short", "c": TEXT}):
        assert all(count(part.text) <= size + 2 for part in parts_of(content, size))


def test_a_document_that_goes_on_says_so_in_the_next_part_and_short_ones_share_one() -> None:
    parts = parts_of({"long.txt": TEXT, "a.txt": "alpha", "b.txt": "beta"}, 400)
    assert all("long.txt:\n" in part.text for part in parts[:-1])
    assert parts[-1].text.endswith("a.txt:\nalpha\n\nb.txt:\nbeta\n\n")
