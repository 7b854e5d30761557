"""What becomes of a question whose provider fails, as Markdown; the suite asserts every line:

PYTHONPATH=tests python tests/benchmarks/faults.py > results/published/benchmarks/faults.md
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from helpers.fault_table import (
    ASKED,
    ATTEMPTS,
    QUICK,
    SLOW,
    errors_report,
    fault_table,
    report,
    stops,
    stops_report,
)

TEXT = """\
# Provider faults

`PYTHONPATH=tests python tests/benchmarks/faults.py`; `tests/run/test_faults.py` asserts each line.

Every fault strikes one question once, and another one every time it is asked. Each question is
asked through litellm over HTTP in a whole run with `retry.attempts={attempts}`. Scored and pending
are of the question that is struck every time. Pending: the same command again asks it again.
Tokens are those in the journal / those on the provider's bill. With ~ the provider did not report
them: the harness estimates them, or assumes the most they can be where it got no whole reply. An
error status is free.

{table}

## What every request would meet

The first of {asked} questions meets it, and the run stops there; the same command, once the
provider is well, asks all of them.

{stops}

## What servers write

`tests/models/provider_errors.jsonl` has their words, `tests/models/test_provider_errors.py` sends
each through litellm over HTTP. Before: as revision 4b7ac73 read them.

{errors}"""


def main() -> None:
    slow = {"model.timeout_s": 1.0, "concurrency": 2 * len(SLOW)}
    with tempfile.TemporaryDirectory() as folder:
        rows = fault_table(Path(folder, "quick"), QUICK)
        rows += fault_table(Path(folder, "slow"), SLOW, **slow)
        stopped = stops_report(stops(Path(folder)))
    tables = {"table": report(rows), "stops": stopped, "errors": errors_report()}
    print(TEXT.format(attempts=ATTEMPTS, asked=ASKED, **tables))


if __name__ == "__main__":
    main()
