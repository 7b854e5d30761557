"""What becomes of a question whose provider fails: every fault, through a whole run, over HTTP.

Each fault meets two questions, one that it strikes once and one that it strikes every time. A run
asks them all. Then the provider is in good health, and its resume shows what was pending.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.commands import run_tree
from helpers.fake_provider import (
    BEHAVIOURS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Behaviour,
    FakeProvider,
)
from rlm_eval.config.compose import compose_tree
from rlm_eval.models.protocol import prompt_digest

ATTEMPTS = 3
#: Those that take a timeout to notice, which is short for them alone.
SLOW = ("hang", "drip")
HEALTHY = "ok"
#: Faults whose names in ``BEHAVIOURS`` say too little for a table.
TOLD = {
    "torn_json": "200 with half of a JSON",
    "empty_body": "200 with an empty body",
    "short_body": "connection closed within the body",
    "short_chunks": "connection closed between two chunks",
    "error_in_200": "200 with an error in it",
    "html": "200 with an HTML page",
    "null_content": "content: null",
    "only_thoughts": "content: null, and thoughts",
    "refusal": "content: null, and a refusal",
    "tool_call": "content: null, and a tool's call",
    "unclosed_thought": "a thought without its end",
    "parts": "content in parts",
    "filtered_text": "half a text, finish_reason: content_filter",
    "filtered_prompt": "no choices, the prompt was filtered",
    "400_filter": "400, content filter",
    "thoughts_beside": "thoughts billed beside the completion",
    "huge_usage": "usage of 10^20 tokens",
    "text_usage": "usage in words and NaN",
    "cached_usage": "more tokens cached than sent",
    "empty_string": "content: an empty string",
    "out_of_tokens": "content: null, finish_reason: length",
    "filtered": "content: null, finish_reason: content_filter",
    "broken_off": "half a text, finish_reason: error",
    "half_usage": "usage without completion_tokens",
    "negative_usage": "usage below zero",
    "429_later": "429, Retry-After: 1",
    "429_tomorrow": "429, Retry-After: 86400",
    "429_quota": "429, quota exceeded",
    "overflow": "400, context length exceeded",
    "hang": "silence",
    "drip": "a byte now and then, for ever",
}
#: What models do that are well.
NO_FAULTS = (HEALTHY, "echo", "thinks", "own_temperature")
#: What every request would meet, and a run stops at. Of two it depends on what came before.
PERMANENT = ("401", "402", "403", "404", "429_quota")
STOPPING = (*PERMANENT, "400", "422")
QUICK = tuple(name for name in BEHAVIOURS if name not in (*NO_FAULTS, *SLOW, *PERMANENT))
ERRORS = Path(__file__).parent.parent / "models/provider_errors.jsonl"


@dataclass(frozen=True)
class Row:
    """One question: the ``fault`` it met, ``times`` over if it was asked so often, and what came of
    it. ``kind`` is how the first failed attempt was classified. ``recorded`` and ``billed`` are
    tokens, the harness's and the provider's; ``estimated`` says that some of them nobody reported.
    """

    fault: str
    times: int
    kind: str
    outcome: str
    requests: int
    scored: bool
    pending: bool
    recorded: int
    billed: int
    estimated: bool


class PlannedProvider(FakeProvider):
    """Gives each prompt a fate of its own: the n-th new one the n-th of ``fates``, a fault and how
    often it strikes. ``recover`` ends all faults and forgets what was counted."""

    def __init__(self, fates: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self._fates = iter(fates)
        self._well = False
        self._here = threading.local()
        self._counting = threading.Lock()
        self.fate_of: dict[str, tuple[str, int]] = {}
        self.requests_for: Counter[str] = Counter()
        self.billed_for: Counter[str] = Counter()

    def recover(self) -> None:
        self._well = True
        self.requests_for, self.billed_for = Counter(), Counter()

    def take(self, body: Mapping[str, Any]) -> Behaviour:
        super().take(body)
        prompt = self._here.prompt = prompt_digest(body["messages"])[0]
        with self._counting:
            if prompt not in self.fate_of:
                self.fate_of[prompt] = next(self._fates)
            self.requests_for[prompt] += 1
            fault, times = self.fate_of[prompt]
            fails = not self._well and self.requests_for[prompt] <= times
        return BEHAVIOURS[fault if fails else "ok"]

    def bill(self, prompt: int = PROMPT_TOKENS, completion: int = COMPLETION_TOKENS) -> None:
        super().bill(prompt, completion)
        with self._counting:
            self.billed_for[getattr(self._here, "prompt", "")] += prompt + completion


def fault_table(folder: Path, faults: Sequence[str] = QUICK, **settings: object) -> list[Row]:
    """A row for each of ``faults`` and each number of times it strikes. ``settings`` are of the
    run. Now and then comes a question that meets none, so that the circuit does not break."""
    folder.mkdir(exist_ok=True)
    fates: list[tuple[str, int]] = []
    for number, fault in enumerate(faults):
        fates += [(fault, 1), (fault, ATTEMPTS), *([(HEALTHY, 1)] if number % 3 == 2 else [])]
    with PlannedProvider(fates) as provider:
        tree = _tree(provider, folder, len(fates), settings)
        run_dir = _carry_out(tree)
        calls = pd.read_parquet(run_dir / "calls.parquet")
        results = pd.read_parquet(run_dir / "results.parquet").set_index("result_key")
        requests, billed = provider.requests_for, provider.billed_for
        provider.recover()
        _carry_out(tree)
        pending = provider.requests_for
    rows = []
    for key, group in calls[calls.result_key != ""].groupby("result_key"):
        prompt = group.prompt_sha256.iloc[0]
        fault, times = provider.fate_of[prompt]
        if fault == HEALTHY:
            continue
        errors = [error.partition(":")[0] for error in group.error if error]
        rows.append(
            Row(
                fault=fault,
                times=times,
                kind=errors[0] if errors else "",
                outcome=results.outcome[key],
                requests=requests[prompt],
                scored=bool(pd.notna(results.score[key])),
                pending=bool(pending[prompt]),
                recorded=int(group.prompt_tokens.sum() + group.completion_tokens.sum()),
                billed=billed[prompt],
                estimated=bool(group.usage_estimated.any()),
            )
        )
    return sorted(rows, key=lambda row: (faults.index(row.fault), row.times))


@dataclass(frozen=True)
class Stop:
    """A run of :data:`ASKED` questions whose first meets ``fault``: the ``requests`` until it
    stopped with ``exit_code``, the last line it ``said``; and those ``answered`` by the same
    command once all is well."""

    fault: str
    kind: str
    requests: int
    exit_code: int
    said: str
    answered: int


ASKED = 5


def stops(folder: Path) -> list[Stop]:
    rows = []
    for fault in STOPPING:
        with FakeProvider([fault]) as provider:
            tree = _tree(provider, folder / fault, ASKED, {})
            told = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
                code, requests = run_tree(tree), provider.requests
                run_tree(tree)
        calls = pd.read_parquet(next((folder / fault).rglob("calls.parquet")))
        calls = calls[calls.result_key != ""]
        kind = next(error.partition(":")[0] for error in calls.error if error)
        said = next(line for line in told.getvalue().splitlines() if "pending" in line)
        rows.append(Stop(fault, kind, requests, code, said, int((calls.error == "").sum())))
    return rows


def stops_report(rows: Sequence[Stop]) -> str:
    lines = [
        "| fault | classified as | requests | exit code | said | then answered |",
        f"|{'---|' * 6}",
    ]
    for row in rows:
        cells = [TOLD.get(row.fault, row.fault), row.kind, row.requests, row.exit_code, row.said]
        lines.append(f"| {' | '.join(map(str, [*cells, row.answered]))} |")
    return "\n".join(lines)


def errors_report() -> str:
    """The servers' own words, how they were read before and how they are; the suite asserts it."""
    lines = ["| server | status | before | now |", f"|{'---|' * 4}"]
    for line in ERRORS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        lines.append("| {server} | {status} | {before} | {expected} |".format(**row))
    return "\n".join(lines)


def _tree(
    provider: FakeProvider, folder: Path, n: int, settings: Mapping[str, object]
) -> dict[str, Any]:
    return compose_tree(
        [
            *("task=needle", "task.lengths=[300]", "task.variant=single_1", f"task.n={n}"),
            *("method=[direct]", "method.direct.overflow=refuse", "concurrency=1"),
            *("model=litellm", "model.name=openai/fake"),
            *(f"model.api_base={provider.api_base}", "model.timeout_s=20"),
            *(f"retry.attempts={ATTEMPTS}", "retry.base_s=0.001", "retry.max_s=0.002"),
            f"results_dir={folder / 'a'}",
            *(f"{key}={value}" for key, value in settings.items()),
        ]
    )


def _carry_out(tree: Mapping[str, Any]) -> Path:
    """The run's folder. Its summary goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        run_tree(tree)
    return next(Path(tree["results_dir"]).glob("*/journal.jsonl")).parent


COLUMNS = (
    *("fault", "classified as", "struck once", "struck every time", "scored", "pending"),
    *("tokens recorded / billed, once", "every time"),
)


def report(rows: Sequence[Row]) -> str:
    """One line per fault, as Markdown. Scored and pending are of the question it strikes every
    time; ``~`` marks tokens that the provider did not report."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for once, always in zip(rows[::2], rows[1::2], strict=True):
        flags = ["yes" if flag else "no" for flag in (always.scored, always.pending)]
        came = [f"{r.outcome}, {_count(r.requests, 'request')}" for r in (once, always)]
        name = TOLD.get(once.fault, once.fault.replace("_", " "))
        cells = [name, once.kind or "–", *came, *flags, _tokens(once), _tokens(always)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _tokens(row: Row) -> str:
    return f"{'~' if row.estimated else ''}{row.recorded} / {row.billed}"
