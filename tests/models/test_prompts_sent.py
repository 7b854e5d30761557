"""The hash a prompt is recorded under, and when a prompt has to be counted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations

import pytest

from rlm_eval.errors import ContextOverflow
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import ModelClient
from rlm_eval.models.protocol import Message, prompt_digest, user
from rlm_eval.models.scripted import ScriptedModel


def test_the_hash_is_over_each_field_with_its_length() -> None:
    written = b"role 6\nsystemcontent 3\n\xc3\xbc!\n" + b"role 4\nusercontent 0\n\n"
    messages = [{"role": "system", "content": "ü!"}, {"role": "user", "content": ""}]
    text = "rolesystemcontent\u00fc!" + "roleusercontent"
    size = len(text.encode())
    assert prompt_digest(messages) == (hashlib.sha256(written).hexdigest(), size)


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
    assert prompt_digest(one)[0] != prompt_digest(other)[0]


class Counting(ScriptedModel):
    """It notes down how often it counted."""

    counts = 0

    def count_tokens(self, messages: Sequence[Message]) -> int:
        self.counts += 1
        return super().count_tokens(messages)


@pytest.mark.parametrize(
    ("chars", "budget", "counts"),
    [(100, Budget(), 0), (900, Budget(), 1), (100, Budget(tokens=999), 1), (900, Budget(usd=1), 1)],
)
def test_a_prompt_is_counted_only_where_a_cap_or_the_window_asks_for_it(
    chars: int, budget: Budget, counts: int
) -> None:
    model = Counting(context_window=500)
    lm = ModelClient({"root": model}, lambda call, reply: None).lm("r", memory_scope="s")
    lm.complete([user("x" * chars)], ledger=Ledger(budget), max_tokens=100)
    assert model.counts == counts + 1  # the scripted model bills by counting
    with pytest.raises(ContextOverflow) as caught:
        lm.complete([user("x" * 2000)], ledger=Ledger(budget), max_tokens=100)
    assert caught.value.excess_tokens == 2000 // 4 + 4 + 100 - 500
