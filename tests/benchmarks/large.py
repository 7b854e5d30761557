"""What large inputs and many calls take of this machine. No language model takes part:

python tests/benchmarks/large.py > results/published/benchmarks/large.md
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_eval.models.protocol import Message
from rlm_eval.models.scripted import ScriptedModel

#: Tokens of the large context and of the small one that it is held against.
LARGE, SMALL = 10_000_000, 4_096
METHODS = (
    *("direct", "rag_bm25", "summarize_map_reduce", "summarize_refine", "compaction"),
    *("codeact", "codeact_bm25", "codeact_tools", "rlm", "rlm_tools"),
)
ROOT = Path(__file__).parents[2]
#: A root's first turn: a sub-call for each line of the window, some thousands at once.
READ = """```python
lines = [line for line in context.splitlines() if "Instance: " in line]
replies = []
for start in range(0, len(lines), 5000):
    some = lines[start : start + 5000]
    replies += llm_query_batched(["Positive or negative? " + line for line in some])
print(len(replies), replies.count("positive"))
```"""
END = """```python
submit("Answer: " + str(replies.count("positive")))
```"""


@dataclass
class LineByLine(ScriptedModel):
    """A scripted root that asks a sub-call about every line, and sub-calls that draw lots."""

    def __post_init__(self) -> None:
        self.script = line_by_line


def line_by_line(messages: Sequence[Message]) -> str:
    if "`context`" not in messages[0]["content"]:
        digest = hashlib.sha256(messages[-1]["content"].encode()).digest()
        return ("negative", "positive")[digest[0] % 2]
    return END if "Output" in messages[-1]["content"] else READ


@dataclass(frozen=True)
class Taken:
    """Wall and CPU seconds of a command, and the most memory, in MB, of its process and of that
    with all that it started."""

    wall_s: float
    cpu_s: float
    own_mb: float
    tree_mb: float


def taken(words: Sequence[str], folder: str) -> Taken:
    command = [sys.executable, "-m", "rlm_eval", *words, f"results_dir={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        peak, ended = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(child.pid, peak, ended))
        watcher.start()
        _, status, used = os.wait4(child.pid, 0)
        ended.set()
        watcher.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(words)}:\n{log.read().decode()[-2000:]}")
    wall = time.perf_counter() - started
    return Taken(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, peak[0])


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    """The most that the process and its descendants hold together, each page once (PSS)."""
    while not ended.wait(0.2):
        peak[0] = max(peak[0], sum(_pss(one) for one in _tree(pid)))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parts = sys.argv[1:] or ["needle", "calls", "results"]
    if "needle" in parts:
        needle()
    if "calls" in parts:
        calls()
    if "results" in parts:
        results()


def needle() -> None:
    print(f"""\
# Large inputs and many calls

`python tests/benchmarks/large.py`, Python {platform.python_version()}, {os.cpu_count()} cores.
Complete commands, start and tables with them; a scripted model, which says nothing of any language
model.

## A needle in {LARGE:,} tokens

Memory: the most that the run's process and all that it starts held together, less what the same run
takes at {SMALL:,} tokens; in times of the text, one byte a character.

| method | text, MB | seconds | memory, MB | of it for the text, MB | times the text |
|---|---|---|---|---|---|""")
    for method in METHODS:
        words = ["task=needle", "task.variant=single_1", "task.n=1", "model=scripted"]
        words += [f"method=[{method}]"]
        with tempfile.TemporaryDirectory() as folder:
            small = taken([*words, f"task.lengths=[{SMALL}]"], folder)
            large = taken([*words, f"task.lengths=[{LARGE}]"], folder)
        text, more = text_mb(), large.tree_mb - small.tree_mb
        cells = [
            method,
            f"{text:.0f}",
            f"{large.wall_s:.0f}",
            f"{large.tree_mb:.0f}",
            f"{more:.0f}",
        ]
        print(f"| {' | '.join(cells)} | {more / text:.1f} |", flush=True)


def calls() -> None:
    print("""
## Aggregation over 1,000,000 tokens, a sub-call for every line

Each question is a root of two turns and a sub-call for each line, in batches of 5,000. A run holds
all its windows; questions about one window show what calls alone take.

Memory, MB: of the process, and with all that it starts.

| windows | questions on each | sub-calls | minutes | CPU ms a call | process | all | journal, MB |
|---|---|---|---|---|---|---|---|""")
    for windows, each in ((1, 1), (1, 2), (1, 7), (7, 1)):
        words = ["task=aggregation", "task.domain=questions", "task.lengths=[1000000]"]
        words += [f"task.n={windows * each}", f"task.questions_per_context={each}", "method=[rlm]"]
        words += ["method.rlm.max_sub_calls=null", "memoize=false", "concurrency=1"]
        words += ["model=scripted", "model._target_=large.LineByLine", "allow_targets=[large]"]
        with tempfile.TemporaryDirectory() as folder:
            used = taken(words, folder)
            (run,) = Path(folder).glob("aggregation-*")
            size, asked = (run / "journal.jsonl").stat().st_size / 1e6, sub_calls(run)
        cells = [windows, each, f"{asked:,}", f"{used.wall_s / 60:.1f}"]
        cells += [f"{used.cpu_s / asked * 1e3:.2f}"]
        cells += [f"{used.own_mb:.0f}", f"{used.tree_mb:.0f}", f"{size:.0f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def results() -> None:
    print("""
## Many answers, a call each

A hundred questions of 300 tokens, answered as often as gives so many results.

| results | minutes | CPU ms a result | process, MB | journal, MB |
|---|---|---|---|---|""")
    for n in (1_000, 10_000, 100_000):
        words = ["task=needle", "task.lengths=[300]", "task.n=100", f"repeats={n // 100}"]
        words += ["model=scripted", "method=[direct]"]
        with tempfile.TemporaryDirectory() as folder:
            used = taken(words, folder)
            (journal,) = Path(folder).glob("needle-*/journal.jsonl")
            size = journal.stat().st_size / 1e6
        cells = [f"{n:,}", f"{used.wall_s / 60:.1f}", f"{used.cpu_s / n * 1e3:.2f}"]
        cells += [f"{used.own_mb:.0f}", f"{size:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def text_mb() -> float:
    from rlm_eval.commands.export import make_task

    words = ["task=needle", "task.variant=single_1", "task.n=1", f"task.lengths=[{LARGE}]"]
    ((context, _),) = make_task(words)[1].build()
    return len(context.text) / 1e6


def sub_calls(run: Path) -> int:
    import pandas as pd

    return int(pd.read_parquet(run / "results.parquet")["subcalls"].sum())


if __name__ == "__main__":
    main()
