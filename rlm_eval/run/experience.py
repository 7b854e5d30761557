"""What past runs took: medians per arm and length, and how quick the model was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.config.compose import recorded_tree
from rlm_eval.errors import ConfigError
from rlm_eval.records import PENDING

if TYPE_CHECKING:
    import pandas as pd

    from rlm_eval.analysis.load import Run

_CALLS_FOR_SPEED = 20


@dataclass(frozen=True)
class Speeds:
    """Seconds per token of the root model: of a prompt's tokens that no cache held, and of a
    reply's."""

    prompt_s: float
    completion_s: float

    def seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        return prompt_tokens * self.prompt_s + completion_tokens * self.completion_s


class Experience:
    """What exported runs in ``folders`` with the same root model show: its speeds, and the medians
    of the same arms, with the same models in the roles they have, on the same task (any seed, any
    n), under the same caps of a sample. ``roles`` names per arm the configuration keys of its
    further models. Results that are pending, or that a response cache had a part in, don't
    count."""

    def __init__(
        self, tree: Mapping[str, Any], folders: list[Path], roles: Mapping[str, Sequence[str]]
    ) -> None:
        self._medians: dict[str, dict[int, dict[str, float | None]]] = {}
        results: dict[str, list[pd.DataFrame]] = {}
        calls: list[pd.DataFrame] = []
        for run in _runs(tree, folders):
            calls.append(run.calls)
            if _conditions(run.config) != _conditions(tree):
                continue
            rows = _informative(run)
            for name, node in tree["method"].items():
                past = run.config.get("method", {}).get(name)
                same = all(run.config.get(key) == tree[key] for key in roles.get(name, ()))
                if past == node and same:
                    results.setdefault(name, []).append(rows[rows["method"] == name])
        for name, frames in results.items():
            self._medians[name] = _medians(frames)
        self.speeds = _speeds(calls)

    def medians(self, arm: str, target_tokens: int) -> Mapping[str, float | None] | None:
        """What one result of the arm took at this length; None without past results."""
        return self._medians.get(arm, {}).get(target_tokens)

    def nearest(self, arm: str, target_tokens: int) -> tuple[int, Mapping[str, Any]] | None:
        """The length nearest to this one that the arm was run at, and its medians."""
        known = self._medians.get(arm, {})
        if not known:
            return None
        length = min(known, key=lambda other: abs(other - target_tokens))
        return length, known[length]


def _runs(tree: Mapping[str, Any], folders: list[Path]) -> Iterator[Run]:
    """Exported runs in ``folders`` of the root model in ``tree``."""
    from rlm_eval.analysis.load import load_run

    for path in sorted(config for folder in folders for config in folder.glob("*/config.yaml")):
        with contextlib.suppress(ConfigError):  # no run, none that is finished, of another schema
            if recorded_tree(path.parent).get("model") == tree["model"]:
                yield load_run(path.parent)


def _conditions(tree: Mapping[str, Any]) -> list[Any]:
    """What decides beside the arm how much an answer takes: the task's settings less those that
    leave one question as hard as before, the sample's caps, and how models are asked."""
    task = {k: v for k, v in tree.get("task", {}).items() if k not in {"n", "seed", "lengths"}}
    budget = tree.get("budget") or {}
    caps = {k: v for k, v in (budget.get("sample") or {}).items() if v is not None}
    return [task, caps, bool(budget.get("matched")), tree.get("temperature"), tree.get("memoize")]


def _informative(run: Run) -> pd.DataFrame:
    """The results of a run that show what such a result takes."""
    rows: pd.DataFrame = run.results[~run.results["outcome"].isin(list(PENDING))]
    if run.calls.empty or not run.config.get("response_cache"):
        return rows
    unpaid = run.calls.loc[run.calls["cached_response"].astype(bool), "result_key"]
    return rows[~rows["result_key"].isin(unpaid)]


def _medians(frames: list[pd.DataFrame]) -> dict[int, dict[str, float | None]]:
    import pandas as pd

    from rlm_eval.analysis.tables import FORECAST

    rows = pd.concat(frames).drop_duplicates("result_key")
    out: dict[int, dict[str, float | None]] = {}
    for length in rows["target_tokens"].unique().tolist():
        group = rows[rows["target_tokens"] == length]
        found = {ours: group[column].median() for ours, column in FORECAST.items()}
        out[length] = {k: None if pd.isna(v) else float(v) for k, v in found.items()}
    return out


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
