"""What a run is expected to take, before anything is spent: `dry_run=true`, and the stop before a
hosted run that would pass its cap in US dollars.

Per arm and length, the first of these that there is: the medians of past runs of the same arm,
model, task and length; the sample's cap, for a method that spends up to it (``budget.matched``);
the method's own estimate from sizes; past runs at the nearest length. Sizes are the task's tokens,
not the served model's, and of prompts only what the same answer sends again is taken to be cached,
and that for the time alone. A reply made from sizes counts all that
its model may think unseen (``reasoning_tokens``), as a reservation does: an upper bound. What a
judge takes has its own rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rlm_eval.errors import ConfigError
from rlm_eval.ledger import Budget
from rlm_eval.methods.method import Forecast, Method, Shape
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role
from rlm_eval.run.assemble import Parts
from rlm_eval.run.experience import Experience, Speeds
from rlm_eval.run.judging import judge_of
from rlm_eval.run.runner import Work
from rlm_eval.tokens import load_tokenizer

#: The name of the rows for what a task's judge takes.
JUDGE = "(judge)"


@dataclass(frozen=True)
class Expected:
    """``results`` of one arm at one length, all together. Tokens, ``usd`` and ``seconds`` (of
    models at work, one after another) are None where nothing is known; ``usd`` too for a model
    without a price. ``source`` says what the figures come from."""

    arm: str
    target_tokens: int
    results: int
    source: str
    calls: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    usd: float | None = None
    seconds: float | None = None


def expected(parts: Parts, work: Iterable[Work], experience: Experience) -> list[Expected]:
    """One row per arm and length of ``work``, in its order of arms, then by length; those of a
    judge last."""
    work = list(work)
    groups: dict[tuple[str, int], list[Work]] = {}
    for item in work:
        groups.setdefault((item.arm.name, item.sample.target_tokens), []).append(item)
    names = [arm.name for arm in parts.arms]
    keys = sorted(groups, key=lambda key: (names.index(key[0]), key[1]))
    rows = [_row(parts, groups[key], experience) for key in keys]
    return rows + _judging(parts, work, experience.speeds)


def _judging(parts: Parts, work: Sequence[Work], speeds: Speeds | None) -> list[Expected]:
    """What grading takes, per length. ``speeds`` are the root's: seconds where it is the judge."""
    judge = judge_of(parts.task)
    if judge is None:
        return []
    own_speed = speeds if parts.models.get("judge", parts.root) is parts.root else None
    loads: dict[int, list[tuple[Forecast, ...]]] = {}
    for item in work:
        its = loads.setdefault(item.sample.target_tokens, [])
        its.append((judge.forecast(item.sample),))
    return [_from_sizes(JUDGE, n, loads[n], parts.infos, own_speed) for n in sorted(loads)]


def _row(parts: Parts, group: Sequence[Work], experience: Experience) -> Expected:
    row = _uncapped(parts, group, experience)
    return row if row.source == "cap" else _within(parts.sample_budget, row)


def _within(cap: Budget, row: Expected) -> Expected:
    """No answer takes more than its sample's caps."""

    def least(expected: float | None, each: float | None) -> float | None:
        if expected is None or each is None:
            return expected
        return min(expected, each * row.results)

    tokens = row.prompt_tokens
    if tokens is not None and cap.tokens is not None:
        tokens = max(0, min(tokens, cap.tokens * row.results - (row.completion_tokens or 0)))
    return replace(
        row,
        calls=least(row.calls, cap.calls),
        prompt_tokens=tokens,
        usd=least(row.usd, cap.usd),
        seconds=least(row.seconds, cap.seconds),
    )


def _uncapped(parts: Parts, group: Sequence[Work], experience: Experience) -> Expected:
    arm, length = group[0].arm, group[0].sample.target_tokens
    past = experience.medians(arm.name, length)
    if past is not None:
        return Expected(arm.name, length, len(group), "past", **_times(past, len(group)))
    if arm.method.matched and (cap := parts.sample_budget).bounds_what_is_bought:
        return _up_to(cap, arm.name, length, len(group))
    loads = [load for load in (_load(parts, arm.method, w) for w in group) if load is not None]
    if len(loads) == len(group):
        share = len({work.context.id for work in group}) / len(group)
        loads = [tuple(_shared(part, share) for part in load) for load in loads]
        return _from_sizes(arm.name, length, loads, parts.infos, experience.speeds)
    if nearest := experience.nearest(arm.name, length):
        source = f"past at {nearest[0]:,}"
        return Expected(arm.name, length, len(group), source, **_times(nearest[1], len(group)))
    return Expected(arm.name, length, len(group), "unknown")


def _up_to(cap: Budget, arm: str, length: int, n: int) -> Expected:
    """All that the sample's cap allows. How tokens are shared between prompts and replies isn't
    known: they are mostly prompts."""
    tokens, usd = (None if each is None else each * n for each in (cap.tokens, cap.usd))
    return Expected(arm, length, n, "cap", prompt_tokens=tokens, usd=usd)


def _load(parts: Parts, method: Method, work: Work) -> tuple[Forecast, ...] | None:
    sample = work.sample
    question = load_tokenizer(parts.task.tokenizer).count(sample.question)
    shape = Shape(sample.length_tokens, question, sample.max_answer_tokens)
    return method.forecast(shape, parts.infos)


def _shared(part: Forecast, share: float) -> Forecast:
    """An index is embedded once per context: each of its questions bears a ``share``."""
    if part.role != "embed":
        return part
    calls, tokens = ceil(part.calls * share), ceil(part.prompt_tokens * share)
    return replace(part, calls=calls, prompt_tokens=tokens)


def _times(medians: Mapping[str, float | None], n: int) -> dict[str, float | None]:
    return {name: None if value is None else value * n for name, value in medians.items()}


def _from_sizes(
    arm: str,
    length: int,
    loads: Sequence[tuple[Forecast, ...]],
    infos: Mapping[Role, ModelInfo],
    speeds: Speeds | None,
) -> Expected:
    parts = [part for load in loads for part in load]
    served = [infos.get(part.role, infos["root"]) for part in parts]
    usages = [part.usage(info) for part, info in zip(parts, served, strict=True)]
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    fresh = prompt - sum(part.repeated_tokens for part in parts)
    pairs = zip(usages, served, strict=True)
    costs = [None if info.price is None else info.price.cost(usage) for usage, info in pairs]
    return Expected(
        arm,
        length,
        len(loads),
        "sizes",
        calls=sum(part.calls for part in parts),
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        seconds=0.0 if not parts else speeds.seconds(fresh, completion) if speeds else None,
    )


def refuse_over_cap(rows: Sequence[Expected], cap_usd: float, spent_usd: float) -> None:
    """Raise ConfigError where what is left to do is expected to pass the run's cap."""
    total = sum(row.usd for row in rows if row.usd is not None)
    if spent_usd + total <= cap_usd:
        return
    known = all(row.usd is not None for row in rows)
    raise ConfigError(
        f"this run is forecast to cost {'' if known else 'at least '}${total:,.2f} more, which "
        f"passes budget.run.usd={cap_usd:g} (${spent_usd:,.2f} spent): see dry_run=true, ask for "
        "less, raise the cap, or set stop_on_forecast=false to run until it is spent"
    )
