"""A sentence encoder of BERT's shape (Devlin et al. 2019), forward only, in numpy.

Exact to float32: the sentence vectors (means of the tokens') of sentence-transformers with the same
weights. Each text goes through alone, so nothing is padded and no mask is needed; as many as there
are cores go side by side, so the matrix products are best held to one thread each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr  # type: ignore[import-untyped]

Array = NDArray[np.float32]
Pair = tuple[Array, Array]


class SentenceEncoder:
    """``weights`` by their names in a Hugging Face BERT file, ``config`` its config.json."""

    def __init__(self, weights: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        self._heads = int(config["num_attention_heads"])
        self._epsilon = np.float32(config["layer_norm_eps"])
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )

        def affine(*names: str) -> Pair:
            """A product's weight and bias; of several, one beside the other."""
            weight = np.hstack([weights[f"{name}.weight"].T for name in names])
            bias = np.concatenate([weights[f"{name}.bias"] for name in names])
            return np.ascontiguousarray(weight), bias

        def norm(name: str) -> Pair:
            return weights[f"{name}.weight"], weights[f"{name}.bias"]

        self._first_norm = norm("embeddings.LayerNorm")
        self._layers = [
            (
                affine(*(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
                affine(f"{name}.attention.output.dense"),
                norm(f"{name}.attention.output.LayerNorm"),
                affine(f"{name}.intermediate.dense"),
                affine(f"{name}.output.dense"),
                norm(f"{name}.output.LayerNorm"),
            )
            for name in (f"encoder.layer.{i}" for i in range(int(config["num_hidden_layers"])))
        ]

    def encode(self, ids: Sequence[Sequence[int]]) -> Array:
        """One row of unit length per sequence of token ids, shape (sequences, hidden size)."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = list(pool.map(self._encode_one, ids))
        return np.vstack(rows) if rows else np.empty((0, self._words.shape[1]), np.float32)

    def _encode_one(self, ids: Sequence[int]) -> Array:
        x = self._words[np.asarray(ids)] + self._places[: len(ids)]
        x = self._normed(x, *self._first_norm)
        for qkv, attended, attended_norm, up, down, down_norm in self._layers:
            mixed = _attention(_affine(x, *qkv), self._heads)
            x = self._normed(_affine(mixed, *attended) + x, *attended_norm)
            inner = _affine(x, *up)
            inner *= ndtr(inner)  # GELU
            x = self._normed(_affine(inner, *down) + x, *down_norm)
        pooled = x.sum(axis=0)
        return np.asarray(pooled / np.linalg.norm(pooled), dtype=np.float32)

    def _normed(self, x: Array, scale: Array, shift: Array) -> Array:
        """Layer normalisation."""
        out: Array = x - x.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", out, out) / np.float32(x.shape[1])
        out /= np.sqrt(variance + self._epsilon)[:, None]
        out *= scale
        out += shift
        return out


def _affine(x: Array, weight: Array, bias: Array) -> Array:
    out: Array = x @ weight
    out += bias
    return out


def _attention(qkv: Array, heads: int) -> Array:
    """Self-attention within one sequence: (tokens, 3 × hidden size) → (tokens, hidden size)."""
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    query, key, value = qkv.reshape(tokens, 3, heads, width // heads).transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1)
    scores *= np.float32((width // heads) ** -0.5)
    scores -= scores.max(axis=2, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=2, keepdims=True)
    mixed = (scores @ value).transpose(1, 0, 2).reshape(tokens, width)
    return np.asarray(mixed, dtype=np.float32)
