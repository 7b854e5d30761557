"""Two classifiers that see words and pairs of words only: how far do keywords alone get?

The project's own items (tasks/items) must be judged by meaning. These small, standard
classifiers (multinomial naive Bayes; softmax regression with an L2 penalty) over unigrams and
bigrams say whether their labels can be read off the words instead. numpy only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np

from rlm_eval.tasks.draws import Draws
from rlm_eval.tasks.generated.labels import compose

Array = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

#: Items of each label that are composed of each group of parts.
PER_GROUP = {"reviews": 20, "questions": 6}


@dataclass(frozen=True)
class Item:
    label: str
    group: str
    text: str


def items_of(domain: str) -> list[Item]:
    """Some of the project's items, of each group of parts and label as many."""
    path = files("rlm_eval.tasks").joinpath("items", f"{domain}.tsv")
    head, frame, *rows = path.read_text(encoding="utf-8").splitlines()
    if head == "label\tgroup\ttext":  # whole texts, of each group one of each label
        return [Item(*row.split("\t")) for row in (frame, *rows)]
    return [
        Item(label, row.partition("\t")[0], text)
        for row in rows
        for label, texts in compose([head, frame, row]).items()
        for text in few(texts, PER_GROUP[domain], Draws("items", label, row))
    ]


def few(texts: Sequence[str], k: int, draws: Draws) -> list[str]:
    return [texts[i] for i in draws.distinct(k, lambda: draws.below(len(texts)))]


_WORD = re.compile(r"[a-z0-9]+(?:['.-][a-z0-9]+)*")


def words(text: str) -> list[str]:
    """The lower-case words of ``text``, without punctuation."""
    return _WORD.findall(text.lower())


def features(text: str) -> list[str]:
    """Unigrams, and bigrams with a mark for where the text begins and ends."""
    tokens = words(text)
    framed = ["^", *tokens, "$"]
    return tokens + [f"{a} {b}" for a, b in pairwise(framed)]


def counts(texts: Sequence[str], vocabulary: dict[str, int]) -> Array:
    """Feature counts, shape (texts, vocabulary); features not in ``vocabulary`` are dropped."""
    table = np.zeros((len(texts), len(vocabulary)))
    for row, text in enumerate(texts):
        for feature in features(text):
            if feature in vocabulary:
                table[row, vocabulary[feature]] += 1
    return table


def vocabulary_of(texts: Sequence[str]) -> dict[str, int]:
    """Each feature of ``texts`` and its column, in alphabetical order."""
    return {name: i for i, name in enumerate(sorted({f for t in texts for f in features(t)}))}


@dataclass(frozen=True)
class Linear:
    """A linear classifier: ``weights`` of shape (features, classes), ``bias`` of (classes,)."""

    weights: Array
    bias: Array

    def predict(self, table: Array) -> Ints:
        """The class of each row of ``table``, shape (rows,)."""
        return np.asarray((table @ self.weights + self.bias).argmax(axis=1), dtype=np.int64)


def naive_bayes(table: Array, labels: Ints, classes: int, *, smoothing: float = 1.0) -> Linear:
    """Multinomial naive Bayes with additive smoothing (Manning et al. 2008, section 13.2)."""
    member = np.eye(classes)[labels]
    seen = member.T @ table + smoothing
    likelihood = np.log(seen) - np.log(seen.sum(axis=1, keepdims=True))
    prior = np.log(member.sum(axis=0) + 1e-9) - np.log(len(labels))
    return Linear(likelihood.T, prior)


def logistic_regression(
    table: Array, labels: Ints, classes: int, *, c: float = 1.0, steps: int = 400
) -> Linear:
    """Softmax regression: minimises ``c`` × summed log loss + ‖weights‖²/2, bias unpenalised.

    Nesterov's accelerated gradient (2004, scheme 2.2.11). The best weights are a mix of the rows of
    ``table``, so the mix is sought, shape (rows, classes), with the bias as its last row: products
    this small stay on one thread, where a general solver's would fight over a busy machine.
    """
    member, rows = np.eye(classes)[labels], len(labels)
    scores_of = np.hstack([table @ table.T, np.ones((rows, 1))])
    steepest = 1 + 0.5 * c * (scores_of[:, :-1] + 1).sum(axis=1).max()
    momentum = (steepest**0.5 - 1) / (steepest**0.5 + 1)
    mix = ahead = np.zeros((rows + 1, classes))
    for _ in range(steps):
        scores = scores_of @ ahead
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = c * (odds / odds.sum(axis=1, keepdims=True) - member)
        slope = np.vstack([error + ahead[:-1], error.sum(axis=0)])
        mix, before = ahead - slope / steepest, mix
        ahead = mix + momentum * (mix - before)
    return Linear(table.T @ mix[:-1], mix[-1])
