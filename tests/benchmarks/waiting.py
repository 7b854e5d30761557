"""How llama.cpp's threads should wait for each other: `python tests/benchmarks/waiting.py`.

Generation meets a barrier hundreds of times a token. OpenMP's threads sleep there at once
(``passive``), spin for long (its default) or look for a moment first, as the server of model=local
does (GOMP_SPINCOUNT=1000); that once more with the weights laid out anew for the processor. Each
way serves the embedded model in a process of its own, with as many threads as cores, beside none,
one and two processes that are always busy; the ways take turns at going first. Figures are medians
of tokens a second over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from rlm_eval.models.local.llama_server import serve
from rlm_eval.models.local.weights import embedded_weights

WAYS: Mapping[str, Mapping[str, str]] = {
    "sleep at once (OMP_WAIT_POLICY=passive)": {"OMP_WAIT_POLICY": "passive"},
    "look a moment (GOMP_SPINCOUNT=1000)": {"GOMP_SPINCOUNT": "1000"},
    "spin (OpenMP's default)": {},
    "look a moment, with model.repack=true": {"GOMP_SPINCOUNT": "1000", "REPACK": "1"},
}
BUSY = (0, 1, 2)
TEXT = "Tell what a barrier between threads is, in a hundred words. " + "It waits. " * 60


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that never rest."""
    loops = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def timed(tokens: int) -> None:
    """Serve here, ask once, print the speeds of prompt and reply (tokens a second), and leave."""
    settings = {
        **{"path": str(embedded_weights()), "api_key": "none", "slots": 1, "cache_mb": 0},
        **{"pool_tokens": 2048, "context_window": 2048, "threads": os.cpu_count()},
        **{"gpu_layers": 0, "repack": "REPACK" in os.environ},
    }
    server = serve(settings)
    reply = httpx.post(
        f"{server.listening_address}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": TEXT}], "max_tokens": tokens},
        headers={"Authorization": "Bearer none"},
        timeout=600,
    )
    timings = reply.raise_for_status().json()["timings"]
    speeds = [timings["prompt_per_second"], timings["predicted_per_second"]]
    print(json.dumps(speeds), flush=True)
    os._exit(0)


def speeds(way: str, tokens: int) -> tuple[float, float]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    output = subprocess.run(
        [sys.executable, __file__, "--serve", "--tokens", str(tokens)],
        env=environment | dict(WAYS[way]),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout
    prompt, reply = json.loads(output.splitlines()[-1])
    return prompt, reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48, help="of a reply")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        timed(arguments.tokens)
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for round_ in range(arguments.rounds):
        for others in BUSY:
            ways = [*WAYS][round_ % len(WAYS) :] + [*WAYS][: round_ % len(WAYS)]
            with busy(others):
                for way in ways:
                    found.setdefault((way, others), []).append(speeds(way, arguments.tokens))
    heads = [f"{what}, {n} busy" for what in ("prompt", "reply") for n in BUSY]
    command = shlex.join(["python", "tests/benchmarks/waiting.py", *sys.argv[1:]])
    told = f"{os.cpu_count()} cores, medians of {arguments.rounds} rounds"
    print(f"`{command}`: tokens a second, {told}.\n")
    print(f"| threads that wait | {' | '.join(heads)} |")
    print("|---|" + "---:|" * len(heads))
    for way in WAYS:
        cells = [
            statistics.median(pair[part] for pair in found[way, others])
            for part in (0, 1)
            for others in BUSY
        ]
        print(f"| {way} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
