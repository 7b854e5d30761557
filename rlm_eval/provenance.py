"""What a run was made with, written into its folder before the first call: config.yaml and
environment.json. No key that is in the environment is in them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from rlm_eval.assemble import Parts
from rlm_eval.atomic import write_atomically
from rlm_eval.config import ROLE_KEYS, RUN_TIME_KEYS, RunConfig
from rlm_eval.environment import environment_record
from rlm_eval.records import content_hash
from rlm_eval.redaction import Redactor, secrets_of
from rlm_eval.serving import weights_sha256


def redactor_of(config: RunConfig) -> Redactor:
    """Cuts out the keys that are in the environment, under whatever name the models take them."""
    nodes = [config[key] for key in ("model", *ROLE_KEYS.values(), "embed_model") if config[key]]
    return Redactor(secrets_of(os.environ, {str(node.get("api_key_env")) for node in nodes}))


def write_record(parts: Parts, run_dir: Path, redact: Callable[[str], str]) -> None:
    """Write both files."""
    tree = {**parts.config.tree, "demonstration": parts.demonstration}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    write_atomically(run_dir / "config.yaml", redact(text))
    record = environment_record(
        code_revision=parts.revision,
        run_time={k: parts.config.tree[k] for k in sorted(RUN_TIME_KEYS)},
        prompts={a.name: content_hash(a.method.prompt_source()) for a in parts.arms},
        sandbox={
            a.name: level
            for a in parts.arms
            if (level := getattr(getattr(a.method, "sandbox", None), "level", None))
        },
        task_card=parts.task.card,
        task_source=getattr(parts.task, "source", None),
        model_sha256=weights_sha256(parts.root),
    )
    text = json.dumps(record, indent=2, ensure_ascii=False)
    write_atomically(run_dir / "environment.json", redact(text))
