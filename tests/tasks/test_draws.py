"""Draws are the same bytes everywhere."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from rlm_eval.tasks.draws import Draws, derive_seed


def test_seed_is_the_documented_hash() -> None:
    # first 8 bytes of SHA-256 of '["needle",7]'
    assert derive_seed("needle", 7) == int("117a758bfde0f59a", 16)
    assert derive_seed("needle", 7) != derive_seed("needle", "7")


def test_known_stream() -> None:
    draws = Draws("a", 1)
    values = list(range(10))
    draws.shuffle(values)
    assert (values, draws.below(1000), draws.uuid4()) == (
        [8, 2, 5, 9, 7, 0, 1, 6, 3, 4],
        746,
        "5492d74b-ae25-450d-a2c0-8e0f13ffe9af",
    )


def test_draws_are_uniform_and_in_range() -> None:
    draws = Draws("u")
    counts = Counter(draws.between(3, 6) for _ in range(8000))
    assert set(counts) == {3, 4, 5, 6}
    assert all(count == pytest.approx(2000, rel=0.1) for count in counts.values())


def test_sample_is_distinct_and_leaves_its_input_alone() -> None:
    values = list("abcdef")
    found = Draws("s").sample(values, 4)
    assert len(set(found)) == 4
    assert values == list("abcdef")


def test_uuid_is_version_4() -> None:
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(pattern, Draws("x").uuid4())
