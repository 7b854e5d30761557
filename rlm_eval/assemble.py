"""The parts of a run, built from its checked configuration. Nothing here starts or spends."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.config import RunConfig, build
from rlm_eval.environment import code_revision
from rlm_eval.ledger import Budget, refuse_unpriced
from rlm_eval.models.protocol import ChatModel
from rlm_eval.records import Context, Sample, content_hash
from rlm_eval.runner import Arm, Work


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of, built and checked, nothing started."""

    config: RunConfig
    task: Any
    root: ChatModel
    sub: ChatModel | None
    arms: tuple[Arm, ...]
    sample_budget: Budget
    run_budget: Budget
    revision: str

    @property
    def models(self) -> dict[str, ChatModel]:
        return {"root": self.root} | ({"sub": self.sub} if self.sub else {})

    @property
    def scripted(self) -> bool:
        return any(m.info.simulated for m in self.models.values())

    @property
    def run_id(self) -> str:
        return f"{self.task.name}-{content_hash([self.config.identity, self.revision])[:10]}"

    @property
    def demonstration(self) -> bool:
        """As configured; by default true for stand-ins and the small embedded model."""
        given = self.config["demonstration"]
        small = self.root.info.endpoint == "local" and self.config["model"].get("gguf") is None
        return bool(self.scripted or small if given is None else given)


def assemble(config: RunConfig) -> Parts:
    """Build and check all parts. Raises ConfigError; starts no model and spends nothing."""
    task = build(config["task"])
    root: ChatModel = build(config["model"])
    sub: ChatModel | None = build(config["sub_model"]) if config["sub_model"] else None
    for model in filter(None, (root, sub)):
        model.check()
    infos = {"root": root.info} | ({"sub": sub.info} if sub else {})
    run_budget, sample_budget = (Budget(**config["budget"][k]) for k in ("run", "sample"))
    unpriced = [info.name for info in infos.values() if info.price is None]
    refuse_unpriced({"run": run_budget, "sample": sample_budget}, unpriced)
    revision = code_revision()
    shared = [
        config["model"],
        config["sub_model"],
        config["temperature"],
        config["memoize"],
        config["budget"]["sample"],
        revision,
    ]
    arms: list[Arm] = []
    for name, node in config["method"].items():
        method = build(node)
        method.check(infos)
        arms.append(Arm(name, method, content_hash([name, node, method.prompt_source(), *shared])))
    return Parts(
        config,
        task,
        root,
        sub,
        tuple(arms),
        sample_budget,
        run_budget,
        revision,
    )


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


def show_plan(parts: Parts) -> None:
    """What would be run, per length: contexts, questions and calls of one prompt each."""
    counts: dict[int, int] = {}
    contexts: dict[int, set[str]] = {}
    for context, sample in parts.task.build():
        counts[sample.target_tokens] = counts.get(sample.target_tokens, 0) + 1
        contexts.setdefault(sample.target_tokens, set()).add(context.id)
    repeats = parts.config["repeats"]
    for length, count in counts.items():
        print(
            f"{length:>9,} tokens: {count} questions on {len(contexts[length])} contexts "
            f"x {len(parts.arms)} methods x {repeats} repeats"
        )
    print(f"methods: {', '.join(arm.name for arm in parts.arms)}")
    print(f"results: {sum(counts.values()) * len(parts.arms) * repeats}")
    print(f"would go to: {Path(parts.config['results_dir']) / parts.run_id}")
