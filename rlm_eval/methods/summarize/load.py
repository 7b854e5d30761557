"""What a reading takes: sizes in, calls and tokens out; and whether a budget still affords it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlm_eval.ledger import Ledger, Spend
from rlm_eval.methods.fitting import offline_tokens
from rlm_eval.methods.method import Forecast, Shape, prompt_tokens_left
from rlm_eval.models.client import LM
from rlm_eval.models.protocol import Message, ModelInfo, user
from rlm_eval.records import Problem, Role

Load = tuple[Forecast, ...]


@dataclass(frozen=True)
class Sizes:
    """Of one answer, in tokens: the ``parts`` to read, the question and the longest answer; the
    windows of the answering and of the summarising model; and what counts a prompt's tokens."""

    parts: Sequence[int]
    question: int
    answer: int
    root_window: int
    summarize_window: int
    count: Callable[[Sequence[Message]], int]


def expected_sizes(shape: Shape, models: Mapping[Role, ModelInfo], part: int) -> Sizes:
    """From the lengths alone, with parts of ``part`` tokens; all in offline tokens."""
    return Sizes(
        parts=even_parts(shape.context_tokens, part),
        question=shape.question_tokens,
        answer=shape.max_answer_tokens,
        root_window=models["root"].context_window,
        summarize_window=models.get("summarize", models["root"]).context_window,
        count=offline_tokens,
    )


def even_parts(text: int, part: int) -> list[int]:
    """``text`` tokens in full parts of ``part`` tokens and a rest."""
    whole, rest = divmod(text, part)
    return [part] * whole + ([rest] if rest else [])


def served_sizes(problem: Problem, lm: LM, parts: Sequence[int]) -> Sizes:
    """The same as the served models count, with parts of these sizes."""
    return Sizes(
        parts=parts,
        question=served(lm, [user(problem.question)]),
        answer=problem.max_answer_tokens,
        root_window=lm.info().context_window,
        summarize_window=lm.info("summarize").context_window,
        count=lambda messages: served(lm, messages),
    )


def served(lm: LM, messages: Sequence[Message]) -> int:
    """Tokens of a chat, of the two models that speak for the one that counts more."""
    tokens = lm.prompt_tokens(messages)
    if lm.info("summarize") == lm.info():
        return tokens
    return max(tokens, lm.prompt_tokens(messages, "summarize"))


def capped(lm: LM, ledger: Ledger) -> bool:
    """Whether the sample has a cap on tokens or dollars that bounds what may be spent."""
    infos = (lm.info(), lm.info("summarize"))
    left = [prompt_tokens_left(ledger, info, calls=1, completion_tokens=0) for info in infos]
    return left != [None, None]


def affords(lm: LM, ledger: Ledger, load: Load) -> bool:
    """Whether calls like these fit what is left under every cap."""
    total = sum((_spend(part, lm.info(part.role)) for part in load), Spend())
    left = ledger.remaining()
    return all(
        cap is None or amount is None or amount <= cap
        for cap, amount in (
            (left["calls"], total.calls),
            (left["tokens"], total.tokens),
            (left["usd"], total.usd),
        )
    )


def _spend(part: Forecast, info: ModelInfo) -> Spend:
    usage = part.usage(info)
    usd = None if info.price is None else info.price.cost(usage)
    return Spend(part.calls, usage.prompt_tokens + usage.completion_tokens, usd)
