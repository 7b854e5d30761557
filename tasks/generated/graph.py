"""graph: breadth-first search and parents in a directed graph given as a list of edges.

Graphs of any length from a seed, in the form of OpenAI's GraphWalks: every node has ``degree``
edges to nodes drawn at random; BFS and parents are asked in turn. Score: GraphWalks' own, strict as
it is: set F1 of the nodes in the last line, ``Final Answer: [a, b]``; both empty → 1; of such a
line ``score_anywhere``. A search of depth d asks for the nodes whose shortest path from the start
has d edges; parents are asked for without the node itself. The rules are worded anew.

Known shortcut: a few lines of code solve it (``code_oracle``: 100 %): the task measures walking
without code, or writing it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context

from ..draws import Draws
from ..sizing import fill_new
from ..task import Generated, Pair

NODE_CHARS = 10
EDGE = re.compile(r"^(\w+) -> (\w+)$", re.MULTILINE)
BFS = re.compile(r"Perform a BFS from node (\w+) with depth (\d+)")
PARENTS = re.compile(r"Find the parents of node (\w+)")
RULES = (
    "The text lists the edges of a directed graph, one 'from -> to' a line. A BFS of depth d asks"
    " for the nodes whose shortest path from the start node has exactly d edges, never the start"
    " node itself; the parents of a node are the other nodes with an edge to it. {operation} End"
    " with one last line of the form 'Final Answer: [a, b, c]', or 'Final Answer: []' if there is"
    " none."
)


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


def solve(question: str, context: Context) -> str | None:
    """The answer by running the operation on the edges."""
    nodes = walk(EDGE.findall(context.text), question)
    return None if nodes is None else f"Final Answer: [{', '.join(nodes)}]"


@dataclass(kw_only=True, eq=False)
class Graph(Generated):
    depth: int = 2
    degree: int = 3

    name, scorer = "graph", "graphwalks"
    max_answer_tokens = 512
    constant_answers = ("Final Answer: []",)

    def prepare(self) -> None:
        at_least(1, depth=self.depth, degree=self.degree)
        if self.degree**self.depth > 60:
            raise ConfigError(
                f"** depth may be 60 at most, not {self.degree**self.depth}", key="degree"
            )
        self._reserve = self.max_answer_tokens + 20 + self._tok.count(RULES) + 30

    def code_oracle(self, question: str, context: Context) -> str | None:
        return solve(question, context)

    def shortest(self) -> int:
        """Twenty nodes, and a token for each of the ten digits of a name."""
        return self._reserve + 20 * self.degree * 24

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        draws = Draws(self.name, purpose, self.depth, self.degree, self.seed, target, index)
        budget = target - self._reserve
        specimen = "".join(f"{_node(draws)} -> {_node(draws)}\n" for _ in range(64))
        count = 67 * budget // (self._tok.count(specimen) * self.degree) + 4
        names = list(dict.fromkeys(_node(draws) for _ in range(count)))
        stream = (f"{a} -> {b}\n" for a in names for b in draws.sample_few(names, self.degree))
        lines, used = fill_new(stream, self._tok, budget)
        draws.shuffle(lines)
        edges = [(line[:NODE_CHARS], line[-NODE_CHARS - 1 : -1]) for line in lines]
        context = Context.of("".join(lines).removesuffix("\n"))
        if index % 2:
            operation = f"Find the parents of node {draws.choice(edges)[1]}."
        else:
            start = draws.choice(edges)[0]
            operation = f"Perform a BFS from node {start} with depth {self.depth}."
        yield self.pair(
            context,
            target,
            question=RULES.format(operation=operation),
            gold=tuple(walk(edges, operation) or ()),
            group="parents" if index % 2 else "bfs",
            summed=used,
            knobs=self.noted(
                index, search_depth=self.depth, degree=self.degree, n_edges=len(edges)
            ),
        )


def _node(draws: Draws) -> str:
    return f"{draws.below(16**NODE_CHARS):0{NODE_CHARS}x}"
