"""A provider that fails throughout ends the run; a bad stretch does not."""

from __future__ import annotations

from helpers.some_records import some_result
from rlm_eval.breaker import IN_A_ROW, CircuitBreaker
from rlm_eval.records import Answer, Outcome, Result


def result(outcome: Outcome) -> Result:
    return some_result(answer=Answer(None, outcome, error="m: overloaded"), outcome=outcome)


def test_only_failures_in_a_row_are_enough() -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.note(result("provider_error")) for _ in range(IN_A_ROW - 1))
    assert not breaker.note(result("budget_exceeded"))
    assert not any(breaker.note(result("provider_error")) for _ in range(IN_A_ROW - 1))
    why = breaker.note(result("provider_error"))
    told = "results in a row failed at the provider, the last with: m: overloaded"
    assert why == f"{IN_A_ROW} {told}"
