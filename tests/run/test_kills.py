"""A run killed at any moment and resumed has lost nothing, counted nothing twice, left nothing.

``benchmarks/kills.py`` prints what is measured here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.billing_provider import BillingProvider
from helpers.kill_and_resume import (
    IN_FLIGHT,
    WORK,
    Finished,
    Run,
    accounts,
    killed_everywhere,
    report,
)
from rlm_eval.journal.past import past_of

#: The first test waits for all kills.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, list[Finished]]:
    """What the named points have done, and what random moments."""
    return killed_everywhere(tmp_path_factory.mktemp("runs"))


def check(everything: Sequence[Finished]) -> None:
    print(report(everything))
    for finished in everything:
        finished.accounts.check()
        for kill in finished.kills:
            assert kill.lost <= IN_FLIGHT, kill
            assert kill.left == 0, kill
        for verdict in finished.verdicts:
            assert verdict.results == verdict.expected
            assert verdict.doubled == 0
            counted, journal = verdict.counted, verdict.journal
            assert (counted.calls, counted.tokens) == (journal.calls, journal.tokens)
            assert counted.usd == pytest.approx(journal.usd)


def test_named_points(killed: tuple[Finished, list[Finished]]) -> None:
    named, _ = killed
    check([named])
    assert len(named.kills) == 14
    first, second = named.verdicts
    assert second.journal.calls < first.journal.calls, "most was taken over, and paid there"


def test_random_moments(killed: tuple[Finished, list[Finished]]) -> None:
    _, at_random = killed
    check(at_random)
    assert sum(len(finished.kills) for finished in at_random) == 50


def test_no_kill_gives_a_cap_back(tmp_path: Path) -> None:
    """The run's cap holds over all its attempts together; what is left stays pending."""
    cap, chance = 40, random.Random(1)
    for folder in (tmp_path / str(trial) for trial in range(5)):
        with BillingProvider() as provider:
            run = Run(folder, provider, n=10, settings=(f"budget.run.calls={cap}",))
            while len(run.kills) < 3 and run.kill_somewhere(chance, WORK):
                pass
            if not run.kills:  # it came to its end before
                continue
            assert [run.attempt().wait(), run.attempt().wait()] == [3, 3]
            spent = past_of(run.run_dir).spent
            assert spent.calls == cap
            assert provider.requests <= cap + len(run.kills) * IN_FLIGHT
            accounts(provider, folder).check()
            return
    pytest.fail("no attempt was killed at work")
