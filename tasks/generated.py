"""What tasks share whose samples are drawn one by one from a seed, each with its own context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rlm_eval.records import Context, Sample, Score
from rlm_eval.tokens import load_tokenizer

from . import rules, sizing


class Generated(ABC):
    """``n`` samples per length. A subclass sets its knobs, then calls :meth:`_take_lengths`."""

    name: str

    def __init__(self, *, n: int, seed: int, tokenizer: str) -> None:
        self.tokenizer = tokenizer
        self._tok = load_tokenizer(tokenizer)
        self._n = sizing.at_least(self.name, "n", n)
        self._seed = sizing.at_least(self.name, "seed", seed, 0)

    @abstractmethod
    def _shortest(self) -> int:
        """The least target that can be built, found without building."""

    @abstractmethod
    def _sample(self, target: int, purpose: str, index: int) -> tuple[Context, Sample]:
        """Sample ``index`` of a length; ``purpose`` keeps runs and calibration apart."""

    def _take_lengths(self, lengths: Sequence[int], longest: int = sizing.LONGEST) -> None:
        self._lengths = sizing.check_lengths(self.name, lengths, self._shortest(), longest)

    def build(self) -> Iterator[tuple[Context, Sample]]:
        for target in self._lengths:
            for index in range(self._n):
                yield self._sample(target, "run", index)

    def calibration(self, target_tokens: int) -> Iterator[Sample]:
        """Golds of other seeds. They don't depend on the length, so the shortest is built."""
        for index in range(16):
            _, sample = self._sample(self._shortest(), "calibration", index)
            yield replace(sample, target_tokens=target_tokens)

    def score(self, sample: Sample, answer: str) -> Score:
        return rules.score(sample, answer)

    def constants(self, group_samples: Sequence[Sample]) -> Iterable[str]:
        return dict.fromkeys(", ".join(sample.gold) for sample in group_samples)
