"""``python tests/benchmarks/parity.py``: how often our official scores are the benchmarks' own.

On the answers in tests/parity, whose official score the benchmark's published code gave. Beside
each what the second reading says of the same answers: how often the same, and its mean.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

from task_rows import row, table

from helpers.parity import FILES, cases, verdicts

JUDGE = "browsecomp_plus_judge"


def main() -> int:
    print("# Official scores against the benchmarks' own code\n")
    print("`python tests/benchmarks/parity.py`: answers in `tests/parity`, realistic, sloppy and")
    print("adversarial. Agreement is bit for bit; RULER's code prints four digits, and so many are")
    print("compared. HotpotQA agrees where exact match and F1 both do.\n")
    heads = ["answers to", "n", "score = official", "mean", "second reading", "= official", "mean"]
    lines, agreed = table(heads), True
    for name in FILES:
        if name == JUDGE:
            continue
        scored = [(case, case.score) for case in cases(name)]
        same = sum(case.agrees(score) for case, score in scored)
        agreed = agreed and same == len(scored)
        counts = [str(len(scored)), f"{same / len(scored):.1%}"]
        cells = [name, *counts, f"{fmean(score.value for _, score in scored):.3f}"]
        reading = max(scored[0][1].readings, key=lambda r: r != "exact_match")
        others = [(s.readings[reading], s.value) for _, s in scored if reading in s.readings]
        equal = fmean(other == value for other, value in others)
        lines.append(row([*cells, reading, f"{equal:.1%}", f"{fmean(o for o, _ in others):.3f}"]))
    read = list(verdicts())
    same = sum(ours == official for _, ours, official in read)
    agreed = agreed and same == len(read)
    lines.append(row([JUDGE, str(len(read)), f"{same / len(read):.1%}", "–", "–", "–", "–"]))
    print("\n".join(lines))
    print(
        "\nStated exceptions, in no file: a date that is only a part of one (`March 2024`) is wrong"
        "\n(OOLONG's code completes it from the day that it runs on); of MRCR replies longer than"
        "\n5·10⁹ characters over those of the piece only so many are compared; a judge's reply that"
        "\nsays yes and no is unreadable (BrowseComp-Plus takes the first)."
    )
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
