"""A router: the whole input in one prompt where it fits comfortably, else an RLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlm_eval.errors import ConfigError, SampleFailure, speaking_of
from rlm_eval.ledger import Ledger
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import CodeOracle, Forecast, Method, Shape
from rlm_eval.methods.rlm.engine import Rlm
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class Router(Method):
    """``direct`` where its prompt and largest reply take at most ``threshold`` of the root's
    window, counted in the served model's tokens, else ``rlm``. The way taken is the trajectory's
    first event."""

    direct: Method
    rlm: Method
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(
                "method.router.threshold is a share of the window: above 0, at most 1, "
                f"got {self.threshold:g}"
            )
        if not isinstance(self.direct, Direct) or not isinstance(self.rlm, Rlm):
            raise ConfigError(
                "method.router.direct must be direct or self_consistency, method.router.rlm an RLM"
            )
        self._direct: Direct = self.direct
        self._rlm: Rlm = self.rlm
        self.roles = tuple(dict.fromkeys((*self.direct.roles, *self.rlm.roles)))
        self.matched = self.direct.matched or self.rlm.matched

    @property
    def sandbox(self) -> Any:
        """The RLM's."""
        return self._rlm.sandbox

    def prompt_name(self) -> str:
        return f"{self._direct.prompt_name()}, {self._rlm.prompt_name()}"

    def prompt_source(self) -> str:
        return json.dumps([self._direct.prompt_source(), self._rlm.prompt_source()])

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        with speaking_of("method.router.direct"):
            self._direct.check(models)
        with speaking_of("method.router.rlm"):
            self._rlm.check(models)

    def bind(self, code_oracle: CodeOracle) -> None:
        self._direct.bind(code_oracle)
        self._rlm.bind(code_oracle)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        size = self._direct.size(problem, lm)
        way = self._way(size, lm.info())
        route = {
            "type": "route",
            "way": "direct" if way is self._direct else "rlm",
            "direct_tokens": size,
            "limit_tokens": self._limit(lm.info()),
        }
        try:
            answer = way.answer(problem, lm, ledger)
        except SampleFailure as failure:
            answer = Answer(None, failure.outcome, error=str(failure))
        return replace(answer, trajectory=(route, *answer.trajectory))

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        return self._way(self._direct.forecast_size(shape), models["root"]).forecast(shape, models)

    def _limit(self, root: ModelInfo) -> int:
        return int(self.threshold * root.context_window)

    def _way(self, size: int, root: ModelInfo) -> Method:
        return self._direct if size <= self._limit(root) else self._rlm

    def close(self) -> None:
        self._direct.close()
        self._rlm.close()
