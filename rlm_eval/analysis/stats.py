"""Statistics for questions that share contexts: the context, not the question, is the unit.

Everything takes one value per answer and the id of the context each was asked about. Intervals
are 95 % unless told otherwise. The choices made here are those that the simulation in
``tests/benchmarks/coverage.py`` supports (``results/published/benchmarks/statistics.md``); the
percentile cluster bootstrap falls short of that and is not used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, isnan, log2, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped]

#: Under this many contexts no interval is given.
MIN_CONTEXTS = 4
#: The sign-flip test's grid: a sum of scores is rounded to this share of all sums' sizes, or where
#: there are many to that share of their mean size.
GRID, EACH = 512, 16
ALPHA = 0.05
#: The test of pairs that are independent of each other.
MCNEMAR = "McNemar, exact"
#: Under this many no sign flip of contexts, and no McNemar test, can reach :data:`ALPHA`.
LEAST_TO_TELL = ceil(1 - log2(ALPHA))
POWER = 0.8
#: The standard normal's quantile of a two-sided 95 % interval.
NORMAL = float(special.ndtri(0.975))


#: The context of each answer: ids of any kind, or integers as an array.
Contexts = Sequence[Any] | NDArray[np.intp]


@dataclass(frozen=True)
class Spread:
    """A mean over answers with the variance that its contexts show.

    ``variance`` is that of the mean; ``df`` are the degrees of freedom of its t quantile;
    ``skewness`` is that of the mean, estimated (0 for a share); ``alike`` by how much answers on
    one context add to the variance of independent ones (1 to the answers a context, which it is
    where nothing varies). Variance and df are nan for fewer than two contexts. Every answer
    weighs the same.
    """

    mean: float
    variance: float
    df: float
    n: int
    contexts: int
    skewness: float = 0.0
    alike: float = 1.0


@dataclass(frozen=True)
class Interval:
    """``low`` and ``high`` are nan when there are fewer than :data:`MIN_CONTEXTS` contexts."""

    mean: float
    low: float = nan
    high: float = nan
    n_effective: float = nan

    def columns(self, mean: str, limits: str = "") -> dict[str, float]:
        """As columns of a table; the limits' names begin with ``limits`` or else as the mean's."""
        limits = limits or mean
        return {mean: self.mean, f"{limits}_low": self.low, f"{limits}_high": self.high}


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


def spread(values: ArrayLike, contexts: Contexts, *, share: bool = False) -> Spread:
    """Mean and delete-one-context jackknife variance, with four guards against optimism.

    1. The variance is never below that of independent answers.
    2. Where contexts hold several answers, the variance is pulled with weight ``(2/G)²`` up to
       that of one answer a context: few contexts do not tell how alike answers in one are.
    3. The degrees of freedom shrink where few contexts carry the variance (a kurtosis rule; not
       for shares of one answer a context, which are binomial).
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
    df, skewness = groups - 1.0, 0.0
    within = float(y.var())
    seen = max(seen, within / (n - 1))
    if n > groups:
        weight = (2 / groups) ** 2
        seen = (1 - weight) * seen + weight * max(seen, within / groups)
    if (n > groups or not share) and (square := float(pull @ pull)) > 0:
        df = _kurtosis_df(pull)
        skewness = 0.0 if share else float(np.sum(pull**3)) / square**1.5
    possible = min(mean * (1 - mean), _unseen(groups)) if share else _unseen(groups)
    added = max(0.0, possible - within) / groups
    variance = seen + added
    if added > 0:
        part = added / variance
        df = min(groups - 1.0, 1 / ((1 - part) ** 2 / df + part**2 / (groups - 1)))
    most = n / groups
    alike = float(np.clip(seen * n / within, 1, most)) if within > 0 else most
    return Spread(mean, variance, df, n, groups, skewness, alike)


def _places(contexts: Contexts) -> NDArray[np.intp]:
    """Each answer's context as a number, counted from 0."""
    known = isinstance(contexts, np.ndarray) and contexts.dtype.kind == "i"
    names = contexts if known else np.asarray(contexts, dtype=object).astype(str)
    return np.unique(names, return_inverse=True)[1]


def _kurtosis_df(pulls: NDArray[np.float64]) -> float:
    """Degrees of freedom of a sum of contexts' squared pulls: few where few contexts carry it."""
    fourth = float(np.sum(pulls**4))
    whole = len(pulls) - 1.0
    return float(np.clip(3 * float(pulls @ pulls) ** 2 / fourth - 1, 1, whole)) if fourth else whole


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


def proportion(values: ArrayLike, contexts: Contexts) -> Interval:
    """Mean of values in [0, 1] with a Wilson interval on the effective number of answers.

    The effective number is how many independent right/wrong answers would give a mean of this
    variance (Korn & Graubard 1998 use the same with a t quantile); when every answer is 0, or
    every one 1, it is the number of contexts, which is where it goes as scores come near an end.
    """
    s = spread(values, contexts, share=True)
    if s.contexts < MIN_CONTEXTS or isnan(s.mean):
        return Interval(s.mean)
    p = min(max(s.mean, 0.0), 1.0)
    bernoulli = p * (1 - p)
    n = bernoulli / s.variance if bernoulli > 0 else float(s.contexts)
    return Interval(s.mean, *wilson(p, n, t_quantile(0.95, s.df)), n)


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's limits of a proportion."""
    q2 = quantile**2
    centre = (share + q2 / (2 * n)) / (1 + q2 / n)
    half = quantile / (1 + q2 / n) * sqrt(share * (1 - share) / n + q2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(s: Spread) -> Interval:
    """A t interval over contexts, cut to [-1, 1].

    Where the differences are skewed (many small gains, few large losses, say) the limit on the
    side of the long tail is moved out by the first term of the t statistic's Edgeworth expansion
    (Johnson 1978, Hall 1992); the other limit stays, so the interval never gets narrower.
    """
    if s.contexts < MIN_CONTEXTS:
        return Interval(s.mean)
    q, error = t_quantile(0.95, s.df), sqrt(s.variance)
    tail = abs(s.skewness) * (1 + 2 * q * q) / 6
    low = s.mean - error * (q + (tail if s.skewness < 0 else 0))
    high = s.mean + error * (q + (tail if s.skewness > 0 else 0))
    return Interval(s.mean, max(-1.0, low), min(1.0, high))


def bonett_price(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Limits of a difference of two paired shares, ``wins`` less ``losses`` of ``n`` (Bonett &
    Price 2012: Wald's after one more win and one more loss)."""
    gain, loss = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = NORMAL * sqrt((gain + loss - (gain - loss) ** 2) / (n + 2))
    return max(-1.0, gain - loss - half), min(1.0, gain - loss + half)


def skill(scores: ArrayLike, constants: ArrayLike, contexts: Contexts) -> Interval:
    """Skill = (mean score − mean constant) / (1 − mean constant).

    1 is perfect, 0 no better than the best constant answer, below 0 worse; nan where the constant
    is always right. The interval is that of the mean of each answer's own share in it, the ratio
    being linearised (delta method), so that it knows how the two vary together; at most 1.
    """
    y, c = np.asarray(scores, dtype=np.float64), np.asarray(constants, dtype=np.float64)
    room = 1 - float(c.mean()) if len(c) else nan
    if not room > 0:
        return Interval(nan)
    value = 1 - (1 - float(y.mean())) / room
    off = difference_interval(spread((1 - value) * (1 - c) - (1 - y), contexts))
    return Interval(value, value + off.low / room, float(np.minimum(value + off.high / room, 1)))


def sign_flip_p(values: ArrayLike, contexts: Contexts) -> float:
    """Two-sided p of "the mean difference is 0", by flipping the signs of whole contexts.

    The sum's distribution over all 2^G flips, from its characteristic function (the product of
    the cosines of each context's sum): exact, without draws, however small p is. It lives on a
    grid: where the sums are no multiples of a small fraction they are rounded to ``1 / GRID`` of
    their sizes' total, and the test is exact for the rounded ones; of many contexts to ``1 / EACH``
    of their mean size, and what was seen stays as it is, lest the rounding add up.
    """
    sums = np.bincount(_places(contexts), weights=np.asarray(values, dtype=np.float64))
    total = float(np.abs(sums).sum())
    if total < 1e-12:
        return 1.0
    grid = max(GRID, EACH * len(sums))
    for scale in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 12.0, 60.0, grid / total):
        steps = np.rint(sums * scale)
        exact = total * scale <= 4 * grid and np.abs(steps - sums * scale).max() < 1e-9
        if exact:
            break
    observed = abs(int(steps.sum()))
    if grid > GRID and not exact:  # the nearest that flips can give
        odd = observed % 2
        observed = odd + 2 * round((abs(float(sums.sum())) * scale - odd) / 2)
    sizes, counts = np.unique(np.abs(steps[steps != 0]).astype(np.int64), return_counts=True)
    if observed <= 0:
        return 1.0
    period = 2 * int(sizes @ counts) + 1
    turns = np.arange(1, period // 2 + 1)
    table = np.cos(2 * np.pi / period * np.arange(period))
    waves = np.ones(len(turns))
    for size, count in zip(sizes, counts, strict=True):
        waves *= table[size * turns % period] ** count
    half = np.pi / period * turns
    inside = (
        2 * observed - 1 + 2 * float(waves @ (np.sin((2 * observed - 1) * half) / np.sin(half)))
    )
    return min(1.0, max(1 - inside / period, 2.0 ** (1 - int(counts.sum()))))


def mcnemar_p(wins: int, losses: int) -> float:
    """Exact two-sided McNemar: a binomial test of the discordant pairs."""
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


def paired(differences: ArrayLike, contexts: Contexts) -> Difference:
    """Test and interval of a paired difference, one value per shared sample.

    Where no context is shared and every difference is −1, 0 or 1: exact McNemar (there it equals
    the sign flip) and Bonett & Price's interval. Else the sign flip of whole contexts and
    :func:`difference_interval`.
    """
    d = np.asarray(differences, dtype=np.float64)
    s = spread(d, contexts)
    interval = difference_interval(s)
    if s.n == s.contexts and bool(np.isin(d, (-1.0, 0.0, 1.0)).all()):
        wins, losses = int((d > 0).sum()), int((d < 0).sum())
        test, p = MCNEMAR, mcnemar_p(wins, losses)
        if s.contexts >= MIN_CONTEXTS:
            interval = Interval(s.mean, *bonett_price(wins, losses, s.n))
    else:
        test, p = "sign-flip of contexts", sign_flip_p(d, contexts)
    index = _places(contexts)
    means = np.bincount(index, weights=d) / np.bincount(index)
    deviation = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    size = s.mean / deviation if deviation > 1e-12 else nan
    return Difference(interval, s, p, test, size)


def ratio(values: ArrayLike, base: ArrayLike, contexts: Contexts) -> Interval:
    """The mean of ``values`` over that of ``base``, with a t interval of its logarithm by context
    (linearised; wide where few contexts carry the cost). nan where a mean is not above 0."""
    x, y = np.asarray(values, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if not (len(x) and x.mean() > 0 and y.mean() > 0):
        return Interval(nan)
    value = float(x.mean() / y.mean())
    pulls = np.bincount(_places(contexts), weights=x / x.mean() - y / y.mean()).astype(np.float64)
    if (groups := len(pulls)) < MIN_CONTEXTS:
        return Interval(value)
    error = sqrt(groups / (groups - 1) * float(pulls @ pulls)) / len(x)
    half = min(700.0, t_quantile(0.95, _kurtosis_df(pulls)) * error)
    return Interval(value, value * exp(-half), value * exp(half))


def price_of_a_point(
    gains: ArrayLike, costs: ArrayLike, contexts: Contexts
) -> tuple[float, float, float]:
    """λ = mean extra cost / mean gain in score, with Fieller's 95 % limits by context: what one
    more right answer costs. The high limit is inf, and the low one may be −inf, where the gain is
    not surely above 0; all are nan without a gain."""
    d, c = np.asarray(gains, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    index, n = _places(contexts), len(d)
    groups = int(index.max()) + 1 if n else 0
    value = float(c.mean() / d.mean()) if n and d.mean() > 0 else nan
    if groups < MIN_CONTEXTS or isnan(value):
        return value, nan, nan
    pulls = np.stack([np.bincount(index, weights=v - v.mean()) for v in (c, d)])
    (cc, cd), (_, dd) = groups / (groups - 1) * (pulls @ pulls.T) / n**2
    q2 = t_quantile(0.95, groups - 1) ** 2
    square, middle = d.mean() ** 2 - q2 * dd, c.mean() * d.mean() - q2 * cd
    if square <= 0:
        return value, -inf, inf
    root = sqrt(max(0.0, middle**2 - square * (c.mean() ** 2 - q2 * cc)))
    return value, float((middle - root) / square), float((middle + root) / square)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[i])
        adjusted[int(i)] = min(1.0, worst)
    return adjusted


def smallest_resolvable(s: Spread, comparisons: int = 1, *, mcnemar: bool = False) -> float:
    """The true difference that would be found in 4 of 5 repetitions of this experiment.

    Two-sided at 5 %, divided by the number of ``comparisons`` (Holm's first and strictest step).
    ``inf`` when no result at all on this many contexts could be significant: a sign flip of G
    contexts has no p under 2^(1−G). ``mcnemar``: that is its test, which wants as many differences
    all to one side.
    """
    alpha = ALPHA / max(1, comparisons)
    least = ceil(1 - log2(alpha))
    if s.contexts < max(MIN_CONTEXTS, least):
        return inf
    factor = t_quantile(1 - alpha, s.df) + float(special.stdtrit(s.df, POWER))
    # A right/wrong difference δ varies by |δ|(1 − |δ|) at least, which few contexts may not show.
    floor = factor**2 / (factor**2 + s.n / s.alike)
    if mcnemar:  # of n pairs, each with this chance of such a difference
        floor = max(floor, float(special.betaincinv(least, s.n - least + 1, POWER)))
    difference = max(floor, factor * sqrt(s.variance))
    return difference if difference <= 1 else inf


def contexts_needed(
    s: Spread, difference: float, comparisons: int = 1, *, mcnemar: bool = False
) -> float:
    """About how many contexts, with as many questions each, would resolve ``difference``; nan where
    these contexts say nothing about the variance, or nothing differs."""
    if s.contexts < MIN_CONTEXTS or not difference:
        return nan
    share = s.df / (s.contexts - 1)

    def resolved(groups: int) -> bool:
        more = groups / s.contexts
        df = max(1.0, share * (groups - 1))
        planned = replace(s, variance=s.variance / more, df=df, n=ceil(s.n * more), contexts=groups)
        return smallest_resolvable(planned, comparisons, mcnemar=mcnemar) <= abs(difference)

    most = 10**9
    groups = bisect_left(range(most), True, lo=MIN_CONTEXTS, key=resolved)
    return float(groups) if groups < most else nan
