"""Speed of the REPL: `python tests/benchmarks/repl.py` prints a Markdown table.

Rows are medians. The last column is rlms 0.1.3's REPL in the harness's own process, without any
isolation, measured in the same run where that package is importable (`pip install rlms==0.1.3`).
``--quick`` leaves out the 1 GB context.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rlm_eval.repl.session import ReplSession, Sandbox

Row = dict[str, str]
QUERY = "`llm_query`, instant model"
LOAD = "50 MB context, loaded"
FIRST_READ = "50 MB context, searched from end to end for the first time"
#: A search that finds nothing: touches all of a context.
SEARCH = "context.find('?')"


def milliseconds(action: Callable[[], object], times: int) -> float:
    """Median wall time of ``action`` in ms."""
    action()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e3


def inside(repl: ReplSession, statement: str, times: int) -> float:
    """Median wall time of a statement in ms, measured by the worker itself."""
    code = (
        "import statistics, time\nfound = []\n"
        f"for _ in range({times}):\n"
        "  start = time.perf_counter()\n"
        f"  {statement}\n"
        "  found.append(time.perf_counter() - start)\n"
        "statistics.median(found) * 1e3"
    )
    return float(repl.run(code).value or "nan")


def load(sandbox: Sandbox, text: str) -> tuple[float, float]:
    """Seconds until a session has the context, and until its code has looked at all of it; the
    second of two sessions, since the harness's memory is new to the first."""
    for _ in range(2):
        with sandbox.session({}) as repl:
            start = time.perf_counter()
            repl.load("context", text)
            loaded = time.perf_counter() - start
            read = inside(repl, SEARCH, 1) / 1e3
            assert repl.run("len(context)").value == str(len(text))
    return loaded, read


def peak_of_worker(sandbox: Sandbox, text: str) -> float:
    """The largest resident size of a worker that looked at all of a context, in multiples of the
    context."""
    with sandbox.session({}) as repl:
        repl.load("context", text)
        code = f"import resource\n{SEARCH}\nresource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
        return int(repl.run(code).value or 0) * 1024 / len(text)


def sessions_at_once(sandbox: Sandbox, count: int) -> float:
    """Seconds for ``count`` sessions of three blocks each, all at once."""

    def one(i: int) -> str | None:
        with sandbox.session({"llm_query": lambda q: q}) as repl:
            repl.run(f"x = {i}")
            repl.run("y = [llm_query(str(x)) for _ in range(10)]")
            return repl.run("submit(y[-1])").submitted

    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(one, range(count))) == [str(i) for i in range(count)]
    return time.perf_counter() - start


def ours(quick: bool) -> tuple[str, Row]:
    start = time.perf_counter()
    with Sandbox("auto", {"memory_mb": 8192}) as sandbox:
        sandbox.session({}).close()
        found = {"sandbox, at its first session": f"{(time.perf_counter() - start) * 1e3:.0f} ms"}
        found["start of a session"] = (
            f"{milliseconds(lambda: sandbox.session({}).close(), 20):.1f} ms"
        )
        with sandbox.session({"llm_query": lambda prompt: "answer"}) as repl:
            found["no-op block"] = f"{milliseconds(lambda: repl.run('pass'), 1000):.3f} ms"
            call = inside(repl, "llm_query(str(_))", 1000)
            found[QUERY] = f"{call:.3f} ms"
        loaded, read = load(sandbox, "x" * 50_000_000)
        found[LOAD] = f"{loaded * 1e3:.0f} ms"
        found[FIRST_READ] = f"{read * 1e3:.0f} ms"
        if not quick:
            start = time.perf_counter()
            gigabyte = "x" * 1_000_000_000
            found["1 GB string made here, for scale"] = f"{time.perf_counter() - start:.2f} s"
            found["1 GB context, loaded"] = f"{load(sandbox, gigabyte)[0]:.2f} s"
            found["1 GB context, peak of the worker"] = (
                f"{peak_of_worker(sandbox, gigabyte):.2f} x its size"
            )
            del gigabyte
        found["64 sessions at once"] = f"{sessions_at_once(sandbox, 64):.2f} s"
        return sandbox.level, found


def theirs() -> Row | None:
    """rlms' LocalREPL with an instant model behind its own handler, where it is installed."""
    if importlib.util.find_spec("rlm") is None:
        return None
    from rlm.clients.base_lm import BaseLM  # type: ignore[import-not-found]
    from rlm.core.lm_handler import LMHandler  # type: ignore[import-not-found]
    from rlm.core.types import ModelUsageSummary, UsageSummary  # type: ignore[import-not-found]
    from rlm.environments.local_repl import LocalREPL  # type: ignore[import-not-found]

    class Instant(BaseLM):  # type: ignore[misc]
        def completion(self, prompt: object) -> str:
            return "answer"

        async def acompletion(self, prompt: object) -> str:
            return "answer"

        def get_usage_summary(self) -> object:
            return UsageSummary({"instant": self.get_last_usage()})

        def get_last_usage(self) -> object:
            return ModelUsageSummary(1, 1, 1)

    found = {"start of a session": f"{milliseconds(lambda: LocalREPL().cleanup(), 20):.1f} ms"}
    with LMHandler(Instant("instant")) as handler:
        repl = LocalREPL(lm_handler_address=handler.address)
        found["no-op block"] = f"{milliseconds(lambda: repl.execute_code('pass'), 1000):.3f} ms"
        assert repl.execute_code("print(llm_query('x'))").stdout == "answer\n"
        loop = "for i in range(200): llm_query(str(i))"
        found[QUERY] = f"{milliseconds(lambda: repl.execute_code(loop), 3) / 200:.3f} ms"
        text = "x" * 50_000_000
        start = time.perf_counter()
        repl.load_context(text)
        found[LOAD] = f"{(time.perf_counter() - start) * 1e3:.0f} ms"
        start = time.perf_counter()
        assert repl.execute_code(f"print({SEARCH})").stdout == "-1\n"
        found[FIRST_READ] = f"{(time.perf_counter() - start) * 1e3:.0f} ms"
        repl.cleanup()
    return found


def main() -> None:
    level, mine = ours("--quick" in sys.argv)
    peer = theirs()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, Linux {os.uname().release}\n")
    print(f"| what | rlm_eval, {level} |" + (" rlms 0.1.3, not isolated |" if peer else ""))
    print("|---|---|" + ("---|" if peer else ""))
    for name, value in mine.items():
        print(f"| {name} | {value} |" + (f" {peer.get(name, '-')} |" if peer else ""))


if __name__ == "__main__":
    main()
