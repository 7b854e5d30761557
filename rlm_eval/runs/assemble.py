"""The parts of a run, built from its checked configuration. Nothing here starts or spends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from rlm_eval.config.check import ROLE_KEYS, RunConfig, build, what_is_asked
from rlm_eval.config.check import targets as targets_of
from rlm_eval.config.credentials import as_written
from rlm_eval.config.sources import sources_of
from rlm_eval.errors import ConfigError
from rlm_eval.journal.past import SHARDS
from rlm_eval.ledger import Budget, refuse_unpriced
from rlm_eval.methods.method import Method
from rlm_eval.models.client import RetryPolicy
from rlm_eval.models.embedding import EmbeddingModel
from rlm_eval.models.local.weights import file_sha256
from rlm_eval.models.protocol import ChatModel, ModelInfo
from rlm_eval.records import Context, Role, Sample, content_hash
from rlm_eval.runs.runner import Arm, Work, judge_of

#: The configuration's key for each role's model.
KEYS: Mapping[Role, str] = {"root": "model", **ROLE_KEYS, "embed": "embed_model"}


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of, built and checked, nothing started. ``sources`` are the files
    that its results depend on, by name with their hashes."""

    config: RunConfig
    task: Any
    models: Mapping[Role, ChatModel]
    embedder: EmbeddingModel | None
    arms: tuple[Arm, ...]
    sample_budget: Budget
    run_budget: Budget
    retry: RetryPolicy
    sources: Mapping[str, str]
    #: Environment variables that are to be set before the run: of a dry run alone.
    unset: tuple[str, ...] = ()

    @property
    def root(self) -> ChatModel:
        return self.models["root"]

    @property
    def sub_model(self) -> str:
        """The name of the model that sub-calls go to."""
        return self.models.get("sub", self.root).info.name

    @property
    def every_model(self) -> dict[Role, ChatModel | EmbeddingModel]:
        return {**self.models, **({"embed": self.embedder} if self.embedder else {})}

    @property
    def infos(self) -> dict[Role, ModelInfo]:
        """What is known of each role's model before any is opened."""
        return {role: model.info for role, model in self.every_model.items()}

    @property
    def models_of_arms(self) -> dict[str, dict[str, str]]:
        """Per arm its roles, a judge's among them, each with its model's name."""
        infos = self.infos
        judged: list[Role] = ["judge"] if judge_of(self.task) else []
        return {
            arm.name: {r: infos.get(r, infos["root"]).name for r in [*arm.method.roles, *judged]}
            for arm in self.arms
        }

    @property
    def scripted(self) -> bool:
        return any(info.simulated for info in self.infos.values())

    @property
    def run_id(self) -> str:
        """The task's name and a hash of the configuration, of the arms with their prompts and
        sources, and of a local file's rows: results of two revisions never meet in one run."""
        made_with = [self.config.identity, self.fingerprints]
        if "sha256" in (source := self.task.source or {}):
            made_with.append(source)
        name = re.sub(r"[^\w .-]", "_", self.task.name).lstrip(".")  # a folder's, no path
        return f"{name}-{content_hash(made_with)[:10]}"

    @property
    def run_folder(self) -> Path:
        """The folder of the run, of which this may be a shard."""
        return Path(self.config["results_dir"]) / self.run_id

    @property
    def folder(self) -> Path:
        """The folder of what is done here; shards lie side by side and find what others have."""
        if not self.config["shard"]:
            return self.run_folder
        shards = self.run_folder.with_name(f"{self.run_id}{SHARDS}")
        return shards / f"{self.config['shard']}-of-{self.config['shards']}"

    @property
    def fingerprints(self) -> dict[str, str]:
        return {arm.name: arm.fingerprint for arm in self.arms}

    @property
    def at_once(self) -> int:
        """Questions worked on side by side: as many as the embedded model has slots, else 16."""
        asked: int | None = self.config["concurrency"]
        return asked or int(getattr(self.root, "slots", 16))

    @property
    def demonstration(self) -> bool:
        """As configured; by default true for stand-ins and the small embedded model."""
        given = self.config["demonstration"]
        model = self.config["model"]
        small = self.root.info.endpoint == "local" and not model.get("gguf")
        return bool(self.scripted or small if given is None else given)


def assemble(config: RunConfig) -> Parts:
    """Build and check all parts. Raises ConfigError; starts no model and spends nothing."""
    sandbox = config["sandbox"]
    shared: dict[str, Any] = {content_hash(sandbox): build("sandbox", sandbox)}
    task = build("task", config["task"], shared)
    models: dict[Role, Any] = {
        role: build(key, config[key], shared) for role, key in KEYS.items() if config[key]
    }
    run_budget, sample_budget = (Budget(**config["budget"][k]) for k in ("run", "sample"))
    run_budget = run_budget.shared(config["shards"] if config["shard"] else 1)
    by_key, unset = {KEYS[role]: model for role, model in models.items()}, dict[str, None]()
    for key, model in by_key.items():
        try:
            model.check()
        except ConfigError as error:
            if not (config["dry_run"] and error.unset):
                raise error.within(key) from error
            unset[error.unset] = None
    infos = {role: model.info for role, model in models.items()}
    unpriced = {key: m.info.name for key, m in by_key.items() if m.info.price is None}
    refuse_unpriced({"run": run_budget, "sample": sample_budget}, unpriced)
    # With the address that is asked in the end: an environment variable may give it.
    nodes = {
        key: {**what_is_asked(config[key]), "endpoint": model.info.endpoint}
        for key, model in by_key.items()
    }
    for node in nodes.values():
        if path := node.get("gguf"):
            node["gguf"] = file_sha256(Path(path))  # the path may hold other weights another day
    sources: dict[str, str] = {}
    arms = [_arm(config, name, task, infos, nodes, shared, sources) for name in config["method"]]
    _refuse_matched_to_nothing(arms, sample_budget, models["root"].info)
    retry = build("retry", config["retry"])
    found, embedder = dict(sorted(sources.items())), models.pop("embed", None)
    return Parts(
        *(config, task, models, embedder, tuple(arms), sample_budget, run_budget, retry, found),
        tuple(unset),
    )


def _refuse_matched_to_nothing(arms: Sequence[Arm], cap: Budget, root: ModelInfo) -> None:
    """Raise ConfigError where methods are to spend up to a cap and there is none that binds."""
    priced = root.price is not None and root.price.input > 0
    binds = cap.tokens is not None or (cap.usd is not None and priced)
    matched = [arm.name for arm in arms if arm.method.matched]
    if matched and not binds:
        raise ConfigError(
            f"{', '.join(matched)}: matched methods spend up to a sample's cap: set "
            "budget.sample.tokens=N, or budget.sample.usd=N for models that cost something"
        )


def _arm(
    config: RunConfig,
    name: str,
    task: Any,
    infos: Mapping[Role, ModelInfo],
    nodes: Mapping[str, Any],
    shared: dict[str, Any],
    all_sources: dict[str, str],
) -> Arm:
    """An arm that is checked, with the hash of all that its answers and their scores depend on. The
    sources among that are added to ``all_sources``."""
    where, judge = f"method.{name}", judge_of(task)
    node = {key: value for key, value in config["method"][name].items() if key != "kind"}
    method: Method = build(where, node, shared)
    method.bind(task.code_oracle, task.count_alone)
    try:
        method.check(infos)
    except ConfigError as error:
        raise error.within(where) from error
    if task.seal is not None and method.stores_input():
        raise ConfigError(
            f"task {task.name} must not be stored in the clear, and {where} would write it to a "
            "disk of this machine, whose /dev/shm is too small or not there: leave it out"
        )
    keys_used = ["model", *model_keys(method), *(["judge_model"] if judge else [])]
    models = {key: nodes[key] for key in keys_used if key in nodes}
    made_of = (node, config["task"], *models.values())
    targets = [target for each in made_of for target in targets_of(each)]
    modules = [target.rpartition(".")[0] for target in targets]
    sources = sources_of(["rlm_eval.runs.runner", *modules])  # on which all results depend
    all_sources |= sources
    revision = content_hash(sources)
    depends_on = [
        *(name, node, method.prompt_source(), models, config["temperature"], config["memoize"]),
        *(config["budget"]["sample"], revision),
        *(dict(task.scoring), judge.source if judge else None),
    ]
    fingerprint = content_hash(as_written(depends_on, all_of_it=False))
    return Arm(name, method, fingerprint, revision)


def model_keys(method: Method) -> list[str]:
    """The configuration keys of the models a method uses beside the root."""
    return [KEYS[role] for role in method.roles if role != "root"]


def samples_of(task: Any) -> list[tuple[Context, Sample]]:
    """All samples of a task with their contexts. Raises ConfigError, also for rows of a file."""
    try:
        pairs = list(task.build())
    except ConfigError as error:
        raise error.within("task") from error
    if not pairs:
        raise ConfigError("the task gave no samples: raise task.n or check task.path")
    return pairs


def all_work(parts: Parts, pairs: Sequence[tuple[Context, Sample]]) -> list[Work]:
    """As many contexts side by side as questions are, arm by arm within them, and only then the
    next question on each: so that questions share a prompt's beginning, which the first of them has
    read to its end. Who comes first rotates: it pays for what others then find in a cache."""
    constants = parts.task.constant_scores([sample for _, sample in pairs])
    grouped: dict[str, list[tuple[Context, Sample]]] = {}
    for context, sample in pairs:
        grouped.setdefault(context.id, []).append((context, sample))
    contexts = list(grouped.values())
    if shard := parts.config["shard"]:
        contexts = contexts[shard - 1 :: parts.config["shards"]]
    starts = range(0, len(contexts), parts.at_once)
    arms = sorted(parts.arms, key=lambda arm: arm.method.reads_everything)
    out: list[Work] = []
    for repeat in range(parts.config["repeats"]):
        for i, start in enumerate(starts):
            rounds = list(zip_longest(*contexts[start : start + parts.at_once]))
            first = i % len(arms)
            for arm in (*arms[first:], *arms[:first]):
                for context, sample in filter(None, chain.from_iterable(rounds)):
                    key = content_hash([sample.id, arm.fingerprint, repeat])
                    constant = constants.get(sample.id)
                    query = parts.task.query(sample.question)
                    out.append(Work(key, arm, sample, context, repeat, constant, query=query))
    return out
