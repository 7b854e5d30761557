"""The parts of a run, built from its checked configuration. Nothing here starts or spends."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlm_eval.config import ROLE_KEYS, RunConfig, build, targets
from rlm_eval.environment import code_revision
from rlm_eval.errors import ConfigError, speaking_of
from rlm_eval.judging import judge_of
from rlm_eval.ledger import Budget, refuse_unpriced
from rlm_eval.methods.method import Method
from rlm_eval.models.cache import check_cache
from rlm_eval.models.client import RetryPolicy
from rlm_eval.models.embedding import EmbeddingModel
from rlm_eval.models.protocol import ChatModel, ModelInfo
from rlm_eval.records import Context, Role, Sample, content_hash
from rlm_eval.runner import Arm, Work
from rlm_eval.sealing import seal_of


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of, built and checked, nothing started."""

    config: RunConfig
    task: Any
    models: Mapping[Role, ChatModel]
    embedder: EmbeddingModel | None
    arms: tuple[Arm, ...]
    sample_budget: Budget
    run_budget: Budget
    retry: RetryPolicy
    revision: str

    @property
    def root(self) -> ChatModel:
        return self.models["root"]

    @property
    def models_by_key(self) -> dict[str, ChatModel | EmbeddingModel]:
        """Every model of the run under the configuration's key for it."""
        keys: Mapping[Role, str] = {"root": "model", **ROLE_KEYS}
        chat: dict[str, ChatModel | EmbeddingModel]
        chat = {keys[role]: model for role, model in self.models.items()}
        return {**chat, "embed_model": self.embedder} if self.embedder else chat

    @property
    def served(self) -> list[ChatModel | EmbeddingModel]:
        """Every model of the run: to be opened and closed."""
        return list(self.models_by_key.values())

    @property
    def infos(self) -> dict[Role, ModelInfo]:
        """What is known of each role's model before any is opened."""
        embed: dict[Role, ModelInfo] = {"embed": self.embedder.info} if self.embedder else {}
        return {role: model.info for role, model in self.models.items()} | embed

    @property
    def scripted(self) -> bool:
        return any(info.simulated for info in self.infos.values())

    @property
    def run_id(self) -> str:
        return f"{self.task.name}-{content_hash([self.config.identity, self.revision])[:10]}"

    @property
    def demonstration(self) -> bool:
        """As configured; by default true for stand-ins and the small embedded model."""
        given = self.config["demonstration"]
        model = self.config["model"]
        own = model.get("gguf")
        small = self.root.info.endpoint == "local" and not own
        return bool(self.scripted or small if given is None else given)


def assemble(config: RunConfig, *, check_models: bool = True) -> Parts:
    """Build and check all parts. Raises ConfigError; starts no model and spends nothing. Without
    ``check_models`` they may lack what they need to be opened, as in a replay."""
    task = build("task", config["task"])
    models: dict[Role, ChatModel] = {"root": build("model", config["model"])}
    models |= {role: build(key, config[key]) for role, key in ROLE_KEYS.items() if config[key]}
    embed = config["embed_model"]
    embedder = build("embed_model", embed) if embed else None
    run_budget, sample_budget = (Budget(**config["budget"][k]) for k in ("run", "sample"))
    budgets, retry = (sample_budget, run_budget), build("retry", config["retry"])
    parts = Parts(config, task, models, embedder, (), *budgets, retry, _revision(config))
    if config["response_cache"] is not None:
        check_cache(Path(config["response_cache"]))
        if sample_budget != Budget():
            raise ConfigError(
                "a sample's cap buys more where a cache answers: leave out budget.sample or "
                "response_cache"
            )
        if seal_of(task) is not None:
            raise ConfigError(
                f"task {task.name} must not be stored in the clear: leave out response_cache"
            )
    by_key = parts.models_by_key
    for key, model in by_key.items() if check_models else ():
        with speaking_of(key):
            model.check()
    unpriced = {key: m.info.name for key, m in by_key.items() if m.info.price is None}
    refuse_unpriced({"run": run_budget, "sample": sample_budget}, unpriced)
    parts = replace(parts, arms=tuple(_arm(parts, *item) for item in config["method"].items()))
    _refuse_matched_to_nothing(parts)
    return parts


def _refuse_matched_to_nothing(parts: Parts) -> None:
    """Raise ConfigError where methods shall spend up to a cap and there is none that binds."""
    price, cap = parts.root.info.price, parts.sample_budget
    priced = price is not None and price.input > 0
    binds = cap.tokens is not None or (cap.usd is not None and priced)
    matched = [arm.name for arm in parts.arms if arm.method.matched]
    if matched and not binds:
        raise ConfigError(
            f"{', '.join(matched)}: matched methods spend up to a sample's cap: set "
            "budget.sample.tokens=N, or budget.sample.usd=N for models that cost something"
        )


def _revision(config: RunConfig) -> str:
    """The measuring sources: ours, and the files of outside modules that are named here."""
    modules = {target.rpartition(".")[0] for target in targets(config.tree)}
    return code_revision(sorted(name for name in modules if not name.startswith("rlm_eval.")))


def _arm(parts: Parts, name: str, node: Mapping[str, Any]) -> Arm:
    """A method, built and checked; its fingerprint hashes all that its answers depend on: the
    models of the roles it has, and the judge's where there is one."""
    config, where = parts.config, f"method.{name}"
    method = build(where, node)
    method.bind(parts.task.code_oracle)
    with speaking_of(where):
        method.check(parts.infos)
    keys = ["model", "judge_model", *model_keys(method)]
    shared = [
        {key: config[key] for key in keys if config[key]},
        config["temperature"],
        config["memoize"],
        config.caching,
        config["budget"]["sample"],
        parts.revision,
        *([judge.source] if (judge := judge_of(parts.task)) else []),
    ]
    return Arm(name, method, content_hash([name, node, method.prompt_source(), *shared]))


def model_keys(method: Method) -> list[str]:
    """The configuration keys of the models a method speaks to beside the root."""
    keys = {**ROLE_KEYS, "embed": "embed_model"}
    return [keys[role] for role in method.roles if role in keys]


def all_work(parts: Parts, pairs: Sequence[tuple[Context, Sample]]) -> list[Work]:
    """Context by context, arm by arm within it, so that questions share a prompt's beginning."""
    constants = _constant_scores(parts, [sample for _, sample in pairs])
    grouped: dict[str, list[tuple[Context, Sample]]] = {}
    for context, sample in pairs:
        grouped.setdefault(context.id, []).append((context, sample))
    out: list[Work] = []
    for repeat in range(parts.config["repeats"]):
        for group in grouped.values():
            for arm in sorted(parts.arms, key=lambda a: a.method.reads_everything):
                for context, sample in group:
                    key = content_hash([sample.id, arm.fingerprint, repeat])
                    constant = constants.get(sample.id)
                    out.append(Work(key, arm, sample, context, repeat, constant))
    return out


def _constant_scores(parts: Parts, samples: Sequence[Sample]) -> Mapping[str, float]:
    """What the best fixed answer scores on each sample; the fitting lives with the tasks."""
    constant = importlib.import_module("rlm_eval.tasks.constant")
    scores: Mapping[str, float] = constant.best_constant(parts.task, samples)
    return scores
