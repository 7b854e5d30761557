"""Runs killed with SIGKILL and resumed, and what their records say; the suite asserts every line:

PYTHONPATH=tests python tests/benchmarks/kills.py > results/published/benchmarks/kills.md
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from helpers.billing_provider import FAULTS
from helpers.kill_and_resume import (
    IN_FLIGHT,
    QUESTIONS,
    SUB_CALLS,
    killed_everywhere,
    report,
)

TEXT = """\
# Kill and resume

`PYTHONPATH=tests python tests/benchmarks/kills.py`; `tests/run/test_kills.py` asserts that every
run ends with all results, each once, that no bill is missing but those of calls in flight at a
kill, and that no process is left.

Real runs of the arms direct and rlm through litellm against a provider over HTTP that fails every
eighth request ({faults}, in turn). {questions} questions at once, each with up to {sub_calls}
sub-calls at once: at most {in_flight} calls are in flight at a kill. At a named point the whole
process stops itself, and is killed there. Lost: billed, and in no journal. Assumed: what journals
hold above the bills of requests whose connection was reset, as nobody told what they cost. The
second table's first line is two runs, the later of which reuses the earlier one's results.

{tables}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        named, at_random = killed_everywhere(Path(folder))
    everything = [named, *at_random]
    for finished in everything:
        finished.accounts.check()
    told = {"faults": ", ".join(FAULTS), "questions": QUESTIONS, "sub_calls": SUB_CALLS}
    print(TEXT.format(**told, in_flight=IN_FLIGHT, tables=report(everything)))


if __name__ == "__main__":
    main()
