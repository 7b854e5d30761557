"""pairs: OOLONG-Pairs, twenty questions whose answers are pairs of users.

The windows are those of ``aggregation`` with the six question types as labels; each query asks for
all pairs of users that meet a condition on the labels (and dates) of their lines, so work and
answer grow with the square of the users. Source: RLM paper (arXiv 2512.24601), appendix D.1, which
uses OOLONG's trec_coarse windows of 32K tokens; queries 1–10 ask the same of both users, 11–20 give
them different roles. Score, as the authors' code reads answers: F1 over the set of unordered pairs
written ``(a, b)``; ``score_bare_pairs`` takes ``a, b`` where there are none of these. Where no pair
is wanted, only a short answer without one is right (officially any).

"All their lines of a label are dated after …" is read as true for a user without such lines. A pair
with roles counts either way round. The answer's tokens don't count towards the target: at 32K it
may be larger than the window. The items are the project's own (tasks/items/README.md), some 65
tokens a line where trec_coarse has 39: fewer lines and pairs at a length.

Known shortcuts: answering with every pair of users (``cheat_count``) scores well where a condition
is weak; ``code_oracle``, which guesses labels from keywords, is right on the structured twin, as is
any code. What these score: ``python tests/benchmarks/tasks.py controls``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context

from ..draws import Draws
from ..scoring.scorers import count_role_pairs
from .labels import TREC_LABELS, LabelOf
from .windows import DAY_OF, Line, Windowed, read_lines

Users = Mapping[int, Sequence[Line]]


@dataclass(frozen=True)
class Need:
    """So many lines of one label or of several: exactly, or at least."""

    labels: tuple[str, ...]
    number: int
    exactly: bool

    @classmethod
    def of(cls, text: str) -> Need:
        """``HUM≥1`` at least one, ``HUM=1`` exactly one, ``HUM|LOC≥1`` at least one of either."""
        labels = tuple(TREC_LABELS[code] for code in text[:-2].split("|"))
        return cls(labels, int(text[-1]), text[-2] == "=")

    def met(self, counts: Mapping[str, int]) -> bool:
        have = sum(counts[label] for label in self.labels)
        return have == self.number if self.exactly else have >= self.number

    def words(self) -> str:
        amount = "exactly" if self.exactly else "at least"
        number = self.number if len(self.labels) == 1 else "one"
        labels = " or ".join(f"'{label}'" for label in self.labels)
        return f"{amount} {number} {'line' if self.number == 1 else 'lines'} labelled {labels}"


@dataclass(frozen=True)
class Query:
    """Pairs of which one user meets all needs of ``a``, the other all of ``b``, or of ``a`` where
    ``b`` has none. ``dated``: a label of which all lines must be dated after or before a day."""

    a: tuple[Need, ...]
    b: tuple[Need, ...]
    dated: tuple[str, str, str] | None = None

    @classmethod
    def of(cls, a: str, b: str = "", dated: tuple[str, str, str] | None = None) -> Query:
        return cls(tuple(map(Need.of, a.split())), tuple(map(Need.of, b.split())), dated)

    def roles(self, users: Users) -> tuple[set[int], set[int]]:
        """The users that meet ``a``, and those that meet ``b``."""
        counts = {user: Counter(line.label for line in lines) for user, lines in users.items()}
        first, second = (
            {
                user
                for user, have in counts.items()
                if all(need.met(have) for need in needs) and self._in_time(users[user])
            }
            for needs in (self.a, self.b or self.a)
        )
        return first, second

    def _in_time(self, lines: Iterable[Line]) -> bool:
        if self.dated is None:
            return True
        code, when, day = self.dated
        limit, label = DAY_OF[day], TREC_LABELS[code]
        days = (line.day for line in lines if line.label == label)
        return all(day > limit if when == "after" else day < limit for day in days)

    def words(self) -> str:
        a, b = (" and ".join(need.words() for need in needs) for needs in (self.a, self.b))
        if b:
            return f"one user has {a}, and the other user has {b}"
        if self.dated is None:
            return f"both users have {a}"
        code, when, day = self.dated
        return (
            f"both users have {a}, and for both users all their lines labelled"
            f" '{TREC_LABELS[code]}' are dated {when} {day} (true of a user without any)"
        )


#: RLM paper, appendix D.1, in its order.
QUERIES = (
    Query.of("NUM|LOC≥1"),
    Query.of("ENTY|HUM≥1"),
    Query.of("DESC|ABBR≥1"),
    Query.of("HUM|LOC≥1", dated=("HUM", "after", "Jan 06, 2023")),
    Query.of("ENTY|NUM≥1", dated=("ENTY", "before", "Mar 15, 2023")),
    Query.of("LOC|ABBR≥1"),
    Query.of("DESC|NUM≥1", dated=("NUM", "after", "Feb 01, 2023")),
    Query.of("HUM|DESC≥1"),
    Query.of("ENTY|LOC≥1", dated=("LOC", "after", "Apr 10, 2023")),
    Query.of("NUM|ABBR≥1", dated=("ABBR", "before", "May 20, 2023")),
    Query.of("ENTY≥1 ABBR≥1", "ENTY=1"),
    Query.of("NUM≥2", "LOC≥1 HUM≥1"),
    Query.of("DESC=1", "ABBR≥1 ENTY≥1"),
    Query.of("HUM≥1 NUM≥1", "LOC=2"),
    Query.of("ENTY≥1 LOC≥1 ABBR≥1", "NUM=1"),
    Query.of("DESC≥1 HUM≥1", "ENTY≥2 ABBR=1"),
    Query.of("NUM=1", "LOC≥1 DESC≥1"),
    Query.of("ABBR≥1 HUM=1", "ENTY≥1 NUM≥1"),
    Query.of("LOC≥2 ENTY≥1", "DESC=1 ABBR=1"),
    Query.of("NUM≥1 HUM≥1", "LOC≥1 ENTY≥1 ABBR=1"),
)


def by_user(lines: Iterable[Line]) -> Users:
    users: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        users[line.user].append(line)
    return users


@dataclass(kw_only=True, eq=False)
class Pairs(Windowed):
    max_answer_tokens: int = 4096

    name, scorer = "pairs", "strict_pairs"
    answer_in_target = False
    most_calibrated = 4

    def reserve(self) -> int:
        """Of the longest question; the labels must be those that the queries name."""
        if set(self._items.labels) != set(TREC_LABELS.values()):
            labels = ", ".join(TREC_LABELS.values())
            raise ConfigError(f"has other labels: the labels must be {labels}", key="items")
        return max(self._tok.count(self._question(query)) for query in QUERIES)

    def longest(self) -> int:
        """Beyond this an answer, the square of the users, has hundreds of millions of pairs."""
        return 2_000_000

    def ask(self, lines: Sequence[Line], draws: Draws, index: int) -> Iterator[dict[str, Any]]:
        users = by_user(lines)
        for place, query in enumerate(QUERIES, 1):
            first, second = query.roles(users)
            yield {
                "question": self._question(query),
                "gold": tuple(" ".join(map(str, sorted(role))) for role in (first, second)),
                "group": "roles" if query.b else "both",
                "knobs": {
                    "query": place,
                    "gold_pairs": count_role_pairs(first, second),
                    "n_users": len(users),
                },
            }

    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        query = next((q for q in QUERIES if f"{q.words()}." in question), None)
        if query is None:
            return None
        lines = [
            line._replace(label=line.label or label_of(line.text) or "")
            for line in read_lines(context.text)
        ]
        return _listed(*query.roles(by_user(lines)))

    def count_alone(self, question: str, context: Context) -> str | None:
        """Every pair of users."""
        users = by_user(read_lines(context.text))
        return _listed(users, users)

    def _question(self, query: Query) -> str:
        return (
            f"{self.statement()} List all pairs of user ids (no duplicate pairs, the lower id"
            f" first) where {query.words()}. Reply with one pair a line, in the form (id1, id2);"
            " if there is none, reply 'none'."
        )


def _listed(first: Iterable[int], second: Collection[int]) -> str:
    pairs = {(min(a, b), max(a, b)) for a in first for b in second if a != b}
    return "\n".join(f"({a}, {b})" for a, b in sorted(pairs)) or "none"
