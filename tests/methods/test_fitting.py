"""Cutting a text to size: what is kept is the text's own, and a mark says what is gone."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import get_args

import pytest

from rlm_eval.methods.fitting import (
    Cut,
    fitting_spans,
    kept_spans,
    largest_fitting,
    marked,
)

CUTS = get_args(Cut)
MARK = re.compile(r"\n\[\.\.\. ([\d,]+) characters left out \.\.\.\]\n")
LETTERS = ("ab c", "abcdef ghij\n", "水火木金土", "x", "e\u0301 \u3000\r\n", "a\n\n")


def texts(count: int) -> list[str]:
    """Prose, lines, scripts without spaces, and mixtures of them."""
    draws = random.Random(7)
    out = []
    for number in range(count):
        letters = draws.choice(LETTERS) + draws.choice(LETTERS) * (number % 2)
        out.append("".join(draws.choices(letters, k=draws.randint(1, 3000))))
    return out


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_kept_is_the_texts_own_and_the_mark_counts_the_rest(cut: Cut) -> None:
    draws = random.Random(11)
    for text in texts(200):
        keep = draws.randint(0, len(text) + 20)
        spans = kept_spans(text, keep, cut)
        shown = marked(text, spans)
        parts = [text[start:end] for start, end in spans]
        gone = len(text) - sum(map(len, parts))
        assert spans == sorted(spans)
        assert all(start < end for start, end in spans)
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        assert sum(map(len, parts)) <= keep
        assert MARK.findall(shown) == ([f"{gone:,}"] if gone else [])
        assert [part for part in MARK.sub("\0", shown).split("\0") if part] == parts
        if keep < len(text):
            assert gone
            assert cut in ("truncate_head", "truncate_middle") or spans == [] or spans[0][0] == 0
            assert (
                cut in ("truncate_tail", "truncate_middle")
                or spans == []
                or spans[-1][1] == len(text)
            )


@pytest.mark.parametrize("cut", CUTS)
def test_cuts_are_made_between_lines_or_words_that_are_near(cut: Cut) -> None:
    draws = random.Random(13)
    lines = [" ".join(f"w{draws.randint(0, 999)}" for _ in range(12)) for _ in range(60)]
    for separator, whole in (("\n", lines), (" ", " ".join(lines).split())):
        text = separator.join(lines)
        for keep in range(1200, len(text), 97):
            for start, end in kept_spans(text, keep, cut):
                assert set(text[start:end].split(separator)) <= set(whole)
                assert end - start > 0.4 * keep


def test_without_a_break_nearby_it_is_cut_where_it_must_be() -> None:
    assert kept_spans("水" * 1000, 500, "truncate_middle") == [(0, 250), (750, 1000)]
    assert kept_spans("水" * 1000, 500, "truncate_head") == [(500, 1000)]
    assert kept_spans("abcdef", 4, "truncate_middle") == [(0, 2), (4, 6)]
    assert kept_spans("abcdef", 9, "truncate_middle") == [(0, 6)]


def test_no_sentence_arises_that_was_not_there() -> None:
    text = "The first sentence is whole. The middle one is cut. The last is here."
    assert marked(text, kept_spans(text, 40, "truncate_middle")) == (
        "The first sentence\n[... 34 characters left out ...]\nThe last is here."
    )


@pytest.mark.parametrize("cut", CUTS)
def test_the_most_that_fits_is_kept_with_its_mark(cut: Cut) -> None:
    draws = random.Random(17)
    for text in texts(100):
        room = draws.randint(0, len(text))
        spans = fitting_spans(text, cut, lambda shown, n=room: len(shown) <= n)
        kept = sum(end - start for start, end in spans)
        assert not spans or len(marked(text, spans)) <= room
        assert kept >= room - 64 - 64 - 2 * 128, "a step, a mark, and a break at each side"


def test_largest_fitting_is_the_largest() -> None:
    assert [largest_fitting(20, lambda n, k=k: n <= k) for k in (0, 7, 20, 99)] == [0, 7, 20, 20]
