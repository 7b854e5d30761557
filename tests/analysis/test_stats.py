"""rlm_eval.analysis.stats against hand-worked values, scipy and simulation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import ceil, inf, isnan, log2, nan, sqrt

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlm_eval.analysis import stats


def test_proportion_with_one_question_a_context_is_wilson_with_a_t_quantile() -> None:
    # 15 of 20 independent answers: p(1-p)/(n-1) has the effective n = 19.
    found = stats.proportion([1] * 15 + [0] * 5, list(range(20)))
    n, p, q = 19, 0.75, scipy_stats.t.ppf(0.975, 19)
    centre = (p + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q / (1 + q**2 / n) * sqrt(p * (1 - p) / n + q**2 / (4 * n**2))
    assert found.n_effective == pytest.approx(19)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_proportion_counts_contexts_when_answers_in_one_are_all_alike() -> None:
    alike = stats.proportion([1] * 50 + [0] * 50, [i // 10 for i in range(100)])
    mixed = stats.proportion([1, 0] * 50, [i // 10 for i in range(100)])
    assert alike.n_effective == pytest.approx(9)  # G − 1 of 10 contexts
    # Within-context variation only: independent answers, less the guard's (2/G)² = 4 % pull.
    assert mixed.n_effective == pytest.approx(1 / (0.96 / 99 + 0.04 / 10))
    assert alike.high - alike.low > 2 * (mixed.high - mixed.low)


def test_jackknife_variance_with_unequal_contexts() -> None:
    values, contexts = [1, 1, 0, 1, 0, 0, 1], ["a", "a", "a", "b", "b", "c", "d"]
    left_out = [
        np.mean([v for v, c in zip(values, contexts, strict=True) if c != gone]) for gone in "abcd"
    ]
    jackknife = 3 / 4 * sum((m - np.mean(values)) ** 2 for m in left_out)
    independent = np.var(values) / 6
    per_context = np.var(values) / 4
    base = max(jackknife, independent)
    expected = 0.75 * base + 0.25 * max(base, per_context)  # weight (2/4)²
    assert stats.spread(values, contexts).variance == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_variation_is_not_taken_for_certainty(value: float) -> None:
    found = stats.proportion([value] * 40, [i // 5 for i in range(40)])
    assert found.n_effective == 8
    assert found.high - found.low > 0.3


@pytest.mark.parametrize("each", [1, 5])
@pytest.mark.parametrize("groups", [4, 8, 30])
def test_scores_near_an_end_have_nearly_the_interval_of_scores_at_it(
    groups: int, each: int
) -> None:
    contexts = [i // each for i in range(groups * each)]
    at = stats.proportion([0.0] * len(contexts), contexts)
    near = stats.proportion(np.resize([0.0003, 0.0009, 0.0], len(contexts)), contexts)
    assert (near.low, near.high) == pytest.approx((at.low, at.high), abs=0.002)
    mirrored = stats.proportion(1 - np.resize([0.0003, 0.0009, 0.0], len(contexts)), contexts)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - near.high, 1 - near.low))


def test_equal_scores_in_the_middle_leave_room_for_an_outcome_not_yet_seen() -> None:
    found = stats.proportion([0.75] * 8, list(range(8)))
    rate = 2 / 12  # Agresti & Coull's centre for 0 of 8
    assert found.n_effective == pytest.approx(0.75 * 0.25 / (rate * (1 - rate) / 8))


def test_nothing_is_added_to_right_and_wrong_answers() -> None:
    values, contexts = [1.0] + [0.0] * 29, list(range(30))
    assert stats.proportion(values, contexts).n_effective == pytest.approx(29)


@pytest.mark.parametrize("groups", [4, 8, 30])
def test_a_difference_of_nearly_nothing_is_no_surer_than_one_of_nothing(groups: int) -> None:
    contexts = list(range(groups))
    at = stats.difference_interval(stats.spread([0.0] * groups, contexts))
    near = stats.difference_interval(
        stats.spread(np.resize([0.0006, 0.0, -0.0006, 0.0], groups), contexts)
    )
    assert (near.low, near.high) == pytest.approx((at.low, at.high), abs=0.02)
    least = 1 - 0.07 ** (1 / groups)  # more often than this, a difference of 1 would have shown
    assert at.high > least


def test_rare_large_losses_move_the_low_limit_and_not_the_high_one() -> None:
    values = [0.1] * 45 + [-0.9] * 2
    s = stats.spread(values, list(range(47)))
    found = stats.difference_interval(s)
    half = stats.t_quantile(0.95, s.df) * sqrt(s.variance)
    assert s.skewness < 0
    assert found.low < 0 < found.mean - half + 0.02
    assert found.high == pytest.approx(found.mean + half)


def test_bonett_price_by_hand() -> None:
    # 12 wins, 4 losses of 40: (13 − 5)/42 ± 1.96 √((18/42 − (8/42)²)/42)
    half = 1.959964 * sqrt((18 / 42 - (8 / 42) ** 2) / 42)
    found = stats.paired([1.0] * 12 + [-1.0] * 4 + [0.0] * 24, list(range(40))).interval
    assert (found.low, found.high) == pytest.approx((8 / 42 - half, 8 / 42 + half), abs=1e-6)
    assert found.mean == 0.2


def test_a_cost_ratio_knows_how_much_one_sample_weighs() -> None:
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 0.3, 40)
    found = stats.ratio(2 * base, base, list(range(40)))
    assert (found.low, found.mean, found.high) == pytest.approx((2, 2, 2))
    outlier = base.copy()
    outlier[0] *= 400
    found = stats.ratio(outlier, base, list(range(40)))
    assert found.low < 1 < found.mean
    assert isnan(stats.ratio(base, 0 * base, list(range(40))).mean)


def test_the_price_of_a_right_answer_is_unbounded_where_the_gain_may_be_nothing() -> None:
    contexts, costs = list(range(20)), [2.0, 4.0] * 10
    price, low, high = stats.price_of_a_point([0.5, 0.7] * 10, costs, contexts)
    assert price == pytest.approx(5)
    assert low < 5 < high < 6
    price, low, high = stats.price_of_a_point([1.0, -0.9] * 10, costs, contexts)
    assert (price, high) == (pytest.approx(60), inf)
    assert isnan(stats.price_of_a_point([-0.1] * 20, costs, contexts)[0])


def test_degrees_of_freedom_are_pooled_over_what_was_seen_and_what_was_not() -> None:
    values, contexts = [1.0] * 5 + [0.0] * 75, [i // 5 for i in range(80)]
    rate = 2 / 20
    added = (rate * (1 - rate) - np.var(values)) / 16
    s = stats.spread(values, contexts)
    seen = s.variance - added
    pull = np.bincount(contexts, values) - 5 * np.mean(values)
    kurtosis = 3 * np.sum(pull**2) ** 2 / np.sum(pull**4) - 1
    pooled = s.variance**2 / (seen**2 / kurtosis + added**2 / 15)
    assert s.df == pytest.approx(pooled)
    assert kurtosis < s.df < 15


def test_under_four_contexts_there_is_no_interval() -> None:
    found = stats.proportion([1, 0, 1] * 10, ["a", "b", "c"] * 10)
    assert found.mean == pytest.approx(2 / 3)
    assert isnan(found.low)
    assert isnan(found.high)
    assert isnan(stats.difference_interval(stats.spread([1, 0, -1], "abc")).low)
    assert isnan(stats.skill([1, 0, 1], [0.5, 0.5, 0.5], "abc").high)


def test_without_a_score_there_is_no_interval() -> None:
    found = stats.proportion([nan] * 8, [*range(8)])
    assert isnan(found.low)
    assert isnan(found.high)


def test_skill_is_the_gain_over_the_constant_as_a_share_of_what_is_left() -> None:
    found = stats.skill([1, 1, 1, 0] * 5, [1, 0, 0, 1] * 5, list(range(20)))
    assert found.mean == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert found.low < found.mean < found.high <= 1
    assert isnan(stats.skill([1, 0], [1, 1], ["a", "b"]).mean)


@pytest.mark.parametrize("groups", [5, 9])
def test_sign_flip_equals_full_enumeration(groups: int) -> None:
    rng = np.random.default_rng(groups)
    contexts = rng.integers(0, groups, 40)
    values = rng.choice([-1.0, 0.0, 0.25, 1.0], 40)
    sums = [values[contexts == g].sum() for g in range(groups)]
    observed = abs(sum(sums))
    flips = [
        abs(float(np.dot(s, sums))) >= observed - 1e-9
        for s in itertools.product((-1, 1), repeat=groups)
    ]
    assert stats.sign_flip_p(values, contexts.tolist()) == pytest.approx(np.mean(flips))


def test_sign_flip_agrees_with_scipy_on_many_contexts() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.25, 1, 50)
    found = stats.sign_flip_p(values, list(range(50)))
    reference = scipy_stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=100_000, rng=1
    )
    assert found == pytest.approx(reference.pvalue, abs=0.005)


@pytest.mark.parametrize(
    ("counts", "sizes"), [((480, 120), (0.05, -0.2)), ((160, 40), (0.07, -0.28))]
)
def test_sign_flip_of_many_contexts_tests_their_mean(
    counts: Sequence[int], sizes: Sequence[float]
) -> None:
    """Sums that no small grid holds, and a mean of exactly 0: rounded, they would not be it."""
    values = np.repeat(sizes, counts)
    assert stats.sign_flip_p(values, list(range(len(values)))) == 1.0


def test_sign_flip_of_many_uneven_contexts_is_that_of_a_simulation() -> None:
    draws = np.random.default_rng(0)
    values = np.concatenate([draws.choice([-1, 0, 1], 400) * 0.61, draws.choice([-1, 1], 90) * 2.7])
    values += 0.1
    flips = draws.choice([-1.0, 1.0], (20_000, len(values))) @ values
    expected = np.mean(np.abs(flips) >= abs(values.sum()) - 1e-9)
    found = stats.sign_flip_p(values, list(range(len(values))))
    assert found == pytest.approx(expected, abs=0.012)


def test_sign_flip_is_exact_however_small_p_is() -> None:
    assert stats.sign_flip_p([1.0] * 40, list(range(40))) == pytest.approx(2.0**-39, rel=1e-3)
    values = [1.0] * 35 + [-1.0] * 5
    reference = scipy_stats.binomtest(5, 40).pvalue
    assert stats.sign_flip_p(values, list(range(40))) == pytest.approx(reference)
    graded = [v * 0.3 for v in values]  # 0.3 is no multiple of a small fraction in binary
    assert stats.sign_flip_p(graded, list(range(40))) == pytest.approx(reference)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (6, 0), (1, 9), (5, 5), (12, 4)])
def test_mcnemar_is_a_binomial_test_and_the_sign_flip_of_single_questions(
    wins: int, losses: int
) -> None:
    found = stats.mcnemar_p(wins, losses)
    if wins + losses:
        assert found == pytest.approx(scipy_stats.binomtest(wins, wins + losses).pvalue)
    differences = [1.0] * wins + [-1.0] * losses + [0.0] * 7
    flipped = stats.sign_flip_p(differences, list(range(len(differences))))
    assert found == pytest.approx(flipped)


def test_the_test_is_chosen_by_whether_contexts_are_shared() -> None:
    differences = [1.0, 1.0, 0.0, -1.0, 1.0, 0.0]
    assert stats.paired(differences, list(range(6))).test == "McNemar, exact"
    assert stats.paired(differences, [0, 0, 1, 2, 3, 4]).test == "sign-flip of contexts"
    assert stats.paired([0.3, *differences[1:]], list(range(6))).test == "sign-flip of contexts"


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 → ×4, ×3, ×2, ×1, never falling.
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([]) == []
    assert stats.holm([0.7, 0.9]) == [1.0, 1.0]


def test_smallest_resolvable_difference_matches_the_power_of_a_t_test() -> None:
    # 30 contexts of one graded question; power of a one-sample t test at that effect is 80 %.
    rng = np.random.default_rng(0)
    s = stats.spread(rng.normal(0, 0.5, 30), list(range(30)))
    found = stats.smallest_resolvable(s)
    shift = found / sqrt(s.variance)
    power = 1 - scipy_stats.nct.cdf(scipy_stats.t.ppf(0.975, s.df), s.df, shift)
    assert power == pytest.approx(0.8, abs=0.01)
    assert stats.smallest_resolvable(s, comparisons=6) > found


def test_five_contexts_can_resolve_nothing_and_six_can() -> None:
    values = [0.1, 0.2, 0.1, 0.2, 0.15, 0.12]
    assert stats.smallest_resolvable(stats.spread(values[:5], list(range(5)))) == inf
    assert stats.smallest_resolvable(stats.spread(values, list(range(6)))) < 1
    assert stats.sign_flip_p([1.0] * 5, list(range(5))) == pytest.approx(2 / 32)
    assert stats.sign_flip_p([1.0] * 6, list(range(6))) == pytest.approx(2 / 64)


@pytest.mark.parametrize(
    ("n", "comparisons", "seen"), [(7, 1, 5 / 7), (12, 3, 0.75), (8, 9, 0.875)]
)
def test_an_exact_test_wants_enough_differences_to_one_side(
    n: int, comparisons: int, seen: float
) -> None:
    values = np.array([1.0] * round(seen * n) + [0.0] * (n - round(seen * n)))
    s = stats.spread(values, list(range(n)))
    least = ceil(1 - log2(0.05 / comparisons))
    found = stats.smallest_resolvable(s, comparisons, mcnemar=True)
    assert found == inf if n < least else scipy_stats.binom.sf(least - 1, n, found) >= 0.799
    needed = int(stats.contexts_needed(s, seen, comparisons, mcnemar=True))
    assert scipy_stats.binom.sf(least - 1, needed, seen) >= 0.8
    assert needed > n - 2


def test_contexts_needed_is_the_least_number_that_resolves_five_points() -> None:
    rng = np.random.default_rng(1)
    s = stats.spread(rng.normal(0, 0.9, 20), list(range(20)))
    needed = int(stats.contexts_needed(s, 0.05))
    share = s.df / 19

    def at(groups: int) -> float:
        variance, df = s.variance * 20 / groups, share * (groups - 1)
        return stats.smallest_resolvable(stats.Spread(0, variance, df, groups, groups))

    assert at(needed) <= 0.05 < at(needed - 1)
    assert isnan(stats.contexts_needed(stats.Spread(0, nan, nan, 3, 3), 0.05))
    assert isnan(stats.contexts_needed(s, 0.0))


def test_identical_arms_do_not_promise_that_a_small_difference_would_show() -> None:
    """Right/wrong answers that differ by δ in the mean vary by δ(1 − δ) at least: 5 points need
    some 150 answers, whatever the ones seen so far say."""
    same = stats.spread([0.0] * 40, list(range(40)))
    assert stats.smallest_resolvable(same) > 0.15
    assert 140 < stats.contexts_needed(same, 0.05) < 400


@pytest.mark.parametrize("chance", [0.5, 0.9])
@pytest.mark.parametrize("groups", [4, 16])
def test_coverage_with_answers_alike_within_contexts(groups: int, chance: float) -> None:
    """A small version of tests/benchmarks/coverage.py: 5 questions a context, ICC 0.3."""
    rng = np.random.default_rng([groups, int(10 * chance)])
    contexts = np.repeat(np.arange(groups), 5)
    size = 0.7 / 0.3
    covered = []
    for _ in range(600):
        own = rng.beta(chance * size, (1 - chance) * size, groups)
        right = rng.random(len(contexts)) < own[contexts]
        found = stats.proportion(right.astype(float), contexts.tolist())
        covered.append(found.low <= chance <= found.high)
    assert np.mean(covered) >= 0.93
