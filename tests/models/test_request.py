"""The hash a prompt is recorded under, and when a prompt has to be counted."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest

from rlm_eval.models.protocol import Message, user
from rlm_eval.models.request import CallTags, Request, prompt_sha256
from rlm_eval.models.scripted import ScriptedModel


def test_the_hash_is_over_each_field_with_its_length() -> None:
    written = b"role 6\nsystemcontent 3\n\xc3\xbc!\n" + b"role 4\nusercontent 0\n\n"
    messages = [{"role": "system", "content": "ü!"}, {"role": "user", "content": ""}]
    assert prompt_sha256(messages) == hashlib.sha256(written).hexdigest()


ALIKE: list[list[Message]] = [
    [],
    [user("")],
    [user("a"), user("b")],
    [user("ab")],
    [user("a\n\nrole 4\nusercontent 1\nb")],
    [user("a\nrole 4\nusercontent 1\nb")],
    [{"role": "usera", "content": "b"}],
    [{"content": "ab", "role": "user"}],
    [user("\ud800")],
    [user("?")],
]


@pytest.mark.parametrize(("one", "other"), list(combinations(ALIKE, 2)))
def test_different_prompts_have_different_hashes(one: list[Message], other: list[Message]) -> None:
    assert prompt_sha256(one) != prompt_sha256(other)


@pytest.mark.parametrize(("chars", "counted"), [(100, False), (900, True)])
def test_a_prompt_is_counted_only_where_its_bytes_do_not_settle_that_it_fits(
    chars: int, counted: bool
) -> None:
    model = ScriptedModel(context_window=500)
    request = Request(model, [user("x" * chars)], 100, CallTags(), 0.0)
    assert ("prompt_tokens" in vars(request)) is counted
    assert request.overflow is None  # 900 characters are 229 of the model's tokens
    too_long = Request(model, [user("x" * 2000)], 100, CallTags(), 0.0)
    assert too_long.overflow is not None
    assert too_long.overflow.excess_tokens == 2000 // 4 + 4 + 100 - 500
