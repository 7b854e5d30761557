"""A run's models at work: opened, behind their door, and closed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rlm_eval.assemble import Parts
from rlm_eval.config import ROLE_KEYS
from rlm_eval.journal import Journal
from rlm_eval.models.cache import ResponseCache, reply_shaping
from rlm_eval.models.client import CallSink, ModelClient
from rlm_eval.models.local.model import LocalModel
from rlm_eval.models.local.weights import SHA256, file_sha256
from rlm_eval.models.protocol import ChatModel
from rlm_eval.records import content_hash


@contextmanager
def served(parts: Parts, journal: Journal, record: CallSink) -> Iterator[ModelClient]:
    """The door to the run's models, open inside the ``with`` block. ``record`` is told of every
    call; what the models said of themselves once open is in the journal."""
    cache = _response_cache(parts, journal.redact)
    door = ModelClient(
        parts.models,
        record,
        temperature=parts.config["temperature"],
        retry=parts.retry,
        memoize=parts.config["memoize"],
        embedder=parts.embedder,
        cache=cache,
    )
    try:
        for model in parts.served:
            model.open()
        for role, opened in parts.infos.items():
            journal.note("model", role=role, **asdict(opened))
        yield door
    finally:
        for model in parts.served:
            model.close()
        if cache is not None:
            cache.close()


def _response_cache(parts: Parts, redact: Callable[[str], str]) -> ResponseCache | None:
    config, path = parts.config, parts.config["response_cache"]
    if path is None:
        return None
    nodes = {role: config["model" if role == "root" else ROLE_KEYS[role]] for role in parts.models}
    shapes = {
        role: content_hash([reply_shaping(node), weights_sha256(parts.models[role])])
        for role, node in nodes.items()
    }
    return ResponseCache(Path(path), shapes, sampling=config["cache_samples"], redact=redact)


def weights_sha256(model: ChatModel) -> str | None:
    """The weights' hash where the model is a file on this machine."""
    if not isinstance(model, LocalModel):
        return None
    return SHA256 if model.gguf is None else file_sha256(Path(model.gguf))
