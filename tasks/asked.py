"""asked: one question about a text or documents, kept in a file by ``rlm-eval ask``. Nobody gave a
right answer, so there is no score."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_eval.errors import ConfigError
from rlm_eval.records import NO_GOLD, Context, Sample

from .task import Pair, Task


@dataclass(kw_only=True, eq=False)
class Asked(Task):
    """``path`` is a JSON file {"question": …, "content": a text, or documents by name}; ``kept`` is
    what it holds, where that is known."""

    path: str
    max_answer_tokens: int = 512
    kept: Mapping[str, Any] | None = field(default=None, init=False)

    name, scorer = "asked", NO_GOLD

    def score(self, sample: Sample, answer: str) -> None:  # type: ignore[override]
        """There is nothing to hold it against."""

    def build(self) -> Iterator[Pair]:
        try:
            kept = self.kept or json.loads(Path(self.path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"={self.path} can't be read: {error}", key="path") from error
        context, question = Context.of(kept["content"]), kept["question"]
        length = self._tok.count(context.text)
        target = length + self._tok.count(question) + self.max_answer_tokens
        yield self.pair(context, target, question=question, gold=(), length=length)
