"""A control: the task's own scripted solver. How far code gets that only reads the surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import CodeOracle, Forecast, Method, Shape
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class ScriptedSolver(Method):
    """Asks no model: its rows have no calls, and ``no model`` for a protocol."""

    _solve: CodeOracle | None = field(default=None, init=False, repr=False)

    roles = ()
    reads_everything: ClassVar[bool] = False

    def bind(self, code_oracle: CodeOracle) -> None:
        self._solve = code_oracle

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        if self._solve is None:
            raise RuntimeError("bind() comes before answer()")
        text = self._solve(problem.question, problem.context)
        return Answer(
            text=text,
            outcome="no_answer" if text is None else "answered",
            protocol="no model",
            error="the task's solver has no idea" if text is None else "",
        )

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return ()
