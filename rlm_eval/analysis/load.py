"""Runs read back from disk. Nothing here needs the harness that wrote them."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow.parquet import read_schema, read_table  # type: ignore[import-untyped]

from rlm_eval.analysis import arms
from rlm_eval.errors import ConfigError
from rlm_eval.journal.environment import read, recorded_configuration, recorded_environment
from rlm_eval.journal.inspect_log import ENDINGS, LOG, read_log
from rlm_eval.journal.journal import derived_by, has_journal
from rlm_eval.journal.tables import RESULT_COLUMNS, RESULTS
from rlm_eval.records import NO_GOLD, PENDING, SCHEMA_VERSION, SCORED, content_hash

#: The columns of the frame that :func:`load_results` returns, and what each says: those of
#: ``results.parquet``, then what is added on loading. What other rules say of an answer comes after
#: them, a column ``score_NAME`` each (:func:`readings`).
COLUMNS = {name: meaning for name, (_, meaning) in RESULTS.items()} | {
    "judge_verdicts": "verdicts of a judge, of which the score is what most say; null: by rule",
    "judge_dissents": "how many of these say otherwise",
    "asked": "True unless the row is pending",
    "points": "score, with 0 for the arm's own failures; null where pending or without a gold",
    "right": "correct as 1 or 0, with 0 for the arm's own failures; null likewise",
    "tokens": "prompt_tokens + completion_tokens",
    "own_tokens": "tokens but embed_tokens, of reused_tokens a tenth: for what has no price",
    "embed_tokens": "of tokens, those of an embedding model, which no cap per sample counts",
    "run_dir": "folder the row was read from",
    "unit_id": "what counts as independent: context_id, or sample_id under analysis.unit=question",
    "started_at": "Unix time of the first call; null if none",
    "budget": "caps per sample that were set, as 'tokens=20000'; '' when none",
    "matched": "True: the method was told to spend up to the cap (budget.matched)",
    "can_match": "whether the arm's method is one that can be told so",
    "code_revision": "hash of the sources that the arm was asked by; '' when unknown",
    "arm_id": "hash of all that makes an arm what it is",
    "arm_config": "JSON of what arm_id hashes",
    "arm_kind": "rlm, alternative or control",
    "arm_family": "rlm, direct, retrieval, summaries, code, control or other",
    "arm": "method, with the settings that tell it from namesakes of other runs",
}


#: Of a run that says nothing else (see :attr:`Run.margin`).
MARGIN = 0.05
#: Columns of results that may be large.
_TEXTS = ("knobs", "answer", "gold", "question", "error")
#: Of which a sum each is enough to complete a result (its start, what an index took).
_SUMS_OF = ["result_key", "restart", "role", "cached_response"]
#: Of a model's configuration and the task's, what results depend on beside names.
_OF_MODEL = ("context_window", "reasoning_tokens", "own_temperature", "api_base", "gguf")
_OF_JUDGE = ("judge", "judge_tokens", "judge_repeats")
#: What a sample is, whoever answered it.
_OF_SAMPLE = (
    *("task", "context_id", "unit_id", "question_group", "constant_score"),
    *("target_tokens", "length_tokens"),
)


@dataclass(frozen=True)
class Run:
    """One run directory: its results with all :data:`COLUMNS` but ``arm``, the calls of each
    result's last try, its resolved config and its environment record."""

    path: Path
    results: pd.DataFrame
    calls: pd.DataFrame
    config: dict[str, Any]
    environment: dict[str, Any]

    @property
    def demonstration(self) -> bool:
        return bool(self.config.get("demonstration", False))

    @property
    def margin(self) -> float:
        """How much lower a score may be and still be called as good."""
        return float((self.config.get("analysis") or {}).get("margin", MARGIN))


def load_results(source: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """All results of a run directory, a ``results.parquet``, a glob of either, or several of
    these, as one frame.

    Columns: :data:`COLUMNS`, in that order. A result that is in several runs (same
    ``result_key``) is kept once. Raises ConfigError when nothing matches or a table lacks a column.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise ConfigError(
            "no run was named; give the directory that a run printed as its last line"
        )
    results = combine([load_run(path) for path in find_runs(*sources)])
    return results[[*COLUMNS, *readings(results)]]


def readings(results: pd.DataFrame) -> list[str]:
    """The columns ``score_NAME`` of results or a summary: what other rules than ``score``'s say."""
    own = {f"score_{own}" for own in ("rule", "low", "high", "completed", "unfiltered")}
    return [c for c in map(str, results.columns) if c.startswith("score_") and c not in own]


def find_runs(*sources: str | Path) -> list[Path]:
    """Run directories that ``sources``, paths or globs, name, each once; a glob's in name order."""
    runs: dict[Path, Path] = {}
    for source in map(str, sources):
        named = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
        folders = [Path(n).parent if n.endswith(".parquet") else Path(n) for n in named]
        logs = [f for f in folders if is_log(f) and (f.suffix == ".eval" or f == Path(source))]
        found = [f for f in folders if (f / "results.parquet").is_file()] + logs
        if not found:
            what = "holds no results.parquet" if folders else "does not exist"
            where = "give the directory that a run printed as its last line"
            if any(True for folder in folders for _ in folder.glob("*/results.parquet")):
                where = f"to read the runs in it, give '{source}/*'"
            raise ConfigError(f"{source} {what}; {where}")
        for folder in (f for f in folders if f not in found and has_journal(f)):
            told = f"{folder} has no tables, as after a kill: {derived_by(folder)}"
            print(f"left out: {told}", file=sys.stderr)
        for folder in found:
            runs.setdefault(folder.resolve(), folder)
    return list(runs.values())


def is_log(path: Path) -> bool:
    """Whether it is a file that may be a log of inspect_ai."""
    return path.suffix in ENDINGS and path.is_file()


def load_run(path: Path, texts: bool = True) -> Run:
    """One run directory, or a log of inspect_ai. ``config`` and ``environment`` are empty where not
    stored. Without ``texts``, results lack what was asked and said, and calls are one for each role
    of a result: a summary needs no more."""
    if is_log(path):
        results, calls, config = read_log(path)
        return Run(path, complete(path, results, calls, config, {}), calls, config, {})
    table = path / "results.parquet"
    if not table.is_file():
        raise ConfigError(f"{path} holds no results.parquet; is it a finished run's directory?")
    there = read(table, lambda p: read_schema(p).names)
    if missing := [column for column in RESULT_COLUMNS if column not in there]:
        raise ConfigError(f"{table} lacks the column(s) {', '.join(missing)}")
    kept = there if texts else [column for column in there if column not in _TEXTS]
    results = read(table, lambda p: pd.read_parquet(p, columns=kept))
    if others := set(results["schema_version"]) - {SCHEMA_VERSION}:
        raise ConfigError(
            f"{table} has schema {others.pop()}, this rlm_eval reads {SCHEMA_VERSION}: take the "
            "version that wrote it"
        )
    calls = read(path / "calls.parquet", pd.read_parquet if texts else _sums)
    last = calls.groupby("result_key")["restart"].transform("max")
    calls = calls[calls["restart"] == last].reset_index(drop=True)
    config, environment = recorded_configuration(path), recorded_environment(path)
    results = complete(path, results, calls, config, environment)
    return Run(path, results, calls, config, environment)


def _sums(path: Path) -> pd.DataFrame:
    """When each role of a result's restarts was first called, and what it read."""
    calls = read_table(path, columns=[*_SUMS_OF, "started_at", "prompt_tokens"])
    sums = calls.group_by(_SUMS_OF).aggregate([("started_at", "min"), ("prompt_tokens", "sum")])
    return sums.rename_columns([*_SUMS_OF, "started_at", "prompt_tokens"]).to_pandas()  # type: ignore[no-any-return]


def combine(runs: list[Run]) -> pd.DataFrame:
    """The results of several runs as one frame, arms named apart, controls last. Of one result in
    several runs the first that is not pending counts; an arm has the kind that the last run says,
    and a task's questions count by themselves where every run says so."""
    results = _placed(pd.concat([run.results for run in runs], ignore_index=True))
    kinds = results.groupby(["arm_id", "method"])["arm_kind"].transform("last")
    results = results.assign(arm_kind=kinds, unit_id=common_units(results))
    asked_first = results.sort_values("asked", ascending=False, kind="stable")
    kept = asked_first.drop_duplicates("result_key").sort_index()
    kept = kept.sort_values("arm_kind", key=lambda kind: kind == "control", kind="stable")
    results = kept.reset_index(drop=True)
    return results.assign(arm=arms.names(results))


def common_units(results: pd.DataFrame) -> pd.Series[str]:
    """What counts as independent: a task's questions where all its rows say so, else contexts."""
    alone = (results["unit_id"] == results["sample_id"]).groupby(results["task"]).transform("all")
    return results["unit_id"].where(alone, results["context_id"])


def calls_of(runs: Sequence[Run], results: pd.DataFrame) -> pd.DataFrame:
    """The calls of each of the ``results`` in the run that its row is from."""
    calls = pd.concat([run.calls.assign(run_dir=str(run.path)) for run in runs])
    calls = calls.merge(results[["result_key", "run_dir"]]).drop(columns="run_dir")
    return calls.drop_duplicates(["call_id", "attempt"])


def _placed(results: pd.DataFrame) -> pd.DataFrame:
    """With what our runs know of a sample in a log's rows of it, and their name of the model: other
    harnesses say no length, and call a provider otherwise."""
    theirs = results["protocol"] == LOG
    ours = results[~theirs].drop_duplicates("sample_id").set_index("sample_id")
    names = set(results.loc[~theirs, "model"]) - {""}
    theirs &= results["sample_id"].isin(ours.index)
    if theirs.any():
        results = results.copy()
        for column in _OF_SAMPLE:
            results.loc[theirs, column] = results.loc[theirs, "sample_id"].map(ours[column])
        for name in names if len(names) == 1 else ():
            same = results["model"].str.rpartition("/")[2] == name.rpartition("/")[2]
            same &= results["arm_id"].isin(results.loc[theirs, "arm_id"])
            results.loc[same & (results["protocol"] == LOG), ["model", "sub_model"]] = name
    return results


def complete(
    path: Path,
    results: pd.DataFrame,
    calls: pd.DataFrame,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> pd.DataFrame:
    """The stored results with the columns that are added on loading, but ``arm``: by arm, in the
    order of the configuration; arms it doesn't name come last."""
    methods = config.get("method") or {}
    budget, analysis = config.get("budget") or {}, config.get("analysis") or {}
    places = {name: i for i, name in enumerate(methods)}
    place = results["method"].map(lambda name: places.get(name, len(places)))
    frame = results.iloc[place.to_numpy().argsort(kind="stable")].reset_index(drop=True)
    asked = ~frame["outcome"].isin(list(PENDING))
    scored = frame["outcome"].isin(list(SCORED))
    judged = asked & (frame["score_rule"] != NO_GOLD)
    # A column of nulls only has no type.
    frame = frame.astype({c: kind for c, kind in RESULT_COLUMNS.items() if kind == "float64"})
    correct = frame["correct"].astype("boolean").astype("Float64").astype("float64")
    # A method that asks no model has none, and is not scripted, whatever the run's model is.
    modelless = frame["method"].isin(frame.loc[frame["protocol"] == "no model", "method"])
    tokens = frame["prompt_tokens"] + frame["completion_tokens"]
    began = calls.groupby("result_key")["started_at"].min()
    index = calls[(calls["role"] == "embed") & ~calls["cached_response"].astype(bool)]
    embedded = index.groupby("result_key")["prompt_tokens"].sum()
    embed_tokens = frame["result_key"].map(embedded).astype(float).fillna(0.0)
    models = environment.get("models") or {}
    alone = frame["method"].isin([arm for arm, roles in models.items() if "sub" not in roles])
    revisions, revision = environment.get("revisions") or {}, environment.get("code_revision")
    caps = {k: v for k, v in (budget.get("sample") or {}).items() if v is not None}
    can = (methods.get(name) or {} for name in frame["method"])
    can_match = pd.Series(["matched" in node for node in can], frame.index, dtype=bool)
    frame = frame.assign(
        **{name: frame.get(name, nan) for name in ("judge_verdicts", "judge_dissents")},
        model=frame["model"].where(~modelless, ""),
        sub_model=frame["sub_model"].mask(alone, frame["model"]).where(~modelless, ""),
        scripted=frame["scripted"].astype(bool) & ~modelless,
        asked=asked,
        points=frame["score"].where(scored, 0.0).where(judged),
        right=correct.where(scored, 0.0).where(judged),
        tokens=tokens,
        own_tokens=tokens - 0.9 * frame["reused_tokens"] - embed_tokens,
        embed_tokens=embed_tokens,
        run_dir=str(path),
        unit_id=frame["sample_id" if analysis.get("unit") == "question" else "context_id"],
        started_at=frame["result_key"].map(began).astype(float),
        budget=", ".join(f"{k}={v}" for k, v in caps.items() if not k.startswith("_")),
        matched=can_match & bool(budget.get("matched", False)),
        can_match=can_match,
        code_revision=frame["method"].map(lambda name: str(revisions.get(name, revision) or "")),
    )
    return _with_arms(frame, _further_models(config, models), config, environment)


def _with_arms(
    frame: pd.DataFrame,
    further: Mapping[str, dict[str, str]],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> pd.DataFrame:
    """The frame with what each row's arm is."""
    prompts, models = environment.get("prompts") or {}, environment.get("models") or {}
    # As objects: all rows of an arm share one text, which may be long.
    configs = pd.Series("", frame.index, dtype=object)
    frame = frame.assign(arm_id="", arm_config=configs, arm_kind="", arm_family="")
    methods = config.get("method") or {}
    shared = {f"{role}.params": _params(config, role) for role in ("model", "sub_model")}
    of_models = shared | _given(config, "model", _OF_MODEL) | _given(config, "sub_model", _OF_MODEL)
    if "model.gguf" in of_models:  # the path may hold other weights another day
        of_models["model.sha256"] = str(environment.get("model_sha256"))
    judge = _given(config, "task", _OF_JUDGE)
    if judge_prompt := environment.get("judge_prompt"):
        judge["task.judge_prompt"] = judge_prompt
    # Not the protocol: that is what happened, and one arm may have used several.
    by = ["method", "prompt", "model", "sub_model", "budget", "code_revision"]
    for key, group in frame[by].fillna("").astype(str).groupby(by, sort=False):
        method, prompt, model, sub_model, budget, revision = map(str, key)
        settings = dict(methods.get(method) or {})
        kind = settings.pop("kind", None)
        arm = {"prompt": prompt, "model": model, "sub_model": sub_model, "budget": budget}
        arm |= {"revision": revision[:8]} | judge | (of_models if model else shared)
        if "sub" not in models.get(method, ("sub",)):
            arm = {k: v for k, v in arm.items() if not k.startswith("sub_model.")}
        arm |= settings | further.get(method, {})
        arm |= {"prompt_hash": prompts[method]} if method in prompts else {}
        arm |= {key: config[key] for key in ("temperature", "memoize") if key in config}
        inner: Mapping[str, Any] = settings.get("of") or settings
        family = arms.family(method, str(inner.get("_target_", "")))
        frame.loc[group.index, "arm_id"] = content_hash(arm)
        frame.loc[group.index, "arm_config"] = json.dumps(arm, sort_keys=True, default=str)
        known = family if family in ("rlm", "control") else "alternative"
        frame.loc[group.index, "arm_kind"] = kind or known
        frame.loc[group.index, "arm_family"] = family
    return frame


def _given(config: Mapping[str, Any], node: str, keys: Iterable[str]) -> dict[str, str]:
    given = config.get(node) or {}
    return {f"{node}.{key}": str(given[key]) for key in keys if given.get(key)}


def _further_models(
    config: Mapping[str, Any], models: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Per method, the models of its roles that no column names, its judge included, without the
    root's where it stands in for a role: as ``models`` has them, since a method may need one for
    some inputs only."""
    found: dict[str, dict[str, str]] = {}
    for method, roles in models.items():
        for role, name in roles.items():
            stands_in = name == roles.get("root") and not config.get(f"{role}_model")
            if role in ("root", "sub") or stands_in:
                continue
            names = found.setdefault(method, {})
            names[f"{role}_model.name"] = name
            names[f"{role}_model.params"] = _params(config, f"{role}_model")
    return found


def _params(config: Mapping[str, Any], role: str) -> str:
    params = (config.get(role) or {}).get("params")
    return json.dumps(params, sort_keys=True, default=str) if params else ""
