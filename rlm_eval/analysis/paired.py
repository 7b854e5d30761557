"""Two arms compared on the samples that both were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product

import pandas as pd

from rlm_eval.analysis import stats

#: What makes a group of rows comparable: the same question set at the same length.
CELL = ["task", "target_tokens"]
#: What two arms must also have in common to compete: who spends up to a cap competes with those
#: who do.
TERMS = ["model", "budget", "matched"]
#: What a comparison of costs is in: US dollars as the arm alone would pay them, or tokens.
UNITS = {"USD": "own_usd", "tokens": "own_tokens"}
Pair = tuple[str, str]
#: The pairs (arm, against) of a cell's rows that answer one question each: Holm is over one.
Families = Callable[[pd.DataFrame], Iterable[Sequence[Pair]]]


@dataclass(frozen=True)
class Comparison:
    """``arm`` minus ``against`` in points of score (0 to 1), on shared samples.

    Repeats of a sample are averaged first; pending rows take no part; an arm's own failures count
    0. ``target_tokens`` is 0 where all lengths are taken together, each with the same weight.
    ``low`` and ``high`` are the 95 % interval; ``p_holm`` is Holm's over the ``comparisons`` of
    the family, and so is ``smallest_resolvable``, but not where an RLM gains on one of several
    alternatives, which a verdict tells without it. ``contexts_needed`` would resolve a difference
    as large as the one seen. ``score`` and ``score_against`` are on the ``shared_samples``;
    ``arm_samples`` and ``against_samples`` are how many each has.

    ``cost_ratio`` is arm over against on the shared samples with its 95 % interval (and ``cost_p``
    that of equal costs, by the sign flip of contexts), in ``cost_unit``: USD where all calls of
    both have a price, and one above 0, as each would pay with no prompt cache but its own prefixes
    (:data:`UNITS`); else tokens, of reused ones a tenth. nan when one arm used none. ``cost`` and
    ``cost_against`` are the means per question. ``price`` is what one more right answer costs
    (extra cost over gain), with limits; nan without a gain.
    """

    task: str
    target_tokens: int
    arm: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    comparisons: int
    test: str
    effect_size: float
    score: float
    score_against: float
    shared_samples: int
    arm_samples: int
    against_samples: int
    contexts: int
    cost: float
    cost_against: float
    cost_ratio: float
    cost_low: float
    cost_high: float
    cost_p: float
    cost_unit: str
    price: float
    price_low: float
    price_high: float
    smallest_resolvable: float
    contexts_needed: float

    @property
    def wins(self) -> bool:
        """Whether the arm scores higher for certain: its p and its interval say so."""
        return self.p <= stats.ALPHA and self.low > 0

    @property
    def loses(self) -> bool:
        """Whether it scores lower for certain, with all its family in mind."""
        return self.p_holm <= stats.ALPHA and self.high < 0

    @property
    def dearer(self) -> bool:
        """Whether it costs more for certain: the sign flip and the ratio's interval say so; no
        interval is needed where the other costs nothing."""
        surely = self.cost_low > 1 or self.cost_against == 0
        return self.cost_p <= stats.ALPHA and surely and self.cost > self.cost_against

    @property
    def cheaper(self) -> bool:
        """Whether it costs less for certain; no interval is needed where it costs nothing."""
        surely = self.cost_high < 1 or self.cost == 0
        return self.cost_p <= stats.ALPHA and surely and self.cost < self.cost_against


def unit_of(rows: pd.DataFrame) -> str:
    """What counts as independent in ``rows``: context, or question (``analysis.unit``)."""
    alone = len(rows) > 0 and bool((rows["unit_id"] == rows["sample_id"]).all())
    return "question" if alone else "context"


def comparisons(
    rows: pd.DataFrame, families: Families, *, all_lengths: bool = False
) -> list[Comparison]:
    """The ``families``' pairs of each task and length of ``rows`` that share a sample; with
    ``all_lengths``, of each task those that share several lengths, these together: a sign flip of
    contexts within each length, each length weighing the same."""
    found = []
    for (task, *_), cell in rows.groupby(["task"] if all_lengths else CELL, sort=True):
        lengths = cell["target_tokens"].unique()
        if all_lengths and len(lengths) < 2:
            continue
        arms, samples = per_sample(cell)
        length = 0 if all_lengths else int(lengths[0])
        for family in families(cell):
            pairs = [
                (pair, shared)
                for pair in family
                if pair[0] in arms and pair[1] in arms
                and (shared := (arms[pair[0]]["points"] + arms[pair[1]]["points"]).notna()).any()
                and samples.loc[shared, "target_tokens"].nunique() > all_lengths
            ]  # fmt: skip
            # Where one arm is held against several, a verdict counts its wins without Holm.
            alone = len({one for (one, _), _ in pairs}) == 1
            compared = [
                _compared((str(task), length, *pair), arms, shared, samples, len(pairs), alone)
                for pair, shared in pairs
            ]
            adjusted = stats.holm([c.p for c in compared])
            found += [replace(c, p_holm=p) for c, p in zip(compared, adjusted, strict=True)]
    return found


def _compared(
    place: tuple[str, int, str, str],
    arms: Mapping[str, pd.DataFrame],
    shared: pd.Series[bool],
    samples: pd.DataFrame,
    family: int,
    alone: bool,
) -> Comparison:
    """Two arms compared on the ``shared`` samples, but for Holm's p over the ``family``. ``alone``:
    a gain of the first is told without that."""
    a, b, here = (frame[shared] for frame in (arms[place[2]], arms[place[3]], samples))
    contexts, lengths = here["unit_id"].to_numpy(), here["target_tokens"]
    sizes = lengths.map(lengths.value_counts()).to_numpy(float)
    weights = len(lengths) / (lengths.nunique() * sizes)  # each length the same in all
    found = stats.paired(weights * (a["points"] - b["points"]).to_numpy(), contexts)
    # Not where one is unknown (nan) or none is above 0.
    unit = "USD" if (a["own_usd"] + b["own_usd"]).sum(skipna=False) > 0 else "tokens"
    one, two = (weights * arm[UNITS[unit]].to_numpy() for arm in (a, b))
    points, against = (weights * arm["points"].to_numpy() for arm in (a, b))
    ratio, spread = stats.ratio(one, two, contexts), found.spread
    price, price_low, price_high = stats.price_of_a_point(points - against, one - two, contexts)
    mcnemar, gains = found.test == stats.MCNEMAR, alone and found.interval.mean > 0
    counted = 1 if gains else family
    return Comparison(
        *place,
        difference=found.interval.mean,
        low=found.interval.low,
        high=found.interval.high,
        p=found.p,
        p_holm=found.p,
        comparisons=family,
        test=found.test,
        effect_size=found.effect_size,
        score=float(points.mean()),
        score_against=float(against.mean()),
        shared_samples=int(shared.sum()),
        arm_samples=int(arms[place[2]]["points"].count()),
        against_samples=int(arms[place[3]]["points"].count()),
        contexts=spread.contexts,
        cost=float(one.mean()),
        cost_against=float(two.mean()),
        cost_ratio=ratio.mean,
        cost_low=ratio.low,
        cost_high=ratio.high,
        cost_p=stats.sign_flip_p(one - two, contexts),
        cost_unit=unit,
        price=price,
        price_low=price_low,
        price_high=price_high,
        smallest_resolvable=stats.smallest_resolvable(spread, counted, mcnemar=mcnemar),
        contexts_needed=stats.contexts_needed(
            spread, found.interval.mean, counted, mcnemar=mcnemar
        ),
    )


def per_sample(rows: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Each arm's points and costs sample by sample, nan where it has no answer that counts or the
    cost is not known, and for the same samples the length and the context (or what else counts as
    independent), as a number. ``rows`` are of one task."""
    asked = rows[rows["asked"]]
    samples = asked.drop_duplicates("sample_id").set_index("sample_id")
    samples = samples[["unit_id", "target_tokens"]]
    answers = asked.groupby(["arm", "sample_id"], sort=False)
    means = answers[["points", *UNITS.values()]].mean(skipna=False)
    arms = {
        str(arm): values.droplevel("arm").reindex(samples.index)
        for arm, values in means.groupby(level="arm", sort=False)
    }
    return arms, samples.assign(unit_id=pd.factorize(samples["unit_id"])[0])


def questions(cell: pd.DataFrame) -> Iterable[Sequence[Pair]]:
    """The questions that a task and length are asked, a family each: is this RLM better than the
    alternatives, which RLM is best, how do the alternatives compare? Each among arms on the same
    :data:`TERMS`; controls take no part."""
    for _, rows in on_terms(cell):
        yield from rlm_questions(rows)
        for kind in ("rlm", "alternative"):
            arms = rows.loc[rows["arm_kind"] == kind, "arm"].unique()
            yield [(b, a) for a, b in combinations(arms, 2)]


def rlm_questions(rows: pd.DataFrame) -> Iterable[Sequence[Pair]]:
    """The first of the :func:`questions` alone, of arms on the same terms."""
    rlms, others = (rows.loc[rows["arm_kind"] == k, "arm"].unique() for k in ("rlm", "alternative"))
    yield from ([*product([rlm], others)] for rlm in rlms)


def on_terms(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str, bool], pd.DataFrame]]:
    """The rows on each :data:`TERMS`: those of arms that can't be matched both where budgets are
    matched and where they are not."""
    for (model, budget), own in rows.groupby(TERMS[:2], sort=False, dropna=False):
        able = own["can_match"].astype(bool)
        kinds = own.loc[able, "matched"].unique() if able.any() else own["matched"].unique()[:1]
        for matched in kinds:
            on = ~able | (own["matched"] == matched)
            yield (str(model), str(budget), bool(matched)), own[on]


def paired_table(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each :class:`Comparison` that answers one of the :func:`questions`."""
    found = [
        asdict(c)
        for _, task in results.groupby("task", sort=False)
        for c in comparisons(task, questions)
    ]
    table, pair = pd.DataFrame(found), [*CELL, "arm", "against"]
    if table.empty:
        return table
    # Two arms that can't be matched are compared on each terms: the p of the larger family counts.
    return table.sort_values("p_holm").drop_duplicates(pair, keep="last").sort_index()
