"""One run from its parts to its end: what is there already, what is left, tables and summary."""

from __future__ import annotations

import errno
import json
import os
import resource
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rlm_eval.config.check import RunConfig
from rlm_eval.config.compose import resuming
from rlm_eval.config.credentials import secrets_in
from rlm_eval.errors import PERMANENT, ConfigError, is_the_machines
from rlm_eval.journal.environment import (
    recorded_configuration,
    write_configuration,
    write_environment,
)
from rlm_eval.journal.journal import Journal, damage, read_events, record_size, write_atomically
from rlm_eval.journal.past import Past, finished_beside, past_of, reuse, run_name
from rlm_eval.journal.redaction import Redactor, secrets_of
from rlm_eval.ledger import Ledger
from rlm_eval.models.client import CallSink, ModelClient
from rlm_eval.models.local.model import LocalModel
from rlm_eval.models.local.weights import SHA256, file_sha256
from rlm_eval.records import Call, content_hash, now, plain
from rlm_eval.runs.assemble import KEYS, Parts, all_work, samples_of
from rlm_eval.runs.contact import first_contact
from rlm_eval.runs.forecast import Expected, expected
from rlm_eval.runs.plan import (
    experience_of,
    in_one_line,
    published_runs,
    show_plan,
    stop_on_forecast,
    warnings,
)
from rlm_eval.runs.progress import Progress
from rlm_eval.runs.runner import Runner, RunOutcome, Work, judge_of

FINISHED, FAILED, BAD_INPUT, PENDING_LEFT, INTERRUPTED = 0, 1, 2, 3, 130
#: Why a run stopped, when a signal asked for it.
_BY_SIGNAL = "interrupted"


@dataclass(frozen=True)
class Host:
    """Where a run is carried out: what shows its progress; whether its summary and its folder go to
    standard output; whether it has a process that ends with it. Else Ctrl-C is not the run's to
    handle, and a machine that fails raises OSError."""

    progress: type[Progress] = Progress
    prints: bool = True
    exits: bool = True


COMMAND_LINE = Host()


def carry_out_parts(parts: Parts, run_dir: Path | None = None, host: Host = COMMAND_LINE) -> int:
    """Do the run, in the folder that its name says or in ``run_dir``. Returns the exit code;
    raises ConfigError before anything has started."""
    run_dir = run_dir or parts.folder
    _allow_files()
    try:
        work = all_work(parts, samples_of(parts.task))
        if parts.config["dry_run"]:
            show_plan(parts, run_dir, work)
            return FINISHED
        if not work:
            print("no context falls to this shard", file=sys.stderr)
            return FINISHED
        outcome = _run(parts, run_dir, work, host)
        del work  # with every input
        return _finish(parts, run_dir, outcome, host)
    except OSError as error:
        inside = str(error.filename or run_dir).startswith(str(run_dir)) and not run_dir.exists()
        gone = error.errno == errno.ESTALE or (error.errno == errno.ENOENT and inside)
        if not host.exits or (not is_the_machines(error) and not gone):
            raise
        where = error.filename or run_dir
        kept = "All that was recorded is kept: free what it lacks, then run the same command again"
        if gone:
            where, kept = run_dir, "Where it was moved to, resume it there; else run it again"
        print(f"rlm_eval: stopped: {error.strerror} ({where}). {kept}", file=sys.stderr)
        return FAILED
    finally:
        for arm in parts.arms:
            arm.method.close()


def _allow_files() -> None:
    """As many open files as the machine has for a process: an engine's proxy takes some hundred."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if 0 <= soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _run(parts: Parts, run_dir: Path, work: Sequence[Work], host: Host) -> RunOutcome:
    check_writable(run_dir)
    size, past = record_size(run_dir), past_of(run_dir)
    missing = {item.key for item in work} - past.done
    if not missing:
        print(f"this run is finished: all {len(work)} results are there", file=sys.stderr)
        _write_reading(parts, run_dir)
        return RunOutcome(0, 0)
    found = finished_beside(run_dir, missing)
    left = missing - found.keys()
    rows = _forecast(parts, [item for item in work if item.key in left], past)
    sandboxes = {arm.name: getattr(arm.method, "sandbox", None) for arm in parts.arms}
    # This starts them. Raises ConfigError for a level that the machine lacks.
    levels = {name: box.level for name, box in sandboxes.items() if box is not None}
    with Journal(run_dir, redactor_of(parts.config), parts.task.seal) as journal:
        if journal.found != size:  # another process ended meanwhile
            past = past_of(run_dir)
            found = {key: run for key, run in found.items() if key not in past.done}
        if found:
            _take_over(found, parts, run_dir, work, past, journal)
            past = past_of(run_dir)
        todo = [w for w in work if w.key not in past.done]
        todo = [replace(w, restart=past.restarts.get(w.key, 0)) for w in todo]
        # A question that is refused each time would else end each session at its start.
        todo.sort(key=lambda item: item.restart)
        if past.damage:
            print(past.damage, file=sys.stderr)
        if len(todo) < len(work):
            there = f"{len(work) - len(todo)} of {len(work)} results are there"
            print(f"continuing {run_dir}: {there}", file=sys.stderr)
        _write_environment(parts, run_dir, levels, journal.redact)
        for note in warnings(parts, todo):
            print(plain(note), file=sys.stderr)
        if rows:
            path = run_dir / "forecast.json"
            if not path.exists():  # what the first session expects counts at the end
                write_atomically(path, json.dumps([asdict(row) for row in rows], indent=1))
            print(in_one_line(rows, parts.at_once), file=sys.stderr)
        if not todo:
            return RunOutcome(0, 0)
        return _work_off(parts, run_dir, todo, past, journal, host)


def _take_over(
    found: Mapping[str, Path],
    parts: Parts,
    run_dir: Path,
    work: Sequence[Work],
    past: Past,
    journal: Journal,
) -> None:
    """Copy what other runs have ``found`` of the work, and say so."""
    sub = parts.sub_model  # of which an arm that asks none says nothing in its key
    own = {w.key: {"sub_model": sub, "constant_score": w.constant_score} for w in work}
    reuse(found, past, journal, own)
    told = f"{len(found)} results reused from other runs of the same setting"
    if any(run_name(run) != run_name(run_dir) for run in found.values()):
        told += "; what other runs paid for them is in no bill or cap of this one"
    print(told, file=sys.stderr)


def check_writable(run_dir: Path) -> None:
    """Raise ConfigError where nothing can be written to ``run_dir``, whose parent is made."""
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        there = run_dir if run_dir.exists() else run_dir.parent
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, f"{there} is no folder that can be written to")
    except OSError as error:
        raise ConfigError(
            f"results_dir={run_dir.parent} can't be made: {error.strerror}"
        ) from error


def _forecast(parts: Parts, work: Sequence[Work], past: Past) -> list[Expected]:
    """What is left is expected to take; empty for stand-ins, which cost nothing. Raises ConfigError
    where a run on hosted models would pass its cap in dollars."""
    if parts.scripted:
        return []
    rows = expected(parts, work, experience_of(parts))
    stop_on_forecast(parts, rows, past)
    return rows


def redactor_of(config: RunConfig) -> Redactor:
    """Cuts out the environment's keys, under whatever name the configuration takes them."""
    nodes = [config[key] for key in KEYS.values() if config[key]]
    named = {str(node.get("api_key_env")) for node in nodes}
    return Redactor(secrets_of(os.environ, named) | secrets_in(config.tree))


def _write_reading(parts: Parts, run_dir: Path) -> None:
    """Of a finished run's configuration, write how results are to be read, where that is new."""
    recorded, stored = recorded_configuration(run_dir), parts.config.stored
    new = {"analysis": stored["analysis"], "demonstration": parts.demonstration}
    if recorded and recorded | new != recorded:
        write_configuration(run_dir, recorded | new, redactor_of(parts.config))


def _write_environment(
    parts: Parts, run_dir: Path, levels: Mapping[str, str], redact: Callable[[str], str]
) -> None:
    weights: str | None = None
    if isinstance(parts.root, LocalModel):
        gguf = parts.root.gguf
        weights = SHA256 if gguf is None else file_sha256(Path(gguf))
    judge = judge_of(parts.task)
    write_environment(
        run_dir,
        {**parts.config.stored, "demonstration": parts.demonstration},
        redact,
        code_revision=content_hash(parts.sources),
        fingerprints=parts.fingerprints,
        sources=parts.sources,
        revisions={a.name: a.sources for a in parts.arms},
        models=parts.models_of_arms,
        prompts={a.name: content_hash(a.method.prompt_source()) for a in parts.arms},
        judge_prompt=content_hash(judge.source) if judge else None,
        sandbox=levels,
        endpoints={role: info.endpoint for role, info in parts.infos.items()},
        task_card=parts.task.card,
        task_source=getattr(parts.task, "source", None),
        model_sha256=weights,
    )


def _work_off(
    parts: Parts, run_dir: Path, todo: Sequence[Work], past: Past, journal: Journal, host: Host
) -> RunOutcome:
    """Open the models and do what is left."""
    name = parts.root.info.name
    if parts.root.info.endpoint == "local":
        print(f"loading {name}: this takes seconds", file=sys.stderr)
    #: Where a bad request is its question's own, and not the settings'.
    answering: set[tuple[str, str]] = set()

    def record(call: Call, reply: str) -> None:
        journal.call(call, reply)
        if not call.result_key:  # of the first contact, which says itself what is wrong
            return
        progress.called(call, reply)
        model, kind = (call.model, call.endpoint), call.error.partition(":")[0]
        if not call.error:
            answering.add(model)
        elif kind in PERMANENT and (kind != "bad_request" or model not in answering):
            runner.stop(f"{kind}, which every other request would meet as well")

    sub = parts.sub_model
    about = {"run_id": parts.run_id, "model": name, "sub_model": sub, "scripted": parts.scripted}
    with served(parts, journal, record) as client:
        # The embedded model may have been waited for, while another run did some of this.
        local = parts.root.info.endpoint == "local"
        if late := finished_beside(run_dir, {w.key for w in todo}) if local else {}:
            _take_over(late, parts, run_dir, todo, past, journal)
            todo = [w for w in todo if w.key not in late]
        ledger = Ledger(parts.run_budget)  # whose seconds begin when the models are there
        ledger.add_past(past.spent, past.seconds)
        arms = {work.key: work.arm.name for work in todo}
        progress = host.progress(
            arms, parts.at_once, redact=journal.redact, model=name, ledger=ledger
        )
        for line in first_contact(parts, client, ledger):
            print(line, file=sys.stderr)
        runner = Runner(about, parts.task, client, ledger, parts.sample_budget, journal, progress)
        command = resuming(parts.config.stored, run_dir)
        with _interrupts(runner.stop, command) if host.exits else nullcontext(), progress:
            outcome = runner.run(todo, parts.at_once)
    return replace(outcome, errors=progress.errors)


@contextmanager
def served(parts: Parts, journal: Journal, record: CallSink) -> Iterator[ModelClient]:
    """The client of the run's models, open within. What these say of themselves is journaled."""
    models = parts.every_model
    try:
        for role, model in models.items():
            try:
                model.open()
            except ConfigError as error:
                raise error.within(KEYS[role]) from error
        for role, opened in parts.infos.items():
            about = {"role": role, "opened_at": now(), **asdict(opened)}
            journal.append({"type": "model", **about})
        yield ModelClient(
            parts.models,
            record,
            temperature=parts.config["temperature"],
            retry=parts.retry,
            memoize=parts.config["memoize"],
            embedder=parts.embedder,
        )
    finally:
        for model in models.values():
            model.close()


@contextmanager
def _interrupts(stop: Callable[[str], None], command: str) -> Iterator[None]:
    """The first Ctrl-C lets what is in flight end, the second leaves at once."""
    pressed = 0
    how = f"continue with: {command}"

    def end() -> None:
        stop(_BY_SIGNAL)
        print(f"\nfinishing what is in flight (Ctrl-C again: stop now); {how}", file=sys.stderr)

    def handle(number: int, frame: Any) -> None:
        # Python raises where a signal's handler prints while the code it interrupts does.
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            table = os.isatty(2) and os.environ.get("TERM") != "dumb"
            cursor = "\x1b[?25h" if table else ""  # which the table of progress hides
            with suppress(OSError):  # nobody may read it any more
                os.write(2, f"{cursor}\nstopped now; {how}\n".encode())
            os._exit(INTERRUPTED)
        threading.Thread(target=end, daemon=True).start()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(parts: Parts, run_dir: Path, outcome: RunOutcome, host: Host) -> int:
    """Tables, figures and, where it is printed, the summary on stdout; the exit code."""
    import pandas as pd

    from rlm_eval.analysis.summary import print_summary, write_summary
    from rlm_eval.journal.tables import write_tables

    bad: list[str] = []
    write_tables(read_events(run_dir, ("result", "call"), bad), run_dir)
    summary = write_summary(run_dir)
    if host.prints:
        print_summary(summary, Console())
        columns = ["prompt_tokens", "cached_tokens"]
        sent, cached = pd.read_parquet(run_dir / "calls.parquet", columns=columns).sum()
        if sent:
            share = f"{cached / sent:.0%} of them from the prompt cache"
            print(f"prompt tokens: {sent:,} sent for these results, {share}")
    if told := damage(run_dir, bad):
        print(told, file=sys.stderr)
    for error, count in outcome.errors.items():
        print(f"{count:,} × {error}", file=sys.stderr)
    if outcome.stopped and outcome.stopped != _BY_SIGNAL:
        told = plain(redactor_of(parts.config)(outcome.stopped))
        print(f"stopped early: {told}", file=sys.stderr)
    if outcome.pending:
        mend = any(error.partition(":")[0] in PERMANENT for error in outcome.errors)
        then = f"{'mend what failed, then ' if mend else ''}run the same command again"
        if outcome.stopped.startswith("the run's cap"):
            again = "a new run, which reuses these results and whose cap counts from 0"
            then = f"raise that cap ({again})"
        print(f"{outcome.pending} results are still pending: {then}", file=sys.stderr)
    if host.prints:
        quoted = shlex.quote(str(run_dir))
        for known in published_runs(parts.config, run_dir):
            compare = f"python -m rlm_eval compare {shlex.quote(str(known))} {quoted}"
            print(f"published, of this setting: {known} ({compare})")
        print(f"a page with every trajectory: python -m rlm_eval report {quoted}")
        print(run_dir)
    if outcome.stopped == _BY_SIGNAL:
        return INTERRUPTED
    return PENDING_LEFT if outcome.pending else FINISHED
