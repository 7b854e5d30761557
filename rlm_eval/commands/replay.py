"""``rlm-eval replay RUN``: a run again from its journal, without model, network or key.

Its tables are derived anew and compared with those that lie beside it. ``--rescore`` judges the
recorded answers by the task's present scorer; other code than rlm_eval's, and files that the task
reads, are allowed by allow_targets=[MODULE,...]. The record itself is never changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.config.check import build, check_task
from rlm_eval.config.compose import permissions, recorded_tree, refuse_reaching
from rlm_eval.config.credentials import from_environment
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import damage, has_journal, read_events, whole
from rlm_eval.journal.tables import write_results, write_tables
from rlm_eval.models.replies import said
from rlm_eval.records import SCORED, Sample, Score, plain
from rlm_eval.runs.runner import judge_of, majority

if TYPE_CHECKING:
    import pandas as pd

Event = Mapping[str, Any]


def rescore(run_dir: Path, out: Path, allow_targets: Sequence[str] = ()) -> int:
    """Judge anew, by the task's present scorer, what the journal in ``run_dir`` holds (question,
    gold, answer, a judge's verdicts); write results_rescored.parquet and .csv into ``out``, print a
    line per answer that is judged otherwise, and return how many there are. ``constant_score``
    stays as it was. Raises ConfigError where the task can't be built or its texts are sealed."""
    node = recorded_tree(run_dir)["task"]
    refuse_reaching({"task": node}, run_dir, "replay --rescore", allow_targets)
    task = build("task", check_task(from_environment(node, "task"), allow_targets))
    if task.seal is not None:
        raise ConfigError(f"the record of {task.name} is sealed: its texts can't be judged again")
    events = list(whole(read_events(run_dir, types=("result", "call"))))
    last = {event["key"]: event for event in events if event["type"] == "result"}
    calls = [event for event in events if event["type"] == "call"]
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


#: What a run derives from its journal.
DERIVED = (
    *("results.parquet", "calls.parquet", "results.csv", "calls.csv"),
    *("summary.csv", "verdicts.csv"),
)


def rebuild(run_dir: Path, out: Path) -> None:
    """Derive :data:`DERIVED` and the figures from the journal in ``run_dir`` and write them into
    ``out``, beside the run's configuration and environment."""
    from rlm_eval.analysis.summary import write_summary

    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "environment.json"):
        if (run_dir / name).is_file() and out.resolve() != run_dir.resolve():
            shutil.copyfile(run_dir / name, out / name)
    write_tables(read_events(run_dir, ("result", "call")), out)
    write_summary(out)


def differences(stored: Path, rebuilt: Path) -> list[str]:
    """How a stored table differs from the rebuilt one, as lines; compared as CSV, byte by byte."""
    before, after = _frame(stored), _frame(rebuilt)
    if len(before) != len(after):
        return [f"{stored.name} has {len(before)} rows, the journal gives {len(after)}"]
    if other := list(before.columns.symmetric_difference(after.columns)):
        return [f"{stored.name} has other columns than the journal gives: {', '.join(other)}"]
    lines = []
    for column in before.columns:
        if before[[column]].to_csv(index=False) != after[[column]].to_csv(index=False):
            rows = (before[column].astype(str) != after[column].astype(str)).sum()
            lines.append(f"{stored.name} differs from the journal in {column}, in {rows} rows")
    return lines


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def check(run_dir: Path) -> bool:
    """Rebuild the run's tables and say whether the stored ones are the same; prints what is not."""
    with tempfile.TemporaryDirectory() as folder:
        rebuild(run_dir, Path(folder))
        compared = [n for n in DERIVED if (run_dir / n).is_file() and (Path(folder) / n).is_file()]
        lines = [line for n in compared for line in differences(run_dir / n, Path(folder) / n)]
    lines += [found] if (found := damage(run_dir)) else []
    same = ", ".join(compared) + " are" if compared else "nothing lies beside it to compare;"
    for line in lines or [f"{same} what the journal says"]:
        print(f"{run_dir}: {line}")
    return not lines


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1 where something is not as it was recorded."""
    parser = Arguments("replay", (__doc__ or "").strip())
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, help="folder to write to (for one RUN)")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="judge the recorded answers by the task's present scorer: results_rescored.parquet "
        "and .csv, and the rows that changed",
    )
    rest, allowed = permissions(arguments)
    options = parser.parse_args(rest)
    if options.out is not None and len(options.runs) > 1:
        raise ConfigError("--out takes what one RUN gives: name a single one")
    for run_dir in options.runs:
        if not has_journal(run_dir):
            raise ConfigError(f"{run_dir} holds no journal: give the folder of a run")
    same = True
    for run_dir in options.runs:
        if options.rescore:
            rescore(run_dir, options.out or run_dir, allowed)
            continue
        same &= check(run_dir)
        if options.out:
            rebuild(run_dir, options.out)
            print(options.out)
    return 0 if same else 1
