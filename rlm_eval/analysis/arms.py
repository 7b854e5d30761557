"""What an arm is for, and how it is called when several runs are looked at together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

#: ``control`` arms bound what a score means and ``router`` holds an RLM, so neither is an
#: alternative an RLM is compared with.
Kind = Literal["rlm", "alternative", "control", "mixed"]

#: Where our own methods live; what kind one is, and which family, by its module there.
OURS = "rlm_eval.methods."
MODULES: Mapping[str, str] = {
    "rlm": "rlm",
    "foreign.packages": "rlm",
    "router": "router",
    "controls": "control",
    "codeact": "code",
    "rag": "retrieval",
    "summarize": "summaries",
    "direct": "direct",
}
#: The same by whole words in the name of an arm, or of another maker's class: the first that is
#: there.
WORDS: Mapping[str, str] = {
    "no_context": "control",
    "best_constant": "control",
    "code_oracle": "control",
    "constant": "control",
    "router": "router",
    "rlm": "rlm",
    "rlms": "rlm",
    "codeact": "code",
    "rag": "retrieval",
    "summarize": "summaries",
    "compaction": "summaries",
    "self_consistency": "direct",
    "direct": "direct",
}


def kind(method: str, target: str = "") -> Kind:
    """The kind of an arm, from the class it runs (``_target_``) and, lacking that, its name."""
    found = family(method, target)
    if found == "router":
        return "mixed"
    return "control" if found == "control" else "rlm" if found == "rlm" else "alternative"


def family(method: str, target: str = "") -> str:
    """``rlm``, ``router``, ``control``, another family of :data:`MODULES`, or ``other``: methods
    of one read a long input in the same way. Figures give each a hue."""
    module = target.removeprefix(OURS) + "." if target.startswith(OURS) else ""
    found = next((f for m, f in MODULES.items() if module.startswith(f"{m}.")), "")
    found = found or _named(target.rpartition(".")[2])
    by_name = _named(method)
    if by_name == "control" and found not in ("rlm", "router"):
        return by_name  # a method of another family, kept from the context
    return found or by_name or "other"


def _named(name: str) -> str:
    words = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)).lower()
    return next((f for word, f in WORDS.items() if f"_{word}_" in f"_{words}_"), "")


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
    budget or code revision). The first three settings that differ are put in parentheses, more
    where these don't tell the arms apart, and "…" for those left out. What an arm has no value for
    isn't said, and of ids, classes and prompts only what is needed.
    """
    labels: dict[tuple[str, str], str] = {}
    arms = results[["method", "arm_id", "arm_config"]].drop_duplicates(["method", "arm_id"])
    for method, group in arms.groupby("method", sort=False):
        configs = {str(r.arm_id): json.loads(str(r.arm_config)) for r in group.itertuples()}
        settings = {arm_id: _telling(config) for arm_id, config in configs.items()}
        for arm_id, label in _labels(str(method), settings).items():
            labels[str(method), arm_id] = label
    pairs = zip(results["method"].astype(str), results["arm_id"].astype(str), strict=True)
    return pd.Series([labels[pair] for pair in pairs], index=results.index, dtype=object)


#: Settings named before others, and those that say little to a reader and are named where nothing
#: else tells arms apart.
FIRST = ("model", "sub_model", "budget")
LAST = ("prompt", "matched", "revision", "run", "_target_")


def _telling(config: dict[str, Any]) -> dict[str, str]:
    """The settings that have a value, as text; those of sub-calls where they are not the root's."""
    flat = {k: str(v) for k, v in flatten(config).items() if v not in (None, "", [])}
    same = [k for k in flat if k.startswith("sub_model") and flat[k] == flat.get(k[4:])]
    return {k: v for k, v in flat.items() if k not in same}


def _labels(method: str, settings: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A label for each of a method's arms, by ``arm_id``."""
    keys = {k for s in settings.values() for k in s}
    differing = [k for k in keys if len({s.get(k) for s in settings.values()}) > 1]
    differing.sort(key=lambda k: (LAST.index(k) if k in LAST else -1, k not in FIRST, k))
    telling = sum(k not in LAST for k in differing)
    said = min(3, telling)
    while said < len(differing) and _alike(settings, differing[:said]):
        said += 1
    labels = {}
    for arm_id, setting in settings.items():
        parts = [_part(k, setting[k]) for k in differing[:said] if k in setting]
        parts += ["…"] if parts and said < telling else []
        parts += [arm_id[:6]] if _alike(settings, differing[:said]) else []
        labels[arm_id] = f"{method} ({', '.join(parts)})" if parts else method
    return labels


def _alike(settings: Mapping[str, Mapping[str, str]], keys: list[str]) -> bool:
    return len({tuple(s.get(k) for k in keys) for s in settings.values()}) < len(settings)


def _part(key: str, value: str) -> str:
    """``max_depth=2``; a budget says of what it is itself (``tokens=6000``)."""
    shown = value if len(value) <= 24 else f"{value[:23]}…"
    return shown if key == "budget" else f"{_short(key)}={shown}"


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
