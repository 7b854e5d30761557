"""From a sample to its score: ``Sample.scorer`` names the rule, the sample holds all it needs.

So a sample scores the same whichever way it came here: built, or exported and read back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rlm_eval.records import Sample, Score

from .oolong import KINDS, oolong, oolong_real
from .scorers import babilong, choice, graphwalks, mrcr, pairs, ruler, short_answer

RULES: dict[str, Callable[[Sample, str], Score]] = {
    "string_match_all": ruler,
    "judge": short_answer,  # what constants are fitted by
    "string_match_part": partial(ruler, any_of=True),
    "squad_em": short_answer,
    "hotpot_em": partial(short_answer, hotpot=True),
    "choice": choice,
    "pairs_f1": pairs,
    "mrcr": mrcr,
    "graphwalks": graphwalks,
    "babilong": babilong,
    "oolong_real": oolong_real,
    **{f"oolong:{kind}": partial(oolong, kind=kind) for kind in KINDS},
}
