"""What an arm is for, and how it is called when several runs are looked at together."""

from __future__ import annotations

import json
from typing import Any, Literal

import pandas as pd

#: ``control`` arms bound what a score means and ``router`` holds an RLM, so neither is an
#: alternative an RLM is compared with.
Kind = Literal["rlm", "alternative", "control", "mixed"]

CONTROLS = ("no_context", "best_constant", "code_oracle", "constant")


def kind(method: str, target: str = "") -> Kind:
    """The kind of an arm, from the class it runs (``_target_``) and, lacking that, its name."""
    for text in (target.lower(), method.lower()):
        if any(word in text for word in CONTROLS):
            return "control"
        if "router" in text:
            return "mixed"
        if "rlm" in text.replace("rlm_eval", ""):
            return "rlm"
    return "alternative"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted keys; lists stay whole."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def names(results: pd.DataFrame) -> pd.Series[str]:
    """What to call each row's arm: the method, plus what tells it from its namesakes.

    Two arms of one name differ when their ``arm_id`` does (their settings, models, per-sample
    budget or code revision); the settings that differ are put in parentheses.
    """
    labels: dict[tuple[str, str], str] = {}
    arms = results[["method", "arm_id", "arm_config"]].drop_duplicates(["method", "arm_id"])
    for method, group in arms.groupby("method", sort=False):
        settings = {
            str(r.arm_id): flatten(json.loads(str(r.arm_config))) for r in group.itertuples()
        }
        keys = sorted({k for s in settings.values() for k in s})
        differing = [k for k in keys if len({json.dumps(s.get(k)) for s in settings.values()}) > 1]
        for arm_id, setting in settings.items():
            parts = [f"{_short(k)}={str(setting.get(k))[:24]}" for k in differing[:3]]
            if len(differing) > 3:
                parts.append(arm_id[:6])
            labels[str(method), arm_id] = f"{method} ({', '.join(parts)})" if parts else str(method)
    pairs = zip(results["method"].astype(str), results["arm_id"].astype(str), strict=True)
    return pd.Series([labels[pair] for pair in pairs], index=results.index, dtype=object)


def _short(key: str) -> str:
    return key if key.startswith(("model.", "sub_model.")) else key.rpartition(".")[2]
