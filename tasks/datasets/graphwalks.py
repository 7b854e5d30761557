"""graphwalks: breadth-first search and parents in a directed graph given as a list of edges.

OpenAI's rows: the edges are the context, the operation the question. Score: official, as
lm-evaluation-harness works it out: set F1 of the nodes in the last line, ``Final Answer: [a, b]``;
both empty → 1, as the data set's card has it; of the last such line ``score_anywhere``. A search of
depth d asks for the nodes whose shortest path from the start has d edges; parents are asked for
without the node itself. The rules are worded anew.

Known shortcut: a few lines of code solve it (``code_oracle``: 100 %): the task measures walking
without code, or writing it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context

from ..generated.graph import BFS, PARENTS, RULES, solve
from .dataset import Fields, Row
from .fixed import Fixed


class GraphWalks(Fixed):
    name = scorer = "graphwalks"
    columns = ("prompt", "answer_nodes", "problem_type")
    max_answer_tokens = 2048
    constant_answers = ("Final Answer: []",)

    def items(self, row: Row) -> Iterator[Fields]:
        _, _, after = row["prompt"].rpartition("The graph has the following edges:")
        edges, _, operation = after.partition("Operation:")
        line = next((s.strip() for s in operation.splitlines() if s.strip()), "")
        if not (BFS.search(line) or PARENTS.search(line)):
            raise ConfigError(f"{self.name}: a prompt has no known operation: {line[:60]!r}")
        yield {
            "content": edges.strip(),
            "question": RULES.format(operation=line),
            "gold": tuple(row["answer_nodes"]),
            "group": str(row["problem_type"]),
        }

    def code_oracle(self, question: str, context: Context) -> str | None:
        return solve(question, context)
