"""The report's answers: the list of them, their trajectories, and the contexts they are about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rlm_eval.analysis.arms import marks
from rlm_eval.analysis.budgets import overspent
from rlm_eval.analysis.load import Run
from rlm_eval.analysis.report import trajectory
from rlm_eval.errors import ConfigError
from rlm_eval.journal.past import read_trajectory

#: Trajectories come by need, bundled into files of about this many bytes.
BUNDLE_BYTES = 500_000
#: Characters of a context, and of all of them together in a report's folder and in its one file.
CONTEXT_CHARS, ALL_CHARS, CHARS_IN_ONE = 1_000_000, 100_000_000, 2_000_000
#: The texts by id of those contexts of a run that are asked for. Raises ConfigError, which says why
#: there are no more.
Contexts = Callable[[Path, set[str]], Iterator[tuple[str, str]]]
#: What samples.js says of a sample, of an answer to it (``sample`` and ``arm`` are numbers into its
#: lists of samples and arms, ``bundle`` is where its trajectory is), and of a call.
SAMPLE_FIELDS = [
    "sample_id", "task", "target_tokens", "question_group", "context_id", "length_tokens",
    "constant_score", "question", "gold", "knobs",
]  # fmt: skip
ROW_FIELDS = [
    "sample", "arm", "setting", "bundle", "repeat", "outcome", "points", "right", "answer", "error",
    "subcalls", "tokens", "cost_usd", "wall_s", "evidence_recall", "over", "result_key",
]  # fmt: skip
CALL_FIELDS = [
    "call_id", "parent_call_id", "role", "depth", "prompt_tokens", "cached_tokens",
    "completion_tokens", "cost_usd", "latency_s", "attempt", "cached_response", "error", "reply",
]  # fmt: skip


def write_samples(
    runs: Sequence[Run], results: pd.DataFrame, calls: pd.DataFrame, data: Path
) -> None:
    """Write ``samples.js`` and the bundles of trajectories, ``t/0.js`` …"""
    samples = results.drop_duplicates(["task", "sample_id"])  # ids of logs may be 1, 2, …
    gold = samples["gold"].map(lambda listed: " | ".join(map(str, json.loads(listed))))
    arms, names = ["task", "arm"], marks(results)
    settings = results.drop_duplicates("arm_id")  # of which tasks may give one name several
    rows = results.assign(
        sample=results.groupby(["task", "sample_id"], sort=False).ngroup(),
        answer=results["answer"].map(trajectory.cut, na_action="ignore", whole="results.parquet"),
        arm=results.groupby(arms, sort=False).ngroup(),
        setting=results["arm_id"].map({arm: i for i, arm in enumerate(settings["arm_id"])}),
        bundle=_put_bundles(data, _trees(runs, results, calls)),
        over=overspent(results, calls).astype(int),
    )
    parts = {
        "samples": _columns(samples.assign(gold=gold)[SAMPLE_FIELDS]),
        "rows": _columns(rows[ROW_FIELDS]),
        "arms": json.dumps(list(names.values())),
        "arm_keys": json.dumps([arm for _, arm in names]),
        "settings": json.dumps([yaml.safe_dump(json.loads(c)) for c in settings["arm_config"]]),
    }
    put(data, "samples", f"{{{','.join(f'{json.dumps(k)}:{part}' for k, part in parts.items())}}}")


def write_contexts(runs: Sequence[Run], data: Path, contexts: Contexts, room: int) -> None:
    """Write the contexts, ``c/ID.js``, as far as ``room`` characters go, and ``lost.js``, which
    says of the others why they are not there."""
    lost: dict[str, str] = {}
    written: set[str] = set()
    for run in runs:
        wanted = set(run.results["context_id"]) - written
        why = "the task makes other samples today than when it was asked"
        try:
            for context_id, text in contexts(run.path, set(wanted)):
                shown = text[:CONTEXT_CHARS]
                if (room := room - len(shown)) < 0:
                    why = "this report is full of contexts; rlm-eval export has them all"
                    break
                if more := len(text) - len(shown):
                    shown += f"\n… {more:,} more characters: rlm-eval export has them"
                put(data, f"c/{context_id}", json.dumps(shown))
                written.add(context_id)
        except ConfigError as error:
            why = str(error)
        lost |= dict.fromkeys(wanted, why)
    put(data, "lost", json.dumps({k: why for k, why in lost.items() if k not in written}))


def _columns(frame: pd.DataFrame) -> str:
    """``{"columns": […], "data": [[…], …]}``; null for what is unknown."""
    return frame.to_json(orient="split", index=False, double_precision=15)


def put(folder: Path, name: str, data: str) -> None:
    """A script that hands ``data``, JSON, to the page; ``<`` is escaped for good measure."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data.replace("<", "\\u003c")
    path.write_text(f"REPORT.put({json.dumps(name)},{text});\n", encoding="ascii")


def _put_bundles(data: Path, items: Iterable[tuple[str, str]]) -> list[int]:
    """Scripts t/0, t/1, … of keys and their JSON; returns each item's number."""
    numbers: list[int] = []
    bundle: list[str] = []
    number = size = 0
    for key, text in items:
        if size > BUNDLE_BYTES:
            put(data, f"t/{number}", f"{{{','.join(bundle)}}}")
            bundle, size, number = [], 0, number + 1
        bundle.append(f"{json.dumps(key)}:{text}")
        numbers.append(number)
        size += len(text)
    put(data, f"t/{number}", f"{{{','.join(bundle)}}}")
    return numbers


def _trees(
    runs: Sequence[Run], results: pd.DataFrame, calls: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """Each answer's key, and its trajectory as JSON."""
    groups: dict[str, list[Any]] = {}
    replies = {k: v for run in runs for k, v in trajectory.read_replies(run.path).items()}
    ordered = calls.assign(reply=calls["call_id"].map(replies))
    ordered = ordered.sort_values("started_at", kind="stable")[["result_key", *CALL_FIELDS]]
    for call in ordered.astype(object).where(ordered.notna(), None).to_dict("records"):
        groups.setdefault(call["result_key"], []).append(call)
    for key, folder in zip(results["result_key"], results["run_dir"], strict=True):
        events = read_trajectory(Path(folder), key)
        yield key, json.dumps(trajectory.tree(events, groups.get(key, [])), default=vars)
