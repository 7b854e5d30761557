"""Our engine beside rlms and dspy.RLM: `python tests/benchmarks/engines.py` prints a table.

All play the same code with a fake model in process that answers at once, so what is measured is
the engine. Ours isolates the code (the level is printed), rlms runs it in the harness's own
process, dspy in a process without isolation (LocalInterpreter: its Deno sandbox fetches modules at
run time). Each round measures every engine in a process of its own, beginning with another one;
figures are medians over the rounds. Wants an environment with all three:

    python -m venv V && V/bin/pip install rlms==0.1.3 dspy -e .
    V/bin/python tests/benchmarks/engines.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Protocol

NO_OPS, QUERIES, SLEEP_S = 50, 100, 0.1
CHILDREN, LEAVES = 8, 24  # 8 children, each one turn and 24 sub-calls: 200 calls
BIG = 50_000_000
TIMED = "import time\nbegan = time.perf_counter()\n{0}\nFINISH(time.perf_counter() - began)"
TREE = f"""
if str(context).startswith("child"):
    FINISH(len(llm_query_batched([str(context) + str(i) for i in range({LEAVES})])))
else:
    FINISH(sum(int(n) for n in CHILDREN(["child %d" % i for i in range({CHILDREN})])))
"""
LOADED = f"assert len(context) == {BIG}"
MEMORY = f"""
import resource
{LOADED}
llm_query("now")
FINISH(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
#: A reply to a sub-call.
Sub = Callable[[str], str]


class Engine(Protocol):
    """Plays ``turns`` (code; FINISH and CHILDREN stand for the engine's own way) as the root's
    replies and answers sub-calls with ``sub``. The final answer."""

    in_process: bool

    def run(self, turns: Sequence[str], context: str, sub: Sub, depth: int) -> str: ...


class Ours:
    """rlm_eval, with the strongest isolation there is."""

    in_process = False

    def __init__(self) -> None:
        from rlm_eval.repl.session import Sandbox

        self.sandbox = Sandbox()
        self.level = self.sandbox.level

    def run(self, turns: Sequence[str], context: str, sub: Sub, depth: int) -> str:
        from rlm_eval.ledger import Ledger
        from rlm_eval.methods.rlm import Rlm
        from rlm_eval.models.client import ModelClient
        from rlm_eval.models.scripted import ScriptedModel
        from rlm_eval.records import Context, Problem

        def script(messages: Sequence[Any]) -> str:
            if messages[0]["role"] != "system":
                return sub(messages[0]["content"])
            return fenced(turns[min(len(messages) // 2 - 1, len(turns) - 1)])

        turns = [
            code.replace("CHILDREN([", "rlm_query_batched([('?', c) for c in [")
            .replace(f"range({CHILDREN})]", f"range({CHILDREN})]]")
            .replace("FINISH", "submit")
            for code in turns
        ]
        model = ScriptedModel(script=script, context_window=10_000_000)
        client = ModelClient({"root": model}, lambda call, reply: None)
        rlm = Rlm(
            self.sandbox,
            prompt="orchestrator",
            max_depth=depth,
            max_iterations=1000,
            turn_tokens=100_000,
        )
        # An id of its own: hashing the context is the task's work, once for all its questions.
        problem = Problem("s", "?", Context("bench", context))
        answer = rlm.answer(problem, client.lm("key", memory_scope="arm"), Ledger().child())
        assert answer.outcome == "answered", answer
        return answer.text or ""


class Rlms:
    """rlms 0.1.3, its default environment."""

    in_process = True

    def run(self, turns: Sequence[str], context: str, sub: Sub, depth: int) -> str:
        import asyncio

        import rlm.core.rlm as core
        from rlm.clients.base_lm import BaseLM
        from rlm.core.types import ModelUsageSummary, UsageSummary

        ending = "answer['content'] = str({0}); answer['ready'] = True"
        turns = [_ending(c, ending).replace("CHILDREN", "rlm_query_batched") for c in turns]

        class Fake(BaseLM):
            def completion(self, prompt: Any) -> str:
                if isinstance(prompt, str):
                    return sub(prompt)
                said = sum(m["role"] == "assistant" for m in prompt)
                return fenced(turns[min(said, len(turns) - 1)])

            async def acompletion(self, prompt: Any) -> str:
                await asyncio.sleep(getattr(sub, "seconds", 0))
                return len_of(prompt)

            def get_usage_summary(self) -> UsageSummary:
                return UsageSummary({"fake": self.get_last_usage()})

            def get_last_usage(self) -> ModelUsageSummary:
                return ModelUsageSummary(0, 0, 0)

        core.get_client = lambda backend, kwargs: Fake("fake")
        engine = core.RLM(max_depth=depth, max_iterations=1000, max_concurrent_subcalls=64)
        return str(engine.completion(context, root_prompt="?").response)


class Dspy:
    """dspy.RLM with its LocalInterpreter; a child is a tool that runs another dspy.RLM."""

    in_process = False

    def run(self, turns: Sequence[str], context: str, sub: Sub, depth: int) -> str:
        import dspy
        from dspy.primitives.local_interpreter import LocalInterpreter
        from dspy.utils import DummyLM

        turns = [_ending(c, "SUBMIT(str({0}))") for c in turns]
        turns = [c.replace("CHILDREN(", "map(lambda c: child(text=c), ") for c in turns]

        def child(text: str) -> str:
            return ask(text)

        def ask(text: str) -> str:
            replies = [{"reasoning": "", "code": code} for code in turns]
            engine = dspy.RLM(
                "context, query -> answer",
                max_iters=1000,
                max_llm_calls=10_000,
                tools=[child] if depth > 1 else [],
                sub_lm=lambda prompt: [sub(prompt)],
                interpreter_factory=LocalInterpreter,
            )
            with dspy.context(lm=DummyLM(replies)):
                return str(engine(context=text, query="?").answer)

        return ask(context)


ENGINES: dict[str, type[Engine]] = {"rlm_eval": Ours, "rlms": Rlms, "dspy": Dspy}


def fenced(code: str) -> str:
    return f"```repl\n{code}\n```"


def _ending(code: str, form: str) -> str:
    """``FINISH(x)``, which ends its line, in an engine's own form."""
    lines = []
    for line in code.splitlines():
        before, found, after = line.partition("FINISH(")
        lines.append(before + form.format(after.rstrip()[:-1]) if found else line)
    return "\n".join(lines)


def measure(name: str) -> dict[str, float]:
    """Every row of one engine, in seconds (memory in MB)."""
    engine = ENGINES[name]()
    end = "FINISH(1)"

    def wall(
        turns: Sequence[str], context: str = "short", sub: Sub = len_of, depth: int = 1
    ) -> float:
        began = time.perf_counter()
        engine.run(turns, context, sub, depth)
        return time.perf_counter() - began

    def inside(statement: str, sub: Sub = len_of) -> float:
        return float(engine.run([TIMED.format(statement)], "short", sub, 1))

    wall([end])  # imports and first use
    memory = memory_mb(engine)  # before anything else has raised the peak
    start = statistics.median(wall([end]) for _ in range(5))
    rows = {"start, one turn, end": start}
    no_ops = ["import time; stamps = []", *["stamps.append(time.perf_counter())"] * NO_OPS]
    took = engine.run([*no_ops, "FINISH(stamps[-1] - stamps[0])"], "short", len_of, 1)
    rows["a turn with a no-op block"] = float(took) / (NO_OPS - 1)
    loop = f"for i in range({QUERIES}): llm_query('q%d' % i)"
    rows["`llm_query`"] = inside(loop) / QUERIES
    rows["`llm_query` with a prompt of 500 KB"] = (
        inside("for i in range(10): llm_query('x' * 500_000 + str(i))") / 10
    )
    batch = "llm_query_batched(['q%d' % i for i in range(160)])"
    rows["160 sub-calls of 0.1 s, batched"] = inside(batch, Slow(SLEEP_S))
    began = time.perf_counter()
    assert engine.run([TREE], "root", len_of, 2) == str(CHILDREN * LEAVES)
    rows["depth-2 tree of 200 sub-calls"] = time.perf_counter() - began
    rows["50 MB context: start, `len(context)`, end"] = wall([f"{LOADED}\n{end}"], big_text())
    rows["50 MB context: memory added, harness and worker (MB)"] = memory
    return rows


def memory_mb(engine: Engine) -> float:
    """What a long context adds: to the harness's largest resident size, a worker's own, and the
    shared memory (memfds and tmpfs, counted once for all who map it) held while code has it."""
    text = big_text()
    shared: list[float] = []

    def look(prompt: str) -> str:
        shared.append(shared_mb())
        return prompt

    before, shared_before = peak_mb(), shared_mb()
    worker = int(engine.run([MEMORY], text, look, 1)) / 1024
    added = peak_mb() - before + max(0.0, shared[-1] - shared_before)
    return added if engine.in_process else added + worker


def big_text() -> str:
    return "0123456789" * (BIG // 10)


class Slow:
    """A sub-model that takes its time; an event loop may sleep ``seconds`` its own way."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, prompt: str) -> str:
        time.sleep(self.seconds)
        return len_of(prompt)


def len_of(prompt: str) -> str:
    return str(len(prompt))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def shared_mb() -> float:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Shmem:")) / 1024


def table(rounds: Sequence[dict[str, dict[str, float]]]) -> str:
    ours, *peers = ENGINES
    lines = [
        f"| what | {' | '.join([ours, *peers])} | {' | '.join(f'{p} / ours' for p in peers)} |"
    ]
    lines.append("|" + "---|" * (1 + len(ENGINES) + len(peers)))
    for row in rounds[0][ours]:
        medians = {e: statistics.median(r[e][row] for r in rounds) for e in ENGINES}
        unit = (lambda v: f"{v:.0f}") if row.endswith("(MB)") else (lambda v: f"{v * 1e3:.4g} ms")
        cells = [unit(medians[e]) for e in ENGINES]
        cells += [f"{medians[p] / medians[ours]:.2g}×" for p in peers]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help="measure one and print JSON")
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure(args.engine)))
        return
    rounds = []
    for number in range(args.rounds):
        names = list(ENGINES)
        names = names[number % len(names) :] + names[: number % len(names)]
        found = {}
        for name in names:
            command = [sys.executable, __file__, "--engine", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
        rounds.append(found)
    levels = ", ".join(f"{name}: {level}" for name, level in (("rlm_eval", Ours().level),))
    print("# Three RLM engines with a model that answers at once\n")
    print(f"`python tests/benchmarks/engines.py --rounds {args.rounds}`: medians of {args.rounds}")
    print(f"rounds. rlms {version('rlms')} (no isolation, in process), dspy {version('dspy')}")
    print(f"(LocalInterpreter: a process, no isolation), {levels}. Python")
    print(f"{sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.\n")
    print(table(rounds))


if __name__ == "__main__":
    main()
