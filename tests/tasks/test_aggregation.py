"""OOLONG-style windows: golds recounted by hand from the visible twin, official proportions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context
from rlm_eval.tasks.draws import Draws
from rlm_eval.tasks.generated import questions
from rlm_eval.tasks.generated.aggregation import Aggregation
from rlm_eval.tasks.generated.labels import load_domain
from rlm_eval.tasks.generated.questions import KINDS, Query
from rlm_eval.tasks.generated.windows import SHOWN, Deck, Line, label_weights, read_lines
from rlm_eval.tokens import NAMES, load_tokenizer

LABELS = ("cold", "hot", "mild")


@pytest.fixture
def items(tmp_path: Path) -> str:
    path = tmp_path / "items.tsv"
    rows = [f"{label}\tThing number {i} is rather {label}." for label in LABELS for i in range(30)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


def lines_of(context: Context) -> list[tuple[str, str, str]]:
    """(date, user, label) of a visible twin, read here without the package's own parser."""
    rows = [row.split(" || ") for row in context.text.splitlines() if row.startswith("Date: ")]
    return [(d[6:], u[6:], label[7:]) for d, u, label, _ in rows]


def test_counting_golds_recounted_by_hand(items: str) -> None:
    task = Aggregation(
        lengths=[3000],
        n=40,
        items=items,
        structured=True,
        kinds=["label_count", "most_common", "least_common", "compare", "user_label_count"],
    )
    seen = set()
    for context, sample in task.build():
        rows = lines_of(context)
        counts = {label: sum(row[2] == label for row in rows) for label in LABELS}
        named = re.findall(r"'(cold|hot|mild)'", sample.question)
        gold = sample.gold[0]
        kind = sample.question_group
        seen.add(kind)
        assert len(rows) == sample.knobs["n_lines"] >= 40
        if kind == "label_count":
            assert int(gold) == counts[named[0]]
        elif kind == "most_common":
            best, second = sorted(counts.values(), reverse=True)[:2]
            assert counts[gold] == best
            assert best - second > 0.02 * len(rows)
        elif kind == "least_common":
            least, second = sorted(counts.values())[:2]
            assert counts[gold] == least
            assert second - least > 0.02 * len(rows)
        elif kind == "compare":
            a, b = (counts[label] for label in named)
            assert gold.startswith("more" if a > b else "less" if a < b else "same")
            assert a == b or abs(a - b) > 0.02 * len(rows)
        else:
            found = re.search(r"these users: ([\d, ]+);", sample.question)
            assert found is not None
            users = found[1].split(", ")
            assert int(gold) == sum(row[1] in users and row[2] == named[0] for row in rows)
    assert len(seen) == 5


def test_every_kind_is_asked_solved_by_code_on_the_twin_and_round_trips(items: str) -> None:
    task = Aggregation(
        lengths=[6000],
        n=150,
        items=items,
        structured=True,
        kinds=["counting", "user", "timeline"],
        questions_per_context=25,
    )
    kinds = Counter[str]()
    for context, sample in task.build():
        kinds[sample.question_group] += 1
        answer = task.code_oracle(sample.question, context)
        assert answer == sample.gold[0]
        query = questions.read(sample.question)
        assert query is not None
        assert questions.word(query) in sample.question
        wrapped = {"label": "Label", "user": "User", "date": "Date"}.get(
            KINDS[sample.question_group].form, "Answer"
        )
        assert task.score(sample, f"{wrapped}: {answer}").correct
    assert set(kinds) == set(KINDS)


DAY = {day: i for i, day in enumerate(SHOWN)}
SPRING = {"day": "Apr 02, 2024", "until": "May 05, 2024"}
HAND = [
    Line(DAY["Mar 01, 2024"], 11, "hot", ""),
    Line(DAY["Mar 09, 2023"], 11, "hot", ""),
    Line(DAY["Apr 02, 2024"], 11, "cold", ""),
    Line(DAY["Apr 02, 2024"], 22, "cold", ""),
    Line(DAY["May 05, 2024"], 22, "hot", ""),
    Line(DAY["Jun 05, 2024"], 33, "mild", ""),
]


@pytest.mark.parametrize(
    ("kind", "args", "answer"),
    [
        ("label_count", {"label": "hot"}, "3"),
        ("most_common", {}, "hot"),
        ("least_common", {}, "mild"),
        ("compare", {"label": "hot", "other": "cold"}, "more common than"),
        ("compare", {"label": "mild", "other": "cold"}, "less common than"),
        ("user_label_count", {"label": "cold", "users": "11, 33"}, "1"),
        ("user_most_common", {"users": "11"}, "hot"),
        ("user_most_common", {"users": "22"}, None),
        ("label_top_user", {"label": "hot"}, "11"),
        ("label_top_user", {"label": "cold"}, None),
        ("top_user", {}, "11"),
        ("second_user", {}, "22"),
        ("before_after", {"label": "hot", "day": "Mar 01, 2024"}, "less common than"),
        ("before_after", {"label": "cold", "day": "Apr 03, 2024"}, "more common than"),
        ("month_label_count", {"label": "hot", "month": "March"}, "2"),
        ("range_label_count", {"label": "cold", **SPRING}, "2"),
        ("range_most_common", SPRING, "cold"),
        ("top_date", {}, "Apr 02, 2024"),
        ("dates_exactly_n", {"number": "1"}, "4"),
        ("dates_exactly_n", {"number": "2"}, "1"),
    ],
)
def test_answers_worked_out_by_hand(kind: str, args: dict[str, str], answer: str | None) -> None:
    assert questions.answer(Query(kind, args), HAND, LABELS, questions.GAP) == answer


def test_ties_and_small_leads_are_never_asked() -> None:
    lines = [Line(i % 1000, 5, "hot" if i % 2 else "cold", "") for i in range(200)]
    lines.append(Line(0, 5, "hot", ""))
    labels = ("cold", "hot")
    drawn = questions.draw_queries(["most_common", "compare"], 5, labels, lines, Draws("tie"))
    assert list(drawn) == []
    even = lines[:-1]
    gold = questions.answer(Query("compare", {"label": "hot", "other": "cold"}), even, labels, 0.02)
    assert gold == "same frequency as"


@pytest.mark.parametrize("tokenizer", NAMES)
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("domain", ["reviews", "questions"])
def test_default_windows_fill_their_target(domain: str, structured: bool, tokenizer: str) -> None:
    tok = load_tokenizer(tokenizer)
    task = Aggregation(
        lengths=[2400, 4000],
        n=10,
        domain=domain,
        structured=structured,
        tokenizer=tokenizer,
        kinds=["counting", "user", "timeline"],
    )
    for context, sample in task.build():
        used = tok.count(context.text) + tok.count(sample.question) + sample.max_answer_tokens
        assert sample.target_tokens - 250 < used <= sample.target_tokens
        assert sample.length_tokens == tok.count(context.text)
        assert len(read_lines(context.text)) == sample.knobs["n_lines"]


def test_counts_of_lines_add_up(items: str) -> None:
    task = Aggregation(lengths=[300_000], n=1, items=items)
    ((context, sample),) = task.build()
    exact = load_tokenizer().count(context.text)
    assert 0 <= sample.length_tokens - exact <= 8


def test_questions_share_contexts_and_the_first_do_not_depend_on_n(items: str) -> None:
    few = list(Aggregation(lengths=[2500], n=7, items=items).build())
    more = list(Aggregation(lengths=[2500, 3000], n=12, items=items).build())
    assert [s.id for _, s in few] == [s.id for _, s in more][:7]
    contexts = [c.id for c, _ in few]
    assert contexts == [contexts[0]] * 5 + [contexts[5]] * 2
    assert len({s.question for _, s in few[:5]}) == 5
    assert [s.question_group for _, s in few[:4]] == [
        "label_count",
        "most_common",
        "compare",
        "user_label_count",
    ]


def test_label_is_hidden_unless_structured(items: str) -> None:
    ((context, sample),) = Aggregation(lengths=[2500], n=1, items=items).build()
    assert "Label:" not in context.text
    assert all(line.label == "" for line in read_lines(context.text))
    assert "cold, hot, mild" in sample.question
    n = sample.knobs["n_lines"]
    assert context.text.startswith(f"There are {n} lines below.")
    assert context.text.splitlines()[-1].startswith(f"Those were the {n} lines.")


def test_same_seed_same_bytes_everywhere(items: str) -> None:
    task = Aggregation(lengths=[3000], n=2, seed=5, items=items)
    ids = [f"{context.id} {sample.id}" for context, sample in task.build()]
    assert ids == ["473fd0d9d1586c65 32d16af6e76a07a5", "473fd0d9d1586c65 2660ffa064b3ddb0"]


def test_users_come_from_a_pool_and_dates_from_the_official_range(items: str) -> None:
    ((context, _),) = Aggregation(lengths=[100_000], n=1, items=items).build()
    lines = read_lines(context.text)
    share = Counter(line.user for line in lines)
    pool = {user for user, count in share.items() if count >= 3}
    from_pool = sum(line.user in pool for line in lines) / len(lines)
    assert from_pool == pytest.approx(0.8, abs=0.03)
    assert len(pool) == pytest.approx(len(lines) / 10, rel=0.1)
    assert SHOWN[0] == "Feb 16, 2022"
    assert SHOWN[1221] == "Jun 21, 2025"
    assert (min(line.day for line in lines), max(line.day for line in lines)) == (0, 1221)


def test_label_weights_are_the_softmax_of_a_root() -> None:
    found = {tuple(label_weights(Draws("w", i), 2)) for i in range(300)}
    assert all(sum(weights) == pytest.approx(1_000_000, abs=2) for weights in found)
    # T = 2, 30 against 1: exp(√30) / (exp(√30) + exp(1))
    assert max(max(weights) for weights in found) <= 988_788
    assert len(found) > 100


def test_a_deck_deals_all_before_any_again_and_never_twice_to_a_user() -> None:
    deck = Deck([f"i{i}" for i in range(10)], Draws("deck"))
    first = [deck.deal(user=i) for i in range(10)]
    assert len(set(first)) == 10
    one_user = Deck([f"i{i}" for i in range(10)], Draws("deck"))
    before = [one_user.deal(user=1) for _ in range(5)]
    for _ in range(5):
        one_user.deal(user=2)
    assert len({*before, *(one_user.deal(user=1) for _ in range(5))}) == 10


def test_items_in_trec_format_and_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    text = "DESC:manner How is José ?\nNUM:date When ?\nNUM:date When ?\n"
    path.write_bytes(text.encode("latin-1"))
    domain = load_domain("reviews", str(path))
    assert domain.source["items"] == str(path)
    assert domain.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert domain.texts == {
        "description and abstract concept": ("How is José ?",),
        "numeric value": ("When ?",),
    }


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lengths": [900]}, "the least is"),
        ({"domain": "films"}, "reviews"),
        ({"items": "/nowhere.tsv"}, "can't be read"),
        ({"kinds": ["median"]}, "label_count"),
        ({"kinds": []}, "must be a list"),
        ({"questions_per_context": 0}, "questions_per_context"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_knobs_are_refused_at_once(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Aggregation(**{"lengths": [4000], "n": 1, **knobs})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\tx\nb y", "line 2: neither"), ("a\tx\na\ty", "1 label"), ("", "0 label")],
)
def test_bad_item_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Aggregation(lengths=[4000], n=1, items=str(path))


def test_the_least_length_named_is_one_that_works() -> None:
    with pytest.raises(ConfigError) as refused:
        Aggregation(lengths=[900], n=1)
    least = int(str(refused.value).rsplit(" ", 1)[1])
    samples = [s for _, s in Aggregation(lengths=[least], n=30).build()]
    assert 40 <= min(int(str(s.knobs["n_lines"])) for s in samples) <= 42
