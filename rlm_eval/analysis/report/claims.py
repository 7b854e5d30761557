"""What others have published, beside what was measured here: conf/claims/*.yaml.

A claim is that one arm beats another, or does not (``holds: no_more``), in a setting. It is held
against every task, length, model and budget at which both arms were asked. Only in the claim's own
setting are sizes compared; elsewhere the direction alone is.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import hypot, nan
from typing import Any, Literal

import pandas as pd
import yaml

from rlm_eval.analysis import stats
from rlm_eval.analysis.arms import flatten
from rlm_eval.analysis.load import MARGIN
from rlm_eval.analysis.paired import CELL, Comparison, comparisons, on_terms
from rlm_eval.analysis.text import Column, points, shown

State = Literal["compatible", "contradicted", "undecided", "not measured"]
COLUMNS = (
    *("source", "says", "published", "task", "target_tokens", "question_group", "model", "arm"),
    *("against", "difference", "low", "high", "contexts", "setting", "state", "usd", "command"),
)
#: The columns that are shown.
SHOWN = (
    Column("source", "text"),
    Column("says", "text", "claim"),
    Column("published", "text", "published points"),
    Column("task", "text"),
    Column("target_tokens", "int", "length"),
    Column("model", "text"),
    Column("arm", "text", "arm", link=""),
    Column("against", "text", link=""),
    Column("difference", "points", "points here"),
    Column("", "range", "95 %"),
    Column("contexts", "int", "contexts"),
    Column("setting", "text"),
    Column("state", "text"),
)


@dataclass(frozen=True)
class Setting:
    """Where a claim was measured: ``task`` as ``task=`` takes it and ``name`` as results call it, a
    length (0: all together), a regular expression for the model's name without its provider and in
    lower case, and where results have others too the kind of question and some of the samples'
    ``knobs``. ``scores`` of the arm and of the other are shares, each of ``n`` questions; ``usd``
    is what all of them cost the source (nan: not said). ``words`` name the model on a command line,
    where the preset doesn't."""

    task: str
    name: str
    target_tokens: int
    model: str
    scores: tuple[float, float]
    n: tuple[int, int]
    usd: float
    group: str = ""
    words: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def published(self) -> tuple[float, float, float]:
        """The difference with its 95 % limits, by Newcombe's square-and-add of two Wilson intervals
        (Statistics in Medicine 17, 1998, method 10): of scores between 0 and 1 they are wide enough
        whatever the grades were, as of pairs whose answers go together."""
        (a, b), (n_a, n_b) = self.scores, self.n
        low_a, high_a = stats.wilson(a, n_a, stats.NORMAL)
        low_b, high_b = stats.wilson(b, n_b, stats.NORMAL)
        d = a - b
        return d, d - hypot(a - low_a, high_b - b), d + hypot(high_a - a, b - low_b)

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of ``rows`` in this setting; lengths that it takes together as one."""
        here = rows["model"].str.lower().str.rpartition("/")[2].str.fullmatch(self.model)
        here &= (rows["task"] == self.name) & (rows["budget"] == "")
        if self.group:
            here &= rows["question_group"] == self.group
        if self.knobs:
            here &= rows["knobs"].map(lambda told: self.knobs.items() <= json.loads(told).items())
        if not self.target_tokens:
            return rows[here].assign(target_tokens=0)
        return rows[here & (rows["target_tokens"] == self.target_tokens)]

    def told(self) -> str:
        difference, low, high = self.published
        limits = shown((low, high), "range")
        return f"{self.task} {points(difference)} ({limits}; n {min(self.n)})"


@dataclass(frozen=True)
class Claim:
    """``arm`` beats ``against``, each known by settings of its own; or, with ``no_more``, it does
    not. ``settings`` is empty where the source has no figures on tasks that are here; where its own
    figures say otherwise it claims nothing (``excepted``)."""

    source: str
    says: str
    arm: Mapping[str, Any]
    against: Mapping[str, Any]
    settings: tuple[Setting, ...]
    no_more: bool
    command: str
    excepted: tuple[Setting, ...] = ()

    def state(self, found: Comparison, here: Setting | None) -> State:
        """What a comparison says of it, in one of its settings or (None) in another."""
        if self.no_more:
            if found.low > 0:
                return "contradicted"
            return "compatible" if found.high < MARGIN else "undecided"
        if found.high < 0 or (here is not None and surely_less(found, here)):
            return "contradicted"
        return "compatible" if found.low > 0 else "undecided"


def surely_less(found: Comparison, setting: Setting) -> bool:
    """Whether the difference is less than was published, by the limits of both."""
    published, low, _ = setting.published
    return hypot(found.high - found.difference, published - low) < published - found.difference


def known_claims() -> list[Claim]:
    """All that conf/claims/ has."""
    folder = importlib.resources.files("rlm_eval.conf") / "claims"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    texts = [file.read_text("utf-8") for file in files if file.name.endswith(".yaml")]
    return [claim for text in texts for claim in _claims(yaml.safe_load(text))]


def _claims(file: Mapping[str, Any]) -> Iterator[Claim]:
    for claim in file["claims"]:
        pair = claim["arm"], claim["against"]
        every = [_setting(s, pair, file) for s in file.get("settings", ())]
        yield Claim(
            source=file["source"],
            says=claim["says"],
            arm=file["arms"][pair[0]],
            against=file["arms"][pair[1]],
            settings=tuple(s for s in every if s.scores[0] > s.scores[1]),
            excepted=tuple(s for s in every if s.scores[0] <= s.scores[1]),
            no_more=claim.get("holds") == "no_more",
            command=f"python -m rlm_eval experiment={file['experiment']}",
        )


def _setting(given: Mapping[str, Any], pair: tuple[str, str], file: Mapping[str, Any]) -> Setting:
    one, two = (given["scores"][name] / 100 for name in pair)
    n, usd = given["n"], given.get("usd", {})
    counts = [n[name] if isinstance(n, dict) else n for name in pair]
    return Setting(
        task=given["task"],
        name=given.get("name", given["task"]),
        target_tokens=given.get("length", 0),
        model=given.get("model", file.get("model", "")),
        scores=(one, two),
        n=(counts[0], counts[1]),
        usd=sum(usd.get(name, nan) * k for name, k in zip(pair, counts, strict=True)),
        group=given.get("group", ""),
        words=given.get("words", ""),
        knobs=given.get("knobs", {}),
    )


def claims_table(results: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """A row for each claim and each task, length, model and budget of ``results`` (a frame of
    ``load_results``, maybe empty) that has both of its arms, and one for each of its settings in
    which nothing was measured."""
    rows: list[dict[str, Any]] = []
    asked = results
    if len(results):
        asked = results[(results["arm_kind"] != "control") & ~results["scripted"]]
    for claim in claims:
        missing: list[Setting | None] = list(claim.settings) or [None]
        left = asked
        for setting in claim.excepted if len(asked) else ():
            left = left.drop(left.index.intersection(setting.of(asked).index))
        for setting in claim.settings if len(asked) else ():
            inside = setting.of(asked)
            left = left.drop(left.index.intersection(inside.index))
            found = [_measured(claim, c, m, setting) for c, m in _compared(claim, inside)]
            missing = [s for s in missing if s is not setting or not found]
            rows += found
        elsewhere = [_measured(claim, c, m, None) for c, m in _compared(claim, left)]
        rows += elsewhere
        if claim.settings or not elsewhere:
            rows += [_missing(claim, s) for s in missing]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _compared(claim: Claim, answers: pd.DataFrame) -> Iterator[tuple[Comparison, str]]:
    """The claim's arms compared, and the model's name, per length, model and budget with both."""
    cells = answers.groupby(CELL, sort=False) if len(answers) else ()
    for (model, *_), rows in (on for _, cell in cells for on in on_terms(cell)):
        configs = rows.drop_duplicates("arm").set_index("arm")["arm_config"]
        arms = {str(arm): flatten(json.loads(config)) for arm, config in configs.items()}
        pair = _known_by(claim.arm, arms), _known_by(claim.against, arms)
        if all(pair) and pair[0] != pair[1]:
            for found in comparisons(rows, lambda _, pair=pair: [[pair]]):  # type: ignore[misc]
                yield found, model


def _known_by(settings: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The first arm that has all ``settings``; its class is known by its last word."""

    def has(config: Mapping[str, Any], key: str, value: Any) -> bool:
        given = config.get(key)
        return bool(str(given).rpartition(".")[2] == value if key == "_target_" else given == value)

    return next((n for n, c in arms.items() if all(has(c, k, v) for k, v in settings.items())), "")


def _measured(claim: Claim, found: Comparison, model: str, here: Setting | None) -> dict[str, Any]:
    told = [here.told()] if here else [s.told() for s in claim.settings]
    return asdict(found) | {
        "source": claim.source,
        "says": claim.says,
        "published": "; ".join(told),
        "question_group": here.group if here else "",
        "model": model,
        "setting": "the same" if here else "another",
        "state": claim.state(found, here),
        "command": claim.command,
    }


def _missing(claim: Claim, setting: Setting | None) -> dict[str, Any]:
    row: dict[str, Any] = {"source": claim.source, "says": claim.says, "state": "not measured"}
    row |= {"target_tokens": 0, "contexts": 0, "command": claim.command, "usd": nan}
    if setting is None:
        return row
    place = {"task": setting.name, "model": setting.model, "target_tokens": setting.target_tokens}
    command = f"{claim.command} task={setting.task} {setting.words}".strip()
    return row | place | {"published": setting.told(), "usd": setting.usd, "command": command}
