"""The tasks that the task benchmarks go through, and the rows of their tables."""

from __future__ import annotations

from collections.abc import Sequence

VARIANTS = {
    "needle": (
        *("single_1", "single_2", "single_3", "multikey_1", "multikey_2", "multikey_3"),
        *("multivalue", "multiquery"),
    ),
    "multihop": ("vt", "semantic"),
}
PLAIN = ("aggregation", "pairs", "cwe", "fwe")


def generated() -> dict[str, list[str]]:
    """Every generated task by the name of its row, as overrides."""
    named = {
        f"{task} {variant}": [f"task={task}", f"task.variant={variant}"]
        for task, variants in VARIANTS.items()
        for variant in variants
    }
    composed = {"aggregation composed": ["task=aggregation", "task.domain=reviews"]}
    return named | {task: [f"task={task}"] for task in PLAIN} | composed


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(heads: Sequence[str]) -> list[str]:
    """The head of a Markdown table whose first column is text."""
    return [row(heads), row(["---", *["---:"] * (len(heads) - 1)])]
