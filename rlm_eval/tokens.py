"""Named tokenizers that work offline, for sizing samples and for hosted models' estimates.

litellm ships the BPE files of OpenAI's tokenizers; tiktoken finds them there by
``TIKTOKEN_CACHE_DIR``. Nothing is fetched.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_eval.errors import ConfigError

if TYPE_CHECKING:
    import tiktoken

NAMES = ("cl100k_base", "o200k_base")


class Tokenizer:
    """Counts and cuts text in tokens of a named BPE. Safe for threads."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))

    def starts(self, text: str) -> list[int]:
        """Where each token of ``text`` begins: its first character's offset, or that of the
        character in whose middle it begins."""
        return self._encoding.decode_with_offsets(self._encoding.encode_ordinary(text))[1]


@cache
def load_tokenizer(name: str = "cl100k_base") -> Tokenizer:
    """The tokenizer called ``name``. Raises ConfigError for a name that is not on board."""
    if name not in NAMES:
        raise ConfigError(f"must be one of {', '.join(NAMES)}, got {name!r}", key="tokenizer")
    import tiktoken

    spec = importlib.util.find_spec("litellm")  # which need not be imported, for seconds
    assert spec is not None, "it is a dependency"
    files = Path(str(spec.origin)).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(files)
    return Tokenizer(tiktoken.get_encoding(name))
