"""The protocol that every embedding model implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rlm_eval.models.protocol import BilledError, Model, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: One row of unit length per text, float32, shape (texts, d).
    Vectors = NDArray[np.float32]


class EmbeddingModel(Model, Protocol):
    """An embedding model. ``info.context_window`` holds one text, in the model's own tokens, as
    ``count_tokens`` counts them. A request takes ``batch_texts`` texts at most; ``at_once``
    requests go side by side. ``embed`` makes one attempt and raises as :meth:`ChatModel.complete`
    does; with ``query`` the texts are what is looked for in others."""

    @property
    def batch_texts(self) -> int: ...

    @property
    def at_once(self) -> int: ...

    def embed(self, texts: Sequence[str], *, query: bool = False) -> tuple[Vectors, Usage]: ...

    def count_tokens(self, text: str) -> int: ...


def unit_rows(data: Any, count: int, usage: Usage) -> Vectors:
    """The vectors in a reply's ``data``, in the order of the ``count`` texts; where an item has no
    index (Gemini's first) its place counts. Raises BilledError where they are none."""
    import numpy as np

    try:
        places = [item.get("index") for item in data]
        order = sorted(range(count), key=lambda at: at if places[at] is None else places[at])
        vectors = np.asarray([data[at]["embedding"] for at in order], dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if len(data) == count and np.isfinite(norms).all() and norms.min() > 0:
            return np.asarray(vectors / norms)
    except (AttributeError, LookupError, TypeError, ValueError):
        pass  # no list, no vectors in it, or some of other lengths
    message = f"the reply has no vector for each of {count} texts"
    raise BilledError(message, kind="bad_vectors", retryable=True, usage=usage)
