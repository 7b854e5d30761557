"""What an arm is for, and how it is called when several runs are looked at together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

#: ``control`` arms bound what a score means and ``router`` holds an RLM, so neither is an
#: alternative an RLM is compared with.
Kind = Literal["rlm", "alternative", "control", "mixed"]

CONTROLS = ("no_context", "best_constant", "code_oracle", "constant")

#: Families of methods that read a long input in the same way, by a word in their module or name.
#: Figures give each a hue.
FAMILIES: Mapping[str, str] = {
    "codeact": "code",
    "rag": "retrieval",
    "summar": "summaries",
    "compaction": "summaries",
    "self_consistency": "direct",
    "direct": "direct",
}


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


def family(method: str, target: str = "") -> str:
    """``rlm``, ``router``, ``control``, a family of :data:`FAMILIES`, or ``other``."""
    what = kind(method, target)
    if what != "alternative":
        return "router" if what == "mixed" else what
    for text in (target.lower(), method.lower()):
        for word, found in FAMILIES.items():
            if word in text:
                return found
    return "other"


def competitors(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of controls, which take part in no comparison."""
    return frame[frame["arm_kind"] != "control"]


def marks(frame: pd.DataFrame) -> dict[str, str]:
    """What stands behind an arm's name in a table: whether it is scripted, a control, or asks no
    model at all. ``frame`` has results, or rows of ``summarize``."""
    found = {}
    for arm, rows in frame.groupby("arm", sort=False):
        words = ["scripted"] if bool(rows["scripted"].any()) else []
        if (rows["arm_kind"] == "control").all():
            words += ["control"] if (rows["model"] != "").any() else ["control, no model"]
        found[str(arm)] = f"{arm} ({', '.join(words)})" if words else str(arm)
    return found


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


def by_method(results: pd.DataFrame) -> pd.DataFrame:
    """The results with arms called by their method alone, of methods that no task has two arms of.
    Runs of several tasks by several code revisions can so be put side by side: nothing is compared
    across tasks."""
    most = results.groupby(["task", "method"])["arm"].nunique().groupby("method").max()
    several = results["method"].map(most) > 1
    return results.assign(arm=results["arm"].where(several, results["method"].astype(object)))


def _short(key: str) -> str:
    models = ("model.", "sub_model.", "summarize_model.", "judge_model.", "embed_model.")
    return key if key.startswith(models) else key.rpartition(".")[2]
