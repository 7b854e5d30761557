"""Live progress on standard error: a table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from rlm_eval.records import OWED, Call, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

PLAIN_EVERY_S = 15.0


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
    keys: set[str] = field(default_factory=set)


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
            if result.answer.outcome not in OWED:
                state.asked += 1
                state.correct += bool(result.score and result.score.correct)
                state.score += result.score.value if result.score else 0.0
        self._print_line(force=state.done == 1)

    def _left_s(self, state: _ArmState) -> float | None:
        if not state.done:
            return None
        return state.seconds / state.done * (state.total - state.done) / self._concurrency

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("method", "done", "correct", "score", "calls", "tokens", "cached", "cost"):
            table.add_column(name, justify="left" if name == "method" else "right")
        table.add_column("left", justify="right")
        with self._lock:
            for name, s in self._arms.items():
                left = self._left_s(s)
                table.add_row(
                    name,
                    f"{s.done}/{s.total}",
                    f"{s.correct}/{s.asked}",
                    f"{s.score / s.asked:.2f}" if s.asked else "–",
                    f"{s.calls:,}",
                    f"{s.tokens:,}",
                    f"{s.cached / s.tokens:.0%}" if s.tokens else "–",
                    "unpriced" if s.cost is None else f"${s.cost:.2f}",
                    "–" if left is None else _duration(left),
                )
        return table

    def _print_line(self, *, force: bool = False) -> None:
        if self._live is not None:
            return
        with self._lock:
            now = time.monotonic()
            if not force and now - self._last_line < PLAIN_EVERY_S:
                return
            self._last_line = now
            parts = [
                f"{name} {s.done}/{s.total} ({s.correct} correct, {s.calls} calls)"
                for name, s in self._arms.items()
            ]
            line = f"{_duration(now - self._started)}  " + "  ".join(parts)
        print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
