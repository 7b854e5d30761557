"""What an arm is for, and how it is called when several runs are looked at together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

#: The family of an arm, by a word in the class that it runs (of ours, in its module too) or in its
#: own name: the first word here that is there. Methods of one family read a long input in the same
#: way; figures give each a hue.
FAMILIES: Mapping[str, str] = {
    "no_context": "control",
    "code_oracle": "control",
    "controls": "control",
    "constant": "control",
    "rlm": "rlm",
    "rlms": "rlm",
    "codeact": "code",
    "rag": "retrieval",
    "summarize": "summaries",
    "compaction": "summaries",
    "self_consistency": "direct",
    "direct": "direct",
}
_OURS = "rlm_eval.methods."


def family(method: str, target: str = "") -> str:
    """The family of an arm by the class it runs (``_target_``), else its name, else ``other``."""
    ours = target.removeprefix(_OURS)
    found = _named(ours if ours != target else target.rpartition(".")[2])
    by_name = _named(method)
    if by_name == "control" and found != "rlm":
        return by_name  # a method of another family, kept from the context
    return found or by_name or "other"


def _named(name: str) -> str:
    words = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)).lower()
    return next((f for word, f in FAMILIES.items() if f"_{word}_" in f"_{words}_"), "")


def competitors(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of controls, which take part in no comparison."""
    return frame[frame["arm_kind"] != "control"]


def marks(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The name of each task's arms in a table: with whether it is scripted, a control, or asks no
    model at all. ``frame`` has results, or rows of ``summarize``."""
    found = {}
    for (task, arm), rows in frame.groupby(["task", "arm"], sort=False):
        words = ["scripted"] if bool(rows["scripted"].any()) else []
        if (rows["arm_kind"] == "control").all():
            words += ["control"] if (rows["model"] != "").any() else ["control, no model"]
        found[str(task), str(arm)] = f"{arm} ({', '.join(words)})" if words else str(arm)
    return found


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted keys; lists stay as they are."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def differing(
    trees: Sequence[Mapping[str, Any]], of_arms: Iterable[str] = ()
) -> dict[str, list[Any]]:
    """The settings that differ between ``trees``, by dotted key: the value of each, or None. The
    parts ``of_arms`` hold something by arm, of which those count that all trees have."""
    kept = [dict(tree) for tree in trees]
    for part in of_arms:
        by_arm = [tree.get(part) or {} for tree in kept]
        shared = set.intersection(*map(set, by_arm))
        for tree, held in zip(kept, by_arm, strict=True):
            tree[part] = {arm: value for arm, value in held.items() if arm in shared}
    flat = [flatten(tree) for tree in kept]
    found = {key: [tree.get(key) for tree in flat] for tree in flat for key in tree}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}


def names(results: pd.DataFrame) -> pd.Series[str]:
    """What to call each row's arm: the method, plus what tells it from its namesakes.

    Two arms of one name differ when their ``arm_id`` does (their settings, models, per-sample
    budget or code revision). The first three settings that differ are put in parentheses, more
    where these don't tell the arms apart, and "…" for those left out. Settings that an arm has no
    value for are not named, and ids, classes and prompts only where nothing else differs.
    """
    found = pd.Series("", results.index, dtype=object)
    for method, rows in results.groupby("method", sort=False):
        configs = rows.drop_duplicates("arm_id").set_index("arm_id")["arm_config"]
        settings = {str(arm_id): _settings(json.loads(text)) for arm_id, text in configs.items()}
        found[rows.index] = rows["arm_id"].map(_labels(str(method), settings))
    return found


#: Settings named before others, and those that say little to a reader and are named where nothing
#: else tells arms apart.
FIRST = ("model", "sub_model", "budget")
LAST = ("prompt", "prompt_hash", "matched", "revision", "_target_")


def _settings(config: dict[str, Any]) -> dict[str, str]:
    """The settings that have a value, as text; those of sub-calls where they are not the root's."""
    flat = {k: str(v) for k, v in flatten(config).items() if v not in (None, "", [])}
    same = [k for k in flat if k.startswith("sub_model") and flat[k] == flat.get(k[4:])]
    return {k: v for k, v in flat.items() if k not in same}


def _labels(method: str, settings: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A label for each of a method's arms, by ``arm_id``."""

    def alike(keys: list[str]) -> bool:
        shown = ({k: _part(k, s[k]) for k in keys if k in s} for s in settings.values())
        return len({tuple(parts.items()) for parts in shown}) < len(settings)

    keys = {k for s in settings.values() for k in s}
    differing = [k for k in keys if len({s.get(k) for s in settings.values()}) > 1]
    differing.sort(key=lambda k: (LAST.index(k) if k in LAST else -1, k not in FIRST, k))
    telling = sum(k not in LAST for k in differing)
    named = min(3, telling)
    while named < len(differing) and alike(differing[:named]):
        named += 1
    labels = {}
    for arm_id, setting in settings.items():
        parts = [_part(k, setting[k]) for k in differing[:named] if k in setting]
        parts += ["…"] if parts and named < telling else []
        parts += [arm_id[:6]] if alike(differing[:named]) else []
        labels[arm_id] = f"{method} ({', '.join(parts)})" if parts else method
    return labels


def _part(key: str, value: str) -> str:
    """``max_depth=2``; a budget names its unit itself (``tokens=6000``)."""
    shown = value if len(value) <= 24 else f"{value[:23]}…"
    short = key if "_model." in key or key.startswith("model.") else key.rpartition(".")[2]
    return shown if key == "budget" else f"{short}={shown}"


def by_method(results: pd.DataFrame) -> pd.DataFrame:
    """The results with arms told apart within their task alone, across which nothing is compared:
    an arm that is alone of its method there is called by that, whatever sources each task has."""
    named = [names(rows) for _, rows in results.groupby("task", sort=False)]
    return results.assign(arm=pd.concat(named)) if named else results


def within_models(results: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """For each task and arm its root model, with whether that is scripted, and what to call it
    among the arms of that model alone. Empty unless there are several models."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    if results.loc[results["model"] != "", "model"].nunique() < 2:
        return found
    for model, rows in results.groupby("model", sort=False):
        shown = f"{model} (scripted)" if rows["scripted"].any() else str(model)
        short = by_method(rows)["arm"]
        keys = zip(rows["task"], rows["arm"], strict=True)
        found |= {key: (shown, name) for key, name in zip(keys, short, strict=True)}
    return found


def apart(table: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """A table of the arms in ``results``, each called as among those of its model alone, with that
    model in a column ``facet``: empty without several models, and for what asks none."""
    known = within_models(results)
    for column in [c for c in ("against", "arm") if c in table]:
        keys = zip(table["task"], table[column], strict=True)
        found = [known.get(key, ("", key[1])) for key in keys]
        table = table.assign(**{column: [name for _, name in found]}, facet=[m for m, _ in found])
    return table
