"""The router: which way an input goes, and that the way's own answer comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from helpers.chat import Table, block, problem, scripted
from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Budget
from rlm_eval.methods.controls import ScriptedSolver
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Forecast, Shape
from rlm_eval.methods.rlm import Rlm
from rlm_eval.methods.router import Router
from rlm_eval.models.protocol import Message, ModelInfo
from rlm_eval.records import Answer
from rlm_eval.repl.session import Sandbox

WINDOW = 8000


def router(sandbox: Sandbox, **settings: Any) -> Router:
    return Router(Direct(), Rlm(sandbox=sandbox), **settings)


def script(messages: Sequence[Message]) -> str:
    return block("submit('by code')") if "`context`" in messages[0]["content"] else "by reading"


def route(method: Router, chars: int, budget: Budget | None = None) -> tuple[Answer, Table]:
    table = Table(scripted(script, window=WINDOW))
    asked = problem("Which?", "x" * chars)
    return method.answer(asked, table.lm(), table.ledger(budget)), table


def test_what_fits_comfortably_is_read_and_the_rest_is_worked_on_by_code(
    sandbox: Sandbox,
) -> None:
    method = router(sandbox, threshold=0.25)
    # The limit is 2,000 tokens: four characters each, less some 70 of prompt and answer.
    small, _ = route(method, 4 * 1900)
    large, _ = route(method, 4 * 2000)
    assert (small.text, small.sandbox_level, small.protocol) == ("by reading", "", "")
    assert small.trajectory[0]["way"] == "direct"
    assert small.context_chars_read_by_lm == 4 * 1900
    assert (large.text, large.protocol) == ("by code", "submit")
    assert large.trajectory[0] == {
        "type": "route",
        "way": "rlm",
        "direct_tokens": large.trajectory[0]["direct_tokens"],
        "limit_tokens": 2000,
    }
    assert 2000 < large.trajectory[0]["direct_tokens"] < 2100
    assert large.trajectory[1]["type"] == "start"
    assert large.sandbox_level == sandbox.level


def test_the_limit_itself_still_fits(sandbox: Sandbox) -> None:
    probe, _ = route(router(sandbox), 4000)
    size = probe.trajectory[0]["direct_tokens"]
    for threshold, way in ((size / WINDOW, "direct"), ((size - 1) / WINDOW, "rlm")):
        got, _ = route(router(sandbox, threshold=threshold), 4000)
        assert got.trajectory[0]["way"] == way


def test_a_failure_tells_the_way_it_came(sandbox: Sandbox) -> None:
    got, table = route(router(sandbox), 4000, Budget(tokens=100))
    assert (got.text, got.outcome) == (None, "budget_exceeded")
    assert got.trajectory[0]["way"] == "direct"
    assert "tokens=100" in got.error
    assert not table.calls


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01])
def test_a_threshold_that_is_no_share_is_refused(sandbox: Sandbox, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold must be (above 0|at most 1)"):
        router(sandbox, threshold=threshold)


def test_other_methods_have_no_place_in_it(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="direct must be direct or self_consistency"):
        Router(ScriptedSolver(), Rlm(sandbox=sandbox))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rlm must be an RLM"):
        Router(Direct(), Direct())  # type: ignore[arg-type]


def test_both_ways_are_checked_and_named(sandbox: Sandbox) -> None:
    method = router(sandbox)
    with pytest.raises(ConfigError, match=r"direct\.prompt takes"):
        method.check({"root": ModelInfo("m", "e", 90)})
    with pytest.raises(ConfigError, match=r"^rlm\.turn_tokens must be lower than"):
        method.check({"root": ModelInfo("m", "e", 600)})
    assert method.prompt_name() == "plain, compact"
    other = Router(Direct(), Rlm(sandbox=sandbox, prompt="orchestrator"))
    assert other.prompt_source() != method.prompt_source()
    assert method.sandbox is sandbox
    assert set(method.roles) == {"root", "sub"}


def test_closing_it_closes_both() -> None:
    closed: list[str] = []

    class OpenDirect(Direct):
        def close(self) -> None:
            closed.append("direct")

    class OpenRlm(Rlm):
        def close(self) -> None:
            closed.append("rlm")

    Router(OpenDirect(), OpenRlm(sandbox=Sandbox())).close()
    assert closed == ["direct", "rlm"]


def test_the_forecast_is_that_of_the_way_it_will_go(sandbox: Sandbox) -> None:
    class Known(Rlm):
        def forecast(self, shape: Shape, models: Any) -> tuple[Forecast, ...]:
            return (Forecast(3, 900, 90),)

    method = Router(Direct(), Known(sandbox=sandbox))
    infos: Any = {"root": ModelInfo("m", "e", WINDOW)}
    small, large = Shape(1000, 10, 32), Shape(50_000, 10, 32)
    assert method.forecast(small, infos) == Direct().forecast(small, infos)
    assert method.forecast(large, infos) == (Forecast(3, 900, 90),)
    assert method.bounds(small, infos) is None
    assert method.bounds(large, infos) == method.rlm.bounds(large, infos)
