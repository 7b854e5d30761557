"""Self-consistency: the majority of several sampled replies to the whole input.

Wang et al., arXiv 2203.11171. The paper votes over chains of thought (``think: true``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rlm_eval.ledger import Ledger
from rlm_eval.methods.full_prompt import FullPrompt
from rlm_eval.methods.method import Forecast, Shape, at_least
from rlm_eval.methods.votes import check_temperature
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Answer, Problem, Role


@dataclass
class SelfConsistency(FullPrompt):
    """``votes`` replies to one prompt, sampled at ``temperature`` (None, here or for the run:
    the provider's own), and the answer given most often: letter case, white space and punctuation
    at the end put aside, of equals the one given first. All votes stand in the trajectory.

    With ``matched`` as many votes as the sample's cap on tokens or dollars buys, be that more or
    fewer than ``votes``.
    """

    votes: int = 5
    temperature: float | None = 0.7

    settings: ClassVar[str] = "method.self_consistency"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, **{f"{self.settings}.votes": self.votes})
        check_temperature(f"{self.settings}.temperature", self.temperature)

    def answer(self, problem: Problem, lm: LM, ledger: Ledger) -> Answer:
        fitted = self.fitted(problem, lm)
        votes = self.votes_bought(fitted, lm, ledger) or self.votes
        at = self.temperature
        return self.asked(fitted, lm, ledger, votes=votes, first=at, others=at)

    def forecast(self, shape: Shape, models: Mapping[Role, ModelInfo]) -> tuple[Forecast, ...]:
        return self.forecast_replies(shape, models, self.votes)
