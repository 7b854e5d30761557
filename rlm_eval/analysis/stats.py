"""Statistics for questions that share contexts: the context, not the question, is the unit.

Everything takes one value per answer and the id of the context each was asked about. Intervals
are 95 % unless told otherwise. The choices made here are those that the simulation in
``tests/benchmarks/coverage.py`` supports (coverage of at least 93 % from 4 to 60 contexts for
right/wrong and skewed graded scores, type-I error of at most 6 %; where fewer than one answer in
ten is right and the 25 on a context are alike, down to 92 %); the percentile cluster bootstrap
falls short of that and is not used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log2, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped]

#: Under this many contexts no interval is given.
MIN_CONTEXTS = 4
#: Up to this many contexts all sign flips are enumerated; beyond, :data:`FLIP_DRAWS` are drawn.
EXACT_CONTEXTS = 20
FLIP_DRAWS = 20_000
ALPHA = 0.05
#: Under this many no sign flip of contexts, and no McNemar test, can reach :data:`ALPHA`.
LEAST_TO_TELL = ceil(1 - log2(ALPHA))
POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """A mean over answers with the variance that its contexts show.

    ``variance`` is that of the mean; ``df`` are the degrees of freedom of its t quantile. Both
    are nan for fewer than two contexts. Every answer weighs the same.
    """

    mean: float
    variance: float
    df: float
    n: int
    contexts: int


@dataclass(frozen=True)
class Interval:
    """``low`` and ``high`` are nan when there are fewer than :data:`MIN_CONTEXTS` contexts."""

    mean: float
    low: float
    high: float
    n: int
    contexts: int
    n_effective: float = nan


@dataclass(frozen=True)
class Difference:
    """A paired mean difference, of at most 1 in size, over shared samples.

    ``p`` is two-sided (see :func:`paired`), ``test`` its name. ``effect_size`` is the difference
    over the standard deviation of the contexts' own mean differences (Cohen's d_z; nan where
    they are all the same).
    """

    interval: Interval
    spread: Spread
    p: float
    test: str
    effect_size: float


def spread(values: ArrayLike, contexts: Sequence[Any], *, share: bool = False) -> Spread:
    """Mean and delete-one-context jackknife variance, with four guards against optimism.

    1. The variance is never below that of independent answers.
    2. Where contexts hold several answers, the variance is pulled with weight ``(2/G)²`` up to
       that of one answer a context: few contexts say little about how alike answers within one
       are.
    3. The degrees of freedom shrink where few contexts carry the variance (a kurtosis rule).
    4. What G contexts may not have shown is added (see :func:`_unseen`), one answer a context and
       with its own ``G − 1`` degrees of freedom (Welch & Satterthwaite; never more in all).

    ``share``: the values lie in [0, 1], so that they can't vary more than ``m (1 − m)``, which is
    what right/wrong answers do: the fourth guard adds nothing to them. Else in [−1, 1].
    """
    y = np.asarray(values, dtype=np.float64)
    index = _places(contexts)
    n, groups = len(y), int(index.max()) + 1 if len(y) else 0
    mean = float(y.mean()) if n else nan
    if groups < 2:
        return Spread(mean, nan, nan, n, groups)
    sizes = np.bincount(index).astype(np.float64)
    pull = (np.bincount(index, weights=y) - sizes * mean) / (1 - sizes / n)
    seen = (groups - 1) / groups * float(pull @ pull) / n**2
    df = groups - 1.0
    within = float(y.var())
    seen = max(seen, within / (n - 1))
    if n > groups:
        weight = (2 / groups) ** 2
        seen = (1 - weight) * seen + weight * max(seen, within / groups)
        fourth = float(np.sum(pull**4))
        if fourth > 0:
            df = float(np.clip(3 * float(pull @ pull) ** 2 / fourth - 1, 1, df))
    possible = min(mean * (1 - mean), _unseen(groups)) if share else _unseen(groups)
    added = max(0.0, possible - within) / groups
    variance = seen + added
    if added > 0:
        part = added / variance
        df = min(groups - 1.0, 1 / ((1 - part) ** 2 / df + part**2 / (groups - 1)))
    return Spread(mean, variance, df, n, groups)


def _places(contexts: Sequence[Any]) -> NDArray[np.intp]:
    """Each answer's context as a number, counted from 0."""
    names = np.asarray(contexts, dtype=object).astype(str)
    return np.unique(names, return_inverse=True)[1]


def _unseen(groups: int) -> float:
    """The variance of an answer that none of ``groups`` contexts need have shown.

    An outcome a whole point away that none of G contexts had may still be that of 2 in G + 4:
    the centre of Agresti & Coull's (1998) interval for 0 of G, whose upper limit is near the "rule
    of three". Assumes that contexts are drawn alike, and nothing on the scores' distribution.
    """
    rate = 2 / (groups + 4)
    return rate * (1 - rate)


def t_quantile(level: float, df: float) -> float:
    """The two-sided quantile of Student's t at ``level`` (0.95 → the 97.5 % point)."""
    return float(special.stdtrit(df, (1 + level) / 2))


def proportion(values: ArrayLike, contexts: Sequence[Any], level: float = 0.95) -> Interval:
    """Mean of values in [0, 1] with a Wilson interval on the effective number of answers.

    The effective number is how many independent right/wrong answers would give a mean of this
    variance (Korn & Graubard 1998 use the same with a t quantile); when every answer is 0, or
    every one 1, it is the number of contexts, which is where it goes as scores come near an end.
    """
    s = spread(values, contexts, share=True)
    if s.contexts < MIN_CONTEXTS:
        return Interval(s.mean, nan, nan, s.n, s.contexts)
    p = min(max(s.mean, 0.0), 1.0)
    bernoulli = p * (1 - p)
    n = bernoulli / s.variance if bernoulli > 0 else float(s.contexts)
    q2 = t_quantile(level, s.df) ** 2
    centre = (p + q2 / (2 * n)) / (1 + q2 / n)
    half = sqrt(q2) / (1 + q2 / n) * sqrt(bernoulli / n + q2 / (4 * n * n))
    return Interval(s.mean, max(0.0, centre - half), min(1.0, centre + half), s.n, s.contexts, n)


def difference_interval(s: Spread, level: float = 0.95) -> Interval:
    """A t interval over contexts, cut to [-1, 1]."""
    if s.contexts < MIN_CONTEXTS:
        return Interval(s.mean, nan, nan, s.n, s.contexts)
    half = t_quantile(level, s.df) * sqrt(s.variance)
    return Interval(s.mean, max(-1.0, s.mean - half), min(1.0, s.mean + half), s.n, s.contexts)


def skill(scores: ArrayLike, constants: ArrayLike, contexts: Sequence[Any]) -> Interval:
    """Skill = (mean score − mean constant) / (1 − mean constant).

    1 is perfect, 0 no better than the best constant answer, below 0 worse; nan where the constant
    is always right. Limits by recovering variances from the two :func:`proportion` intervals
    (MOVER for a ratio of means, Donner & Zou 2012); they take the two to be uncorrelated, which
    is on the safe side when what is easy for the constant is easy for the arm. ``low`` is nan
    where the data set it no limit.
    """
    score, constant = proportion(scores, contexts), proportion(constants, contexts)
    miss, room = 1 - score.mean, 1 - constant.mean
    if not room > 0:
        return Interval(nan, nan, nan, score.n, score.contexts)
    value = 1 - miss / room
    if score.contexts < MIN_CONTEXTS:
        return Interval(value, nan, nan, score.n, score.contexts)
    miss_low, miss_high = 1 - score.high, 1 - score.low
    room_low, room_high = 1 - constant.high, 1 - constant.low
    both = miss * room
    above = miss_low * (2 * miss - miss_low)
    root = sqrt(max(0.0, both**2 - above * room_high * (2 * room - room_high)))
    high = 1 - (above / (both + root) if both + root > 0 else 0.0)
    below = room_low * (2 * room - room_low)
    root = sqrt(max(0.0, both**2 - miss_high * (2 * miss - miss_high) * below))
    low = 1 - (both + root) / below if below > 0 else nan
    return Interval(value, low, high, score.n, score.contexts)


def sign_flip_p(values: ArrayLike, contexts: Sequence[Any], seed: int = 0) -> float:
    """Two-sided p of "the mean difference is 0", by flipping the signs of whole contexts.

    Exact over all 2^G flips up to :data:`EXACT_CONTEXTS` contexts that differ at all (the others
    change nothing), else by seeded draws, counting the observed flip as one of them.
    """
    y = np.asarray(values, dtype=np.float64)
    sums = np.bincount(_places(contexts), weights=y)
    sums = sums[np.abs(sums) > 1e-12]
    groups = len(sums)
    if groups == 0:
        return 1.0
    observed = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    if groups <= EXACT_CONTEXTS:
        flipped = sums[:1]  # the other half is its mirror image
        for value in sums[1:]:
            flipped = np.concatenate([flipped + value, flipped - value])
        return float(np.mean(np.abs(flipped) >= observed))
    signs = np.random.default_rng(seed).integers(0, 2, (FLIP_DRAWS, groups), dtype=np.int8)
    hits = int(np.sum(np.abs((2.0 * signs - 1) @ sums) >= observed))
    return (1 + hits) / (1 + FLIP_DRAWS)


def mcnemar_p(wins: int, losses: int) -> float:
    """Exact two-sided McNemar: a binomial test of the discordant pairs."""
    discordant = wins + losses
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), discordant, 0.5)))


def paired(differences: ArrayLike, contexts: Sequence[Any]) -> Difference:
    """Test and interval of a paired difference, one value per shared sample.

    Exact McNemar where no context is shared and every difference is −1, 0 or 1 (there it equals
    the full sign-flip enumeration), else sign-flip of whole contexts.
    """
    d = np.asarray(differences, dtype=np.float64)
    s = spread(d, contexts)
    if s.n == s.contexts and bool(np.isin(d, (-1.0, 0.0, 1.0)).all()):
        test, p = "McNemar, exact", mcnemar_p(int((d > 0).sum()), int((d < 0).sum()))
    else:
        test, p = "sign-flip of contexts", sign_flip_p(d, contexts)
    index = _places(contexts)
    means = np.bincount(index, weights=d) / np.bincount(index)
    deviation = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    size = s.mean / deviation if deviation > 1e-12 else nan
    return Difference(difference_interval(s), s, p, test, size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[i])
        adjusted[int(i)] = min(1.0, worst)
    return adjusted


def smallest_resolvable(s: Spread, comparisons: int = 1) -> float:
    """The true difference that would be found in 4 of 5 repetitions of this experiment.

    Two-sided at 5 %, divided by the number of ``comparisons`` (Holm's first and strictest step).
    ``inf`` when no result at all on this many contexts could be significant: a sign flip of G
    contexts has no p under 2^(1−G).
    """
    alpha = ALPHA / max(1, comparisons)
    if s.contexts < max(MIN_CONTEXTS, 1 - log2(alpha)):
        return inf
    factor = t_quantile(1 - alpha, s.df) + float(special.stdtrit(s.df, POWER))
    difference = factor * sqrt(s.variance)
    return difference if difference <= 1 else inf


def contexts_needed(s: Spread, comparisons: int = 1, difference: float = 0.05) -> float:
    """About how many contexts, with as many questions each, would resolve ``difference``.

    nan where these contexts say nothing about the variance.
    """
    if s.contexts < MIN_CONTEXTS:
        return nan
    share = s.df / (s.contexts - 1)

    def resolved(groups: int) -> bool:
        scaled = s.variance * s.contexts / groups
        planned = Spread(s.mean, scaled, max(1.0, share * (groups - 1)), s.n, groups)
        return smallest_resolvable(planned, comparisons) <= difference

    most = 10**9
    groups = bisect_left(range(most), True, lo=MIN_CONTEXTS, key=resolved)
    return float(groups) if groups < most else nan
