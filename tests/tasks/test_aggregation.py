"""OOLONG-style windows: golds recounted by hand from the visible twin, official proportions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.records import Context
from rlm_eval.tasks.draws import Draws
from rlm_eval.tasks.generated import questions
from rlm_eval.tasks.generated.aggregation import Aggregation, Source
from rlm_eval.tasks.generated.labels import load_domain
from rlm_eval.tasks.generated.questions import KINDS, Query
from rlm_eval.tasks.generated.windows import (
    SHOWN,
    Line,
    deal,
    label_weights,
    largest_share,
    read_lines,
    shares,
)
from rlm_eval.tokens import NAMES, load_tokenizer

LABELS = ("cold", "hot", "mild")


@pytest.fixture
def items(tmp_path: Path) -> str:
    path = tmp_path / "items.tsv"
    rows = [f"{label}\tThing number {i} is rather {label}." for label in LABELS for i in range(30)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


def lines_of(context: Context) -> list[tuple[date, str, str]]:
    """(date, user, label) of a visible twin, read here without the package's own parser."""
    rows = [row.split(" || ") for row in context.text.splitlines() if row.startswith("Date: ")]
    return [(day_of(d[6:]), u[6:], label[7:]) for d, u, label, _ in rows]


def day_of(text: str) -> date:
    return datetime.strptime(text, "%b %d, %Y").date()


Rows = list[tuple[date, str, str]]


def top(values: Iterable[str | date], rank: int = 0) -> str | date:
    """The value that comes most often, or next to it; no other comes as often."""
    counts = Counter(values).most_common()
    chosen, times = counts[rank]
    assert [n for _, n in counts].count(times) == 1
    return chosen


def recount(kind: str, question: str, rows: Rows) -> str:
    """The answer to a question from its words and a window's lines, and that it was fair to ask."""
    named = re.findall(r"'(cold|hot|mild)'", question)
    days = [day_of(found) for found in re.findall(r"[A-Z][a-z]{2} \d\d, \d{4}", question)]
    if found := re.search(r"of these users: ([\d, ]+);", question):
        rows = [row for row in rows if row[1] in found[1].split(", ")]
    elif found := re.search(r"dated in the month of (\w+), of any year", question):
        rows = [row for row in rows if f"{row[0]:%B}" == found[1]]
    elif "both included" in question:
        rows = [row for row in rows if days[0] <= row[0] <= days[1]]
    labels = {label: sum(row[2] == label for row in rows) for label in LABELS}
    one, other = (*named, "", "")[:2]
    months = sorted({(d.year, d.month) for d, _, _ in rows})
    month_counts = {
        m: Counter(label for d, _, label in rows if (d.year, d.month) == m) for m in months
    }
    if kind == "before_after":
        before, after = (
            [row[2] == one for row in rows if (row[0] < days[0]) == early and row[0] != days[0]]
            for early in (True, False)
        )
        a, b = Fraction(sum(before), len(before)), Fraction(sum(after), len(after))
        assert a == b or abs(a - b) > Fraction(2, 100)
        return "more common than" if a > b else "less common than" if a < b else "same frequency as"
    if kind == "rival_users":
        users = re.findall(r"\d{5}", question)
        first, second = (sum(row[1:] == (user, one) for row in rows) for user in users)
        assert abs(first - second) >= 2
        return users[first < second]
    if kind == "first_month":
        year, month = next(m for m in months if month_counts[m][one] > month_counts[m][other])
        return f"{date(year, month, 1):%B %Y}"
    if kind == "months_more":
        return str(sum(counts[one] > counts[other] for counts in month_counts.values()))
    if kind == "months_most":
        others = set(LABELS) - {one}
        return str(sum(all(c[one] > c[x] for x in others) for c in month_counts.values()))
    if kind == "dates_exactly_n":
        times = int(re.search(r"exactly (\d+) lines", question)[1])  # type: ignore[index]
        return str(sum(n == times for n in Counter(row[0] for row in rows).values()))
    if kind in ("top_date", "second_date"):
        return f"{top((row[0] for row in rows), int(kind == 'second_date')):%m/%d/%Y}"
    if "user" in kind and not kind.startswith("user_"):
        chosen = [row for row in rows if not named or row[2] == one]
        return str(top((row[1] for row in chosen), int("second" in kind)))
    if kind.endswith("label_count"):
        return str(labels[one])
    order = sorted(labels.values())
    if kind.endswith("most_common") or kind.endswith("least_common"):
        lead = order[-1] - order[-2] if kind.endswith("most_common") else order[1] - order[0]
        assert lead > 0.02 * len(rows)
        return (max if kind.endswith("most_common") else min)(labels, key=labels.__getitem__)
    assert kind.endswith("compare")
    a, b = labels[one], labels[other]
    assert (a == b and a > 0) or abs(a - b) > 0.02 * len(rows)
    return "more common than" if a > b else "less common than" if a < b else "same frequency as"


ALL = ["counting", "user", "timeline"]


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize(("target", "n"), [(3000, 75), (9000, 150)])
def test_every_gold_is_recounted_from_the_window(
    items: str, official: bool, target: int, n: int
) -> None:
    task = Aggregation(
        lengths=[target],
        n=n,
        items=items,
        structured=True,
        kinds=ALL,
        questions_per_context=35,
        official=official,
    )
    kinds = Counter[str]()
    for context, sample in task.build():
        kind, gold = sample.question_group, sample.gold[0]
        kinds[kind] += 1
        rows = lines_of(context)
        assert len(rows) == sample.knobs["n_lines"] >= 40
        assert recount(kind, sample.question, rows) == gold
        assert task.code_oracle(sample.question, context) == gold
        query = questions.read(sample.question)
        assert query is not None
        assert questions.word(query) in sample.question
        form = KINDS[kind].form
        wrapped = {"label": "Label", "user": "User", "date": "Date"}.get(form, "Answer")
        assert task.score(sample, f"{wrapped}: {gold}").correct
    assert set(kinds) == set(KINDS) or target < 9000


def test_official_draws_name_ten_to_twenty_users_and_mix_the_kinds(items: str) -> None:
    task = Aggregation(
        lengths=[9000], n=100, items=items, kinds=ALL, questions_per_context=25, official=True
    )
    samples = [sample for _, sample in task.build()]
    named = [
        len(found[1].split(", "))
        for sample in samples
        if (found := re.search(r"of these users: ([\d, ]+);", sample.question))
    ]
    assert set(named) <= set(range(10, 21))
    assert len(set(named)) > 5
    first = [sample.question_group for sample in samples[::25]]
    assert len(set(first)) > 1
    assert len({sample.context_id for sample in samples}) == 4


@pytest.mark.parametrize("target", [2500, 20_000])
def test_the_date_alone_does_not_tell_before_from_after(target: int) -> None:
    """By counts it did: 80 to 98 % right without reading a line."""
    task = Aggregation(lengths=[target], n=100, kinds=["before_after"], domain="reviews")
    pairs = list(task.build())
    right = [task.count_alone(s.question, c) == s.gold[0] for c, s in pairs]
    assert sum(right) / len(right) < 0.65
    assert {s.gold[0] for _, s in pairs} >= {"more common than", "less common than"}


def test_counting_alone_solves_what_needs_no_label_and_no_more(items: str) -> None:
    task = Aggregation(lengths=[6000], n=150, items=items, kinds=ALL, questions_per_context=25)
    right: dict[bool, list[bool]] = {True: [], False: []}
    for context, sample in task.build():
        needs = KINDS[sample.question_group].needs_labels
        right[needs].append(task.count_alone(sample.question, context) == sample.gold[0])
    assert all(right[False])
    assert sum(right[True]) / len(right[True]) < 0.5


@pytest.mark.parametrize("domain", ["reviews", "questions"])
def test_no_item_comes_twice_in_131k_tokens(domain: str) -> None:
    ((context, sample),) = Aggregation(lengths=[131_072], n=1, domain=domain).build()
    texts = [line.text for line in read_lines(context.text)]
    assert len(set(texts)) == len(texts) == sample.knobs["n_lines"]
    assert sample.length_tokens > 130_000


def test_a_length_that_would_need_an_item_twice_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"items would come twice: .* of each label, enough for"):
        Aggregation(lengths=[2000, 1_000_000], n=1)
    with pytest.raises(ConfigError) as refused:
        Aggregation(lengths=[10_000_000], n=1)
    most = int(re.findall(r"\d+", str(refused.value))[-1])
    # The worst window there is: one label has all that it can have.
    task = Aggregation(lengths=[most], n=1)
    mean = min(task._means)
    assert (most / mean) * largest_share(2) < min(map(len, task._items.texts.values()))


def test_a_file_of_fewer_items_than_lines_deals_all_before_any_again(items: str) -> None:
    ((context, _),) = Aggregation(lengths=[20_000], n=1, items=items, structured=True).build()
    times = Counter(line.text for line in read_lines(context.text))
    for label in LABELS:
        of_label = [n for text, n in times.items() if f"rather {label}." in text]
        assert max(of_label) - min(of_label) <= 1 or len(of_label) < 30


def test_every_label_has_exactly_its_share(items: str) -> None:
    assert shares([500_000, 250_000, 250_000], 41) == [20, 11, 10]
    assert shares([999_999, 1], 40) == [40, 0]
    parts = ("aggregation", "items", "run", 0, 4000, 0)
    ((context, _),) = Aggregation(lengths=[4000], n=1, items=items, structured=True).build()
    rows = lines_of(context)
    weights = label_weights(Draws(*parts, 0), 3)
    counts = [sum(row[2] == label for row in rows) for label in LABELS]
    assert counts == shares(weights, len(rows))


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
        # hot: 1 of 1 line before Mar 01, 1 of 4 after; that day's own line is left out
        ("before_after", {"label": "hot", "day": "Mar 01, 2024"}, "more common than"),
        ("before_after", {"label": "cold", "day": "Apr 03, 2024"}, "more common than"),
        ("before_after", {"label": "hot", "day": "Apr 02, 2024"}, "more common than"),
        ("before_after", {"label": "hot", "day": "Mar 09, 2023"}, None),
        ("month_label_count", {"label": "hot", "month": "March"}, "2"),
        ("range_label_count", {"label": "cold", **SPRING}, "2"),
        ("range_most_common", SPRING, "cold"),
        ("user_least_common", {"users": "11, 33"}, None),
        ("user_compare", {"users": "22", "label": "hot", "other": "cold"}, "same frequency as"),
        ("named_top_user", {"users": "11, 22"}, "11"),
        ("named_second_user", {"users": "11, 22, 33"}, "22"),
        ("named_label_top_user", {"users": "22, 33", "label": "hot"}, "22"),
        ("rival_users", {"label": "hot", "user": "22", "rival": "11"}, None),
        ("rival_users", {"label": "hot", "user": "33", "rival": "11"}, "11"),
        ("month_most_common", {"month": "April"}, "cold"),
        ("month_compare", {"month": "March", "label": "mild", "other": "hot"}, "less common than"),
        ("range_compare", {**SPRING, "label": "cold", "other": "hot"}, "more common than"),
        ("first_month", {"label": "hot", "other": "cold"}, "March 2023"),
        ("first_month", {"label": "cold", "other": "hot"}, "April 2024"),
        ("first_month", {"label": "mild", "other": "hot"}, "June 2024"),
        ("months_more", {"label": "hot", "other": "cold"}, "3"),
        ("months_more", {"label": "mild", "other": "cold"}, "1"),
        ("months_most", {"label": "hot"}, "3"),
        ("months_most", {"label": "mild"}, "1"),
        ("second_date", {}, None),
        ("top_date", {}, "04/02/2024"),
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
    drawn = Source(lines, labels, Draws("tie")).queries(["most_common", "compare"], 5)
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
        lengths=[3600, 5000],
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
    assert ids == ["f7a6dd9c12423b29 58a1c46f719e66ee", "f7a6dd9c12423b29 fb490645da506d5a"]


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


def test_items_are_dealt_in_rounds_that_are_shuffled_anew() -> None:
    dealt = deal([f"i{i}" for i in range(10)], Draws("deck"))
    rounds = [list(islice(dealt, 10)) for _ in range(3)]
    assert all(len(set(one)) == 10 for one in rounds)
    assert len({tuple(one) for one in rounds}) == 3


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


def test_items_with_a_mark_of_their_encoding(tmp_path: Path) -> None:
    path, text = tmp_path / "items.tsv", "Label\tText\nup\tWell.\ndown\tBad."
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_domain("reviews", str(path)).texts == {"down": ("Bad.",), "up": ("Well.",)}
    for encoding in ("utf-16", "utf-16-be"):
        path = tmp_path / f"{encoding}.tsv"
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ConfigError, match="is no text in UTF-8 or Latin-1: convert it"):
            load_domain("reviews", str(path))


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
    [
        ("a\tx\nb y", "line 2: neither"),
        ("a\tx\na\ty", "1 label"),
        ("", "0 label"),
        ("mood\treview\na\tx\nb\ty", "'mood' comes nowhere else: call named columns"),
    ],
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


@pytest.mark.parametrize("structured", [False, True])
def test_a_comparison_counts_whichever_label_is_named_first(
    structured: bool, tmp_path: Path
) -> None:
    """The statement of the structured twin has an apostrophe, and so may a label."""
    path = tmp_path / "items.tsv"
    labels = ("can't say", "yes")
    path.write_text("".join(f"{x}\tText {i} {x}.\n" for x in labels for i in range(9)))
    settings: dict[str, Any] = {"lengths": [4000], "n": 4, "structured": structured}
    for items in (None, str(path)):
        task = Aggregation(kinds=["compare"], questions_per_context=2, items=items, **settings)
        for _, sample in task.build():
            first, other = re.findall(r"the label '(.+?)'(?: more|\?)", sample.question)
            gold = sample.gold[0].split(" ")[0]
            turned = {"more": "less", "less": "more"}.get(gold, gold)
            for said, right in ((gold, False), (turned, True)):
                answer = f"'{other}' is {said} common than '{first}'"
                assert task.score(sample, answer).correct is (right and gold != "same"), answer


@pytest.mark.parametrize(
    ("label", "official", "strict"),
    [
        ("__label__1", True, False), ("*z*", False, False), ("yes (sure)", True, True),
        ("sports|news", True, False), ("answer: yes", False, False), ("[x]", False, True),
        ("sci:space", False, True), ("human_being", True, True), ("rock'n'roll", True, True),
        ("C++", True, True), ("description and abstract concept", True, True),
    ],
)  # fmt: skip
def test_a_label_that_the_right_answer_cannot_be_read_by_is_refused(
    label: str, official: bool, strict: bool, tmp_path: Path
) -> None:
    path = tmp_path / "items.tsv"
    path.write_text(f"{label}\tOne text.\nother\tAnother text.\n")
    for way, reads in ((True, official), (False, strict)):
        settings: dict[str, Any] = {"lengths": [4000], "n": 1, "official": way}
        if reads:
            Aggregation(items=str(path), **settings)
            continue
        with pytest.raises(ConfigError, match="can't be read in an answer") as caught:
            Aggregation(items=str(path), **settings)
        assert repr(label) in str(caught.value)
        assert caught.value.key == "items"


def test_only_the_ends_of_lines_part_items_and_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path, texts = tmp_path / "items.tsv", ("Cut\x85 in two.", "Cut\u2028 in two.")
    for text, encoding in zip(texts, ("latin-1", "utf-8"), strict=True):
        path.write_bytes(f"up\t{text}\r\ndown\tBad.\rup\tWell.\n".encode(encoding))
        domain = load_domain("reviews", str(path))
        assert domain.texts == {"down": ("Bad.",), "up": ("Cut in two.", "Well.")}
        assert domain.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
