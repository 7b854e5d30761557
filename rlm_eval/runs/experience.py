"""What past runs took per arm and length, and how quick the model was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.config.check import switched_on
from rlm_eval.config.compose import recorded_trees
from rlm_eval.errors import ConfigError
from rlm_eval.journal.tables import MEASURES
from rlm_eval.records import PENDING

if TYPE_CHECKING:
    import pandas as pd

_CALLS_FOR_SPEED = 20


@dataclass(frozen=True)
class Speeds:
    """Seconds per token of the root model: of a prompt's that no cache held, and of a reply's."""

    prompt_s: float
    completion_s: float

    def seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        return prompt_tokens * self.prompt_s + completion_tokens * self.completion_s


@dataclass(frozen=True)
class Past:
    """What ``results`` took on inputs of ``tokens`` in the mean: of each measure the mean, and the
    deviation as a share of it (1 where single results can't show it), which all lengths of the arm
    tell with ``freedom`` degrees."""

    results: int
    tokens: float
    freedom: int
    mean: Mapping[str, float]
    variation: Mapping[str, float]

    def times(self, measure: str, n: int) -> float:
        """How many times over or under it ``n`` further results are at most in 8 of 10 cases
        (Student's interval for a prediction, its exponential because costs are skewed)."""
        from scipy.stats import t  # type: ignore[import-untyped]

        width = float(t.ppf(0.9, max(1, self.freedom))) * (1 / self.results + 1 / n) ** 0.5
        return exp(width * self.variation[measure])


class Experience:
    """What exported runs in ``folders`` with the same root model show: its speeds, and what results
    took that are not pending, of the same arms with the same further models (``roles`` names their
    configuration keys per arm), under the same conditions."""

    def __init__(
        self, tree: Mapping[str, Any], folders: list[Path], roles: Mapping[str, Sequence[str]]
    ) -> None:
        from rlm_eval.analysis.load import load_run

        results: dict[str, list[pd.DataFrame]] = {}
        calls: list[pd.DataFrame] = []
        for run_dir, recorded in recorded_trees(folders):
            if switched_on(recorded.get("model")) != switched_on(tree["model"]):
                continue
            try:
                run = load_run(run_dir)
            except ConfigError:  # none that is finished, or of another schema
                continue
            calls.append(run.calls)
            if _conditions(run.config) != _conditions(tree):
                continue
            finished = run.results[~run.results["outcome"].isin(list(PENDING))]
            for name, node in tree["method"].items():
                past = run.config.get("method", {}).get(name)
                same = all(
                    switched_on(run.config.get(key)) == switched_on(tree[key])
                    for key in roles.get(name, ())
                )
                # A past run knew no setting that is new.
                if past is not None and past.items() <= node.items() and same:
                    results.setdefault(name, []).append(finished[finished["method"] == name])
        self._past = {name: _past(frames) for name, frames in results.items()}
        self.speeds = _speeds(calls)

    def nearest(self, arm: str, target_tokens: int) -> tuple[int, Past] | None:
        """The length nearest to this one that the arm was run at, and what it took there."""
        known = self._past.get(arm, {})
        if not known:
            return None
        length = min(known, key=lambda other: abs(other - target_tokens))
        return length, known[length]


def _conditions(tree: Mapping[str, Any]) -> list[Any]:
    """What decides beside the arm how much an answer takes: the task's settings less those that
    leave one question as hard as before, the sample's caps, and how models are asked."""
    task = {k: v for k, v in tree.get("task", {}).items() if k not in {"n", "seed", "lengths"}}
    budget = tree.get("budget") or {}
    caps = {k: v for k, v in (budget.get("sample") or {}).items() if v is not None}
    return [task, caps, bool(budget.get("matched")), tree.get("temperature"), tree.get("memoize")]


def _past(frames: list[pd.DataFrame]) -> dict[int, Past]:
    import pandas as pd

    rows = pd.concat(frames).drop_duplicates("result_key")
    if rows.empty:
        return {}
    taken = pd.DataFrame({ours: rows[column].astype(float) for ours, column in MEASURES.items()})
    taken = taken.set_index(rows["target_tokens"]).dropna(axis="columns")
    lengths = taken.groupby(level=0)
    means, freedom = lengths.mean(), len(rows) - lengths.ngroups
    shares = taken / means.loc[taken.index] - 1
    off = ((shares**2).sum() / freedom) ** 0.5 if freedom else shares.sum() + 1
    mean: dict[Any, Any] = means.to_dict("index")
    variation: dict[Any, Any] = off.to_dict()
    inputs: dict[Any, Any] = rows.groupby("target_tokens")["length_tokens"].mean().to_dict()
    counted: dict[Any, Any] = lengths.size().to_dict()
    return {n: Past(counted[n], inputs[n], freedom, mean[n], variation) for n in counted}


def _speeds(calls: list[pd.DataFrame]) -> Speeds | None:
    """Fitted to the root's own turns, which mostly have the model to themselves, by least squares
    without negative times. None with too few of them."""
    import pandas as pd
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    calls = [frame for frame in calls if not frame.empty]
    if not calls:
        return None
    sent = pd.concat(calls)
    sent = sent[(sent["role"] == "root") & ~sent["cached_response"] & (sent["error"] == "")]
    if len(sent) < _CALLS_FOR_SPEED:
        return None
    fresh = sent["prompt_tokens"] - sent["cached_tokens"]
    matrix = pd.DataFrame({"prompt": fresh, "completion": sent["completion_tokens"]})
    (prompt_s, completion_s), _ = nnls(matrix.to_numpy(float), sent["latency_s"].to_numpy(float))
    return Speeds(float(prompt_s), float(completion_s))
