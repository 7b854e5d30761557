"""Budgets: reserve before a call, settle after it, over the whole tree run ⊃ sample ⊃ child RLM.

A reservation assumes the worst (the whole prompt, the largest completion), so a cap on tokens or
dollars is passed only where a provider bills more than that. When only calls in flight stand
between a request and its cap, ``reserve`` waits for them to settle rather than refuse what may
fit; so nobody may wait who holds a reservation (``wait=False``, and :meth:`Ledger.renew`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from rlm_eval.errors import BudgetExceeded, ConfigError, RunBudgetExceeded


@dataclass(frozen=True)
class Spend:
    """An amount of work. ``usd`` is None when a model without a price took part."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Spend) -> Spend:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spend(self.calls + other.calls, self.tokens + other.tokens, usd)


@dataclass(frozen=True)
class Budget:
    """Caps; None is no cap. ``tokens`` counts prompt and completion, ``seconds`` wall time."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            cap = getattr(self, item.name)
            if cap is not None and cap <= 0:
                raise ConfigError(f"a budget's {item.name} must be above 0, got {cap}")

    @property
    def bounds_what_is_bought(self) -> bool:
        """A cap on tokens or dollars: what methods that spend up to a cap look at."""
        return self.tokens is not None or self.usd is not None


@dataclass
class Reservation:
    """A promise of at most ``amount``; settled exactly once, unless a retry renews it."""

    amount: Spend
    settled: bool = False


def refuse_unpriced(budgets: Mapping[str, Budget], unpriced: Mapping[str, str]) -> None:
    """Raise ConfigError when a budget (by its scope's name) caps dollars and a model of
    ``unpriced`` (configuration key → name) has no price: what it spends could not be seen."""
    for scope, budget in budgets.items():
        if budget.usd is not None and unpriced:
            raise ConfigError(_unpriced(scope, " and ".join(unpriced.values()), *unpriced))


def _unpriced(scope: str, model: str, *keys: str) -> str:
    wanted = " and ".join(f"{key}.price.input and .output" for key in keys or ("model",))
    return (
        f"budget.{scope}.usd is set but {model} has no price: set {wanted}, or cap tokens instead"
    )


@dataclass
class _Account:
    """What a node has spent and holds. With nothing held, ``reserved`` is exactly zero: sums of
    floats would leave a trace behind that a full budget could wait for in vain."""

    spent: Spend = field(default_factory=Spend)
    reserved: Spend = field(default_factory=Spend)
    holds: int = 0

    def hold(self, amount: Spend) -> None:
        self.reserved += amount
        self.holds += 1

    def give_back(self, amount: Spend) -> None:
        self.holds -= 1
        held = self.reserved
        usd = None if held.usd is None or amount.usd is None else held.usd - amount.usd
        back = Spend(held.calls - amount.calls, held.tokens - amount.tokens, usd)
        self.reserved = back if self.holds else Spend()


class Ledger:
    """One node of the budget tree. Every call charges its node and all nodes above."""

    def __init__(
        self, budget: Budget | None = None, *, scope: str = "run", parent: Ledger | None = None
    ) -> None:
        self.budget = budget or Budget()
        self.scope = scope
        self._parent = parent
        self._changed: threading.Condition = parent._changed if parent else threading.Condition()
        self._account = _Account()
        self._started = time.monotonic()

    def child(self, budget: Budget | None = None, *, scope: str = "sample") -> Ledger:
        """A node below this one: it can spend what its own caps and all caps above leave."""
        return Ledger(budget, scope=scope, parent=self)

    def _lineage(self) -> Iterator[Ledger]:
        node: Ledger | None = self
        while node is not None:
            yield node
            node = node._parent

    @property
    def run(self) -> Ledger:
        """The topmost node: what serves more than one sample, an index say, is paid here, within
        the run's caps alone."""
        *_, top = self._lineage()
        return top

    def reserve(self, amount: Spend, *, wait: bool = True) -> Reservation:
        """Hold ``amount`` on this node and all above, or raise (see :meth:`reserve_all`)."""
        return self.reserve_all([amount], wait=wait)[0]

    def reserve_all(self, amounts: Sequence[Spend], *, wait: bool = True) -> list[Reservation]:
        """Hold a whole batch at once, or raise and hold nothing.

        BudgetExceeded for a sample's or child's cap, RunBudgetExceeded for the run's;
        ConfigError when a USD cap is set and the amount has no price. Without ``wait``, what is
        held by calls in flight counts as spent.
        """
        total = sum(amounts, Spend())
        with self._changed:
            while not self._fits(total, wait):
                self._changed.wait(timeout=0.5)
            return [self._hold(Reservation(amount)) for amount in amounts]

    def _hold(self, reservation: Reservation) -> Reservation:
        for node in self._lineage():
            node._account.hold(reservation.amount)
        reservation.settled = False
        return reservation

    def _fits(self, amount: Spend, wait: bool) -> bool:
        """True if the amount fits now, False if it may fit once calls in flight settle."""
        fits_now = True
        for node in self._lineage():
            spent, held = node._account.spent, node._account.reserved
            node._raise_if_over(spent + amount if wait else spent + held + amount)
            fits_now = fits_now and not node._over(spent + held + amount)
        return fits_now

    def affords(self, amount: Spend) -> bool:
        """Whether what is left on this node and all above pays ``amount``, calls in flight at
        their worst."""
        with self._changed:
            return not any(
                node._over(node._account.spent + node._account.reserved + amount)
                for node in self._lineage()
            )

    def _over(self, total: Spend) -> str:
        """Which cap ``total`` passes, or the empty string."""
        cap = self.budget
        if cap.seconds is not None and time.monotonic() - self._started >= cap.seconds:
            return f"seconds={cap.seconds:g}"
        if cap.calls is not None and total.calls > cap.calls:
            return f"calls={cap.calls}"
        if cap.tokens is not None and total.tokens > cap.tokens:
            return f"tokens={cap.tokens}"
        if cap.usd is not None:
            if total.usd is None:
                raise ConfigError(_unpriced(self.scope, "the model"))
            if total.usd > cap.usd:
                return f"usd={cap.usd:g}"
        return ""

    def _raise_if_over(self, total: Spend) -> None:
        over = self._over(total)
        if over:
            error = RunBudgetExceeded if self.scope == "run" else BudgetExceeded
            raise error(f"the {self.scope}'s cap {over} is spent")

    def settle(self, reservation: Reservation, spent: Spend) -> None:
        """Replace a reservation by what the call really took."""
        with self._changed:
            if reservation.settled:
                raise ValueError("a reservation is settled once")
            reservation.settled = True
            for node in self._lineage():
                node._account.give_back(reservation.amount)
                node._account.spent += spent
            self._changed.notify_all()

    def renew(self, reservation: Reservation, spent: Spend) -> None:
        """Count a failed attempt as ``spent`` and hold the same amount for the next one.

        Raises as :meth:`reserve_all` does when that no longer fits, with the attempt settled.
        Never waits: what it would wait for may be queued behind the caller.
        """
        with self._changed:
            self.settle(reservation, spent)
            self._fits(reservation.amount, wait=False)
            self._hold(reservation)

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Give back what was reserved and never used; settled ones are left alone."""
        with self._changed:
            for reservation in reservations:
                if not reservation.settled:
                    self.settle(reservation, Spend())

    def add_past(self, spent: Spend, seconds: float = 0.0) -> None:
        """Count what an interrupted run of the same name already spent: no budget is reset."""
        with self._changed:
            self._account.spent += spent
            self._started -= seconds

    @property
    def spent(self) -> Spend:
        return self._account.spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def counts_tokens(self) -> bool:
        """Whether a cap on tokens or dollars holds here, so that reservations must be exact."""
        return any(
            node.budget.tokens is not None or node.budget.usd is not None
            for node in self._lineage()
        )

    def seconds_left(self) -> float | None:
        """Wall time until the nearest cap on seconds, None without one."""
        left = [
            node.budget.seconds - node.seconds
            for node in self._lineage()
            if node.budget.seconds is not None
        ]
        return max(0.0, min(left)) if left else None

    def remaining(self) -> dict[str, float | int | None]:
        """The tightest remaining amount per kind over this node and all above (None: no cap)."""
        out: dict[str, float | int | None] = {"seconds": self.seconds_left()}
        with self._changed:
            for kind in ("calls", "tokens", "usd"):
                left = []
                for node in self._lineage():
                    cap = getattr(node.budget, kind)
                    used = getattr(node._account.spent + node._account.reserved, kind)
                    if cap is not None:
                        left.append(max(0, cap - (used or 0)))
                out[kind] = min(left) if left else None
        return out
