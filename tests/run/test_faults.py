"""Every fault a provider can have, through a whole run: what is sent, scored, kept, pending, paid.

The rows come from ``fault_table``, which ``benchmarks/faults.py`` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers.attempts import Attempt, Job
from helpers.fake_provider import BEHAVIOURS, FakeProvider
from helpers.fault_table import (
    ASKED,
    ATTEMPTS,
    NO_FAULTS,
    PERMANENT,
    QUICK,
    SLOW,
    STOPPING,
    Row,
    fault_table,
    stops,
)
from rlm_eval.analysis import summary
from rlm_eval.config.compose import compose_tree

#: A request that nobody gives up holds its thread, and no exception would end it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="thread")]

#: Faults that another request may escape, and how they are classified.
PASSING = {
    **dict.fromkeys(("hang", "drip", "408"), "timeout"),
    **dict.fromkeys(("reset", "short_body", "short_chunks"), "connection"),
    **dict.fromkeys(("html", "torn_json", "empty_body"), "bad_response"),
    **dict.fromkeys(("429", "429_later"), "rate_limit"),
    **dict.fromkeys(("502", "503", "504", "529", "error_in_200"), "unavailable"),
    **{"500": "server_error", "empty_choices": "empty_choices", "broken_off": "broken_off"},
}
#: Faults that the same request would meet again.
FINAL = {
    **dict.fromkeys(("400", "422"), "bad_request"),
    "429_tomorrow": "rate_limit",
}
#: Those that every other request would meet as well.
STOPPED = {
    **dict.fromkeys(("401", "403"), "authentication"),
    **dict.fromkeys(("402", "429_quota"), "quota"),
    **dict.fromkeys(("400", "422"), "bad_request"),
    "404": "not_found",
}
#: A prompt that is larger than the model takes.
TOO_LARGE = ("overflow", "413")
#: What a content filter refused: the same request would be refused again, and the arm answers for
#: what it sent.
FILTERED = ("filtered", "filtered_text", "filtered_prompt", "400_filter")
#: What looks like a fault and is the model's own doing.
REPLIES = {
    **dict.fromkeys(("empty_string", "out_of_tokens", "null_content"), "no_answer"),
    **{"unclosed_thought": "no_answer", "only_thoughts": "thoughts_only"},
    **{"refusal": "refusal", "tool_call": "tool_call"},
    **dict.fromkeys(("missing_usage", "half_usage", "negative_usage", "huge_usage"), "answered"),
    **dict.fromkeys(("text_usage", "cached_usage", "thoughts_beside", "parts"), "answered"),
}
#: Where the provider took the request and nobody knows what it charged.
SILENT = {"hang", "drip", "reset", "short_body", "short_chunks", "html", "torn_json"} | {
    *("empty_body", "error_in_200"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Row, Row]]:
    """By fault: the question it strikes once, and the one it strikes every time."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(summary, "FIGURES", ())
        slow = {"model.timeout_s": 3.0, "concurrency": 2 * len(SLOW)}
        rows = fault_table(tmp_path_factory.mktemp("quick"), QUICK)
        rows += fault_table(tmp_path_factory.mktemp("slow"), SLOW, **slow)
    return {pair[0].fault: pair for pair in zip(rows[::2], rows[1::2], strict=True)}


def test_every_behaviour_of_the_provider_has_its_row(table: Mapping[str, object]) -> None:
    expected = {*PASSING, *FINAL, *REPLIES, *TOO_LARGE, *FILTERED}
    assert table.keys() == expected == BEHAVIOURS.keys() - {*NO_FAULTS, *PERMANENT}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_tried_again_and_owed_at_last(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    once, always = table[fault]
    assert (once.outcome, once.requests, once.scored, once.pending) == ("answered", 2, True, False)
    assert (always.outcome, always.requests) == ("provider_error", ATTEMPTS)
    assert (always.scored, always.pending) == (False, True)
    assert once.kind == always.kind == PASSING[fault]


@pytest.mark.parametrize("fault", FINAL)
def test_a_final_fault_is_one_request_and_owed(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    for row in table[fault]:
        assert (row.outcome, row.requests, row.kind) == ("provider_error", 1, FINAL[fault])
        assert (row.scored, row.pending) == (False, True)


@pytest.mark.parametrize("fault", TOO_LARGE)
def test_an_overflow_is_the_methods_own_failure(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    for row in table[fault]:
        assert (row.outcome, row.requests) == ("context_overflow", 1)
        assert (row.scored, row.pending) == (False, False)


@pytest.mark.parametrize("fault", FILTERED)
def test_what_a_filter_refused_is_an_outcome_and_never_pending(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    for row in table[fault]:
        assert (row.outcome, row.requests, row.kind) == ("content_filter", 1, "content_filter")
        assert (row.scored, row.pending) == (False, False)


@pytest.mark.parametrize("fault", REPLIES)
def test_a_reply_is_kept_whatever_it_is_worth(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    for row in table[fault]:
        assert (row.outcome, row.requests, row.kind) == (REPLIES[fault], 1, "")
        assert (row.scored, row.pending) == (row.outcome == "answered", False)


@pytest.mark.parametrize("fault", sorted({*PASSING, *FINAL, *REPLIES, *TOO_LARGE, *FILTERED}))
def test_what_is_recorded_is_what_was_billed(
    table: Mapping[str, tuple[Row, Row]], fault: str
) -> None:
    """To the token, where the provider said it; else an estimate, marked, and the worst case where
    it said nothing at all."""
    for row in table[fault]:
        assert row.estimated == (fault in SILENT or fault.endswith("_usage"))
        if fault in SILENT:
            assert row.recorded > row.billed > 0
        elif row.estimated:
            assert row.recorded > 0
        else:
            assert row.recorded == row.billed


def test_what_every_request_would_meet_stops_the_run_at_the_first(tmp_path: Path) -> None:
    rows = {row.fault: row for row in stops(tmp_path)}
    assert (
        {fault: row.kind for fault, row in rows.items()}
        == STOPPED
        == dict.fromkeys(STOPPING) | STOPPED
    )
    for row in rows.values():
        assert (row.requests, row.exit_code, row.answered) == (1, 3, ASKED)
        assert row.said == (
            f"{ASKED} results are still pending: mend what failed, then run the same command again"
        )


def test_a_provider_that_says_tomorrow_ends_the_run_today(tmp_path: Path) -> None:
    """Nobody waits for a Retry-After beyond the deadline: neither who was told, nor the others."""
    with FakeProvider(["429_tomorrow"] * 99) as provider:
        tree = compose_tree(
            [
                *("task=needle", "task.lengths=[300]", "task.variant=single_1", "task.n=30"),
                *("method=[direct]", "model=litellm", "model.name=openai/fake", "concurrency=4"),
                *(f"model.api_base={provider.api_base}", f"results_dir={tmp_path}"),
            ]
        )
        attempt = Attempt(Job("run", tree, tmp_path), tmp_path / "log")
        assert attempt.wait() == 3
    assert "8 results in a row failed at the provider" in attempt.log.read_text()
    assert 8 <= provider.requests <= 8 + 4
