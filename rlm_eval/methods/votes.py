"""Votes: one prompt sampled several times, and the answer given most often.

Self-consistency, Wang et al., arXiv 2203.11171, section 2. Sampled replies differ from run to run:
no seed is sent. A run that leaves the temperature to its provider (``temperature=null``) leaves it
that of the votes too: they are samples at the provider's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rlm_eval.errors import ConfigError, SampleFailure
from rlm_eval.ledger import Ledger
from rlm_eval.methods.fitting import largest_fitting
from rlm_eval.methods.method import prompt_tokens_left
from rlm_eval.models.client import LM, Completion, Temperature
from rlm_eval.models.protocol import Message, ModelInfo


def normalised(answer: str) -> str:
    """Equal for answers that count as the same vote: letter case, white space and punctuation at
    the end are put aside."""
    return " ".join(answer.casefold().split()).rstrip(" .,;:!?")


def majority(answers: Sequence[str]) -> str:
    """The answer given most often, worded as it was first; of equals the one given first."""
    counts = Counter(map(normalised, answers))
    most = max(counts.values())
    return next(answer for answer in answers if counts[normalised(answer)] == most)


def check_temperature(name: str, temperature: float | None) -> None:
    """Raise ConfigError for a temperature at which all votes are the same one."""
    if temperature is not None and temperature <= 0:
        raise ConfigError(
            f"{name} must be above 0, or null for the provider's own, got {temperature:g}: "
            "at 0 all votes are the same"
        )


def sampled(
    messages: Sequence[Message],
    lm: LM,
    ledger: Ledger,
    *,
    votes: int,
    max_tokens: int,
    first: Temperature,
    others: Temperature,
) -> list[Completion]:
    """``votes`` replies to one prompt, the first and the others each at their temperature. The
    first is asked for alone: it leaves the prompt in the server's prefix cache, where the others,
    side by side, find it. The embedded model's parallel slots share no prefix, so there they
    follow each other.

    Raises the failure of a vote that could not be had: fewer votes are another method.
    """
    replies: list[Completion | SampleFailure] = []
    at_once = 1 if lm.info().endpoint == "local" else 64
    for size, temperature in ((1, first), (votes - 1, others)):
        replies += lm.complete_batch(
            [messages] * size,
            ledger=ledger,
            max_tokens=max_tokens,
            temperature=temperature,
            concurrency=at_once,
        )
        for reply in replies:
            if isinstance(reply, SampleFailure):
                raise reply
    return [reply for reply in replies if isinstance(reply, Completion)]


def votes_within_cap(
    ledger: Ledger, info: ModelInfo, *, prompt_tokens: int, max_tokens: int
) -> int | None:
    """How many votes the sample's cap on tokens or dollars buys, each at its largest, at least 1
    (where not even that fits, the call itself is refused); None where no such cap holds."""

    def left(votes: int) -> int | None:
        return prompt_tokens_left(ledger, info, calls=votes, completion_tokens=max_tokens)

    whole = left(0)
    if whole is None:
        return None
    calls = ledger.remaining()["calls"]
    most = whole // prompt_tokens if calls is None else min(whole // prompt_tokens, int(calls))
    return max(1, largest_fitting(most, lambda n: (left(n) or 0) >= n * prompt_tokens))
