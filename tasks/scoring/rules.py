"""From a sample to its score: ``Sample.scorer`` names the rule, the sample holds all it needs.

So a sample scores the same whether it was built, or exported and read back. A benchmark's own rule
has the benchmark's name for it; the rules of tasks that we generate begin with ``strict``; those of
a user's own questions are plain words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rlm_eval.records import Sample, Score

from . import scorers
from .matching import ruler, strict_match
from .oolong import KINDS, oolong, oolong_real, strict

RULES: dict[str, Callable[[Sample, str], Score]] = {
    "string_match_all": ruler,
    "string_match_part": scorers.string_match_part,
    "strict_match": strict_match,
    "strict_answer": scorers.strict_answer,
    "exact": scorers.short_answer,
    "contains": scorers.contains,
    "f1": partial(scorers.short_answer, by="f1"),
    "number": scorers.number,
    "judge": scorers.short_answer,  # what constants are fitted by
    "squad_em": scorers.short_answer,
    "hotpot_em": partial(scorers.short_answer, hotpot=True),
    "choice": scorers.choice,
    "pairs_f1": scorers.pairs,
    "strict_pairs": partial(scorers.pairs, strict=True),
    "mrcr": scorers.mrcr,
    "graphwalks": scorers.graphwalks,
    "babilong": scorers.babilong,
    "oolong_real": oolong_real,
    **{f"oolong:{kind}": partial(oolong, kind=kind) for kind in KINDS},
    **{f"strict:{kind}": partial(strict, kind=kind) for kind in KINDS},
}
