"""Several runs by one command: a sweep's, or the shards of one run, by one of Hydra's launchers.

Jobs share nothing but the results folder. What a job came to is a file in it, wherever it was done;
a job that left none is run again, alone, and goes on from its journal.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from rlm_eval.commands.merge import merge
from rlm_eval.config.check import RunConfig, check_config
from rlm_eval.config.compose import compose_tree, launcher_of, plain_tree, recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import FILE_NAME, LOCK, check_unpacked, claim, write_atomically
from rlm_eval.journal.past import SHARDS, past_of
from rlm_eval.records import plain
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
