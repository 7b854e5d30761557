"""A router: the whole input in one prompt where it fits comfortably, else an RLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlm_eval.errors import ConfigError, SampleFailure, at_least
from rlm_eval.ledger import Ledger
from rlm_eval.methods.direct import Direct
from rlm_eval.methods.method import Bounds, Forecast, Method, Shape
from rlm_eval.methods.rlm import Rlm
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class Router(Method):
    """``direct`` where its prompt and largest reply take at most ``threshold`` of the root's
    window, counted in the served model's tokens, else ``rlm``. The way taken is the trajectory's
    first event."""

    direct: Direct
    rlm: Rlm
    threshold: float = 0.5

    def __post_init__(self) -> None:
        at_least(0, above=True, up_to=1, threshold=self.threshold)
        if not isinstance(self.direct, Direct):
            raise ConfigError("must be direct or self_consistency", key="direct")
        if not isinstance(self.rlm, Rlm):
            raise ConfigError("must be an RLM", key="rlm")
        self.roles: tuple[Role, ...] = tuple(dict.fromkeys((*self.direct.roles, *self.rlm.roles)))
        self.matched = self.direct.matched or self.rlm.matched
        self.sandbox = self.rlm.sandbox

    def prompt_name(self) -> str:
        return f"{self.direct.prompt_name()}, {self.rlm.prompt_name()}"

    def prompt_source(self) -> str:
        return json.dumps([self.direct.prompt_source(), self.rlm.prompt_source()])

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        for name, way in (("direct", self.direct), ("rlm", self.rlm)):
            try:
                way.check(models)
            except ConfigError as error:
                raise error.within(name) from error

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        size, limit = self.direct.size(problem, lm), self._limit(lm.info())
        name = "direct" if size <= limit else "rlm"
        route = {"type": "route", "way": name, "direct_tokens": size, "limit_tokens": limit}
        way: Method = self.direct if size <= limit else self.rlm
        try:
            answer = way.answer(problem, lm, ledger)
        except SampleFailure as failure:
            answer = Answer(None, failure.outcome, error=str(failure))
        return replace(answer, trajectory=(route, *answer.trajectory))

    def forecast(
        self, shape: Shape, models: Mapping[Role, ModelInfo]
    ) -> tuple[Forecast, ...] | None:
        return self._way(shape, models).forecast(shape, models)

    def bounds(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Bounds | None:
        return self._way(shape, models).bounds(shape, models)

    def _way(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> Method:
        fits = self.direct.forecast_size(shape) <= self._limit(models["root"])
        return self.direct if fits else self.rlm

    def _limit(self, root: ModelInfo) -> int:
        return int(self.threshold * root.context_window)

    def close(self) -> None:
        self.direct.close()
        self.rlm.close()
