"""Room for the forced answer: a sample's cap must not be spent before it can be asked for.

Turns and sub-calls draw on a node of the ledger whose caps are lower by one forced turn. Not on a
reservation: a call that would fit but for what is held waits for it to settle, so one held to the
run's end would be waited for in vain. A cap on seconds holds nothing back. Where a cap is so small
that holding back would leave too little to work with, the loop takes its first turn and then stops
while the forced one can still be paid (:meth:`Reserve.last_chance`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm_eval.ledger import Budget, Ledger, Spend
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message, Usage
from rlm_eval.records import Role

#: Template and request around the last turn that a forced turn repeats.
_SLACK_TOKENS = 256


class Reserve:
    """One forced turn of the ``role``'s model with an answer of at most ``answer_tokens``, paid by
    ``ledger``. ``tight``: the cap is too small for one to be held back."""

    def __init__(self, lm: LM, role: Role, ledger: Ledger, answer_tokens: int) -> None:
        self._lm = lm
        self._role = role
        self._ledger = ledger
        self._answer_tokens = answer_tokens
        self.tight = False

    def loop_ledger(self, shortest: Sequence[Message], turn_tokens: int) -> Ledger:
        """Who pays for all that comes before: the ledger less a forced turn in its ``shortest``
        chat, with the last turn of at most ``turn_tokens`` in it."""
        prompt = 0
        if self._ledger.counts_tokens:
            prompt = self._lm.prompt_tokens(shortest, self._role) + turn_tokens + _SLACK_TOKENS
        held = hold_back(self._ledger, self._spend(prompt))
        caps = self._ledger.budget
        self.tight = held is self._ledger and (caps.tokens, caps.usd) != (None, None)
        return held

    def affords(self, messages: Sequence[Message]) -> bool:
        """Whether a forced turn with these messages fits what is left."""
        if not self._ledger.counts_tokens:
            return True
        return self._fits(self._spend(self._lm.prompt_tokens(messages, self._role)))

    def last_chance(self, forced: Sequence[Message], turn_tokens: int) -> bool:
        """Whether a ``forced`` turn fits what is left, and would not after another turn of the same
        chat in the worst case."""
        if not self.affords(forced):
            return False
        prompt = self._lm.prompt_tokens(forced, self._role)
        turn = self._spend(prompt, turn_tokens)
        return not self._fits(turn + self._spend(prompt + turn_tokens + _SLACK_TOKENS))

    def _fits(self, amount: Spend) -> bool:
        left = self._ledger.remaining()
        return all(
            cap is None or value is None or value <= cap
            for cap, value in ((left["tokens"], amount.tokens), (left["usd"], amount.usd))
        )

    def _spend(self, prompt_tokens: int, reply_tokens: int | None = None) -> Spend:
        info = self._lm.info(self._role)
        written = self._answer_tokens if reply_tokens is None else reply_tokens
        written += info.reasoning_tokens
        cost = None if info.price is None else info.price.cost(Usage(prompt_tokens, written))
        return Spend(1, prompt_tokens + written, cost)


def hold_back(ledger: Ledger, amount: Spend) -> Ledger:
    """A node below ``ledger`` with its caps less ``amount``. The ledger itself where that would
    take more than half of a cap: then the turns need it more than a forced answer does."""
    caps = ledger.budget
    pairs = ((caps.calls, amount.calls), (caps.tokens, amount.tokens), (caps.usd, amount.usd))
    if all(cap is None for cap, _ in pairs):
        return ledger
    if any(cap is not None and (value is None or 2 * value > cap) for cap, value in pairs):
        return ledger
    less = Budget(
        calls=None if caps.calls is None else caps.calls - amount.calls,
        tokens=None if caps.tokens is None else caps.tokens - amount.tokens,
        usd=None if caps.usd is None else caps.usd - (amount.usd or 0.0),
    )
    return ledger.child(less, scope="RLM")
