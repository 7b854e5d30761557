"""``retry``: a setting of how a run is carried out, checked before it begins."""

from __future__ import annotations

import random

import pytest

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.models.sender import RetryPolicy
from rlm_eval.run.assemble import assemble

SMALL = ["model=scripted", "task=needle", "method=[direct]"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("retry.attempts=0", "retry.attempts must be at least 1, got 0"),
        ("retry.attempts=2.5", "retry.attempts=2.5 does not fit"),
        ("retry.base_s=-1", "retry.base_s must be 0 or more, got -1"),
        ("retry.atempts=2", "did you mean retry.attempts?"),
    ],
)
def test_bad_settings_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assemble(check_config(compose_tree([*SMALL, setting])))
    assert told in str(caught.value)


def test_what_is_set_is_what_the_door_gets_and_the_run_keeps_its_name() -> None:
    plain, other = (
        assemble(check_config(compose_tree([*SMALL, *more])))
        for more in ([], ["retry.attempts=7", "retry.deadline_s=5"])
    )
    assert plain.retry == RetryPolicy()
    assert other.retry == RetryPolicy(attempts=7, deadline_s=5)
    assert plain.run_id == other.run_id


def test_waits_double_up_to_the_longest_and_are_drawn_below_it() -> None:
    random.seed(0)
    policy = RetryPolicy(attempts=9, base_s=1.0, max_s=5.0)
    for attempt, ceiling in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (8, 5.0)):
        waits = [policy.wait_s(attempt, None) for _ in range(300)]
        assert 0.9 * ceiling < max(waits) <= ceiling
        assert min(waits) < 0.1 * ceiling
    assert policy.wait_s(1, 40.0) == 40.0, "the provider's word wins"
    assert policy.wait_s(4, 0.0) <= 5.0
