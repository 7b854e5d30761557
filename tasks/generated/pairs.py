"""pairs: OOLONG-Pairs, twenty questions whose answers are pairs of users.

The windows are those of :mod:`rlm_eval.tasks.generated.aggregation` with the six question types as
labels; each query asks for all pairs of users that meet a condition on the labels (and dates) of
their lines, so work and answer grow with the square of the users. Source: RLM paper (arXiv
2512.24601), appendix D.1, which uses OOLONG's trec_coarse windows of 32K tokens; queries 1–10 ask
both users for a line of one of two labels, 11–20 give the two users different roles. Score: F1 over
the set of unordered pairs; where both are empty, 1.

"All their lines of a label are dated after …" is read as true for a user without such lines. A
pair with roles counts either way round. The answer's tokens don't count towards the target: at 32K
it may be larger than the window. A gold is stored as the users of either role, not as pairs.

Known shortcuts: answering with every pair of users scores well where a condition is weak;
``code_oracle`` guesses labels from keywords: F1 .22 at 4K tokens, 1 on the structured twin; the
answer 'none': .08.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample

from ..scoring.scorers import count_role_pairs
from ..sizing import whole_number
from ..task import Generated, Pair
from .labels import TREC_LABELS, LabelOf, guess_label, load_domain
from .windows import DAY_OF, SHOWN, Line, Window, WindowMaker, read_lines

CALIBRATION_WINDOWS = 4

Users = Mapping[int, Sequence[Line]]


@dataclass(frozen=True)
class Need:
    """So many lines of a label: exactly, or at least."""

    label: str
    number: int
    exactly: bool = False

    def met(self, counts: Mapping[str, int]) -> bool:
        have = counts[TREC_LABELS[self.label]]
        return have == self.number if self.exactly else have >= self.number

    def words(self) -> str:
        lines = "line" if self.number == 1 else "lines"
        amount = "exactly" if self.exactly else "at least"
        return f"{amount} {self.number} {lines} labelled '{TREC_LABELS[self.label]}'"


@dataclass(frozen=True)
class Clause:
    """All lines of a label dated before or after a day."""

    label: str
    after: bool
    day: int

    def met(self, lines: Iterable[Line]) -> bool:
        label = TREC_LABELS[self.label]
        days = [line.day for line in lines if line.label == label]
        return all(day > self.day if self.after else day < self.day for day in days)

    def words(self) -> str:
        label, when = TREC_LABELS[self.label], "after" if self.after else "before"
        return f"all their lines labelled '{label}' are dated {when} {SHOWN[self.day]}"


@dataclass(frozen=True)
class Either:
    """Queries 1–10: both users have a line of either label, and meet the clause if there is one."""

    one: str
    other: str
    clause: Clause | None = None

    def roles(self, users: Users) -> tuple[set[int], set[int]]:
        labels = {TREC_LABELS[self.one], TREC_LABELS[self.other]}
        fit = {
            user
            for user, lines in users.items()
            if any(line.label in labels for line in lines)
            and (self.clause is None or self.clause.met(lines))
        }
        return fit, fit

    def words(self) -> str:
        first = (
            f"both users have at least one line labelled '{TREC_LABELS[self.one]}' or"
            f" '{TREC_LABELS[self.other]}'"
        )
        if self.clause is None:
            return first
        return f"{first}, and for both users {self.clause.words()} (true of a user without any)"


@dataclass(frozen=True)
class Roles:
    """Queries 11–20: one user meets all needs of ``a``, the other all of ``b``."""

    a: tuple[Need, ...]
    b: tuple[Need, ...]

    def roles(self, users: Users) -> tuple[set[int], set[int]]:
        counts = {user: Counter(line.label for line in lines) for user, lines in users.items()}
        first, second = (
            {user for user, have in counts.items() if all(need.met(have) for need in needs)}
            for needs in (self.a, self.b)
        )
        return first, second

    def words(self) -> str:
        a, b = (" and ".join(need.words() for need in needs) for needs in (self.a, self.b))
        return f"one user has {a}, and the other user has {b}"


Query = Either | Roles


def _need(text: str) -> Need:
    """``HUM≥1`` at least one, ``HUM=1`` exactly one."""
    return Need(text[:-2], int(text[-1]), exactly=text[-2] == "=")


def _roles(a: str, b: str) -> Roles:
    return Roles(tuple(map(_need, a.split())), tuple(map(_need, b.split())))


#: RLM paper, appendix D.1, in its order.
QUERIES: tuple[Query, ...] = (
    Either("NUM", "LOC"),
    Either("ENTY", "HUM"),
    Either("DESC", "ABBR"),
    Either("HUM", "LOC", Clause("HUM", after=True, day=DAY_OF["Jan 06, 2023"])),
    Either("ENTY", "NUM", Clause("ENTY", after=False, day=DAY_OF["Mar 15, 2023"])),
    Either("LOC", "ABBR"),
    Either("DESC", "NUM", Clause("NUM", after=True, day=DAY_OF["Feb 01, 2023"])),
    Either("HUM", "DESC"),
    Either("ENTY", "LOC", Clause("LOC", after=True, day=DAY_OF["Apr 10, 2023"])),
    Either("NUM", "ABBR", Clause("ABBR", after=False, day=DAY_OF["May 20, 2023"])),
    _roles("ENTY≥1 ABBR≥1", "ENTY=1"),
    _roles("NUM≥2", "LOC≥1 HUM≥1"),
    _roles("DESC=1", "ABBR≥1 ENTY≥1"),
    _roles("HUM≥1 NUM≥1", "LOC=2"),
    _roles("ENTY≥1 LOC≥1 ABBR≥1", "NUM=1"),
    _roles("DESC≥1 HUM≥1", "ENTY≥2 ABBR=1"),
    _roles("NUM=1", "LOC≥1 DESC≥1"),
    _roles("ABBR≥1 HUM=1", "ENTY≥1 NUM≥1"),
    _roles("LOC≥2 ENTY≥1", "DESC=1 ABBR=1"),
    _roles("NUM≥1 HUM≥1", "LOC≥1 ENTY≥1 ABBR=1"),
)


def by_user(lines: Iterable[Line]) -> Users:
    users: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        users[line.user].append(line)
    return users


@dataclass(kw_only=True, eq=False)
class Pairs(Generated):
    items: str | None = None
    structured: bool = False
    max_answer_tokens: int = 4096

    name, scorer = "pairs", "pairs_f1"
    answer_in_target = False

    def prepare(self) -> None:
        whole_number("max_answer_tokens", self.max_answer_tokens)
        self._domain = load_domain("questions", self.items)
        self.source = self._domain.source
        if set(self._domain.labels) != set(TREC_LABELS.values()):
            labels = ", ".join(TREC_LABELS.values())
            raise ConfigError(f"has other labels: the labels must be {labels}", key="items")
        self._maker = WindowMaker(self._domain, self._tok, self.structured)
        self._reserve = max(self._tok.count(self._question(query)) for query in QUERIES)

    def shortest(self) -> int:
        return self._maker.least_tokens + self._reserve

    def longest(self) -> int:
        """Users on the windows' lines, and so the answers, grow with the length: beyond this an
        answer has hundreds of millions of pairs."""
        return 2_000_000

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        for index in range(CALIBRATION_WINDOWS):
            window = self._window(target_tokens, "calibration", index)
            yield from self._samples(window, Context("", ""), target_tokens, index)

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        """No pair at all: users differ from window to window."""
        return ("none",)

    def code_oracle(self, question: str, context: Context) -> str | None:
        return self.solve(question, context, lambda text: guess_label(text, self._domain.labels))

    def solve(self, question: str, context: Context, label_of: LabelOf) -> str | None:
        """The answer by code, where ``label_of`` gives the labels that no field shows."""
        query = next((q for q in QUERIES if f"{q.words()}." in question), None)
        if query is None:
            return None
        lines = [
            line._replace(label=line.label or label_of(line.text) or "")
            for line in read_lines(context.text)
        ]
        first, second = query.roles(by_user(lines))
        pairs = {(min(a, b), max(a, b)) for a in first for b in second if a != b}
        return "\n".join(f"({a}, {b})" for a, b in sorted(pairs)) or "none"

    def make(self, target: int, purpose: str, index: int) -> Iterator[Pair]:
        window = self._window(target, purpose, index)
        context = Context.of(self._maker.text(window))
        for sample in self._samples(window, context, target, index):
            yield context, sample

    def _question(self, query: Query) -> str:
        return (
            f"{self._maker.statement()} List all pairs of user ids (no duplicate pairs, the lower"
            f" id first) where {query.words()}. Reply with one pair a line, in the form (id1, id2);"
            " if there is none, reply 'none'."
        )

    def _window(self, target: int, purpose: str, index: int) -> Window:
        parts = (self.name, self._domain.name, purpose, self.seed, target, index)
        return self._maker.draw(target - self._reserve, *parts)

    def _samples(
        self, window: Window, context: Context, target: int, index: int
    ) -> Iterator[Sample]:
        users = by_user(window.lines)
        for place, query in enumerate(QUERIES, 1):
            first, second = query.roles(users)
            yield self.sample(
                context,
                target,
                question=self._question(query),
                gold=tuple(" ".join(map(str, sorted(role))) for role in (first, second)),
                group="both" if isinstance(query, Either) else "roles",
                summed=window.tokens if context.content else 0,
                knobs={
                    "query": place,
                    "gold_pairs": count_role_pairs(first, second),
                    "domain": self._domain.name,
                    "structured": self.structured,
                    "n_lines": len(window.lines),
                    "n_users": len(users),
                    "context_index": index,
                    "seed": self.seed,
                },
            )
