"""graphwalks: breadth-first search and parents in a directed graph given as a list of edges.

OpenAI's rows at the revision with the corrected parents of 27 February 2026. The edges are the
context; the question is the row's prompt as published, its rules and worked examples too, with a
sentence in the edges' place that says where they are. Score: official, as lm-evaluation-harness
works it out: set F1 of the nodes in the last line, ``Final Answer: [a, b]``; both empty → 1, as the
data set's card has it; of the last such line ``score_anywhere``. A search of depth d asks for the
nodes whose shortest path from the start has d edges; parents are asked for without the node itself.

Known shortcut: a few lines of code solve it (``code_oracle``: 100 %): the task measures walking
without code, or writing it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from rlm_eval.records import Context

from .dataset import Fields, Fixed, Row, Text, many, shape

EDGES, OPERATION = "The graph has the following edges:", "Operation:"
EDGE = re.compile(r"^(\w+) -> (\w+)$", re.MULTILINE)
BFS = re.compile(r"Perform a BFS from node (\w+) with depth (\d+)")
PARENTS = re.compile(r"Find the parents of node (\w+)")


def _parts(prompt: str) -> tuple[str, str, str]:
    """What stands before the last graph's edges, the edges, and what follows them."""
    before, _, after = prompt.rpartition(EDGES)
    edges, _, operation = after.partition(OPERATION)
    if not EDGE.search(edges) or not (BFS.search(operation) or PARENTS.search(operation)):
        raise ValueError(f"a prompt with '{EDGES}', edges a -> b, '{OPERATION}' and a known one")
    return before, edges.strip(), operation


def walk(edges: Iterable[tuple[str, str]], operation: str) -> list[str] | None:
    """The nodes an operation asks for, sorted; None for an operation that isn't known."""
    if found := PARENTS.search(operation):
        return sorted({a for a, b in edges if b == found[1] and a != b})
    if not (found := BFS.search(operation)):
        return None
    following: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        following[a].append(b)
    seen, level = {found[1]}, {found[1]}
    for _ in range(int(found[2])):
        level = {b for a in level for b in following.get(a, ())} - seen
        seen |= level
    return sorted(level)


@dataclass(kw_only=True, eq=False)
class GraphWalks(Fixed):
    """Its sizes are those of prompts: an answer is no part of them."""

    max_answer_tokens: int = 16384

    answer_in_target = False
    name = scorer = "graphwalks"
    schema = shape(
        prompt=Annotated[Text, AfterValidator(_parts)], answer_nodes=many(Text), problem_type=Text
    )

    def item(self, row: Row) -> Fields:
        before, edges, operation = row["prompt"]
        return {
            "content": edges,
            "question": (
                f"{before}{EDGES}\n(the lines of the text you are given)\n\n{OPERATION}{operation}"
            ),
            "gold": tuple(row["answer_nodes"]),
            "group": row["problem_type"],
        }

    def query(self, question: str) -> str:
        return question.rpartition(OPERATION)[2].strip().partition("\n")[0]

    def code_oracle(self, question: str, context: Context) -> str | None:
        nodes = walk(EDGE.findall(context.text), self.query(question))
        return None if nodes is None else f"Final Answer: [{', '.join(nodes)}]"
