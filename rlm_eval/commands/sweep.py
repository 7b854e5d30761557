"""Several runs by one command: a sweep's, or the shards of one run, by one of Hydra's launchers;
and ``rlm-eval merge``, which joins shards.

Jobs share nothing but the results folder. What a job came to is a file in it, wherever it was done;
a job that left none is run again, alone, and goes on from its journal.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich.console import Console

from rlm_eval.commands.replay import rebuild
from rlm_eval.config.check import RunConfig, check_config
from rlm_eval.config.compose import compose_tree, launcher_of, plain_tree, recorded_tree
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import recorded_environment, write_configuration
from rlm_eval.journal.journal import (
    FILE_NAME,
    LOCK,
    Journal,
    attempt_id,
    check_unpacked,
    claim,
    damage,
    has_journal,
    read_events,
    record_size,
    whole,
    write_atomically,
)
from rlm_eval.journal.past import SHARDS, copy_trajectory, past_of
from rlm_eval.records import PENDING, plain
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.run import (
    BAD_INPUT,
    FAILED,
    FINISHED,
    INTERRUPTED,
    carry_out_parts,
    check_writable,
)

#: How often a job is begun that ends without a word.
ATTEMPTS = 3
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """What a job came to: its exit code, its run's folder (unless it was a dry run), that of the
    complete run where it is a shard, and why it was refused."""

    code: int
    folder: str = ""
    complete: str = ""
    refused: str = ""


def in_shards(config: RunConfig) -> bool:
    """Whether a run of this configuration is to be done in shards."""
    return config["shards"] > 1 and not config["shard"] and not config["dry_run"]


def carry_out_jobs(overrides: Sequence[str], runs: Sequence[Sequence[str]]) -> int:
    """Do ``runs``, each given by its overrides, with the launcher that ``overrides`` name. The exit
    code is the worst of theirs. Raises ConfigError where any is wrong, before one begins."""
    jobs: list[list[str]] = []
    for run in runs:
        config = check_config(compose_tree(run))
        for arm in assemble(config).arms:  # what a constructor refuses, none of the others begins
            arm.method.close()
        parts = range(1, config["shards"] + 1) if in_shards(config) else []
        jobs += [[*run, f"shard={i}"] for i in parts] or [list(run)]
    results_dir = Path(config["results_dir"])
    check_writable(results_dir / ".sweep-")
    with TemporaryDirectory(prefix=".sweep-", dir=results_dir, ignore_cleanup_errors=True) as place:
        notes = Path(place).resolve()
        failed = _launch(overrides, jobs, notes)
        done = {i: job for i in range(len(jobs)) if (job := _noted(notes, i)) is not None}
    for i in sorted(set(range(len(jobs))) - done.keys()):
        print(f"{' '.join(jobs[i])} was lost {ATTEMPTS} times", file=sys.stderr)
    for job in done.values():
        if job.refused:
            print(job.refused, file=sys.stderr)
    joined, unjoined = _joined(list(done.values()))
    folders = [folder for folder in joined if (folder / "results.parquet").is_file()]
    if len(folders) > 1 or (folders and any(job.complete for job in done.values())):
        _show_together(folders)
    if failed:
        raise failed[0]
    codes = [job.code for job in done.values()]
    return max(codes + [FAILED] * (len(done) < len(jobs) or unjoined > 0), default=FINISHED)


def _launch(
    overrides: Sequence[str], jobs: Sequence[Sequence[str]], notes: Path
) -> list[BaseException]:
    """All jobs at once, then each that left no note, alone. What jobs raised, which is a bug."""
    from hydra.core.utils import JobStatus

    launcher = launcher_of(overrides, partial(_job, notes=str(notes), parent=os.getpid()))
    failed: list[BaseException] = []
    for attempt in range(ATTEMPTS):
        left = [i for i in range(len(jobs)) if _noted(notes, i) is None]
        for batch in [left] if not attempt else [[i] for i in left]:
            if not batch or failed:
                continue
            # The launcher has those of Hydra's own.
            words = [[word for word in jobs[i] if not word.startswith("hydra")] for i in batch]
            try:
                returned = launcher.launch(words, initial_job_idx=batch[0])
            except Exception as lost:  # noqa: BLE001  each launcher's own, for a dead worker
                print(f"a worker was lost: {type(lost).__name__}: {lost}", file=sys.stderr)
                if ray := sys.modules.get("ray"):  # it may be the cluster that is gone
                    ray.shutdown()
                continue
            failed += [job._return_value for job in returned if job.status == JobStatus.FAILED]
    return failed


def _job(config: Any, notes: str, parent: int) -> None:
    """One run, in whatever process the launcher does it."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    print(f"\n=== {' '.join(hydra.overrides.task)} ===", flush=True)
    try:
        parts = assemble(check_config(plain_tree(config)))
        code = carry_out_parts(parts)
        complete = str(parts.run_folder.resolve()) if parts.config["shard"] else ""
        planned = parts.config["dry_run"]
        job = Job(code) if planned else Job(code, str(parts.folder.resolve()), complete)
    except ConfigError as error:
        from rlm_eval.commands.cli import in_one_line

        job = Job(BAD_INPUT, refused=f"rlm_eval: {in_one_line(error)}")
    if job.code == INTERRUPTED:
        if os.getpid() == parent:
            raise KeyboardInterrupt  # the complete sweep, not this job alone
        return  # its worker was told to end: it is begun again
    write_atomically(Path(notes, f"{hydra.job.num}.json"), json.dumps(asdict(job)))


def _noted(notes: Path, number: int) -> Job | None:
    note = notes / f"{number}.json"
    return Job(**json.loads(note.read_text("utf-8"))) if note.is_file() else None


def _joined(jobs: Sequence[Job]) -> tuple[list[Path], int]:
    """The folders of the runs, of shards that of the run that they are parts of, once everything
    there is of it has been joined: what shards of another number spent is in its bill too. And how
    many could not be."""
    unjoined: list[Path] = []
    begun = [job for job in jobs if job.folder and Path(job.folder, "config.yaml").is_file()]
    for complete in dict.fromkeys(Path(job.complete) for job in begun if job.complete):
        own = [Path(job.folder) for job in begun if job.complete == str(complete)]
        others = complete.with_name(f"{complete.name}{SHARDS}").glob("*/config.yaml")
        # Its own first: settings that change no result, as the margin, are the newest then.
        found = dict.fromkeys([*own, *sorted(file.parent for file in others)])
        try:
            join_shards(list(found), complete)
        except ConfigError as error:  # the others are joined all the same
            print(plain(f"rlm_eval: not joined: {error}"), file=sys.stderr)
            unjoined.append(complete)
    folders = dict.fromkeys(Path(job.complete or job.folder) for job in begun)
    return [folder for folder in folders if folder not in unjoined], len(unjoined)


def join_shards(shards: Sequence[Path], complete: Path) -> None:
    """Merge ``shards`` into the folder of the run that they are parts of, with what that has
    itself, as from before it was done in shards or after a resume of its own. Nothing is done where
    no shard is newer or has a result that is not there, and the first one's ``analysis`` is the
    same; what else is in the folder stays. Raises ConfigError where somebody works on it."""
    old, new = (complete.with_name(f".{complete.name}.{word}") for word in ("old", "new"))
    if old.exists() and not complete.exists():  # killed in between
        for other in new.iterdir() if new.exists() else ():
            if not (old / other.name).exists():
                other.rename(old / other.name)
        old.rename(complete)
    for left in (old, new):
        shutil.rmtree(left, ignore_errors=True)
    sources = list(shards)
    for folder in (*shards, complete):
        check_unpacked(folder)
    if (complete / "config.yaml").is_file():
        written = (complete / FILE_NAME).stat().st_mtime
        older = all((shard / FILE_NAME).stat().st_mtime <= written for shard in shards)
        done = past_of(complete).done
        first, whole = (recorded_tree(run).get("analysis") for run in (shards[0], complete))
        if older and first == whole and all(past_of(shard).done <= done for shard in shards):
            return
        sources.append(complete)
    # Who goes on with it meanwhile would lose what is written.
    with claim(complete / LOCK) if complete.exists() else nullcontext():
        merge(sources, new)
        if complete.exists():
            complete.rename(old)
            for other in old.iterdir():
                if not (new / other.name).exists():
                    other.rename(new / other.name)
        new.rename(complete)
    shutil.rmtree(old, ignore_errors=True)


def _show_together(folders: Sequence[Path]) -> None:
    from rlm_eval.analysis.summary import joint_summary, print_summary

    one = len(folders) == 1
    print(f"\n=== {'all shards' if one else f'all {len(folders)} runs'} ===", flush=True)
    print_summary(joint_summary(folders), Console())
    out = "" if one else " --out DIR"
    print(f"as one page: python -m rlm_eval report {shlex.join(map(str, folders))}{out}")
    if one:
        print(folders[0])


# -- shards as one record --------------------------------------------------------------------------


class Last(NamedTuple):
    """A key's last result in a run: its place among the events, the arm and the sources that made
    it, and how little it counts beside another run's: pending after finished, reused after
    measured."""

    place: int
    method: str
    revision: str
    rank: tuple[bool, bool]


class Source:
    """A run to be merged: its configuration and environment, each key's last result and how often
    that was begun, within the first ``size`` bytes of its journal: it may still be written to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size = folder, record_size(folder)
        if not has_journal(folder):
            raise ConfigError(f"{folder} holds no journal: give folders of runs")
        self.tree, self.environment = recorded_tree(folder), recorded_environment(folder)
        self.results: dict[str, Last] = {}
        self.begun: dict[str, int] = {}
        for place, event in enumerate(self.events()):
            if (key := _key(event)) is not None:
                self.begun[key] = max(self.begun.get(key, 0), event["restart"] + 1)
            if event["type"] == "result":
                rank = event["answer"]["outcome"] in PENDING, "reused_from" in event
                self.results[key] = Last(place, event["method"], event["code_revision"], rank)

    def events(self) -> Iterator[Event]:
        """In order, and read anew each time: those of all runs may not fit into memory."""
        return whole(read_events(self.folder, size=self.size))


def merge(runs: Sequence[Path], out: Path) -> None:
    """Join ``runs``, parts of one, into the new folder ``out``: journal, trajectories,
    configuration, environment and tables. Each result is there once, calls are all there and paid
    once. Of a result that several runs have, the first finished one counts, measured rather than
    reused; what the others spent on it stays in the bill as earlier tries. The runs stay as they
    are. Raises ConfigError where they do not fit together; see :func:`check_fit`."""
    folders = list(dict.fromkeys(path.resolve() for path in runs))
    if not out.name or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(f"--out={out} is there already: name a new folder")
    sources = [Source(folder) for folder in folders]
    check_fit(sources)
    chosen: dict[str, Source] = {}  # whose result counts, per key
    for source in sources:
        for key, last in source.results.items():
            if key not in chosen or last.rank < chosen[key].results[key].rank:
                chosen[key] = source
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    with Journal(building) as journal:
        for event in _events_of(sources, chosen):
            journal.append(event)
    with journal.path.open("rb") as file:
        os.fsync(file.fileno())
    _write_companions(sources, building)
    for key, source in chosen.items():
        copy_trajectory(key, source.folder, building)
    building.replace(out)
    rebuild(out, out)


def check_fit(sources: Sequence[Source]) -> None:
    """Raises ConfigError for what are no parts of one run."""
    from rlm_eval.analysis.arms import differing  # here, so that --help stays quick

    keys = differing([RunConfig(source.tree).measured for source in sources])
    held = [key for key in keys if not key.startswith(("budget.run.", "sandbox."))]
    lasts = [last for source in sources for last in source.results.values()]
    made_by = {(last.method, last.revision) for last in lasts}
    fingerprints = [source.environment.get("fingerprints") for source in sources]
    if len(made_by) > len({last.method for last in lasts}) or any(
        found != fingerprints[0] for found in fingerprints
    ):
        held.append("their sources, or the texts, weights and servers that their settings name")
    if held:
        told = f"the runs differ in {', '.join(held)}"
        raise ConfigError(f"{told}: report, compare and load_results take them as they are")


def _key(event: Event) -> Any:
    """The result that an event is about, if it is about one."""
    return event.get("result_key" if event["type"] == "call" else "key")


def _events_of(sources: Sequence[Source], chosen: Mapping[str, Source]) -> Iterator[Event]:
    """Of each result the last one of the run whose result counts, with all that this run has of it;
    of what other runs began, what they did not reuse. A call that several have is there once, and
    paid where one of them paid it."""
    paid, copied = set(), set()
    for source in sources:
        for call in source.events():
            if call["type"] != "call":
                continue
            if "reused_from" not in call:
                paid.add(attempt_id(call))
            if chosen.get(_key(call)) is source:
                copied.add(attempt_id(call))
    # Restarts of the run whose result counts are the last ones, so that a row sums its own calls.
    added: dict[tuple[Path, str], int] = {}
    begun: Counter[str] = Counter()
    for last in (False, True):
        for source in sources:
            for key, restarts in source.begun.items():
                if (chosen.get(key) is source) is last:
                    added[source.folder, key] = begun[key]
                    begun[key] += restarts
    for source in sources:
        for place, event in enumerate(source.events()):
            if (key := _key(event)) is None:
                yield event
                continue
            counts, kind = chosen.get(key) is source, event["type"]
            if not counts and (kind == "result" or "reused_from" in event):
                continue
            if kind == "result" and place != source.results[key].place:
                continue
            if kind == "call":
                attempt = attempt_id(event)
                if not counts and attempt in copied:
                    continue
                copied.add(attempt)
                if attempt in paid:
                    event = {name: value for name, value in event.items() if name != "reused_from"}
            yield {**event, "restart": event["restart"] + added[source.folder, key]}


def _write_companions(sources: Sequence[Source], out: Path) -> None:
    """config.yaml and environment.json: the first part's, with what came together."""
    first = sources[0]
    tree = {**first.tree, "shards": 1, "shard": None}
    write_configuration(out, tree, str)  # what the runs wrote of themselves holds no key
    merged = {"runs": [source.folder.name for source in sources]}
    record = json.dumps({**first.environment, "merged": merged}, indent=2, ensure_ascii=False)
    write_atomically(out / "environment.json", record)


def main(arguments: Sequence[str]) -> int:
    """``rlm-eval merge``: joins a run's shards from several machines, and prints its folder."""
    parser = Arguments("merge", "Join the records of one run's shards.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, required=True, help="new folder for what is joined")
    options = parser.parse_args(arguments)
    if len({path.resolve() for path in options.runs}) < 2:
        raise ConfigError("a merge takes two runs or more")
    merge(options.runs, options.out)
    for said in filter(None, map(damage, options.runs)):
        print(said, file=sys.stderr)
    print(options.out)
    return 0
