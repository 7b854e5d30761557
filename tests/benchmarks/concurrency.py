"""Threads or asyncio, and what the client costs: `python tests/benchmarks/concurrency.py`.

All ways send the same calls through litellm to the fake provider in another process. Bare litellm
comes in threads (``completion``) and in one event loop (``acompletion`` under a semaphore); the
client is the whole harness on top of the former: ledger with caps, records, journal on disk; the
last column is the client alone, with a model that answers at once. Each round measures all ways one
after the other, beginning with another one; figures are medians over the rounds. CPU time is this
process's own, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from rlm_eval.journal.journal import Journal
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import CallTags, ModelClient
from rlm_eval.models.litellm_client import LitellmModel, _litellm
from rlm_eval.models.protocol import ChatModel, Message, user
from rlm_eval.models.scripted import ScriptedModel

#: (latency in seconds, calls at once) → calls per round.
GRID = {
    (0.0, 1): 60,
    (0.0, 16): 200,
    (0.0, 64): 256,
    (0.1, 1): 15,
    (0.1, 16): 160,
    (0.1, 64): 256,
}
MAX_TOKENS = 16
Measure = tuple[float, float]


@contextmanager
def provider(latency_s: float) -> Iterator[str]:
    """The fake provider in a process of its own; its address."""
    path = Path(__file__).parents[1] / "helpers" / "fake_provider.py"
    command = [sys.executable, str(path), str(latency_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
        child.terminate()


def timed(work: Callable[[], object], calls: int) -> Measure:
    """(wall, CPU) in ms per call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    return spent[0] / calls * 1e3, spent[1] / calls * 1e3


def bare_threads(model: LitellmModel, prompts: list[list[Message]], at_once: int) -> None:
    completion = _litellm().completion
    requests = [model._request(p, MAX_TOKENS, 0.0) for p in prompts]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda request: completion(**request), requests))


def bare_asyncio(model: LitellmModel, prompts: list[list[Message]], at_once: int) -> None:
    acompletion = _litellm().acompletion
    requests = [model._request(p, MAX_TOKENS, 0.0) for p in prompts]

    async def run() -> None:
        gate = asyncio.Semaphore(at_once)

        async def one(request: dict[str, object]) -> None:
            async with gate:
                await acompletion(**(request | {"client": None}))

        await asyncio.gather(*(one(request) for request in requests))

    asyncio.run(run())


def through_client(model: ChatModel, prompts: list[list[Message]], at_once: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        client = ModelClient({"root": model}, journal.call)
        lm = client.lm("result", memory_scope="arm|0")
        outcomes = lm.complete_batch(
            prompts,
            ledger=Ledger(Budget(calls=10**6, tokens=10**9)).child(),
            max_tokens=MAX_TOKENS,
            tags=CallTags("sub", 1, None, from_repl=True),
            concurrency=at_once,
        )
    assert len({o.call_id for o in outcomes if not isinstance(o, Exception)}) == len(prompts)


def measure(latency_s: float, at_once: int, calls: int, rounds: int) -> dict[str, Measure]:
    """The median (wall, CPU) of each way, and of the client's differences to bare threads."""
    found: dict[str, list[Measure]] = {}
    with provider(latency_s) as address:
        model = LitellmModel("openai/fake", 100_000, api_base=address)
        ways = {
            "asyncio": lambda p: bare_asyncio(model, p, at_once),
            "threads": lambda p: bare_threads(model, p, at_once),
            "client": lambda p: through_client(model, p, at_once),
            "instant": lambda p: through_client(ScriptedModel(), p, at_once),
        }
        for number in range(rounds + 1):
            row = {}
            names = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            for name in names:
                way = ways[name]
                batch = [[user(f"{number} {name} {i} " + "word " * 50)] for i in range(calls)]
                row[name] = timed(lambda way=way, batch=batch: way(batch), calls)  # type: ignore[misc]
            row["extra"] = (
                row["client"][0] - row["threads"][0],
                row["client"][1] - row["threads"][1],
            )
            if number:  # the first round warms up
                for name, pair in row.items():
                    found.setdefault(name, []).append(pair)
    return {
        name: (statistics.median(w for w, _ in pairs), statistics.median(c for _, c in pairs))
        for name, pairs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    print("# Threads or asyncio, and what the client costs\n")
    print(f"`python tests/benchmarks/concurrency.py --rounds {rounds}`: ms per call, wall / CPU,")
    print(
        f"medians of {rounds} rounds. litellm {version('litellm')}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.\n"
    )
    print(
        "| latency | at once | litellm, asyncio | litellm, threads | the client | client − threads "
        "| client, instant model |\n|---|---|---|---|---|---|---|"
    )
    for (latency_s, at_once), calls in GRID.items():
        row = measure(latency_s, at_once, calls, rounds)
        cells = [
            f"{row[name][0]:.2f} / {row[name][1]:.2f}"
            for name in ("asyncio", "threads", "client", "extra", "instant")
        ]
        print(f"| {latency_s * 1e3:.0f} ms | {at_once} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
