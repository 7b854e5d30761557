"""Each mistake gets the one line that the published table shows, and starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mistakes import BEFORE, Mistake, line_of, mistakes, row

TABLE = Path(__file__).parents[2] / "results" / "published" / "benchmarks" / "mistakes.md"


@pytest.mark.parametrize(
    ("number", "mistake"), [*enumerate(mistakes(), 1)], ids=[m.typed for m in mistakes()]
)
def test_a_mistake_gets_its_line(
    number: int, mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("KEY", "wrong-key-0123456789")
    line = line_of(mistake, tmp_path)
    assert mistake.told in line
    assert row(number, mistake, line) in TABLE.read_text(encoding="utf-8").splitlines()
    assert not list(tmp_path.rglob("results.parquet"))


def test_there_are_seventy_and_half_of_them_came_first() -> None:
    assert len(mistakes()) >= 70
    assert len(BEFORE) >= 35
