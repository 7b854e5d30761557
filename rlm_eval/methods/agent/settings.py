"""The knobs that every agent has, whatever else its method lets one set."""

from __future__ import annotations

from typing import Protocol

from rlm_eval.ledger import Ledger
from rlm_eval.methods.allowance import prompt_tokens_left
from rlm_eval.methods.method import at_least
from rlm_eval.methods.prompts import Prompt
from rlm_eval.models.client import LM

#: The most turns of a matched run, however large its cap: a model that goes round in circles would
#: spend it to the end for nothing.
MATCHED_ITERATIONS = 100
#: What a prompt file must hold beside its turns.
TEMPLATES = ("observation", "no_code", "repeated", "forced")


class AgentSettings(Protocol):
    """The settings of a method whose model writes code in turns.

    At most ``max_iterations`` turns of ``turn_tokens`` each; ``output_chars`` of a block's output
    are shown. A sub-call answers in at most ``sub_tokens``; a batch runs ``concurrency`` at once.
    With ``force_answer`` a run at its limit is asked once for an answer in plain text. ``matched``
    lets the sample's cap on tokens or dollars end the run in place of ``max_iterations``.
    """

    max_iterations: int
    turn_tokens: int
    sub_tokens: int
    output_chars: int
    concurrency: int
    force_answer: bool
    matched: bool
    loaded_prompt: Prompt


def check(method: str, settings: AgentSettings) -> None:
    """Raise ConfigError for sizes below 1; ``method`` is the node of the configuration."""
    at_least(
        1,
        **{
            f"{method}.max_iterations": settings.max_iterations,
            f"{method}.turn_tokens": settings.turn_tokens,
            f"{method}.sub_tokens": settings.sub_tokens,
            f"{method}.output_chars": settings.output_chars,
            f"{method}.concurrency": settings.concurrency,
        },
    )


def most_turns(settings: AgentSettings, lm: LM, ledger: Ledger) -> int:
    """The most turns that ``ledger`` pays; where ``matched`` leaves the end to the sample's cap on
    tokens or dollars, so many that no sensible run has them."""
    left = prompt_tokens_left(
        ledger, lm.info("root"), calls=1, completion_tokens=settings.turn_tokens
    )
    if not settings.matched or left is None:
        return settings.max_iterations
    return max(settings.max_iterations, MATCHED_ITERATIONS)
