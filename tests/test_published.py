"""What all published evidence has in common: one revision of the sources that measured it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).parents[1] / "results" / "published"


def environments(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/environment.json"))]


def differing(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Sources that are not the same in all runs that used them, and "dirty" for a changed tree."""
    hashes = defaultdict(set)
    for run in runs:
        for module, found in run["sources"].items():
            hashes[module].add(found)
        hashes["dirty"] |= {False, run["git"].endswith("-dirty")}
    return sorted(name for name, found in hashes.items() if len(found) > 1)


def test_the_evidence_was_measured_by_one_revision_and_what_came_later_by_another() -> None:
    for folders in (("evidence", "evidence/again", "begun"), ("evidence/later", "begun/later")):
        runs = [run for folder in folders for run in environments(PUBLISHED / folder)]
        assert runs
        assert differing(runs) == []


def test_another_revision_is_found() -> None:
    def run(dirty: bool = False, **sources: str) -> dict[str, Any]:
        return {"sources": sources, "git": "bb0b6a1-dirty" if dirty else "bb0b6a1"}

    assert differing([run(a="1", b="2"), run(a="1", c="3")]) == []
    assert differing([run(a="1", b="2"), run(a="2", b="2")]) == ["a"]
    assert differing([run(a="1"), run(dirty=True, a="1")]) == ["dirty"]


def test_what_is_published_stays_small() -> None:
    sizes = [path.stat().st_size for path in PUBLISHED.rglob("*") if path.is_file()]
    assert sum(sizes) < 25e6
