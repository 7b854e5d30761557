"""The recorded answers of a run, judged by the task's present scorer.

Needed are the journal and what the task's constructor needs; question, gold and answer are in the
journal. Where a judge's verdict is the official score, the recorded verdicts are read again.
``constant_score`` stays as it was recorded, and so ``skill`` is over that constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlm_eval.config.build import build
from rlm_eval.config.check import check_task
from rlm_eval.config.compose import recorded_tree, refuse_reaching
from rlm_eval.config.credentials import from_environment
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import read_events, whole
from rlm_eval.journal.tables import write_results
from rlm_eval.models.replies import said
from rlm_eval.records import SCORED, Sample, Score, plain
from rlm_eval.runs.judging import judge_of, majority

Event = Mapping[str, Any]


def rescore(run_dir: Path, out: Path, allow_targets: Sequence[str] = ()) -> int:
    """Judge anew what the journal in ``run_dir`` holds; write results_rescored.parquet and .csv
    into ``out``, print a line per answer that is judged otherwise, and return how many there are.
    Raises ConfigError where the task can't be built or its texts are sealed."""
    node = recorded_tree(run_dir)["task"]
    refuse_reaching({"task": node}, run_dir, "replay --rescore", allow_targets)
    task = build("task", check_task(from_environment(node, "task"), allow_targets))
    if task.seal is not None:
        raise ConfigError(f"the record of {task.name} is sealed: its texts can't be judged again")
    events = list(whole(read_events(run_dir, types=("result", "call"))))
    last = {event["key"]: event for event in events if event["type"] == "result"}
    calls = [event for event in events if event["type"] == "call"]
    if others := {e["sample"]["task"] for e in last.values()} - {task.name}:
        raise ConfigError(
            f"{run_dir} holds results of {min(others)} beside {task.name}: rescore the runs it was "
            "merged from"
        )
    # The judge's replies to each result and restart, as they were read: without their thoughts.
    verdicts: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for call in calls:
        if call["role"] == "judge" and not call["error"]:
            length = len(call["reply"]) - call.get("thought_chars", 0)
            read = said(call["reply"])[0][-length:]
            verdicts[call["result_key"], call["restart"]][call["call_id"]] = read
    rescored = []
    scored = changed = 0
    for key, event in last.items():
        score = _score(task, event, [*verdicts[key, event["restart"]].values()])
        after = None if score is None else asdict(score)
        rescored.append({**event, "score": after})
        scored += after is not None
        if after is not None and after != {**after, **event["score"]}:
            changed += 1
            told = (
                f"{key}  {event['method']}  {event['sample']['question_group']}  "
                f"{_shown(event['score'])} → {_shown(after)}  answer {event['answer']['text']!r}"
            )
            print(plain(told))
    out.mkdir(parents=True, exist_ok=True)
    write_results([*calls, *rescored], out / "results_rescored")
    print(f"{changed} of {scored} scored answers are judged otherwise now")
    print(out / "results_rescored.parquet")
    return changed


def _score(task: Any, event: Event, verdicts: Sequence[str]) -> Score | None:
    text, fields = event["answer"]["text"], event["sample"]
    if event["answer"]["outcome"] not in SCORED or text is None:
        return None
    evidence = tuple((start, end) for start, end in fields["evidence"])
    sample = Sample(**{**fields, "gold": tuple(fields["gold"]), "evidence": evidence})
    if judge_of(task) is None:
        score: Score = task.score(sample, text)
        return score
    if not verdicts:
        raise ConfigError(f"result {event['key']} has no judge's verdict in the journal")
    scores = [task.judged(sample, text, verdict) for verdict in verdicts]
    return None if None in scores else majority(scores)


def _shown(score: Mapping[str, Any]) -> str:
    others = "".join(f"{name} {value:.4g}, " for name, value in score["readings"].items())
    right = "right" if score["value"] == 1.0 else "wrong"
    return f"{score['value']:.4g} ({others}{right}, read as {score['parsed']!r})"
