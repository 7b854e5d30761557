"""OOLONG-Pairs: golds recounted pair by pair from the visible twin."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from itertools import combinations

import pytest

from helpers.answers import scored
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.generated.pairs import QUERIES, Pairs
from rlm_eval.tasks.scoring import scorers
from rlm_eval.tokens import load_tokenizer

Lines = list[tuple[str, date]]
NUM, LOC, ENT, HUM = "numeric value", "location", "entity", "human being"
DESC, ABB = "description and abstract concept", "abbreviation"


def n(lines: Lines, label: str) -> int:
    return sum(found == label for found, _ in lines)


def either(a: str, b: str) -> Callable[[Lines, Lines], bool]:
    return lambda x, y: all(n(u, a) + n(u, b) >= 1 for u in (x, y))


def dated(a: str, b: str, label: str, after: bool, d: date) -> Callable[[Lines, Lines], bool]:
    def fits(lines: Lines) -> bool:
        days = [day for found, day in lines if found == label]
        return n(lines, a) + n(lines, b) >= 1 and all((x > d) if after else (x < d) for x in days)

    return lambda x, y: fits(x) and fits(y)


def roles(a: Callable[[Lines], bool], b: Callable[[Lines], bool]) -> Callable[[Lines, Lines], bool]:
    return lambda x, y: (a(x) and b(y)) or (a(y) and b(x))


#: The twenty conditions of RLM paper, appendix D.1, written out once more.
CONDITIONS: list[Callable[[Lines, Lines], bool]] = [
    either(NUM, LOC),
    either(ENT, HUM),
    either(DESC, ABB),
    dated(HUM, LOC, HUM, True, date(2023, 1, 6)),
    dated(ENT, NUM, ENT, False, date(2023, 3, 15)),
    either(LOC, ABB),
    dated(DESC, NUM, NUM, True, date(2023, 2, 1)),
    either(HUM, DESC),
    dated(ENT, LOC, LOC, True, date(2023, 4, 10)),
    dated(NUM, ABB, ABB, False, date(2023, 5, 20)),
    roles(lambda u: n(u, ENT) >= 1 and n(u, ABB) >= 1, lambda u: n(u, ENT) == 1),
    roles(lambda u: n(u, NUM) >= 2, lambda u: n(u, LOC) >= 1 and n(u, HUM) >= 1),
    roles(lambda u: n(u, DESC) == 1, lambda u: n(u, ABB) >= 1 and n(u, ENT) >= 1),
    roles(lambda u: n(u, HUM) >= 1 and n(u, NUM) >= 1, lambda u: n(u, LOC) == 2),
    roles(lambda u: n(u, ENT) >= 1 and n(u, LOC) >= 1 and n(u, ABB) >= 1, lambda u: n(u, NUM) == 1),
    roles(
        lambda u: n(u, DESC) >= 1 and n(u, HUM) >= 1, lambda u: n(u, ENT) >= 2 and n(u, ABB) == 1
    ),
    roles(lambda u: n(u, NUM) == 1, lambda u: n(u, LOC) >= 1 and n(u, DESC) >= 1),
    roles(lambda u: n(u, ABB) >= 1 and n(u, HUM) == 1, lambda u: n(u, ENT) >= 1 and n(u, NUM) >= 1),
    roles(
        lambda u: n(u, LOC) >= 2 and n(u, ENT) >= 1, lambda u: n(u, DESC) == 1 and n(u, ABB) == 1
    ),
    roles(
        lambda u: n(u, NUM) >= 1 and n(u, HUM) >= 1,
        lambda u: n(u, LOC) >= 1 and n(u, ENT) >= 1 and n(u, ABB) == 1,
    ),
]


def test_every_gold_recounted_pair_by_pair() -> None:
    task = Pairs(lengths=[9000], n=40, structured=True)
    nonempty = 0
    for context, sample in task.build():
        users: dict[int, Lines] = defaultdict(list)
        for row in context.text.splitlines():
            if found := re.match(r"Date: (.*) \|\| User: (\d+) \|\| Label: (.*) \|\| Inst", row):
                users[int(found[2])].append(
                    (found[3], datetime.strptime(found[1], "%b %d, %Y").date())
                )
        holds = CONDITIONS[int(str(sample.knobs["query"])) - 1]
        gold = {(a, b) for a, b in combinations(sorted(users), 2) if holds(users[a], users[b])}
        nonempty += bool(gold)
        assert sample.knobs["gold_pairs"] == len(gold)
        answer = "\n".join(f"({a}, {b})" for a, b in gold) or "none"
        assert task.score(sample, answer).correct
        oracle = task.code_oracle(sample.question, context)
        assert oracle is not None
        assert scorers.parse_pairs(oracle) == gold
        if len(gold) > 1:
            half = sorted(gold)[: len(gold) // 2]
            expected = 2 * len(half) / (len(half) + len(gold))
            value = task.score(sample, " ".join(map(str, half))).value
            assert value == pytest.approx(expected)
    assert nonempty > 30


def test_count_of_pairs_with_roles() -> None:
    a, b = {1, 2, 3}, {2, 3, 4}
    pairs = {tuple(sorted((x, y))) for x in a for y in b if x != y}
    assert scorers.count_role_pairs(a, b) == len(pairs) == 6
    assert scorers.count_role_pairs(a, a) == 3
    assert scorers.count_role_pairs(set(), b) == 0


def test_no_pairs_said_and_none_wanted_is_right() -> None:
    assert scored("pairs_f1", "none", "", "1").value == 1.0
    assert scored("pairs_f1", "(1, 2)", "", "1").value == 0.0
    assert scored("pairs_f1", "none", "1", "2").value == 0.0


def test_windows_fill_the_target_without_the_answer() -> None:
    tok = load_tokenizer()
    contexts = set()
    for context, sample in Pairs(lengths=[4096], n=20).build():
        contexts.add(context.id)
        used = tok.count(context.text) + tok.count(sample.question)
        assert 3800 < used <= 4096
        assert all(
            10_000 <= user <= 99_999 for role in sample.gold for user in map(int, role.split())
        )
    assert len(contexts) == 1
    assert len(QUERIES) == 20


def test_bad_input_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("items") / "two.tsv"
    other.write_text("a\tx\nb\ty\n")
    with pytest.raises(ConfigError, match="labels must be"):
        Pairs(lengths=[4096], n=1, items=str(other))
    with pytest.raises(ConfigError, match="the most is"):
        Pairs(lengths=[10_000_000], n=1)
    with pytest.raises(ConfigError, match="the least is"):
        Pairs(lengths=[1000], n=1)
