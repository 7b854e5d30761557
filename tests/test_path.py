"""The way of one sample through the code: as published, and within its bounds."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.path import BOUNDS, path_of, table

PUBLISHED = Path(__file__).parents[1] / "results" / "published" / "benchmarks" / "path.md"


def test_the_way_of_a_sample_is_the_published_one_and_short(tmp_path: Path) -> None:
    paths = {arm: path_of(arm, tmp_path) for arm in BOUNDS}
    for arm, (modules, calls) in BOUNDS.items():
        assert len(paths[arm]) <= modules, sorted(paths[arm])
        assert calls is None or paths[arm].total() <= calls, paths[arm].most_common(12)
    if sys.version_info[:2] != (3, 11):
        return  # the published counts are those of 3.11: later ones have comprehensions in line
    again = "python tests/benchmarks/path.py > results/published/benchmarks/path.md"
    assert table(paths) == PUBLISHED.read_text(encoding="utf-8"), f"changed: {again}"
