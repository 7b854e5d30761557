"""One run from its checked configuration to its folder: what is there, what is left, the report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlm_eval.assemble import Parts, all_work, assemble
from rlm_eval.config import RunConfig
from rlm_eval.errors import ConfigError, is_the_machines
from rlm_eval.finish import finish
from rlm_eval.forecast import Expected, expected, refuse_over_cap
from rlm_eval.interrupts import interrupts
from rlm_eval.journal import Journal, record_size
from rlm_eval.ledger import Ledger
from rlm_eval.models.protocol import ChatModel
from rlm_eval.past import Past, left_to_measure, past_of, take_over
from rlm_eval.plan import experience_of, in_one_line, keep_forecast, lacking, show_plan
from rlm_eval.progress import Progress
from rlm_eval.provenance import redactor_of, write_record
from rlm_eval.records import Call
from rlm_eval.runner import RunInfo, Runner, RunOutcome, Work
from rlm_eval.sealing import seal_of, sealed_call
from rlm_eval.serving import served


def carry_out(config: RunConfig) -> int:
    """Do the run. Returns the exit code; raises ConfigError before anything has started."""
    parts = assemble(config)
    try:
        if config["dry_run"]:
            show_plan(parts)
            return 0
        return _run(parts)
    except OSError as error:
        if not is_the_machines(error):
            raise
        where = error.filename or config["results_dir"]
        kept = "All that was recorded is kept: make room, then run the same command again"
        print(f"rlm_eval: stopped: {error.strerror} ({where}). {kept}", file=sys.stderr)
        return 1
    finally:
        for arm in parts.arms:
            arm.method.close()


def _run(parts: Parts) -> int:
    config = parts.config
    run_dir = Path(config["results_dir"]) / parts.run_id
    pairs = list(parts.task.build())
    if not pairs:
        raise ConfigError("the task gave no samples: raise task.n or check task.path")
    work = all_work(parts, pairs)
    size, past = record_size(run_dir), past_of(run_dir)
    if all(w.key in past.done for w in work):
        print(f"this run is finished: all {len(work)} results are there", file=sys.stderr)
        return finish(parts, run_dir, 0, "")
    rows = _forecast(parts, work, run_dir, past)
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"results_dir={run_dir.parent} can't be made: {error.strerror}"
        ) from error
    with Journal(run_dir, redactor_of(config)) as journal:
        if journal.found != size:  # another process ended meanwhile
            past = past_of(run_dir)
        taken = take_over(
            Path(config["results_dir"]), run_dir, {w.key for w in work}, past, journal
        )
        past = past_of(run_dir) if taken else past
        todo = [_again(w, past) for w in work if w.key not in past.done]
        _say_where_we_are(len(work), len(todo), taken, run_dir)
        write_record(parts, run_dir, journal.redact)
        for note in lacking(parts):
            print(note, file=sys.stderr)
        if rows:
            keep_forecast(rows, run_dir)
            print(in_one_line(rows), file=sys.stderr)
        outcome = _carry_on(parts, run_dir, todo, past, journal)
    return finish(parts, run_dir, outcome.owed, outcome.stopped)


def _forecast(parts: Parts, work: Sequence[Work], run_dir: Path, past: Past) -> list[Expected]:
    """What is left is expected to take; empty for stand-ins, which cost nothing. Raises ConfigError
    where a run on hosted models would pass its cap in dollars."""
    if parts.scripted:
        return []
    left = left_to_measure(run_dir.parent, run_dir, {w.key for w in work}, past)
    rows = expected(parts, [w for w in work if w.key in left], experience_of(parts))
    cap = parts.run_budget.usd
    if cap is not None and parts.config["stop_on_forecast"]:
        refuse_over_cap(rows, cap, past.spent.usd or 0.0)
    return rows


def _carry_on(
    parts: Parts, run_dir: Path, todo: Sequence[Work], past: Past, journal: Journal
) -> RunOutcome:
    """Open the models and do what is left."""
    from rich.console import Console

    ledger = Ledger(parts.run_budget)
    ledger.add_past(past.spent, past.seconds)
    concurrency = parts.config["concurrency"] or _default_concurrency(parts.root)
    totals = Counter(work.arm.name for work in todo)
    progress = Progress(totals, concurrency, Console(stderr=True))
    for work in todo:
        progress.expect(work.key, work.arm.name)
    seal = seal_of(parts.task, journal.redact)

    def record(call: Call, reply: str) -> None:
        journal.call(*sealed_call(call, reply, seal))
        progress.called(call)

    sub_name = parts.models.get("sub", parts.root).info.name
    info = RunInfo(
        parts.run_id, run_dir, parts.root.info.name, sub_name, parts.scripted, parts.revision
    )
    with served(parts, journal, record) as door:
        runner = Runner(info, parts.task, door, ledger, parts.sample_budget, journal, progress)
        with interrupts(runner.stop, run_dir), progress:
            return runner.run(todo, concurrency)


def _again(work: Work, past: Past) -> Work:
    return replace(work, restart=past.restarts.get(work.key, 0))


def _default_concurrency(root: ChatModel) -> int:
    return 1 if root.info.endpoint == "local" else 16


def _say_where_we_are(total: int, todo: int, taken: int, run_dir: Path) -> None:
    if taken:
        print(f"{taken} results taken over from other runs of the same setting", file=sys.stderr)
    if todo < total:
        print(f"continuing {run_dir}: {total - todo} of {total} results are there", file=sys.stderr)
