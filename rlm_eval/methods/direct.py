"""Plain long context: the whole input and the question in one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlm_eval.ledger import Ledger
from rlm_eval.methods.full_prompt import FullPrompt
from rlm_eval.methods.method import Forecast, Shape
from rlm_eval.methods.votes import check_temperature
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class Direct(FullPrompt):
    """One call with everything in it.

    With ``matched``, where the sample's cap on tokens or dollars buys more than that reply, as many
    votes as it buys beside it, sampled at ``vote_temperature`` (None, here or for the run: the
    provider's own); the majority answers, of equals the one given first, which is the plain reply's
    where it ties.
    """

    vote_temperature: float | None = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(f"{self.settings}.vote_temperature", self.vote_temperature)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        fitted = self.fitted(problem, lm)
        votes = self.votes_bought(fitted, lm, ledger) or 1
        return self.asked(
            fitted, lm, ledger, votes=votes, first="run", others=self.vote_temperature
        )

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return self.forecast_replies(shape, models, 1)
