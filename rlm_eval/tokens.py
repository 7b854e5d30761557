"""Named tokenizers that work offline, for sizing samples and for hosted models' estimates.

litellm ships the BPE files of OpenAI's tokenizers; tiktoken finds them there by
``TIKTOKEN_CACHE_DIR``. Nothing is fetched.
"""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_eval.errors import ConfigError

if TYPE_CHECKING:
    import tiktoken

_MOST_SPACE = 500_000
NAMES = ("cl100k_base", "o200k_base")
#: Scripts written without spaces between words, or (Hangul) with endings joined to them.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"


class Tokenizer:
    """Counts and cuts text in tokens of a named BPE. Safe for threads."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return sum([len(self._encoding.encode_ordinary(part)) for part in _parts(text)])

    def starts(self, text: str) -> list[int]:
        """Where each token of ``text`` begins: its first character's offset, or that of the
        character in whose middle it begins."""
        found: list[int] = []
        done = 0
        for part in _parts(text):
            tokens = self._encoding.encode_ordinary(part)
            found += [done + start for start in self._encoding.decode_with_offsets(tokens)[1]]
            done += len(part)
        return found


def _parts(text: str) -> list[str]:
    """The text, parted within white space of such a length that tiktoken panics of it."""
    if len(text) <= _MOST_SPACE:
        return [text]
    runs = re.finditer(rf"(?<!\s)\s{{{_MOST_SPACE},}}", text)
    cuts = [at for run in runs for at in range(*run.span(), _MOST_SPACE)]
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


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
