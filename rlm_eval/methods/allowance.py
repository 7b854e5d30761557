"""What a sample's budget still buys, for methods that spend up to it (``budget.matched``)."""

from __future__ import annotations

from rlm_eval.ledger import Ledger
from rlm_eval.models.protocol import ModelInfo, Usage


def prompt_tokens_left(
    ledger: Ledger, info: ModelInfo, *, calls: int, completion_tokens: int
) -> int | None:
    """The prompt tokens that ``calls`` calls of ``info`` may take together, each with a reply of
    ``completion_tokens`` and all that may be thought unseen, before a cap on tokens or dollars is
    passed: 0 where the replies alone pass it, None where the sample of ``ledger`` has no such cap
    of its own. (A run's cap is no reason to spend all of it on one sample.)"""
    if not ledger.budget.bounds_what_is_bought:
        return None
    left = ledger.remaining()
    replies = calls * (completion_tokens + info.reasoning_tokens)
    bounds: list[float] = []
    if left["tokens"] is not None:
        bounds.append(left["tokens"] - replies)
    if left["usd"] is not None and info.price is not None and info.price.input > 0:
        paid = info.price.cost(Usage(completion_tokens=replies))
        bounds.append((left["usd"] - paid) * 1e6 / info.price.input)
    return max(0, int(min(bounds))) if bounds else None
