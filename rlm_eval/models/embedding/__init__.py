"""The protocol that every embedding model implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from rlm_eval.models.protocol import Model, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: One row of unit length per text, float32, shape (texts, d).
    Vectors = NDArray[np.float32]


class EmbeddingModel(Model, Protocol):
    """An embedding model. ``info.context_window`` holds one text, in the model's own tokens, as
    ``count_tokens`` counts them. A request takes ``batch_texts`` texts at most; ``at_once``
    requests go side by side. ``embed`` makes one attempt and raises as :meth:`ChatModel.complete`
    does."""

    @property
    def batch_texts(self) -> int: ...

    @property
    def at_once(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> tuple[Vectors, Usage]: ...

    def count_tokens(self, text: str) -> int: ...
