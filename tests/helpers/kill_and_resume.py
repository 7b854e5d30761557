"""Runs killed with SIGKILL and resumed until they are finished, and what their records then say.

    provider (this process, HTTP) ◀── litellm ── attempt (killed) ── journal ──▶ accounts

Every call in a journal is laid beside the very bill it belongs to.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.attempts import Attempt, Job, Stop, still_there
from helpers.billing_provider import INPUT_PRICE, OUTPUT_PRICE, Bill, BillingProvider
from rlm_eval.config.compose import compose_tree
from rlm_eval.journal.journal import FILE_NAME, attempt_id, read_events, record_size
from rlm_eval.journal.past import past_of
from rlm_eval.ledger import Spend
from rlm_eval.records import PENDING

#: Questions at once, and sub-calls at once of each: so many calls may be in flight at a kill.
QUESTIONS, SUB_CALLS = 4, 2
IN_FLIGHT = QUESTIONS * SUB_CALLS
METHODS = ("direct", "rlm")
TABLES = ("results", "calls")


#: Parts of an attempt, and for how many seconds one of them lasts, about.
START, WORK, REPORT = "as it starts", "as it works", "as it writes its tables"
LASTS_S = {START: 0.5, WORK: 0.8, REPORT: 0.3}


# -- a run -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Killed:
    """One kill: where, how many calls it cost (billed, and in no journal), and how many processes
    of the sandbox outlived it."""

    where: str
    lost: int
    left: int


@dataclass
class Run:
    """A run of ``n`` questions to each method in ``folder``, attempted again and again.
    ``settings`` are arguments of its command line."""

    folder: Path
    provider: BillingProvider
    n: int
    seed: int = 0
    settings: tuple[str, ...] = ()
    kills: list[Killed] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        with _COMPOSING:
            self.tree = compose_tree([*self._arguments(), *self.settings])
        self.expected = self.n * len(METHODS)
        self._others = set(run_dirs(self.folder))
        self._found: Path | None = None
        self._lost = len(accounts(self.provider, self.folder).lost)

    def _arguments(self) -> list[str]:
        return [
            *("task=needle", "task.lengths=[300]", "task.variant=single_1", f"task.n={self.n}"),
            *(f"seed={self.seed}", f"method=[{','.join(METHODS)}]", f"concurrency={QUESTIONS}"),
            *("method.rlm.prompt=orchestrator", f"method.rlm.concurrency={SUB_CALLS}"),
            *("model=litellm", "model.name=openai/fake", "model.tokenizer=cl100k_base"),
            *(f"model.price.input={INPUT_PRICE}", f"model.price.output={OUTPUT_PRICE}"),
            *(f"model.api_base={self.provider.api_base}", f"results_dir={self.folder}"),
            *("retry.base_s=0.01", "retry.max_s=0.05", "sandbox.packages=[]"),
        ]

    @property
    def run_dir(self) -> Path:
        """The run's own folder; before it is there, the one that holds all runs."""
        if self._found is None:
            self._found = next(iter(set(run_dirs(self.folder)) - self._others), None)
        return self._found or self.folder

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def tail(self) -> str:
        """The end of what all attempts printed."""
        return self.log.read_text()[-2000:]

    def attempt(
        self, *, stop: Stop | None = None, what: str = "run", file_limit: int | None = None
    ) -> Attempt:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.attempts += 1
        return Attempt(Job(what, self.tree, self.run_dir, file_limit), self.log, stop)

    def stop_at(self, stop: Stop, what: str = "run") -> Attempt:
        """An attempt that has reached ``stop`` and stands still."""
        attempt = self.attempt(stop=stop, what=what)
        if not attempt.wait_until(attempt.stopped):
            raise AssertionError(f"{stop} was never reached:\n{self.tail}")
        return attempt

    def kill_at(self, stop: Stop, what: str = "run") -> None:
        self.kill(self.stop_at(stop, what), str(stop))

    def kill(self, attempt: Attempt, where: str) -> bool:
        """Whether it was killed, and didn't just come to its end."""
        below = attempt.kill()
        self.provider.wait_idle()
        before, self._lost = self._lost, len(accounts(self.provider, self.folder).lost)
        if attempt.exit_code() != -signal.SIGKILL:
            return False
        self.kills.append(Killed(where, self._lost - before, still_there(below)))
        return True

    def kill_somewhere(self, chance: random.Random, *wheres: str) -> bool:
        """One attempt, by the run's folder or by its whole configuration, killed at a random moment
        of ``wheres``; whether it was killed before it came to its end."""
        where = chance.choice(wheres)
        by_folder = chance.random() < 0.5 and (self.run_dir / "config.yaml").exists()
        size = record_size(self.run_dir)
        attempt = self.attempt(what="resume" if by_folder else "run")

        def begun() -> bool:
            if where == WORK:
                return record_size(self.run_dir) > size
            return where == START or len(set(self.results())) == self.expected

        if not attempt.wait_until(begun) or attempt.ended_within(chance.uniform(0, LASTS_S[where])):
            return False
        return self.kill(attempt, f"at random, {where}")

    def finish(self) -> None:
        """Attempt it until nothing is pending any more."""
        code = 3
        for _ in range(10):
            code = self.attempt().wait()
            if code != 3:
                break
        if code:
            raise AssertionError(f"exit code {code}:\n{self.tail}")

    def results(self) -> list[str]:
        """The keys of the results in the journal that are not pending, in the order of writing."""
        events = read_events(self.run_dir, types=("result",))
        return [e["key"] for e in events if e["answer"]["outcome"] not in PENDING]


#: Hydra composes one configuration at a time.
_COMPOSING = threading.Lock()


def run_dirs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))


# -- what the records say --------------------------------------------------------------------------


@dataclass(frozen=True)
class Accounts:
    """The provider's bills beside the calls in the journals of all runs of a folder: ``pairs`` that
    belong together, ``lost`` bills without a call, ``invented`` calls without a bill."""

    pairs: tuple[tuple[Bill, Mapping[str, Any]], ...]
    lost: tuple[Bill, ...]
    invented: tuple[Mapping[str, Any], ...]

    @property
    def billed(self) -> int:
        """Tokens the provider charged."""
        return sum(bill.tokens for bill, _ in self.pairs) + self.lost_tokens

    @property
    def lost_tokens(self) -> int:
        return sum(bill.tokens for bill in self.lost)

    @property
    def recorded(self) -> int:
        """Tokens in the journals."""
        return sum(map(_tokens, [*self.invented, *(call for _, call in self.pairs)]))

    @property
    def assumed(self) -> int:
        """Tokens that journals hold above the bills, for calls whose bill nobody saw."""
        return sum(_tokens(call) - bill.tokens for bill, call in self.pairs if not bill.reported)

    def check(self) -> None:
        """Raise AssertionError unless the journals hold each bill to the cent, but for the lost,
        and more than was billed only where nobody saw the bill."""
        assert not self.invented
        for bill, call in self.pairs:
            usd = call["cost_usd"]
            assert abs(usd - bill.usd) < 1e-12 if bill.reported else usd > bill.usd
        assert self.assumed >= 0
        assert self.recorded == self.billed - self.lost_tokens + self.assumed


def accounts(provider: BillingProvider, folder: Path) -> Accounts:
    """Every call that the journals in ``folder`` hold laid beside the bill it belongs to."""
    calls: dict[object, list[Mapping[str, Any]]] = {}
    for run_dir in run_dirs(folder):
        for call in filter(_tokens, _sent(run_dir)):
            calls.setdefault(_sign(call), []).append(call)
    pairs, lost = [], []
    for bill in list(provider.bills):
        found = calls.get(bill.sign)
        if found:
            pairs.append((bill, found.pop()))
        else:
            lost.append(bill)
    return Accounts(tuple(pairs), tuple(lost), tuple(itertools.chain(*calls.values())))


def _sent(run_dir: Path) -> list[Mapping[str, Any]]:
    """The requests that this run itself sent, each once."""
    calls = {
        attempt_id(call): call
        for call in read_events(run_dir, types=("call",))
        if "reused_from" not in call and not call["cached_response"]
    }
    return list(calls.values())


def _tokens(call: Mapping[str, Any]) -> int:
    return int(call["prompt_tokens"] + call["completion_tokens"])


def _sign(call: Mapping[str, Any]) -> object:
    """What :attr:`Bill.sign` is for the call's bill."""
    if call["usage_estimated"]:
        return call["prompt_sha256"]
    return call["reasoning_tokens"], call["prompt_tokens"], call["completion_tokens"]


@dataclass(frozen=True)
class Verdict:
    """What the records of a finished run say. ``doubled``: results written twice though the first
    was not pending, and keys that are in a table twice. ``counted`` is what a resumed run takes for
    spent, ``journal`` what its calls add up to."""

    expected: int
    results: int
    doubled: int
    counted: Spend
    journal: Spend


def verdict(run: Run) -> Verdict:
    """Reads the run's journal and both of its tables, as parquet and as CSV."""
    keys = run.results()
    results, calls = (pd.read_parquet(run.run_dir / f"{name}.parquet") for name in TABLES)
    for name, frame in zip(TABLES, (results, calls), strict=True):
        assert len(pd.read_csv(run.run_dir / f"{name}.csv")) == len(frame)
    assert set(results.result_key) == set(keys)
    doubled = len(keys) - len(set(keys))
    doubled += int(results.result_key.duplicated().sum())
    doubled += int(calls.duplicated(["call_id", "attempt"]).sum())
    sent = _sent(run.run_dir)
    journal = Spend(len(sent), sum(map(_tokens, sent)), sum(call["cost_usd"] for call in sent))
    return Verdict(run.expected, len(results), doubled, past_of(run.run_dir).spent, journal)


# -- what is done to the runs ----------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """Runs of one folder, all finished, and what their records say."""

    runs: tuple[Run, ...]
    accounts: Accounts
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, provider: BillingProvider, *runs: Run) -> Finished:
        return cls(runs, accounts(provider, runs[0].folder), tuple(map(verdict, runs)))

    @property
    def kills(self) -> list[Killed]:
        return [kill for run in self.runs for kill in run.kills]


def killed_at_named_points(folder: Path) -> Finished:
    """One run killed at every point of its work and its report; a larger one that takes its results
    over, killed at that."""
    with BillingProvider() as provider:
        first = Run(folder, provider, n=8)
        for stop in (
            Stop("config.yaml"),
            Stop("before a call", 3),
            Stop("after an answer, before its line", 5),
            Stop("in the middle of a call's line", 6),
            Stop("trajectories/", 1),
            Stop("after a trajectory, before the result's line", 1),
            Stop("in the middle of a result's line"),
            Stop("after a result's line", 1),
        ):
            first.kill_at(stop)
        for name in TABLES:
            first.kill_at(Stop(f"{name}.parquet"))
            first.kill_at(Stop(f"{name}.csv"))
        first.finish()
        second = Run(folder, provider, n=10)
        second.kill_at(Stop("while results are reused", 2))
        second.kill_at(Stop("while results are reused", 9))
        second.finish()
        return Finished.of(provider, first, second)


def killed_at_random(folder: Path, kills: int, seed: int) -> list[Finished]:
    """Runs one after the other, each killed again and again until it is finished, ``kills`` times
    in all. A kill falls while an attempt starts, while it works or while it writes its tables, and
    every other resume is by the run's folder alone."""
    chance, out = random.Random(seed), list[Finished]()
    while kills:
        with BillingProvider() as provider:
            run = Run(folder / str(len(out)), provider, n=10, seed=len(out))
            while kills and run.kill_somewhere(chance, *[START] * 2, *[WORK] * 9, REPORT):
                kills -= 1
            run.finish()
            out.append(Finished.of(provider, run))
    return out


def killed_everywhere(folder: Path, kills: int = 50) -> tuple[Finished, list[Finished]]:
    """Runs killed at the named points, and those killed at ``kills`` random moments; two attempts
    at a time."""
    with ThreadPoolExecutor(2) as pool:
        named = pool.submit(killed_at_named_points, folder / "named")
        lanes = [
            pool.submit(killed_at_random, folder / str(lane), kills // 2, lane) for lane in range(2)
        ]
        return named.result(), [finished for lane in lanes for finished in lane.result()]


def report(everything: Sequence[Finished]) -> str:
    """The kills and what the records say after them, as Markdown."""
    kills: dict[str, list[Killed]] = {}
    for kill in itertools.chain(*(finished.kills for finished in everything)):
        kills.setdefault(kill.where, []).append(kill)
    lines = ["| killed | kills | calls lost, at most | processes left |", "|---|---|---|---|"]
    for where, group in kills.items():
        most, left = max(kill.lost for kill in group), sum(kill.left for kill in group)
        lines.append(f"| {where} | {len(group)} | {most} of {IN_FLIGHT} | {left} |")
    lines += ["", *_bills(everything)]
    return "\n".join(lines)


def _bills(everything: Sequence[Finished]) -> list[str]:
    columns = (
        *("run", "kills", "attempts", "results", "doubled", "calls billed", "lost", "bound"),
        *("tokens billed", "- lost", "+ assumed", "= in the journal"),
    )
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for number, finished in enumerate(everything, 1):
        found, verdicts = finished.accounts, finished.verdicts
        cells = [
            number,
            len(finished.kills),
            sum(run.attempts for run in finished.runs),
            " + ".join(f"{v.results} of {v.expected}" for v in verdicts),
            sum(v.doubled for v in verdicts),
            len(found.pairs) + len(found.lost),
            len(found.lost),
            len(finished.kills) * IN_FLIGHT,
            found.billed,
            found.lost_tokens,
            found.assumed,
            found.recorded,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines
