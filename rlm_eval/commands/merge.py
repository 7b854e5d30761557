"""``rlm-eval merge RUN… --out DIR``: several runs' records as one.

For shards of one configuration from several machines, or for runs of different arms. Each result
is there once, calls are all there and paid once. The originals stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlm_eval.commands.replay import rebuild
from rlm_eval.config.check import RunConfig
from rlm_eval.config.compose import recorded_tree
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import OF_ARMS, recorded_environment, write_configuration
from rlm_eval.journal.journal import (
    Journal,
    attempt_id,
    damage,
    has_journal,
    read_events,
    record_size,
    whole,
    write_atomically,
)
from rlm_eval.journal.past import copy_trajectory
from rlm_eval.records import PENDING, plain

#: What the runs of one record may differ in: each result says it of itself, or it does not matter.
_FREE = ("task", "seed", "repeats", "sandbox", "budget.run")
Event = Mapping[str, Any]


class Last(NamedTuple):
    """A key's last result in a run: its place among the events, whose it is, and how little it
    counts beside another run's: pending after finished, reused after measured."""

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


def merge(runs: Sequence[Path], out: Path) -> dict[str, list[Any]]:
    """Join ``runs`` into the new folder ``out``: journal, trajectories, configuration, environment
    and tables. Of a result that several runs have, the first finished one counts, measured rather
    than reused; what the others spent on it stays in the bill as earlier tries. Returns how the
    configurations differ. Raises ConfigError where the runs do not fit together; see
    :func:`check_fit`."""
    folders = list(dict.fromkeys(path.resolve() for path in runs))
    if not out.name or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(f"--out={out} is there already: name a new folder")
    sources = [Source(folder) for folder in folders]
    settings = [RunConfig(source.tree).measured for source in sources]
    revisions: dict[str, set[str]] = defaultdict(set)
    chosen: dict[str, Source] = {}  # whose result counts, per key
    for source in sources:
        for key, last in source.results.items():
            revisions[last.method].add(last.revision)
            if key not in chosen or last.rank < chosen[key].results[key].rank:
                chosen[key] = source
    check_fit(settings, revisions)
    differences = differences_of(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    with Journal(building) as journal:
        for event in _joined(sources, chosen):
            journal.append(event)
    with journal.path.open("rb") as file:
        os.fsync(file.fileno())
    _write_companions(sources, differences, building)
    for key, source in chosen.items():
        copy_trajectory(key, source.folder, building)
    building.replace(out)
    rebuild(out, out)
    return differences


def differences_of(trees: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which ``trees`` differ; an arm that only some have is no difference."""
    from rlm_eval.analysis.arms import differing  # here, so that --help stays quick

    return differing(trees, ["method"])


def check_fit(trees: Sequence[Mapping[str, Any]], revisions: Mapping[str, Collection[str]]) -> None:
    """Raises ConfigError where rows of the runs could not be told apart: arms of one name with
    other settings or sources (``revisions``: their hashes per arm), or other models or settings
    that hold for all rows."""
    for name in {name for tree in trees for name in tree["method"]}:
        nodes = [tree["method"][name] for tree in trees if name in tree["method"]]
        if any(node != nodes[0] for node in nodes):
            keys = ", ".join(differences_of([{"method": {name: node}} for node in nodes]))
            raise ConfigError(f"the runs' arms {name} differ in {keys}: give one another name")
    free = tuple(f"{key}." for key in _FREE)
    held = [key for key in differences_of(trees) if not f"{key}.".startswith(free)]
    what = []
    if mixed := [arm for arm, found in revisions.items() if len(found) > 1]:
        each = "; ".join(f"{arm}: {', '.join(sorted(revisions[arm]))}" for arm in mixed)
        what.append(f"have results of one arm made by different sources ({each})")
    if held:
        what.append(f"differ in {', '.join(held)}")
    if what:
        told = f"the runs {' and '.join(what)}"
        raise ConfigError(f"{told}: report, compare and load_results take them as they are")


def _key(event: Event) -> Any:
    """The result that an event is about, if it is about one."""
    return event.get("result_key" if event["type"] == "call" else "key")


def _joined(sources: Sequence[Source], chosen: Mapping[str, Source]) -> Iterator[Event]:
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


def _write_companions(
    sources: Sequence[Source], differences: Mapping[str, Sequence[Any]], out: Path
) -> None:
    """config.yaml: the first run's, with the arms of all. environment.json: the first run's, with
    all revisions, and under ``merged`` what came together."""
    first = sources[0]
    arms: dict[str, Any] = {}
    for source in sources:
        arms |= {name: node for name, node in source.tree["method"].items() if name not in arms}
    tree = {**first.tree, "method": arms, "shards": 1, "shard": None}
    tree["demonstration"] = any(source.tree["demonstration"] for source in sources)
    write_configuration(out, tree, str)  # what the runs wrote of themselves holds no key
    names = [source.folder.name for source in sources]
    revisions = filter(None, {source.environment.get("code_revision") for source in sources})
    files = [(source.environment.get("sources") or {}).items() for source in sources]
    record = {
        **first.environment,
        "code_revision": "+".join(sorted(revisions)),
        "sources": dict(sorted(item for items in files for item in items)),
        **{key: _of_all(sources, key) for key in OF_ARMS},
        "merged": {"runs": names, "differences": differences},
    }
    write_atomically(out / "environment.json", json.dumps(record, indent=2, ensure_ascii=False))


def _of_all(sources: Sequence[Source], key: str) -> dict[str, Any]:
    """What the runs' records have by arm."""
    return {arm: value for s in sources for arm, value in (s.environment.get(key) or {}).items()}


def main(arguments: Sequence[str]) -> int:
    """Merge, derive the tables and print the folder as the last line."""
    parser = Arguments("merge", "Join the records of several runs in one.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, required=True, help="new folder for what is joined")
    options = parser.parse_args(arguments)
    if len({path.resolve() for path in options.runs}) < 2:
        raise ConfigError("a merge takes two runs or more")
    differences = merge(options.runs, options.out)
    for said in filter(None, map(damage, options.runs)):
        print(said, file=sys.stderr)
    for key, values in differences.items():
        print(plain(f"{key}: {' | '.join(map(str, values))}"))
    print(options.out)
    return 0
