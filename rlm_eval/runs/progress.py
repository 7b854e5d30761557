"""Live progress on standard error: a table on a terminal, a plain line now and then elsewhere; or,
for a question that is asked alone, every turn (:class:`Watched`)."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlm_eval.ledger import Ledger
from rlm_eval.models.protocol import NOT_SAID
from rlm_eval.records import PENDING, Call, Result, plain

PLAIN_EVERY_S = 15.0
#: Distinct errors that the live table shows, the newest; characters of a sub-call's reply.
_SHOWN, _REPLY_SHOWN = 3, 200


@dataclass
class _Tally:
    total: int = 0
    done: int = 0
    scored: int = 0
    correct: int = 0
    score: float = 0.0
    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0

    def left_s(self, concurrency: int) -> float | None:
        """As if what is left took as long as what is done: too little where lengths grow."""
        if not self.done:
            return None
        return self.seconds / self.done * (self.total - self.done) / concurrency


@dataclass(eq=False, repr=False)
class Progress:
    """Counts per arm as calls and results come in; ``arms`` has the arm of each expected result
    key. What failed, be it a call, an engine or a sandbox, is shown once, as is a reply that was
    cut off before any text and yet paid for; what differs in numbers alone is one. ``model`` is
    named, and the caps of ``ledger``. Safe for threads."""

    arms: Mapping[str, str]
    concurrency: int
    console: Console | None = None
    redact: Callable[[str], str] = str
    model: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    #: Is told an arm's name and an event of its agent's trajectory; None: nobody looks on.
    watch: Callable[[str, Mapping[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        totals = Counter(self.arms.values())
        self._tallies = {name: _Tally(total) for name, total in totals.items()}
        self._first: dict[str, str] = {}
        #: Each distinct error, as it came first, with its count; in the order they came.
        self.errors: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._last_line = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        console = self.console or Console(stderr=True)
        on_screen = self.console is not None or sys.stderr.isatty()  # CI may force colours alone
        if (
            on_screen
            and console.is_terminal
            and not (console.is_dumb_terminal or console.is_jupyter)
        ):
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._print_line(force=True)

    def _failed(self, error: str, of: str = "") -> None:
        alike = of + re.sub(r"\b[0-9a-f-]{8,}\b|\d+", "#", error)
        with self._lock:
            told = self.redact(" ".join(error.split()))
            first = self._first.setdefault(alike, plain(told))
            self.errors[first] += 1
            if self.errors[first] == 1 and self._live is None:
                print(f"failed: {first}", file=sys.stderr, flush=True)

    def called(self, call: Call, reply: str = "") -> None:
        cut_off = call.finish_reason == "length" and not call.cached_response
        if call.error:
            self._failed(call.error)
        elif cut_off and len(reply.strip()) <= call.thought_chars:
            self._failed(f"{call.model}: {NOT_SAID['length'][1]}", of=call.model)
        arm = self.arms.get(call.result_key)
        if arm is None:
            return
        with self._lock:
            tally = self._tallies[arm]
            tally.calls += 1
            tally.tokens += call.prompt_tokens + call.completion_tokens
            tally.cost += call.cost_usd or 0.0
            tally.unpriced += call.cost_usd is None
        self._print_line()

    def finished(self, result: Result) -> None:
        outcome, error = result.answer.outcome, result.answer.error
        if error and outcome in ("invalid_answer", "sandbox_error"):
            self._failed(f"{outcome}: {result.method}: {error}")
        with self._lock:
            tally = self._tallies[result.method]
            tally.done += 1
            tally.seconds += result.wall_s
            if result.answer.outcome not in PENDING:
                tally.scored += 1
                tally.correct += bool(result.score and result.score.correct)
                tally.score += result.score.value if result.score else 0.0
        self._print_line(force=tally.done == 1)

    def _sum(self) -> tuple[_Tally, float | None]:
        """All arms together, and the seconds left; None until each arm has a result."""
        tallies = self._tallies.values()
        names = [each.name for each in fields(_Tally)]
        every = _Tally(**{name: sum(getattr(t, name) for t in tallies) for name in names})
        left = [tally.left_s(self.concurrency) for tally in tallies]
        return every, None if None in left else sum(s for s in left if s is not None)

    def _caps(self) -> Iterator[str]:
        """How much of each of the run's caps is spent, by earlier sessions too."""
        spent, cap = self.ledger.spent, self.ledger.budget
        if cap.usd is not None:
            yield f"${spent.usd or 0:.2f} of ${cap.usd:.2f}"
        for name in ("tokens", "calls"):
            if (most := getattr(cap, name)) is not None:
                yield f"{getattr(spent, name):,} of {most:,} {name}"
        if cap.seconds is not None:
            yield f"{duration(self.ledger.seconds)} of {duration(cap.seconds)}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("method", "done", "correct", "score", "calls", "tokens", "cost", "left"):
            table.add_column(name, justify="left" if name == "method" else "right")
        elapsed = duration(time.monotonic() - self._started)
        head = "  ".join(filter(None, (self.model, elapsed, *self._caps())))
        with self._lock:
            for name, tally in self._tallies.items():
                table.add_row(name, *_cells(tally, tally.left_s(self.concurrency)))
            if len(self._tallies) > 1:
                table.add_section()
                table.add_row("all", *_cells(*self._sum()))
            failed = [f"{n:,} × {error}" for error, n in [*self.errors.items()][-_SHOWN:]]
        below = [Text(f, "red", no_wrap=True, overflow="ellipsis") for f in failed]
        return Group(Text(head, "bold"), table, *below)

    def _print_line(self, *, force: bool = False) -> None:
        if self._live is not None:
            return
        with self._lock:
            now = time.monotonic()
            if not force and now - self._last_line < PLAIN_EVERY_S:
                return
            self._last_line = now
            every, left = self._sum()
        line = (
            f"{duration(now - self._started)}  {every.done}/{every.total} results, "
            f"{every.correct} correct, {every.calls:,} calls, {every.tokens:,} tokens, "
            f"{_dollars(every)}"
        )
        line += "".join(f", {cap}" for cap in self._caps())
        if left is not None:
            line += f", about {duration(left)} left"
        print(line, file=sys.stderr, flush=True)


class Watched(Progress):
    """Shows what happens as it happens. Methods side by side are told apart by their names; what is
    below a turn, a sub-call or a child RLM, stands further in."""

    def __enter__(self) -> Self:
        self.watch = self._happened
        return self

    def called(self, call: Call, reply: str = "") -> None:
        super().called(call, reply)
        arm = self.arms.get(call.result_key)
        if call.error or arm is None:
            return  # an error has been said
        tokens = f"{call.prompt_tokens:,} + {call.completion_tokens:,} tokens"
        spent = "from memory" if call.cached_response else f"{tokens}, {call.latency_s:.1f} s"
        what = {"root": "reply", "sub": "sub-call"}.get(call.role, f"{call.role} call")
        if call.role != "root":
            reply = " ".join(self.redact(reply).split())[:_REPLY_SHOWN]
        heading = f"{arm}: {what}: {spent}; so far {_spent(self._tallies[arm])}"
        self._show(call.depth or call.role != "root", heading, reply)

    def finished(self, result: Result) -> None:
        super().finished(result)
        answer, spent = result.answer, _spent(self._tallies[result.method])
        heading = f"{result.method}: {answer.outcome} after {result.wall_s:.1f} s: {spent}"
        self._show(0, heading, answer.error)

    def _happened(self, arm: str, event: Mapping[str, Any]) -> None:
        if event["type"] == "block":
            self._show(event["depth"], f"{arm}: output", event["output"])

    def _show(self, depth: int, heading: str, text: str = "") -> None:
        below = [f"  {line}" for line in self.redact(text).strip("\n").splitlines()]
        told = plain("\n".join("  " * depth + line for line in [heading, *below]))
        with self._lock:
            print(told, file=sys.stderr, flush=True)

    def _print_line(self, *, force: bool = False) -> None:
        """Each call has said it."""


def _spent(tally: _Tally) -> str:
    return f"{tally.calls:,} calls, {tally.tokens:,} tokens, {_dollars(tally, 4)}"


def _cells(tally: _Tally, left: float | None) -> list[str]:
    return [
        f"{tally.done}/{tally.total}",
        f"{tally.correct}/{tally.scored}",
        f"{tally.score / tally.scored:.2f}" if tally.scored else "–",
        f"{tally.calls:,}",
        f"{tally.tokens:,}",
        _dollars(tally),
        "–" if left is None else duration(left),
    ]


def _dollars(tally: _Tally, digits: int = 2) -> str:
    return "unpriced" if tally.unpriced else f"${tally.cost:.{digits}f}"


def duration(seconds: float) -> str:
    """As a clock has it: minutes and seconds, from an hour on with the hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
