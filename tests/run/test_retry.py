"""``retry``: a setting of how a run is carried out, checked before it begins."""

from __future__ import annotations

import random

import pytest

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError, ContextOverflow, ProviderError
from rlm_eval.models.client import RetryPolicy
from rlm_eval.runs.assemble import assemble

SMALL = ["model=scripted", "task=needle", "method=[direct]"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("retry.attempts=0", "retry.attempts must be at least 1, got 0"),
        ("retry.attempts=2.5", "retry.attempts=2.5 does not fit"),
        ("retry.base_s=-1", "retry.base_s must be at least 0, got -1"),
        ("retry.atempts=2", "did you mean retry.attempts?"),
    ],
)
def test_bad_settings_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assemble(check_config(compose_tree([*SMALL, setting])))
    assert told in str(caught.value)


def test_what_is_set_is_what_the_client_gets_and_the_run_keeps_its_name() -> None:
    plain, other = (
        assemble(check_config(compose_tree([*SMALL, *more])))
        for more in ([], ["retry.attempts=7", "retry.deadline_s=5"])
    )
    assert plain.retry == RetryPolicy()
    assert other.retry == RetryPolicy(attempts=7, deadline_s=5)
    assert plain.run_id == other.run_id


def fault(retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("down", kind="unavailable", retryable=True, retry_after_s=retry_after_s)


def test_waits_double_up_to_the_longest_and_are_drawn_below_it() -> None:
    random.seed(0)
    policy = RetryPolicy(attempts=9, base_s=1.0, max_s=5.0)
    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (8, 5.0)):
        waits = [policy.wait_s(fault(), attempt) or 0.0 for _ in range(300)]
        assert 0.9 * longest < max(waits) <= longest
        assert min(waits) < 0.1 * longest
    assert policy.wait_s(fault(40.0), 1) == 40.0, "the provider's word wins"
    assert (policy.wait_s(fault(0.0), 4) or 0.0) <= 5.0
    assert 0.0 <= (RetryPolicy(attempts=2000, max_s=5.0).wait_s(fault(), 1500) or 0.0) <= 5.0


def test_there_is_no_wait_where_there_is_no_retry() -> None:
    policy = RetryPolicy(attempts=3, base_s=0.0, deadline_s=60.0)
    assert policy.wait_s(fault(20.0), 2, elapsed_s=30.0, left_s=21.0) == 20.0
    assert policy.wait_s(fault(20.0), 3) is None, "the last attempt"
    assert policy.wait_s(fault(20.0), 2, elapsed_s=41.0) is None, "beyond the deadline"
    assert policy.wait_s(fault(20.0), 2, left_s=20.0) is None, "beyond a cap on seconds"
    assert policy.wait_s(ProviderError("no", kind="not_found", retryable=False), 1) is None
    assert policy.wait_s(ContextOverflow("too long"), 1) is None
