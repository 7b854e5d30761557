"""Verdicts: the rules of rlm_eval.analysis.verdicts.Verdict, worked out by hand."""

from __future__ import annotations

import pytest

from helpers.fake_results import handmade
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.verdicts import resolution, verdicts


def arm(method: str, right: str, questions: int = 1, **more: object) -> list[dict[str, object]]:
    """One row per letter (r right, w wrong, o pending), ``questions`` to a context."""
    return [
        {"method": method, "sample_id": f"s{i}", "context_id": f"c{i // questions}"}
        | ({"outcome": "provider_error"} if letter == "o" else {"correct": letter == "r"})
        | {"prompt_tokens": 100 if method != "rlm" else 300}
        | more
        for i, letter in enumerate(right)
    ]


def test_worth_it_needs_a_significant_gain() -> None:
    (verdict,) = verdicts(handmade(arm("direct", "w" * 12) + arm("rlm", "r" * 10 + "ww")))
    assert verdict.decision == "worth it"
    assert verdict.difference == pytest.approx(10 / 12)
    assert verdict.p == pytest.approx(2 / 2**10)
    assert verdict.cost_ratio == pytest.approx(3)
    assert "rlm is worth it" in verdict.text
    assert "3× the tokens" in verdict.text


def test_not_worth_it_when_significantly_worse() -> None:
    (verdict,) = verdicts(handmade(arm("direct", "r" * 10) + arm("rlm", "w" * 10)))
    assert verdict.decision == "not worth it"


@pytest.mark.parametrize(
    ("tokens", "decision"), [(300, "not worth it"), (50, "can't tell at this n")]
)
def test_no_gain_of_five_points_is_not_worth_more_cost(tokens: int, decision: str) -> None:
    same = "rw" * 100
    rows = arm("direct", same) + arm("rlm", same, prompt_tokens=tokens)
    (verdict,) = verdicts(handmade(rows))
    assert verdict.p == 1
    assert verdict.decision == decision


@pytest.mark.parametrize(("tokens", "decision"), [(2000, "not worth it"), (50, "worth it")])
def test_a_certain_gain_of_less_than_five_points_is_not_worth_more_cost(
    tokens: int, decision: str
) -> None:
    rows = arm("direct", "w" * 10 + "r" * 990) + arm("rlm", "r" * 1000, prompt_tokens=tokens)
    (verdict,) = verdicts(handmade(rows))
    assert verdict.p_holm < 0.05
    assert 0 < verdict.low < verdict.high < 0.05
    assert verdict.decision == decision
    assert ("better, by less than 5 points" in verdict.text) == (decision == "not worth it")


def test_one_point_is_no_points() -> None:
    assert "resolve is 1 point;" in resolution(900, 0.011, 60, 1)
    assert "resolve is 2 points;" in resolution(900, 0.019, 60, 1)


def test_equal_scores_on_few_contexts_rule_nothing_out() -> None:
    (verdict,) = verdicts(handmade(arm("direct", "r" * 16) + arm("rlm", "r" * 16)))
    assert verdict.decision == "can't tell at this n"
    assert verdict.smallest_resolvable > 0.05


@pytest.mark.parametrize("contexts", [3, 5])
def test_few_contexts_never_tell(contexts: int) -> None:
    # 20 questions a context, all in favour: the contexts are what counts.
    rows = arm("direct", "w" * 20 * contexts, 20) + arm("rlm", "r" * 20 * contexts, 20)
    (verdict,) = verdicts(handmade(rows))
    assert verdict.decision == "can't tell at this n"
    assert "worth it" not in verdict.text


def test_the_best_alternative_is_compared_and_controls_and_routers_are_not() -> None:
    rows = (
        arm("no_context", "r" * 8)
        + arm("router", "r" * 8)
        + arm("rag_bm25", "rrwwwwww")
        + arm("direct", "rrrrrrww")
        + arm("rlm", "rrrrrrrr")
    )
    (verdict,) = verdicts(handmade(rows))
    assert verdict.against == "direct"
    assert verdict.comparisons == 2  # direct and rag_bm25
    assert verdict.p_holm == pytest.approx(0.5)  # the worse p of the two, 2 of 4 flips


def test_holm_covers_every_alternative_and_length() -> None:
    rows = []
    for length in (1000, 2000):
        for method, right in (("direct", "w"), ("rag_bm25", "w"), ("rlm", "r")):
            rows += [
                r | {"target_tokens": length, "sample_id": f"{length}{r['sample_id']}"}
                for r in arm(method, right * 7)
            ]
    found = verdicts(handmade(rows))
    assert [v.target_tokens for v in found] == [1000, 2000]
    assert {v.comparisons for v in found} == {4}
    assert found[0].p == pytest.approx(2 / 2**7)
    assert found[0].p_holm == pytest.approx(4 * 2 / 2**7)
    assert found[0].decision == "can't tell at this n"  # 0.0625


def test_only_shared_samples_are_compared_and_that_is_said() -> None:
    rows = arm("direct", "wwwwwwwwoo") + arm("rlm", "oorrrrrrrr")
    (verdict,) = verdicts(handmade(rows))
    assert verdict.shared_samples == 6
    assert verdict.difference == 1
    assert "6 questions in 6 contexts, the only ones both have of 8 and 8" in verdict.text


def test_repeats_are_averaged_before_pairing() -> None:
    first, second = arm("rlm", "rrrrrr"), arm("rlm", "wwwwww", repeat=1)
    (verdict,) = verdicts(handmade(arm("direct", "wwwwww") + first + second))
    assert verdict.shared_samples == 6
    assert verdict.difference == pytest.approx(0.5)


def test_an_rlm_of_one_model_is_not_compared_with_direct_of_another() -> None:
    rows = arm("direct", "wwwwww", model="small") + arm("rlm", "rrrrrr", model="large")
    assert verdicts(handmade(rows)) == []


def test_matched_budgets_are_not_compared_with_plain_caps() -> None:
    rows = arm("direct", "wwwwww") + arm("rlm", "rrrrrr", sample_id="other")
    frame = handmade(rows)
    frame["matched"] = frame["method"] == "rlm"
    assert verdicts(frame) == []


def test_scripted_models_are_named_in_the_verdict() -> None:
    rows = arm("direct", "wwwwww") + arm("rlm", "rrrrrr", scripted=True)
    (verdict,) = verdicts(handmade(rows))
    assert "(scripted)" in verdict.text


def test_paired_table_holds_every_pair_once() -> None:
    table = paired_table(handmade(arm("direct", "wwww") + arm("rag", "wwrr") + arm("rlm", "rrrr")))
    pairs = list(zip(table["arm"], table["against"], table["difference"], strict=True))
    assert pairs == [("rag", "direct", 0.5), ("rlm", "direct", 1.0), ("rlm", "rag", 0.5)]
    assert (table["comparisons"] == 3).all()
