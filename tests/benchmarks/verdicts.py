"""How long verdicts take on a large run: 56 arms, 3 tasks, 4 lengths, 50 contexts, simulated.

    python tests/benchmarks/verdicts.py > results/published/benchmarks/verdicts.md

Seconds of one core, from the tables in memory to the verdicts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.fake_results import simulate
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.load import Run, combine, complete
from rlm_eval.analysis.verdicts import verdicts

RLMS, OTHERS = 10, 46


def main() -> None:
    arms = (*(f"rlm_{i}" for i in range(RLMS)), *(f"direct_{i}" for i in range(OTHERS)))
    frames = []
    for task in ("a", "b", "c"):
        frame, calls = simulate(
            contexts=50,
            questions=2,
            lengths=(1000, 2000, 4000, 8000),
            methods=arms,
            skills=dict.fromkeys(arms, 0.5),
            subcalls={},
            run_id=task,
        )
        frames.append(frame.assign(task=task, sample_id=task + frame["sample_id"]))
    results, config = pd.concat(frames, ignore_index=True), {"method": {arm: {} for arm in arms}}
    calls = calls.assign(restart=1)
    print("# Verdicts on a large run\n")
    print(
        f"`python tests/benchmarks/verdicts.py`: {len(arms)} simulated arms, {RLMS} of them RLMs,"
        f" 3 tasks, 4 lengths, 50 contexts with 2 questions: {len(results):,} results.\n"
    )
    print("| step | seconds of one core |\n|---|---:|")
    begun = time.process_time()
    frame = complete(Path("x"), results, calls, config, {})
    loaded = combine([Run(Path("x"), frame, calls, config, {})])
    for name, step in (("load", None), ("verdicts", verdicts), ("summary", summarize)):
        made = step(loaded) if step else ()
        what = f"{name} ({len(made)})" if name == "verdicts" else name
        print(f"| {what} | {time.process_time() - begun:.1f} |")
        begun = time.process_time()


if __name__ == "__main__":
    main()
