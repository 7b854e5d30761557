"""Budgets: reserve before a call, settle after it, over the tree run ⊃ sample ⊃ child RLM.

A reservation assumes the worst (the full prompt, the largest completion), so a cap on tokens or
dollars is passed only where a provider bills more than that. When only calls in flight are between
a request and its cap, ``reserve`` waits for them to settle rather than refuse what may fit; so
nobody may wait who holds a reservation (``wait=False``, and :meth:`Ledger.renew`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlm_eval.errors import BudgetExceeded, ConfigError, RunBudgetExceeded

#: Prompts larger than the window that a sample may try.
MOST_REFUSED = 200


@dataclass(frozen=True)
class Spend:
    """An amount of work. ``usd`` is None when a model without a price took part."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Spend) -> Spend:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spend(self.calls + other.calls, self.tokens + other.tokens, usd)

    def __sub__(self, other: Spend) -> Spend:
        usd = None if self.usd is None or other.usd is None else self.usd - other.usd
        return Spend(self.calls - other.calls, self.tokens - other.tokens, usd)


@dataclass(frozen=True)
class Budget:
    """Caps; None is no cap. ``tokens`` counts prompt and completion, ``seconds`` wall time."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    @property
    def bounds_what_is_bought(self) -> bool:
        """A cap on tokens or dollars: what methods that spend up to a cap look at."""
        return self.tokens is not None or self.usd is not None

    def shared(self, parts: int) -> Budget:
        """What each of ``parts`` that run side by side may spend of it; all have its seconds."""
        calls, tokens = (cap and cap // parts for cap in (self.calls, self.tokens))
        return replace(self, calls=calls, tokens=tokens, usd=self.usd and self.usd / parts)


@dataclass
class Reservation:
    """A promise of at most ``amount``; settled exactly once, unless a retry renews it."""

    amount: Spend
    settled: bool = False


def refuse_unpriced(budgets: Mapping[str, Budget], unpriced: Mapping[str, str]) -> None:
    """Raise ConfigError where a budget (by scope) caps dollars and models (by key) are unpriced."""
    for scope, budget in budgets.items():
        if budget.usd is not None and unpriced:
            models = " and ".join(unpriced.values())
            wanted = " and ".join(f"'{key}.price={{input: N, output: N}}'" for key in unpriced)
            raise ConfigError(
                f"budget.{scope}.usd is set but {models} has no price: set {wanted}, or cap "
                "tokens instead"
            )


class Ledger:
    """One node of the budget tree. Every call charges its node and all nodes above."""

    def __init__(
        self, budget: Budget | None = None, *, scope: str = "run", parent: Ledger | None = None
    ) -> None:
        self.budget = budget or Budget()
        self.scope = scope
        #: This node and all above it, the run's last; and those of them that have a cap.
        self._nodes: tuple[Ledger, ...] = (self, *parent._nodes) if parent else (self,)
        self._capped = tuple([node for node in self._nodes if node.budget != Budget()])
        #: Of these what a method may know of: what other questions take of a run's cap is not its.
        self._own = tuple([n for n in self._capped if n is self or n.scope != "run"])
        self._changed: threading.Condition = parent._changed if parent else threading.Condition()
        self.spent = Spend()
        self._held = Spend()
        self._holds = self._refused = 0
        self._started = time.monotonic()
        above = parent is not None and parent.counts_tokens
        #: Whether a cap on tokens or dollars holds here, so that reservations must be exact.
        self.counts_tokens: bool = above or self.budget.bounds_what_is_bought

    def child(self, budget: Budget | None = None, *, scope: str = "sample") -> Ledger:
        """A node below this one: it can spend what its own caps and all caps above leave."""
        return Ledger(budget, scope=scope, parent=self)

    @property
    def run(self) -> Ledger:
        """The topmost node, which pays what serves more than one sample (an index, say)."""
        return self._nodes[-1]

    def reserve(self, amount: Spend, *, wait: bool = True) -> Reservation:
        """Hold ``amount`` on this node and all above, or raise (see :meth:`reserve_all`)."""
        return self.reserve_all([amount], wait=wait)[0]

    def reserve_all(self, amounts: Sequence[Spend], *, wait: bool = True) -> list[Reservation]:
        """Hold a batch at once, or raise and hold nothing: BudgetExceeded for a sample's or child's
        cap, RunBudgetExceeded for the run's; ConfigError where a cap is in dollars and the amount
        has no price. Without ``wait``, BudgetExceeded too where only calls in flight are in the
        way, whose cap it may be."""
        total = amounts[0] if len(amounts) == 1 else sum(amounts, Spend())
        with self._changed:
            while (refusal := self._refusal(total, in_flight=True)) is not None:
                spent_up = self._refusal(total, in_flight=False)
                if spent_up is not None or not wait:
                    raise spent_up or BudgetExceeded(str(refusal))
                self._changed.wait(timeout=0.5)
            held = [Reservation(amount) for amount in amounts]
            self._hold(total, len(held))
            return held

    def affords(self, amount: Spend) -> bool:
        """Whether what is left on this node and those above but the run's pays ``amount``, calls in
        flight at their worst."""
        with self._changed:
            return self._refusal(amount, in_flight=True, of=self._own) is None

    def _refusal(
        self, amount: Spend, *, in_flight: bool, of: Sequence[Ledger] | None = None
    ) -> Exception | None:
        """The error for a cap that ``amount`` passes, ``in_flight`` with what is held, of these
        nodes or of all; or None."""
        for node in self._capped if of is None else of:
            total = node.spent + amount
            if in_flight and node._holds:
                total += node._held
            passed = _passed(node, total)
            if passed:
                error = RunBudgetExceeded if node.scope == "run" else BudgetExceeded
                several = f"leaves too little for {amount.calls:,} calls at once"
                left = "is spent" if amount.calls <= 1 else several
                return error(f"the {node.scope}'s cap {passed} {left}")
        return None

    def _hold(self, amount: Spend, reservations: int) -> None:
        for node in self._nodes:
            node._held += amount
            node._holds += reservations

    def settle(self, reservation: Reservation, spent: Spend) -> None:
        """Replace a reservation by what the call really took."""
        with self._changed:
            if reservation.settled:
                raise ValueError("a reservation is settled once")
            reservation.settled = True
            for node in self._nodes:
                node._holds -= 1
                # With nothing held it is exactly zero: sums of floats would leave a trace behind
                # that a full budget could wait for in vain.
                node._held = node._held - reservation.amount if node._holds else Spend()
                node.spent += spent
            self._changed.notify_all()

    def renew(self, reservation: Reservation, spent: Spend) -> None:
        """Count a failed attempt as ``spent`` and hold the same amount for the next one. Raises as
        :meth:`reserve_all` does when that no longer fits, with the attempt settled. Never waits:
        what it would wait for may be queued behind the caller."""
        with self._changed:
            self.settle(reservation, spent)
            self.reserve(reservation.amount, wait=False)
            reservation.settled = False

    def count_refused(self) -> None:
        """Count a prompt that was refused unsent. It costs nothing, but a loop over one would never
        end: past a sample's cap on calls, or :data:`MOST_REFUSED`, BudgetExceeded is raised."""
        with self._changed:
            for node in self._nodes[:-1]:
                node._refused += 1
                cap, made = node.budget.calls, node.spent.calls + node._refused
                if node._refused > MOST_REFUSED or (cap is not None and made > cap):
                    raise BudgetExceeded(
                        f"{node._refused:,} prompts were larger than the model's window: the "
                        f"{node.scope} may try no more"
                    )

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Give back what was reserved and never used; settled ones are left alone."""
        with self._changed:
            for reservation in reservations:
                if not reservation.settled:
                    self.settle(reservation, Spend())

    def add_past(self, spent: Spend, seconds: float = 0.0) -> None:
        """Count what the run spent before it was interrupted."""
        with self._changed:
            self.spent += spent
            self._started -= seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def seconds_left(self, *, own: bool = False) -> float | None:
        """Wall time until the nearest cap on seconds, None without one; ``own``: but the run's."""
        caps = ((node, node.budget.seconds) for node in (self._own if own else self._capped))
        left = [most - node.seconds for node, most in caps if most is not None]
        return max(0.0, min(left)) if left else None

    def left(self) -> dict[str, float]:
        """What this node's own caps on calls, tokens and dollars leave."""
        with self._changed:
            used = self.spent + self._held
            caps = {kind: getattr(self.budget, kind) for kind in ("calls", "tokens", "usd")}
            return {k: cap - (getattr(used, k) or 0) for k, cap in caps.items() if cap is not None}

    def remaining(self) -> dict[str, float | int | None]:
        """The tightest remaining amount per kind over this node and those above but the run's: what
        a model may be told of. None: no cap."""
        out: dict[str, float | int | None] = dict.fromkeys(("calls", "tokens", "usd"))
        with self._changed:
            for node in self._own:
                for kind, left in node.left().items():
                    other = out[kind]
                    out[kind] = max(0, left if other is None else min(other, left))
        return out | {"seconds": self.seconds_left(own=True)}


def hold_back(ledger: Ledger, amount: Spend) -> Ledger:
    """A node below ``ledger`` with what is left of its caps less ``amount``. The ledger itself
    where that would take more than half of it: then the turns need it more than a forced answer
    does. (Not a reservation: a call that would fit but for it would wait for it to settle.)"""
    left: dict[str, Any] = {}
    for kind, rest in ledger.left().items():
        held = getattr(amount, kind)
        if held is None or 2 * held > rest:
            return ledger
        left[kind] = rest - held
    return ledger.child(Budget(**left), scope="agent") if left else ledger


def _passed(node: Ledger, total: Spend) -> str:
    """Which of the node's caps ``total`` passes, or the empty string."""
    cap = node.budget
    if cap.seconds is not None and node.seconds >= cap.seconds:
        return f"seconds={cap.seconds:g}"
    if cap.usd is not None and total.usd is None:
        raise ConfigError(f"budget.{node.scope}.usd needs a model with a price")
    for kind in ("calls", "tokens", "usd"):
        most = getattr(cap, kind)
        if most is not None and getattr(total, kind) > most:
            return f"{kind}={most:.12g}"
    return ""
