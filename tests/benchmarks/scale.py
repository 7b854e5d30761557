"""One run in shards on a local Ray cluster, and with workers killed. Needs the extra ray:

PYTHONPATH=tests python tests/benchmarks/scale.py > results/published/benchmarks/scale.md
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from helpers.billing_provider import BillingProvider
from helpers.shards import QUESTIONS, RAYLET, Sharded

#: Seconds of each reply where shards are timed, and where workers are killed.
SLOW_S, QUICK_S = 1.0, 0.15
TEXT = """\
# One run in shards, on a local Ray cluster

`PYTHONPATH=tests python tests/benchmarks/scale.py`; ray {ray}, hydra-ray-launcher {launcher},
{cores} cores. Runs of the arm direct through litellm against a provider over HTTP that takes
{slow:g} s for a reply and bills; {questions} questions at once in each shard. Working: from the
first request that it got to the last. Rows are the joined table's, without times. No model takes
part.

| shards | questions | seconds, all | working | speed-up, working | rows equal to one shard's |
|---|---|---|---|---|---|
{timed}

## A worker killed at a random point

The provider fails every eighth request here.
{kills} runs of {n} questions in two shards, {killed} of which had a worker killed with SIGKILL;
each was begun once and ended by itself. Lost: billed by the provider, and in no journal (calls in
flight at a kill, {in_flight} at most of the worker that died). Beside what was lost and what nobody
was told the price of, every journal agrees with the bills to the cent: the shards', and the joined
one.

| | |
|---|---|
| runs with all results, each once | {complete} of {kills} |
| runs that ended with exit code 0 | {ended} of {kills} |
| calls billed | {billed} |
| calls lost, in all; most in a run | {lost}; {most} |
| calls in a joined journal that nobody billed | {invented} |
| the cluster's own process killed: runs with all results, exit code 0, bills agreed | {clusters} |
"""


def timed(run: Sharded) -> float:
    """The seconds from its first request to its last."""
    if code := run.run():
        raise SystemExit(f"exit code {code}:\n{run.log.read_text()[-3000:]}")
    journal = pd.read_parquet(run.joined / "calls.parquet")
    begun = journal["started_at"]
    last = (begun + journal["latency_s"]).max()
    return float(last - begun.min())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--launcher", default="ray")
    options = parser.parse_args()
    more = {"ray": ("+hydra.launcher.ray.remote.num_cpus=0.25",), "joblib": ()}[options.launcher]
    launcher = (options.launcher, *more)
    lines, first = [], None
    with tempfile.TemporaryDirectory() as place:
        # One provider, since its address is part of what a run measures.
        with BillingProvider(latency_s=SLOW_S) as provider:
            provider._faults = itertools.repeat("")
            for shards in (1, 2, 4):
                folder = Path(place, str(shards))
                run = Sharded(folder, provider, options.questions, shards, launcher[0], more)
                working = timed(run)
                rows = run.rows()
                first = (rows, working) if first is None else first
                same, speed = rows.equals(first[0]), f"{first[1] / working:.2f}×"
                seconds = f"{run.seconds:.0f} | {working:.0f} | {speed}"
                said = "yes" if same else "NO"
                lines.append(f"| {shards} | {options.questions} | {seconds} | {said} |")
        chance, n = random.Random(7), 24
        complete = ended = lost = most = billed = invented = killed = 0
        clusters = 0
        for trial in range(options.clusters if launcher[0] == "ray" else 0):
            with BillingProvider(latency_s=QUICK_S) as provider:
                run = Sharded(Path(place, f"cluster{trial}"), provider, n, 2, launcher[0], more)
                code = run.run(chance, RAYLET)
                clusters += code == 0 and run.kills == 1 and len(run.rows()) == n
                for found in run.accounts():
                    found.check()
        for trial in range(options.kills):
            with BillingProvider(latency_s=QUICK_S) as provider:
                run = Sharded(Path(place, f"kill{trial}"), provider, n, 2, launcher[0], more)
                code = run.run(chance)
                ended += code == 0
                if code:
                    print(f"exit code {code}:\n{run.log.read_text()[-3000:]}", file=sys.stderr)
                    continue
                rows, (of_shards, joined) = run.rows(), run.accounts()
                complete += len(rows) == n and rows["result_key"].is_unique
                of_shards.check()
                joined.check()
                billed += len(provider.bills)
                lost += len(joined.lost)
                most = max(most, len(joined.lost))
                invented += len(joined.invented)
                killed += run.kills
    print(
        TEXT.format(
            ray=version("ray") if options.launcher == "ray" else "–",
            launcher=version(f"hydra-{options.launcher}-launcher"),
            cores=os.cpu_count(),
            slow=SLOW_S,
            questions=QUESTIONS,
            timed="\n".join(lines),
            kills=options.kills,
            n=n,
            killed=killed,
            in_flight=QUESTIONS,
            complete=complete,
            ended=ended,
            billed=billed,
            lost=lost,
            most=most,
            invented=invented,
            clusters=f"{clusters} of {options.clusters}",
        )
    )


if __name__ == "__main__":
    main()
