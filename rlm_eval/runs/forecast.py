"""What a run is expected to take, before anything is spent: `dry_run=true`, and the stop before a
hosted run that would pass its cap in US dollars.

Per arm and length, the first of these that there is: the means of past runs of the same arm, model,
task and length, on inputs about as long; the sample's cap, for a method that spends up to it
(``budget.matched``); the method's own estimate from sizes; past runs at the nearest length; and the
limits of a method whose model decides what it takes. Sizes are the task's tokens, not the served
model's. What a judge takes has its own rows.

A range is meant to hold what is taken in 8 of 10 cases, by the spread of past results or by how far
forecasts from sizes were off in an audit; that of limits is a bound.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil, inf
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.journal.tables import MEASURES
from rlm_eval.methods.method import Forecast, Shape
from rlm_eval.models.protocol import ModelInfo, Usage
from rlm_eval.records import Role
from rlm_eval.runs.assemble import Parts
from rlm_eval.runs.experience import Experience, Past, Speeds
from rlm_eval.runs.runner import Work, judge_of
from rlm_eval.tokens import load_tokenizer

Loads = Sequence[tuple[Forecast, ...]]
Infos = Mapping[Role, ModelInfo]
#: The ends of a range from sizes, times the forecast: so far off an audit found those of early runs
#: of the embedded model, at 10 and at 90 % of arms. Replies are forecast as long as they can be, as
#: those of models that think nearly are: so that is the upper end.
_SIZES = {
    "prompt_tokens": (1 / 1.51, 1 / 0.86),
    "completion_tokens": (1 / 25, 1.0),
    "seconds": (1 / 33, 1.0),
}
#: Inputs are of one length within this factor.
ALIKE = 1.25
#: Sources of rows whose upper end is a bound, or isn't known.
NO_ESTIMATE = ("limits", "assumed", "unknown")
#: The name of the rows for what a task's judge takes.
JUDGE = "(judge)"


@dataclass(frozen=True)
class Expected:
    """``results`` of one arm at one length, all together. Tokens, ``usd`` and ``seconds`` (of
    models at work, one after another) are None where nothing is known; ``usd`` too for a model
    without a price. ``source`` says what the figures come from; ``low`` and ``high`` are the ends
    of their ranges, by the same names, as far as they are known."""

    arm: str
    target_tokens: int
    results: int
    source: str = "unknown"
    calls: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    usd: float | None = None
    seconds: float | None = None
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)


def expected(parts: Parts, work: Iterable[Work], experience: Experience) -> list[Expected]:
    """One row per arm and length of ``work``, in this order; those of a judge last."""
    work = list(work)
    groups: dict[tuple[str, int], list[Work]] = {}
    for item in work:
        groups.setdefault((item.arm.name, item.sample.target_tokens), []).append(item)
    names = [arm.name for arm in parts.arms]
    keys = sorted(groups, key=lambda key: (names.index(key[0]), key[1]))
    rows = [_row(parts, groups[key], experience) for key in keys]
    return rows + _judging(parts, work, experience)


def _judging(parts: Parts, work: Sequence[Work], experience: Experience) -> list[Expected]:
    """What grading takes, per length. Speeds are the root's: seconds where it is the judge."""
    judge = judge_of(parts.task)
    if judge is None:
        return []
    is_root = parts.models.get("judge", parts.root) is parts.root
    speeds = experience.speeds if is_root else None
    rows = []
    for length in sorted({item.sample.target_tokens for item in work}):
        loads = [(judge.forecast(w.sample),) for w in work if w.sample.target_tokens == length]
        row = Expected(JUDGE, length, len(loads))
        rows.append(_from_sizes(row, loads, parts.infos, speeds))
    return rows


def _row(parts: Parts, group: Sequence[Work], experience: Experience) -> Expected:
    arm, most = group[0].arm, _most(parts, group)
    row = Expected(arm.name, group[0].sample.target_tokens, len(group))
    past = experience.nearest(arm.name, row.target_tokens)
    if past is not None and past[0] == row.target_tokens and _longer(group, past[1]) == 1:
        return _within(_from_past(row, group, *past), most)
    row = _unseen(row, parts, group, experience)
    if arm.method.matched and parts.sample_budget.bounds_what_is_bought:
        # How tokens are shared between prompts and replies isn't known: they are mostly prompts.
        bought = {name: most.get(name) for name in ("prompt_tokens", "usd")}
        known: dict[str, Any] = dict.fromkeys(MEASURES) | bought
        row = replace(row, source="cap", **known, high={})
    return _within(row, most)


def _most(parts: Parts, group: Sequence[Work]) -> dict[str, float]:
    """What ``group`` may take by its samples' caps, of measures that have one. What an index takes
    comes on top: the run pays that."""
    cap, prices = parts.sample_budget, [info.price for info in parts.infos.values()]
    caps = {**asdict(cap), "prompt_tokens": cap.tokens, "completion_tokens": cap.tokens}
    if cap.tokens is not None and None not in prices:
        dearest = max(
            max(price.input, price.output, price.cache_write or 0)
            for price in prices
            if price is not None
        )
        caps["usd"] = min(cap.usd or inf, cap.tokens * dearest / 1e6)
    loads = _loads(parts, group) if "embed" in group[0].arm.method.roles else []
    embedded = [tuple(part for part in load if part.role == "embed") for load in loads]
    index = _totals(embedded, parts.infos, None, {name: high for name, (_, high) in _SIZES.items()})
    return {
        name: caps[name] * len(group) + index.get(name, 0)
        for name in MEASURES
        if caps[name] is not None
    }


def _within(row: Expected, most: Mapping[str, float]) -> Expected:
    """The row without what lies above ``most``, which bounds what has no upper end of its own."""
    point: dict[str, Any]
    point = {name: value for name in MEASURES if (value := getattr(row, name)) is not None}
    point, low, high = (
        {name: min(value, most.get(name, inf)) for name, value in figures.items()}
        for figures in (point, row.low, {**most, **row.high})
    )
    if {"prompt_tokens", "completion_tokens"} <= point.keys() & most.keys():
        room = most["prompt_tokens"] - point["completion_tokens"]
        point["prompt_tokens"] = min(point["prompt_tokens"], room)
    return replace(row, **point, low=low, high=high)


def shapes_of(parts: Parts, work: Sequence[Work]) -> list[Shape]:
    """The sizes of each sample of ``work``, by the task's tokenizer."""
    count, samples = load_tokenizer(parts.task.tokenizer).count, [item.sample for item in work]
    return [Shape(s.length_tokens, count(s.question), s.max_answer_tokens) for s in samples]


def _loads(parts: Parts, group: Sequence[Work]) -> list[tuple[Forecast, ...]]:
    """What each answer takes, of those whose sizes tell it."""
    method, share = group[0].arm.method, len({work.context.id for work in group}) / len(group)
    told = [method.forecast(shape, parts.infos) for shape in shapes_of(parts, group)]
    return [tuple(_shared(part, share) for part in load) for load in told if load is not None]


def _unseen(row: Expected, parts: Parts, group: Sequence[Work], experience: Experience) -> Expected:
    method, infos, speeds = group[0].arm.method, parts.infos, experience.speeds
    loads = _loads(parts, group)
    if len(loads) == row.results:
        return _from_sizes(row, loads, infos, speeds)
    if past := experience.nearest(row.arm, row.target_tokens):
        return _from_past(row, group, *past)
    bounds = [method.bounds(shape, infos) for shape in shapes_of(parts, group)]
    ends = [both for both in bounds if both is not None]
    if len(ends) < row.results:
        return row
    calls = parts.sample_budget.calls
    most = [tuple(_capped(part, calls) for part in load) for _, load in ends if load is not None]
    unthinking = {
        role: replace(
            info, reasoning_tokens=0, price=info.price and replace(info.price, cache_write=None)
        )
        for role, info in infos.items()
    }
    low = _totals([least for least, _ in ends], unthinking, speeds)
    high = _totals(most, infos, speeds) if len(most) == row.results else {}
    assumed = any(part.assumed for load in most for part in load)
    return replace(row, source="assumed" if assumed else "limits", low=low, high=high)


def _capped(part: Forecast, calls: int | None) -> Forecast:
    """A bound, whose calls are all as large as they can be, under a sample's cap on ``calls``."""
    if calls is None:
        return part
    share = min(1, calls / max(1, part.calls))
    prompts, replies = ceil(part.prompt_tokens * share), ceil(part.completion_tokens * share)
    return Forecast(min(calls, part.calls), prompts, replies, part.role)


def _shared(part: Forecast, share: float) -> Forecast:
    """An index is embedded once per context: each of its questions bears a ``share``."""
    if part.role != "embed":
        return part
    calls, tokens = ceil(part.calls * share), ceil(part.prompt_tokens * share)
    return replace(part, calls=calls, prompt_tokens=tokens)


def _longer(group: Sequence[Work], past: Past) -> float:
    """How many times the past inputs' length the group's have; 1 for any that is about the same."""
    longer = sum(work.sample.length_tokens for work in group) / len(group) / max(1, past.tokens)
    return 1 if 1 / ALIKE < longer < ALIKE else longer


def _from_past(row: Expected, group: Sequence[Work], length: int, past: Past) -> Expected:
    """As many times what past results took in the mean. Of inputs of another length, the range is
    from not depending on it at all to being in proportion to it."""
    n, longer = row.results, _longer(group, past)
    point: dict[str, Any] = {name: mean * n for name, mean in past.mean.items()}
    times = {name: past.times(name, n) for name in point}
    low = {name: all_ * min(1, longer) / times[name] for name, all_ in point.items()}
    high = {name: all_ * max(1, longer) * times[name] for name, all_ in point.items()}
    source = "past" if longer == 1 else f"past at {length:,}"
    return replace(row, source=source, **point, low=low, high=high)


def together(rows: Sequence[Expected], at_once: int = 1) -> Expected:
    """All rows as one: an upper end is known where all are, and lower ends that aren't are 0.
    Its seconds are those of the clock, with so many answers ``at_once``."""
    known = [name for name in MEASURES if all(name in row.high for row in rows)]
    low = {name: _end(rows, name, "low") for name in MEASURES}
    high = {name: _end(rows, name, "high") for name in known}
    total = sum(row.results for row in rows)
    for ends in (low, high):
        if "seconds" in ends:
            ends["seconds"] /= max(1, min(at_once, total))
    return Expected("all together", 0, total, low=low, high=high)


def _end(rows: Sequence[Expected], name: str, end: str) -> float:
    """What past results took at a length is off by chance, each row on its own, so of the distances
    to those ends the squares add up; all other rows may be off to one side, so their ends do."""
    ends = [(row.source == "past", row, getattr(row, end).get(name, 0.0)) for row in rows]
    chance = sum(((getattr(row, name) or 0) - at) ** 2 for past, row, at in ends if past) ** 0.5
    sure = sum((getattr(row, name) or 0) if past else at for past, row, at in ends)
    return float(sure + (chance if end == "high" else -chance))


def _from_sizes(row: Expected, loads: Loads, infos: Infos, speeds: Speeds | None) -> Expected:
    lows, highs = ({name: both[end] for name, both in _SIZES.items()} for end in (0, 1))
    asked = {part.role for load in loads for part in load}
    margins = [infos.get(role, infos["root"]).token_margin for role in asked]
    highs["prompt_tokens"] = max(highs["prompt_tokens"], *margins)
    low, high = (_totals(loads, infos, speeds, off) for off in (lows, highs))
    point: dict[str, Any] = _totals(loads, infos, speeds)
    return replace(row, source="sizes", **point, low=low, high=high)


def _totals(
    loads: Loads, infos: Infos, speeds: Speeds | None, off: Mapping[str, float] | None = None
) -> dict[str, float]:
    """What answers take together, each measure (dollars by their tokens) as many times as ``off``
    says; without what can't be known."""
    off = off or {}
    parts = [part for load in loads for part in load]
    served = [infos.get(part.role, infos["root"]) for part in parts]
    usages = [part.usage(info) for part, info in zip(parts, served, strict=True)]
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    fresh = prompt - sum(part.repeated_tokens for part in parts)
    sent, written = off.get("prompt_tokens", 1), off.get("completion_tokens", 1)
    out = {"calls": sum(part.calls for part in parts) * off.get("calls", 1)}
    out |= {"prompt_tokens": prompt * sent, "completion_tokens": completion * written}
    costs = [
        [
            info.worst(use).usd or 0
            for use in (Usage(u.prompt_tokens), Usage(0, u.completion_tokens))
        ]
        for info, u in zip(served, usages, strict=True)
        if info.price is not None
    ]
    if len(costs) == len(parts):
        out["usd"] = sum(prompts * sent + replies * written for prompts, replies in costs)
    if speeds or not parts:
        seconds = speeds.seconds(fresh, completion) if speeds else 0.0
        out["seconds"] = seconds * off.get("seconds", 1)
    return out


def pilot_command() -> str:
    """This process's command, where it is a run's, for two samples a length, whose results a
    forecast learns from."""
    given, pilot = sys.argv[1:], ["task.n=2", "stop_on_forecast=false"]
    if not given or any("=" not in a or a.startswith("-") for a in given):
        return f"a run of the same settings with {' '.join(pilot)}"
    other = ("task.n", "dry_run", "stop_on_forecast")
    kept = [argument for argument in given if argument.partition("=")[0] not in other]
    return shlex.join(["python", "-m", "rlm_eval", *kept, *pilot])


def refuse_over_cap(rows: Sequence[Expected], cap_usd: float, spent_usd: float) -> None:
    """Raise ConfigError where what is left to do may pass the run's cap, by its upper ends."""
    bounded = [row for row in rows if row.source in NO_ESTIMATE or "usd" not in row.high]
    estimate = together([row for row in rows if row not in bounded]).high["usd"]
    bound = sum(row.high.get("usd", inf) for row in bounded)
    if spent_usd + estimate + bound <= cap_usd:
        return
    told, first = f"up to ${estimate:,.2f} more is estimated", ""
    if bounded:
        amount = "anything" if bound == inf else f"${bound:,.2f}"
        arms = ", ".join(dict.fromkeys(row.arm for row in bounded))
        told += f", and {amount} is what the limits of {arms} allow (a bound, no estimate)"
        first = f"narrow it by a pilot ({pilot_command()}), cap samples (budget.sample.usd=N), "
    raise ConfigError(
        f"this run may pass budget.run.usd={cap_usd:g} (${spent_usd:,.2f} spent): {told}. See "
        f"dry_run=true; {first}ask for less, raise the cap, or set stop_on_forecast=false to run "
        "until it is spent"
    )
