"""What a budget still buys, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.methods.method import prompt_tokens_left
from rlm_eval.models.protocol import ModelInfo, Price, Usage

PRICED = ModelInfo("m", "e", 8192, price=Price(input=2.0, output=10.0))


def test_without_a_cap_on_tokens_or_dollars_there_is_no_bound() -> None:
    ledger = Ledger(Budget(calls=3, seconds=60.0))
    assert prompt_tokens_left(ledger, PRICED, 64) is None


def test_a_runs_cap_is_no_allowance_for_one_sample() -> None:
    sample = Ledger(Budget(tokens=1000)).child(Budget(calls=3))
    assert prompt_tokens_left(sample, PRICED, 64) is None


def test_tokens_left_less_the_replies() -> None:
    ledger = Ledger().child(Budget(tokens=1000))
    ledger.settle(ledger.reserve(Spend(1, 300, 0.0)), Spend(1, 300, 0.0))
    assert prompt_tokens_left(ledger, PRICED, 200) == 500


def test_dollars_are_turned_into_prompt_tokens() -> None:
    ledger = Ledger(Budget(usd=0.01))
    # A reply of 200 tokens costs .002; .008 buys 4,000 prompt tokens at 2 $ a million.
    assert prompt_tokens_left(ledger, PRICED, 200) == pytest.approx(4000, abs=1)


def test_a_prompt_that_is_put_into_a_cache_at_a_price_takes_more_of_the_cap() -> None:
    """So many tokens are planned with as are reserved when they are sent."""
    assert PRICED.price is not None
    dear = replace(PRICED, price=replace(PRICED.price, cache_write=1.25 * PRICED.price.input))
    ledger = Ledger().child(Budget(usd=0.1))
    plain, fewer = (prompt_tokens_left(ledger, info, 64) or 0 for info in (PRICED, dear))
    assert fewer == pytest.approx(plain / 1.25, abs=1)
    assert ledger.affords(dear.worst(Usage(fewer, 64)))
    assert not ledger.affords(dear.worst(Usage(plain, 64)))


def test_the_tighter_cap_holds_and_never_below_zero() -> None:
    ledger = Ledger(Budget(usd=0.01, tokens=150))
    assert prompt_tokens_left(ledger, PRICED, 100) == 50
    assert prompt_tokens_left(ledger, PRICED, 200) == 0
