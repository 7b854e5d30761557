"""Two classifiers that see words and pairs of words only: how far do keywords alone get?

The project's own items (tasks/items) must be judged by meaning. These small, standard
classifiers (multinomial naive Bayes; softmax regression with an L2 penalty) over unigrams and
bigrams say whether their labels can be read off the words instead. numpy and scipy only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

Array = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

_WORD = re.compile(r"[a-z0-9]+(?:['.-][a-z0-9]+)*")


def words(text: str) -> list[str]:
    """The lower-case words of ``text``, without punctuation."""
    return _WORD.findall(text.lower())


def features(text: str) -> list[str]:
    """Unigrams, and bigrams with a mark for where the text begins and ends."""
    tokens = words(text)
    framed = ["^", *tokens, "$"]
    return tokens + [f"{a} {b}" for a, b in zip(framed, framed[1:], strict=False)]


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


def logistic_regression(table: Array, labels: Ints, classes: int, *, c: float = 1.0) -> Linear:
    """Softmax regression: minimises ``c`` × summed log loss + ‖weights‖²/2, bias unpenalised.

    The best weights lie in the row space of ``table``, so it is solved in the coordinates of its
    singular vectors (rows ≪ features) and turned back: the same minimum, many times faster.
    """
    left, scale, right = np.linalg.svd(table, full_matrices=False)
    narrow, member = left * scale, np.eye(classes)[labels]
    columns = narrow.shape[1]

    def loss(flat: Array) -> tuple[float, Array]:
        weights, bias = flat[:-classes].reshape(columns, classes), flat[-classes:]
        log_p = log_softmax(narrow @ weights + bias, axis=1)
        error = np.exp(log_p) - member
        value = -c * (log_p * member).sum() + 0.5 * (weights**2).sum()
        slope = c * (narrow.T @ error) + weights
        return float(value), np.concatenate([slope.ravel(), c * error.sum(axis=0)])

    start = np.zeros(columns * classes + classes)
    best = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Linear(right.T @ best[:-classes].reshape(columns, classes), best[-classes:])
