"""Reranking: orders read from replies, windows that slide, and what a cap leaves of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from helpers.chat import Table, problem, scripted
from rlm_eval.errors import BudgetExceeded
from rlm_eval.ledger import Budget
from rlm_eval.methods.rag.rag import Rag, numbers_in
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer

#: Each line is a chunk of its own, and BM25 ranks them as they stand.
LINES = tuple(f"heron number {i:02} is {'asleep' if i != 17 else 'the one'}.\n" for i in range(20))
SETTINGS = {"chunk_tokens": 10, "top_k": 2, "order": "rank"}


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("[3] > [1] > [2]", [2, 0, 1]),
        ("[2]", [1]),
        ("The best of the 3 is [2], then [ 3 ].", [1, 2]),
        ("3, 1", [2, 0]),
        ("[2] > [2] > [9] > [0] > [1]", [1, 0]),
        ("None of them helps.", []),
        ("", []),
    ],
)
def test_numbers_are_read_from_any_reply(reply: str, named: list[int]) -> None:
    assert numbers_in(reply, 3) == named


def best_first(messages: Sequence[Message]) -> str:
    """Names the passage that holds "the one" first; answers with the first passage's number."""
    told = messages[-1]["content"]
    if "Reply with the numbers" not in told:
        return str(re.findall(r"number (\d+)", told)[0])
    found = re.search(r"\[(\d+)\]\nheron number 17", told)
    return f"[{found[1]}] > [1]" if found else "[1] > [2]"


def ask(
    method: Rag, *, window: int = 100_000, budget: Budget | None = None, script=best_first
) -> tuple[Answer, Table]:
    table = Table(scripted(script, window=window))
    asked = problem("Which heron is it?", "".join(LINES))
    return method.answer(asked, table.lm(), table.ledger(budget)), table


def test_the_root_puts_the_candidates_in_order_in_one_counted_call() -> None:
    plain, _ = ask(Rag(**SETTINGS))
    assert plain.text == "00"
    got, table = ask(Rag(rerank=20, **SETTINGS))
    assert got.text == "17"
    assert (got.iterations, [c.role for c in table.calls]) == (2, ["root", "root"])
    event = got.trajectory[1]
    start = len(LINES[0]) * 17
    assert (event["calls"], event["unread"], event["starts"][0]) == (1, 0, start)
    assert sorted(event["starts"]) == [len(LINES[0]) * i for i in range(18)] + [
        len("".join(LINES[:i])) for i in (18, 19)
    ]
    assert got.spans_read is not None
    assert got.spans_read[0] == (start, start + len(LINES[17]))


def test_what_is_beyond_the_candidates_keeps_its_place() -> None:
    got, _ = ask(Rag(rerank=5, **SETTINGS | {"top_k": 20, "token_budget": None}))
    assert [start for start, _ in got.spans_read or ()][5:] == [
        len("".join(LINES[:i])) for i in range(5, 20)
    ]


def test_a_small_window_slides_from_the_last_to_the_first() -> None:
    got, table = ask(Rag(rerank=20, **SETTINGS), window=300)
    assert got.text == "17"
    assert got.trajectory[1]["calls"] == len(table.calls) - 1 > 2
    assert all(call.prompt_tokens <= 300 for call in table.calls)


def test_a_reply_that_cannot_be_read_leaves_the_order_and_is_recorded() -> None:
    got, _ = ask(Rag(rerank=20, **SETTINGS), script=lambda messages: "I cannot say.")
    plain, _ = ask(Rag(**SETTINGS))
    assert got.trajectory[1]["unread"] == 1
    assert got.spans_read == plain.spans_read


def test_matched_shows_what_reranking_leaves_of_the_cap() -> None:
    cap = 420
    got, table = ask(Rag(rerank=20, matched=True, **SETTINGS), budget=Budget(tokens=cap))
    assert got.text == "17"
    assert table.tokens <= cap
    assert SETTINGS["top_k"] < len(got.spans_read or ()) < len(LINES)


def test_a_cap_that_reranking_passes_is_spent() -> None:
    with pytest.raises(BudgetExceeded):
        ask(Rag(rerank=20, matched=True, **SETTINGS), budget=Budget(tokens=200))
