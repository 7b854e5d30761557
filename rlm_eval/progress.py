"""Live progress on standard error: a table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rlm_eval.records import PENDING, Call, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

PLAIN_EVERY_S = 15.0
#: Arms that a plain line names one by one; with more it tells of all together.
PLAIN_ARMS = 4


@dataclass
class _ArmState:
    total: int
    done: int = 0
    asked: int = 0
    correct: int = 0
    score: float = 0.0
    calls: int = 0
    tokens: int = 0
    cached: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0


class Progress:
    """Counts per arm as calls and results come in. Safe for threads."""

    def __init__(self, totals: Mapping[str, int], concurrency: int, console: Console) -> None:
        self._arms = {name: _ArmState(total) for name, total in totals.items()}
        self._arm_of: dict[str, _ArmState] = {}
        self._concurrency = concurrency
        self._console = console
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._last_line = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table, console=self._console, refresh_per_second=4
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
        else:
            self._print_line(force=True)

    def expect(self, key: str, arm: str) -> None:
        """Calls of this result key belong to ``arm``."""
        self._arm_of[key] = self._arms[arm]

    def called(self, call: Call) -> None:
        with self._lock:
            state = self._arm_of.get(call.result_key)
            if state is None:
                return
            state.calls += 1
            state.tokens += call.prompt_tokens + call.completion_tokens
            state.cached += call.cached_tokens
            priced = state.cost is not None and call.cost_usd is not None
            state.cost = (state.cost or 0.0) + (call.cost_usd or 0.0) if priced else None
        self._print_line()

    def finished(self, result: Result) -> None:
        with self._lock:
            state = self._arms[result.method]
            state.done += 1
            state.seconds += result.wall_s
            if result.answer.outcome not in PENDING:
                state.asked += 1
                state.correct += bool(result.score and result.score.correct)
                state.score += result.score.value if result.score else 0.0
        self._print_line(force=state.done == 1)

    def _left_s(self, state: _ArmState) -> float | None:
        """As if what is left took as long as what is done: too little where lengths grow."""
        if not state.done:
            return None
        return state.seconds / state.done * (state.total - state.done) / self._concurrency

    def _all(self) -> _ArmState:
        arms = list(self._arms.values())
        costs = [state.cost for state in arms]
        return _ArmState(
            total=sum(state.total for state in arms),
            done=sum(state.done for state in arms),
            asked=sum(state.asked for state in arms),
            correct=sum(state.correct for state in arms),
            score=sum(state.score for state in arms),
            calls=sum(state.calls for state in arms),
            tokens=sum(state.tokens for state in arms),
            cached=sum(state.cached for state in arms),
            cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        )

    def _left_in_all(self) -> float | None:
        """Of all arms; None until each has a result."""
        left = [self._left_s(state) for state in self._arms.values()]
        return None if None in left else sum(s for s in left if s is not None)

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("method", "done", "correct", "score", "calls", "tokens", "cached", "cost"):
            table.add_column(name, justify="left" if name == "method" else "right")
        table.add_column("left", justify="right")
        with self._lock:
            for name, state in self._arms.items():
                table.add_row(*_row(name, state, self._left_s(state)))
            if len(self._arms) > 1:
                table.add_section()
                table.add_row(*_row("all", self._all(), self._left_in_all()))
        return table

    def _print_line(self, *, force: bool = False) -> None:
        if self._live is not None:
            return
        with self._lock:
            now = time.monotonic()
            if not force and now - self._last_line < PLAIN_EVERY_S:
                return
            self._last_line = now
            line = f"{_duration(now - self._started)}  {self._told()}"
        print(line, file=sys.stderr, flush=True)

    def _told(self) -> str:
        """The plain line: all arms together, and each where they are few."""
        every, left = self._all(), self._left_in_all()
        parts = [
            f"{every.done}/{every.total} results",
            f"{every.correct} correct",
            f"{every.calls:,} calls",
            f"{every.tokens:,} tokens",
            _dollars(every.cost),
            *([] if left is None else [f"about {_duration(left)} left"]),
        ]
        if 1 < len(self._arms) <= PLAIN_ARMS:
            arms = self._arms.items()
            parts += [f"{name} {s.done}/{s.total} ({s.correct} correct)" for name, s in arms]
        return ", ".join(parts)


def _row(name: str, state: _ArmState, left: float | None) -> list[str]:
    return [
        name,
        f"{state.done}/{state.total}",
        f"{state.correct}/{state.asked}",
        f"{state.score / state.asked:.2f}" if state.asked else "–",
        f"{state.calls:,}",
        f"{state.tokens:,}",
        f"{state.cached / state.tokens:.0%}" if state.tokens else "–",
        _dollars(state.cost),
        "–" if left is None else _duration(left),
    ]


def _dollars(usd: float | None) -> str:
    return "unpriced" if usd is None else f"${usd:.2f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
