"""Verdicts on several RLM arms said together, so that many arms don't make a flood of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any

import pandas as pd

from rlm_eval.analysis.text import count, limits_of_difference, points
from rlm_eval.analysis.verdicts import Decision, Verdict, place

DECISIONS: tuple[Decision, ...] = ("worth it", "not worth it", "can't tell at this n")


@dataclass(frozen=True)
class Group:
    """The verdicts on all RLM arms of one task, length, root model and budget."""

    members: tuple[Verdict, ...]
    headline: str

    @property
    def decision(self) -> str:
        """The members' decision where they agree, else the empty string."""
        found = {verdict.decision for verdict in self.members}
        return found.pop() if len(found) == 1 else ""


def grouped(verdicts: Sequence[Verdict]) -> list[Group]:
    """The verdicts by what they are about, in their order."""
    groups: dict[tuple[Any, ...], list[Verdict]] = {}
    for verdict in verdicts:
        about = (verdict.task, verdict.target_tokens, verdict.model, verdict.budget)
        groups.setdefault(about, []).append(verdict)
    several = len({verdict.model for verdict in verdicts}) > 1
    return [Group(tuple(members), _headline(members, several)) for members in groups.values()]


def _headline(members: Sequence[Verdict], several_models: bool) -> str:
    """``needle, 8,000 tokens. Worth it: rlm_d2. Can't tell at this n: rlm, rlm_d3.``"""
    first = members[0]
    model = first.model if several_models else ""
    where = place(first.task, first.target_tokens, first.budget, model)
    parts = []
    for decision in DECISIONS:
        arms = [verdict.arm for verdict in members if verdict.decision == decision]
        if arms:
            parts.append(f"{decision[0].upper()}{decision[1:]}: {', '.join(arms)}.")
    scripted = " (scripted)" if any(verdict.scripted for verdict in members) else ""
    return f"{where}{scripted}. {' '.join(parts)}"


def group_table(group: Group) -> pd.DataFrame:
    """One row per RLM arm, as text: its difference to the best alternative here (points), the
    95 % interval, p after Holm, the cost ratio and the smallest difference this n resolves."""
    rows = []
    for v in group.members:
        known, least = v.low == v.low, v.smallest_resolvable
        rows.append(
            {
                "arm": v.arm,
                "against": v.against,
                "points": points(v.difference),
                "95 %": limits_of_difference(v.low, v.high),
                "p": f"{v.p_holm:.2g}" if known else "",
                "cost": "" if v.cost_ratio != v.cost_ratio else f"{count(v.cost_ratio)}×",
                "resolves": "" if isinf(least) else f"{100 * least:.0f}",
            }
        )
    return pd.DataFrame(rows)
