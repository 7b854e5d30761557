"""What the harness takes beside inspect_ai, both through HTTP to one provider on this machine.

Needs the extra inspect:

python tests/benchmarks/overhead.py > results/published/benchmarks/overhead.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from concurrency import provider

CALLS, LATENCY_S = 1000, 0.1
AT_ONCE = (64, 256)
ROOT = Path(__file__).parents[2]
#: One text and question a sample, asked once, graded by whether the answer is in the reply.
INSPECT = """\
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes

rows, at_once, folder = json.load(open(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
samples = [Sample(id=r["id"], input=r["text"], target=r["gold"]) for r in rows]
config = GenerateConfig(max_connections=at_once, max_tokens=32, temperature=0)
model = get_model("openai-api/fake/fake", config=config)
(log,) = eval(
    Task(dataset=samples, scorer=includes()), model=model, log_dir=folder, display="none",
    max_samples=at_once,
)
assert log.status == "success" and len(log.samples) == len(rows), log.status
"""


#: Wall seconds, CPU seconds and the most memory in MB.
Taken = tuple[float, float, float]


def taken(command: Sequence[str], address: str) -> Taken:
    """Wall seconds, CPU seconds and the most memory in MB of a process."""
    environment = {**os.environ, "OPENAI_API_KEY": "none-needed", "FAKE_API_KEY": "none-needed"}
    environment["FAKE_BASE_URL"] = address
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode()[-3000:])
    wall = time.perf_counter() - started
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def samples() -> list[dict[str, str]]:
    from rlm_eval.commands.export import make_task

    words = ["task=needle", "task.lengths=[300]", f"task.n={CALLS}"]
    return [
        {"id": s.id, "text": f"{context.text}\n\n{s.question}", "gold": s.gold[0]}
        for context, s in make_task(words)[1].build()
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds_of_each = parser.parse_args().rounds
    print(f"""\
# Overhead beside inspect_ai

`python tests/benchmarks/overhead.py --rounds {rounds_of_each}`: {CALLS:,} questions of some 300
tokens, a call each, to a provider in another process that takes {LATENCY_S:g} s; complete commands,
with start and log and, ours alone, tables and figures. Medians over the rounds, the two in turn.
inspect_ai {version("inspect_ai")}, litellm {version("litellm")}, {os.cpu_count()} cores.

| calls at once | | seconds | CPU seconds | memory, MB |
|---|---|---|---|---|""")
    with tempfile.TemporaryDirectory() as place, provider(LATENCY_S) as address:
        file = Path(place, "samples.json")
        file.write_text(json.dumps(samples()))
        for at_once in AT_ONCE:
            figures: dict[str, list[tuple[float, float, float]]] = {
                "rlm_eval": [],
                "inspect_ai": [],
            }
            for i in range(rounds_of_each):
                ours = [
                    *(sys.executable, "-m", "rlm_eval", "task=needle", "task.lengths=[300]"),
                    *(f"task.n={CALLS}", "method=[direct]", "model=litellm"),
                    *("model.name=openai/fake", f"model.api_base={address}"),
                    *("model.price.input=1", "model.price.output=1", f"concurrency={at_once}"),
                    f"results_dir={place}/{at_once}-{i}",
                ]
                theirs = [sys.executable, "-c", INSPECT, str(file), str(at_once), f"{place}/logs"]
                figures["rlm_eval"].append(taken(ours, address))
                figures["inspect_ai"].append(taken(theirs, address))
            for name, rounds in figures.items():
                wall, cpu, memory = (
                    statistics.median(values) for values in zip(*rounds, strict=True)
                )
                print(f"| {at_once} | {name} | {wall:.1f} | {cpu:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
