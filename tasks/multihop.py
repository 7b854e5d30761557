"""multihop: follow a chain of facts scattered over a long text.

``variant=vt`` is RULER's variable tracking (:mod:`rlm_eval.tasks.tracking`);
``variant=semantic`` is a chain of one to five relations over short documents
(:mod:`rlm_eval.tasks.chains`).
"""

from __future__ import annotations

from collections.abc import Sequence

from . import sizing
from .chains import SemanticChain
from .tracking import VariableTracking


def multihop(
    *,
    lengths: Sequence[int],
    n: int,
    variant: str = "vt",
    hops: int | None = None,
    chains: int = 1,
    seed: int = 0,
    tokenizer: str = "cl100k_base",
) -> VariableTracking | SemanticChain:
    """The task of that variant. ``hops``: null takes the variant's own, 4 (vt) or 2 (semantic)."""
    sizing.one_of("multihop", "variant", variant, ("vt", "semantic"))
    if variant == "vt":
        return VariableTracking(
            lengths=lengths,
            n=n,
            hops=4 if hops is None else hops,
            chains=chains,
            seed=seed,
            tokenizer=tokenizer,
        )
    return SemanticChain(
        lengths=lengths, n=n, hops=2 if hops is None else hops, seed=seed, tokenizer=tokenizer
    )
