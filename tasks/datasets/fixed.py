"""What tasks share whose rows bring their own context: no padding, samples sorted into lengths.

``lengths`` are upper bounds: a row belongs to the smallest that holds its context, question and,
where a task counts it, answer, and up to ``n`` rows of each are taken in the source's order; rows
larger than all of them are left out, and those that come again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context, Scalar

from ..sizing import check_lengths
from ..task import Pair
from .dataset import DataSet, Fields, Row

#: Text takes fewer characters a token than this: a bound that spares counting.
MOST_CHARS_PER_TOKEN = 12


@dataclass(kw_only=True, eq=False)
class Fixed(DataSet):
    """Rows of a source as they are, of those whose columns have the values of ``where``."""

    lengths: Sequence[int]
    n: int
    where: Mapping[str, Scalar] | None = None

    def __post_init__(self) -> None:
        at_least(1, n=self.n)
        self.lengths = check_lengths(self.name, self.lengths, self.answer_room + 1)
        self.columns = (*self.columns, *(self.where or ()))
        super().__post_init__()

    def wanted(self, raw: Row) -> bool:
        return all(raw[key] == value for key, value in (self.where or {}).items())

    @abstractmethod
    def item(self, row: Row) -> Fields:
        """The question of a row: what :meth:`pair` takes, and the ``content`` of the context."""

    def size(self, row: Row) -> int:
        """The tokens that sort a row, where the benchmark counts in a way of its own; else 0."""
        return 0

    def build(self) -> Iterator[Pair]:
        found: dict[int, dict[str, Pair]] = {bound: {} for bound in self.lengths}
        contexts: dict[str, Context] = {}
        for row in self.rows():
            asked = self.item(row)
            room = [bound for bound, pairs in found.items() if len(pairs) < self.n]
            context = Context.of(asked.pop("content"))
            if len(context.text) // MOST_CHARS_PER_TOKEN > room[-1]:
                continue
            used, length = self.size(row), 0
            if not used:
                length = self._tok.count(context.text)
                used = length + self._tok.count(asked["question"]) + self.answer_room
            target = next((bound for bound in self.lengths if used <= bound), None)
            if target in room:
                context = contexts.setdefault(context.id, context)
                made = self.pair(context, target, length=length, used=used, **asked)
                found[target].setdefault(made[1].id, made)
                if room == [target] and len(found[target]) == self.n:
                    break
        if not any(found.values()):
            raise ConfigError("no row of the source matches task.where and fits task.lengths")
        for by_id in found.values():
            pairs = [*by_id.values()]
            order = {context.id: i for i, (context, _) in reversed(list(enumerate(pairs)))}
            yield from sorted(pairs, key=lambda pair: order[pair[0].id])
