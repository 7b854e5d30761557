"""An embedding model for tests: a text's vector counts its words, each at a place of its own."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlm_eval.errors import ProviderError
from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import LM, ModelClient, RetryPolicy
from rlm_eval.models.protocol import ChatModel, ModelInfo, Price, Usage
from rlm_eval.records import Call

PLACES = 4096


class WordVectors:
    """A token is a word. ``failures`` are raised by the first requests; ``gate`` holds each request
    back until it is set."""

    batch_texts = 16
    at_once = 2

    def __init__(
        self,
        *,
        window: int = 512,
        price: float = 0.0,
        failures: Sequence[ProviderError] = (),
        gate: threading.Event | None = None,
    ) -> None:
        self.info = ModelInfo("words", "here", window, Price(price, 0.0))
        self.requests: list[list[str]] = []
        self._failures = list(failures)
        self._gate = gate

    def check(self) -> None:
        """Nothing can be missing."""

    def open(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """There is nothing to close."""

    def count_tokens(self, text: str) -> int:
        return len(_words(text))

    def embed(
        self, texts: Sequence[str], *, query: bool = False
    ) -> tuple[np.ndarray[Any, np.dtype[np.float32]], Usage]:
        self.requests.append(list(texts))
        if self._gate is not None:
            assert self._gate.wait(10)
        if self._failures:
            raise self._failures.pop(0)
        rows = np.full((len(texts), PLACES), 1e-6, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _words(text):
                row[zlib.crc32(word.encode()) % PLACES] += 1
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows, Usage(prompt_tokens=sum(map(self.count_tokens, texts)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class EmbeddingTable:
    """A client to a chat model and an embedding model whose calls are kept in ``calls``."""

    def __init__(self, model: ChatModel, embedder: WordVectors) -> None:
        self.calls: list[Call] = []
        self.run = Ledger()
        self.client = ModelClient(
            {"root": model},
            lambda call, reply: self.calls.append(call),
            embedder=embedder,
            retry=RetryPolicy(attempts=2, base_s=0.01),
        )

    def lm(self, key: str = "key") -> LM:
        return self.client.lm(key, memory_scope="arm")

    def ledger(self, budget: Budget | None = None) -> Ledger:
        return self.run.child(budget)

    def of_role(self, role: str) -> list[Call]:
        return [call for call in self.calls if call.role == role]
