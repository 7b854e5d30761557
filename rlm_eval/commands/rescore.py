"""The recorded answers of a run, judged by the task's present scorer.

Needed are the journal and what the task's constructor needs: nothing for tasks that make their own
samples, the file for those that read one (its rows are not read again: question, gold and answer
are in the journal). Where a judge's verdict is the official score, the recorded verdicts are read
again. ``constant_score`` stays as it was recorded, and so ``skill`` is over that constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlm_eval.config.build import build
from rlm_eval.config.check import check_task
from rlm_eval.config.compose import recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import read_events
from rlm_eval.journal.redaction import seal_of
from rlm_eval.journal.tables import tables_of, write_table
from rlm_eval.records import SCORED, Sample, Score
from rlm_eval.run.judging import JudgedTask

Event = Mapping[str, Any]
Verdicts = Mapping[tuple[str, int], str]


@dataclass(frozen=True)
class Changed:
    """One answer that is judged otherwise now. ``before`` is None where it had no score."""

    key: str
    method: str
    sample: Sample
    answer: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Rescored:
    """What came of it: ``scored`` answers were judged, ``changed`` otherwise than before."""

    scored: int
    changed: tuple[Changed, ...]
    written: Path


def rescore(run_dir: Path, out: Path, allow_targets: Sequence[str] = ()) -> Rescored:
    """Judge anew what the journal in ``run_dir`` holds; write results_rescored.parquet and .csv
    into ``out``. Raises ConfigError where the task can't be built or its texts are sealed."""
    task = build("task", check_task(recorded_tree(run_dir)["task"], allow_targets))
    if seal_of(task) is not None:
        raise ConfigError(f"the record of {task.name} is sealed: its texts can't be judged again")
    last = {event["key"]: event for event in read_events(run_dir, types=("result",))}
    others = {e["sample"]["task"] for e in last.values()} - {task.name}
    if others:
        raise ConfigError(
            f"{run_dir} holds results of {min(others)} beside {task.name}: rescore the runs it was "
            "merged from"
        )
    verdicts = _verdicts(run_dir) if judged(task) else {}
    scores = {key: _score(task, event, verdicts) for key, event in last.items()}
    changes = [_changed(last[key], score) for key, score in scores.items() if score is not None]
    results, _ = tables_of(_events(run_dir, last, scores))
    out.mkdir(parents=True, exist_ok=True)
    write_table(results, out / "results_rescored")
    changed = tuple(change for change in changes if change.before != change.after)
    return Rescored(len(changes), changed, out / "results_rescored.parquet")


def judged(task: object) -> bool:
    return isinstance(task, JudgedTask) and task.judge is not None


def _verdicts(run_dir: Path) -> Verdicts:
    """The judge's last reply to each result and restart."""
    calls = (e for e in read_events(run_dir, types=("call",)) if e["role"] == "judge")
    return {(e["result_key"], e["restart"]): e["reply"] for e in calls if not e["error"]}


def _score(task: Any, event: Event, verdicts: Verdicts) -> Score | None:
    text = event["answer"]["text"]
    if event["answer"]["outcome"] not in SCORED or text is None:
        return None
    score: Score | None
    if judged(task):
        verdict = verdicts.get((event["key"], event["restart"]))
        if verdict is None:
            raise ConfigError(f"result {event['key']} has no judge's verdict in the journal")
        score = task.judged(_sample(event), text, verdict)
    else:
        score = task.score(_sample(event), text)
    return score


def _sample(event: Event) -> Sample:
    fields = dict(event["sample"])
    evidence = tuple((start, end) for start, end in fields["evidence"])
    return Sample(**{**fields, "gold": tuple(fields["gold"]), "evidence": evidence})


def _changed(event: Event, score: Score) -> Changed:
    text = event["answer"]["text"]
    return Changed(
        event["key"], event["method"], _sample(event), text, event["score"], asdict(score)
    )


def _events(
    run_dir: Path, last: Mapping[str, Event], scores: Mapping[str, Score | None]
) -> Iterator[Event]:
    yield from read_events(run_dir, types=("call",))
    for key, event in last.items():
        score = scores[key]
        yield {**event, "score": None if score is None else asdict(score)}


def print_changes(done: Rescored) -> None:
    """A line per answer that is judged otherwise, then how many there are; the file last."""
    for change in done.changed:
        before = "no score" if change.before is None else _shown(change.before)
        print(
            f"{change.key}  {change.method}  {change.sample.question_group}  "
            f"{before} → {_shown(change.after)}  answer {change.answer!r}"
        )
    print(f"{len(done.changed)} of {done.scored} scored answers are judged otherwise now")
    print(done.written)


def _shown(score: Mapping[str, Any]) -> str:
    exact = "" if score["exact"] is None else f", exact {score['exact']:.4g}"
    right = "right" if score["correct"] else "wrong"
    return (
        f"{score['value']:.4g} (lenient {score['lenient']:.4g}{exact}, {right}, read as "
        f"{score['parsed']!r})"
    )
