"""Verdicts: the rules of rlm_eval.analysis.verdicts.Verdict, worked out by hand."""

from __future__ import annotations

import pytest

from helpers.fake_results import handmade
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.text import times
from rlm_eval.analysis.verdicts import Verdict, _probability, money, verdicts


def arm(method: str, right: str, questions: int = 1, **more: object) -> list[dict[str, object]]:
    """One row per letter (r right, w wrong, o pending), ``questions`` to a context."""
    return [
        {"method": method, "sample_id": f"s{i}", "context_id": f"c{i // questions}"}
        | ({"outcome": "provider_error"} if letter == "o" else {"correct": letter == "r"})
        | {"prompt_tokens": 100 if method != "rlm" else 300}
        | more
        for i, letter in enumerate(right)
    ]


def verdict_on(*arms: list[dict[str, object]], **more: float) -> Verdict:
    (verdict,) = verdicts(handmade([row for rows in arms for row in rows]), **more)
    return verdict


def test_better_needs_a_win_against_every_alternative() -> None:
    wrong, right = arm("direct", "w" * 12), arm("rlm", "r" * 11 + "w")
    verdict = verdict_on(wrong, right)
    assert verdict.decision == "better but dearer"
    assert verdict.main.difference == pytest.approx(11 / 12)
    assert verdict.main.p == pytest.approx(2 / 2**11)
    assert "3× its tokens" in verdict.text
    assert verdict_on(arm("rag", "r" * 11 + "w"), wrong, right).decision != "better but dearer"


def test_the_arm_that_made_the_verdict_is_the_one_it_names() -> None:
    """Cheap retrieval that is beaten, and a dear prompt that is matched."""
    rlm = arm("rlm", "r" * 45 + "w" * 15, prompt_tokens=12_000)
    rag = arm("rag", "r" * 37 + "w" * 23, prompt_tokens=2_000)
    direct = arm("direct", "r" * 25 + "w" * 20 + "r" * 11 + "w" * 4, prompt_tokens=60_000)
    verdict = verdict_on(rlm, rag, direct)
    assert (verdict.decision, verdict.main.against) == ("as good and cheaper", "direct")
    none = arm("no_rag", "w" * 60, prompt_tokens=60_000)
    verdict = verdict_on(rlm, rag, none)
    assert (verdict.decision, verdict.main.against) == ("better but dearer", "rag")


def test_a_p_beside_the_threshold_is_told_on_its_side() -> None:
    told = [_probability(p) for p in (0.050102, 0.05, 0.0499, 0.004)]
    assert told == ["0.0501", "0.05", "0.05", "0.004"]


def test_a_win_that_costs_no_more_is_better() -> None:
    verdict = verdict_on(arm("direct", "w" * 12), arm("rlm", "r" * 12, prompt_tokens=100))
    assert verdict.decision == "better"
    assert verdict.price is None


def test_a_dearer_win_says_what_a_right_answer_costs() -> None:
    cheap = arm("direct", "w" * 12, cost_usd=0.1)
    verdict = verdict_on(cheap, arm("rlm", "r" * 12, cost_usd=0.5))
    assert verdict.price is not None
    assert verdict.price.price == pytest.approx(0.4)
    assert "One more right answer than direct costs $0.40 ($0.40 to $0.40)." in verdict.text


def test_costs_are_what_the_arm_alone_would_pay_not_its_bill() -> None:
    direct = arm("direct", "w" * 12, cost_usd=0.5, own_usd=0.1)
    verdict = verdict_on(direct, arm("rlm", "r" * 12, cost_usd=0.5))
    assert verdict.decision == "better but dearer"
    assert (verdict.main.cost_against, verdict.main.cost) == pytest.approx((0.1, 0.5))


@pytest.mark.parametrize(("usd", "against"), [(0.01, "rag"), (None, "direct")])
def test_the_price_is_the_highest_of_those_in_one_unit(usd: float | None, against: str) -> None:
    rag = arm("rag", "w" * 12, cost_usd=usd)
    direct = arm("direct", "w" * 10 + "rr", cost_usd=0.4)
    verdict = verdict_on(rag, direct, arm("rlm", "r" * 12, cost_usd=0.5))
    assert verdict.decision == "better but dearer"
    assert verdict.main.against == "direct"  # it leaves the least
    assert verdict.price is not None
    assert verdict.price.against == against


def test_an_evident_loss_counts_however_good_another_alternative_looks() -> None:
    """The audit's case 2: it loses 25:0 against A; B has the better mean on 3 answers."""
    rlm = arm("rlm", "w" * 25 + "r" * 15)
    b = arm("b", "rrr" + "o" * 37)
    verdict = verdict_on(arm("a", "r" * 40), b, rlm)
    assert verdict.decision == "worse"
    assert verdict.main.against == "a"


def test_worse_but_cheaper() -> None:
    rlm = arm("rlm", "w" * 10, prompt_tokens=10)
    assert verdict_on(arm("direct", "r" * 10), rlm).decision == "worse but cheaper"


def test_p_alone_makes_nothing_better() -> None:
    """The audit's case 1: .50 against .51 on 8 contexts, seven small gains and one large loss."""
    rows = []
    for method, scores in (("direct", [0.4] * 7 + [1.0]), ("rlm", [0.5] * 7 + [0.0])):
        for row, score in zip(arm(method, "r" * 8), scores, strict=True):
            rows.append(row | {"score": score})
    assert verdict_on(rows).decision == "undecided"


@pytest.mark.parametrize(
    ("tokens", "decision"),
    [(1000, "as good but dearer"), (10, "as good and cheaper"), (100, "undecided")],
)
def test_equal_scores_are_decided_by_cost(tokens: int, decision: str) -> None:
    same = "rw" * 200
    rlm = arm("rlm", same, prompt_tokens=tokens)
    assert verdict_on(arm("direct", same), rlm).decision == decision


def test_as_good_depends_on_the_margin() -> None:
    direct, rlm = arm("direct", "r" * 30), arm("rlm", "r" * 30, prompt_tokens=1)
    assert verdict_on(direct, rlm).decision == "all right"
    assert verdict_on(direct, rlm, margin=0.2).decision == "as good and cheaper"
    assert verdict_on(arm("direct", "w" * 30), arm("rlm", "w" * 30)).decision == "none right"


def test_nothing_is_dearer_whose_interval_holds_one() -> None:
    direct = arm("direct", "w" * 12)
    rlm = arm("rlm", "r" * 12, prompt_tokens=100)
    rlm[0]["prompt_tokens"] = 40_000
    verdict = verdict_on(direct, rlm)
    assert verdict.main.cost_ratio > 30
    assert verdict.decision == "better"


@pytest.mark.parametrize("repeats", [1, 2])
def test_undecided_says_what_the_difference_seen_would_take(repeats: int) -> None:
    both = (("direct", "rrwwwwww"), ("rlm", "rrrrwwww"))
    verdict = verdict_on(*(arm(*one, repeat=i) for i in range(repeats) for one in both))
    assert verdict.decision == "undecided"
    assert "+25.0 points" in verdict.text
    assert "to show it takes about" in verdict.text
    took = float(f"{verdict.main.contexts_needed * repeats * (100 + 300):.2g}")
    assert f"some {money(took, 'tokens')} for both" in verdict.text
    assert verdict.main.contexts_needed > 8


def test_undecided_about_costs_alone_asks_for_no_more_answers() -> None:
    direct = arm("direct", "r" * 60 + "w" * 60)
    rlm = arm("rlm", "r" * 60 + "w" * 60, prompt_tokens=100)
    for i, row in enumerate(rlm):
        row["prompt_tokens"] = 90 if i % 2 else 110
    verdict = verdict_on(direct, rlm)
    assert verdict.decision == "undecided"
    assert "A loss of 5 points is ruled out. Which costs less is open." in verdict.text
    assert "to show it" not in verdict.text


def test_a_ratio_near_one_is_told_in_digits_that_say_on_which_side() -> None:
    assert [times(r) for r in (7.17, 1.04, 0.996, 1.0002, 1.0)] == [
        *("7.2", "1.04", "0.996", "1.0002", "1")
    ]


@pytest.mark.parametrize("contexts", [3, 5])
def test_few_contexts_never_tell(contexts: int) -> None:
    # 20 questions a context, all in favour: the contexts are what counts.
    rows = arm("direct", "w" * 20 * contexts, 20) + arm("rlm", "r" * 20 * contexts, 20)
    assert verdict_on(rows).decision == "undecided"


def test_controls_are_no_alternatives() -> None:
    rows = (
        arm("no_context", "r" * 8)
        + arm("rag_bm25", "rrwwwwww")
        + arm("direct", "rrrrrrww")
        + arm("rlm", "rrrrrrrr")
    )
    verdict = verdict_on(rows)
    assert [c.against for c in verdict.against_all] == ["rag_bm25", "direct"]
    assert verdict.main.against == "direct"
    assert verdict.main.comparisons == 2
    assert verdict.main.p_holm == pytest.approx(0.5)  # the worse p of the two, 2 of 4 flips
    assert "no_context scores 100 %, rlm 100 %." in verdict.notes


def test_a_control_that_asks_no_model_is_said_with_every_models_verdict() -> None:
    oracle = arm("code_oracle", "r" * 8, protocol="no model", model="")
    rows = arm("direct", "r" * 8) + arm("rlm", "r" * 8)
    other = [row | {"model": "large"} for row in rows]
    for verdict in verdicts(handmade(oracle + rows + other)):
        assert f"code_oracle scores 100 %, {verdict.main.arm} 100 %." in verdict.notes


def lengths_of(rows: list[dict[str, object]], *lengths: int) -> list[dict[str, object]]:
    return [
        r | {"target_tokens": n, "sample_id": f"{n}{r['sample_id']}"}
        | {"context_id": f"{n}{r['context_id']}"}
        for n in lengths
        for r in rows
    ]  # fmt: skip


def test_a_gain_at_every_length_shows_in_all_of_them_together() -> None:
    rows = lengths_of(arm("direct", "w" * 5) + arm("rlm", "r" * 4 + "w"), 1000, 2000, 3000)
    found = verdicts(handmade(rows))
    assert [v.main.target_tokens for v in found] == [1000, 2000, 3000, 0]
    assert [v.decision for v in found] == ["undecided"] * 3 + ["better but dearer"]
    assert found[-1].main.p == pytest.approx(2 / 2**12)
    assert "all lengths" in found[-1].text


def test_a_run_that_ended_within_its_second_length_has_verdicts_on_the_first() -> None:
    """Arm by arm: when it was stopped, only one alternative had answers there."""
    scored = {"score_official": 1.0}
    rows = arm("direct", "w" * 8, **scored) + arm("rlm", "r" * 8, **scored)
    here = lengths_of(rows + arm("rag", "w" * 8, **scored), 1000)
    found = verdicts(handmade(here + lengths_of(arm("rag", "w" * 3, **scored), 2000)))
    assert [v.main.target_tokens for v in found] == [1000]


def test_an_alternative_of_one_length_is_left_out_of_no_verdict_on_all() -> None:
    """direct, which was asked at one of two lengths, beats the arm there."""
    short = arm("direct", "r" * 12) + arm("rlm", "w" * 8 + "r" * 4) + arm("rag", "w" * 12)
    rows = lengths_of(short, 1000)
    rows += lengths_of(arm("rlm", "r" * 12) + arm("rag", "w" * 12), 2000)
    found = {v.main.target_tokens: v.decision for v in verdicts(handmade(rows))}
    assert found == {1000: "worse", 2000: "better but dearer"}


def test_what_is_pending_weighs_as_its_length_does() -> None:
    short = lengths_of(arm("direct", "w" * 40) + arm("rlm", "r" * 39 + "o"), 1000)
    long = lengths_of(arm("direct", "r" * 10) + arm("rlm", "w" * 10), 2000)
    *_, both = verdicts(handmade(short + long))
    assert both.notes == (
        "Pending: 1 of rlm; by how they end the difference would be −1.2 to +0.0.",
    )


def test_what_costs_something_is_dearer_than_what_costs_nothing() -> None:
    free = arm("direct", "w" * 12, cost_usd=0.0, prompt_tokens=0)
    verdict = verdict_on(free, arm("rlm", "r" * 12, cost_usd=0.5))
    assert verdict.decision == "better but dearer"


def test_lengths_weigh_the_same_however_many_their_questions() -> None:
    short = arm("direct", "w" * 40) + arm("rlm", "r" * 40) + arm("no_context", "r" * 40)
    long = arm("direct", "r" * 10) + arm("rlm", "w" * 10) + arm("no_context", "w" * 10)
    *_, both = verdicts(handmade(lengths_of(short, 1000) + lengths_of(long, 2000)))
    assert both.main.difference == pytest.approx(0)
    assert "no_context scores 50 %, rlm 50 %." in both.notes


def test_one_family_per_question_the_same_in_every_table() -> None:
    rows = arm("direct", "w" * 8) + arm("rag", "rwwwwwww")
    rows += arm("rlm", "r" * 8) + arm("rlm_d2", "rrrrrrrw") + arm("no_context", "w" * 8)
    frame = handmade(rows)
    table = paired_table(frame).set_index(["arm", "against"])
    assert table["comparisons"].to_dict() == {
        ("rlm", "direct"): 2, ("rlm", "rag"): 2, ("rlm_d2", "direct"): 2, ("rlm_d2", "rag"): 2,
        ("rlm_d2", "rlm"): 1, ("rag", "direct"): 1,
    }  # fmt: skip
    for verdict in verdicts(frame):
        for c in verdict.against_all:
            assert table.loc[(c.arm, c.against), "p_holm"] == c.p_holm


def test_what_bears_on_a_verdict_is_said_with_it() -> None:
    direct = arm("direct", "wwwwwwww", truncated_tokens=900, constant_score=0.9)
    rlm = arm("rlm", "rrrrrroo") + arm("code_oracle", "r" * 8)
    for row in direct[:3]:
        del row["correct"]
        row["outcome"] = "budget_exceeded"
    for row in rlm:
        row["constant_score"] = 0.9
    verdict = verdict_on(direct, rlm)
    assert verdict.notes == (
        "direct: 8 of 8 inputs cut to 10 %.",  # of 100 prompt tokens and 900 left out
        "direct: 3 of 8 ended without an answer, scored 0 (3 budget_exceeded).",
        "Pending: 2 of rlm; by how they end the difference would be +75.0 to +100.0.",
        "code_oracle scores 100 %, rlm 100 %.",
    )
    assert all(note in verdict.text for note in verdict.notes)


def test_a_control_counts_on_the_samples_that_it_and_the_rlm_answered() -> None:
    rlm = arm("rlm", "wwwwwrrroooo")
    easy = {f"s{i}" for i in range(8, 12)}
    rows = [row | {"constant_score": float(row["sample_id"] in easy)} for row in rlm]
    oracle = [row | {"correct": row["sample_id"] in easy} for row in arm("code_oracle", "w" * 12)]
    some = arm("no_context", "ooooorrroooo")
    verdict = verdict_on(arm("direct", "w" * 12), rows, oracle, some)
    assert not [note for note in verdict.notes if "constant" in note or "oracle" in note]
    assert "no_context scores 100 %, rlm 100 %." in verdict.notes


def test_how_much_of_a_cut_input_was_read_is_not_guessed_from_sub_calls() -> None:
    cut = arm("codeact_subcalls", "w" * 8, truncated_tokens=900, subcalls=3)
    verdict = verdict_on(arm("rlm", "r" * 8), cut)
    assert "codeact_subcalls: 8 of 8 inputs cut." in verdict.notes


def test_an_input_that_is_left_to_the_tools_is_not_said_to_be_shown_in_part() -> None:
    rows = arm("codeact", "w" * 8, truncated_tokens=900) + arm("rlm", "r" * 8)
    (verdict,) = verdicts(handmade(rows, {"method": {"codeact": {"overflow": "omit"}}}))
    told = "codeact: 8 of 8 inputs are too large to be shown: its code searches them."
    assert told in verdict.notes


def test_only_shared_samples_are_compared_and_that_is_said() -> None:
    rows = arm("direct", "wwwwwwwwoo") + arm("rlm", "oorrrrrrrr")
    (verdict,) = verdicts(handmade(rows))
    assert verdict.main.shared_samples == 6
    assert verdict.main.difference == 1
    assert "6 questions in 6 contexts, the only ones both have of 8 and 8" in verdict.text


def test_repeats_are_averaged_before_pairing() -> None:
    first, second = arm("rlm", "rrrrrr"), arm("rlm", "wwwwww", repeat=1)
    (verdict,) = verdicts(handmade(arm("direct", "wwwwww") + first + second))
    assert verdict.main.shared_samples == 6
    assert verdict.main.difference == pytest.approx(0.5)


def test_an_rlm_of_one_model_is_not_compared_with_direct_of_another() -> None:
    rows = arm("direct", "wwwwww", model="small") + arm("rlm", "rrrrrr", model="large")
    assert verdicts(handmade(rows)) == []


def test_scripted_models_are_named_in_the_verdict() -> None:
    rows = arm("direct", "wwwwww") + arm("rlm", "rrrrrr", scripted=True)
    (verdict,) = verdicts(handmade(rows))
    assert "(scripted)" in verdict.text


def test_kind_rlm_makes_any_engine_the_one_that_is_judged() -> None:
    rows = arm("direct", "w" * 8) + arm("swarm", "r" * 8)
    assert verdicts(handmade(rows)) == []
    (verdict,) = verdicts(handmade(rows, {"method": {"swarm": {"kind": "rlm"}}}))
    assert verdict.main.arm == "swarm"


def test_where_another_rule_would_say_otherwise_that_is_said() -> None:
    rows = arm("direct", "w" * 12, score_official=1.0) + arm("rlm", "r" * 12, score_official=1.0)
    verdict = verdict_on(rows)
    assert verdict.decision == "better but dearer"
    assert "By its other score, official, the difference is +0.0 (−19.8 to +19.8)." in verdict.notes
    same = arm("direct", "w" * 12, score_f1=0.0) + arm("rlm", "r" * 12, score_f1=1.0)
    assert verdict_on(same).notes == ()


def judged(rows: list[dict[str, object]], *split: int) -> list[dict[str, object]]:
    """The rows with three verdicts each, which differ on those at the places ``split``."""
    dissents = [int(i in split) for i in range(len(rows))]
    return [
        r | {"judge_verdicts": 3, "judge_dissents": d} for r, d in zip(rows, dissents, strict=True)
    ]


def test_what_a_judges_flips_could_do_to_the_difference_is_said_where_it_matters() -> None:
    """Two right answers of the RLM and one wrong one of direct are split, 3 of 40."""
    direct, rlm = arm("direct", "w" * 20), arm("rlm", "r" * 10 + "w" * 10)
    (note,) = verdict_on(judged(direct, 19), judged(rlm, 0, 1)).notes
    assert note == (
        "The judge's flip rate is 8 %: by how it decides on the 3 of 40 answers on which its"
        " verdicts differ, the difference would be +35.0 to +50.0."
    )
    assert verdict_on(direct, rlm).notes == ()
    assert verdict_on(judged(direct), judged(rlm)).notes == ()


def test_a_low_flip_rate_is_said_beside_a_small_difference_alone() -> None:
    right = "r" * 99 + "w"
    small = verdict_on(judged(arm("direct", right), 0), judged(arm("rlm", right), 99))
    (note,) = small.notes
    assert "flip rate is 1 %" in note
    assert note.endswith("the difference would be +0.0 to +2.0.")
    wide = verdict_on(judged(arm("direct", "w" * 100), 0), judged(arm("rlm", right), 99))
    assert wide.notes == ()


def test_flips_at_all_lengths_weigh_as_the_lengths_do() -> None:
    def rows(target: int, size: int) -> list[dict[str, object]]:
        names = [f"{target}-{i}" for i in range(size)]
        return [
            row | {"target_tokens": target, "sample_id": name, "context_id": name}
            for method, right in (("direct", "w" * size), ("rlm", "r" * size))
            for row, name in zip(judged(arm(method, right), 0), names, strict=True)
        ]

    every = verdicts(handmade(rows(1000, 10) + rows(2000, 40)))[-1]
    assert every.main.target_tokens == 0
    (note,) = [n for n in every.notes if "flip" in n] or [""]
    assert note == ""  # 4 of 100, beside a difference of 100 points
    every = verdicts(handmade(rows(1000, 10) + rows(2000, 20)))[-1]
    (note,) = [n for n in every.notes if "flip" in n]
    assert note.endswith("the difference would be +85.0 to +100.0.")


def test_questions_on_one_context_are_units_only_where_the_run_says_so() -> None:
    """Of one corpus no verdict holds for others; on it alone each question is a trial."""
    rows = [
        row | {"context_id": "the corpus"}
        for method, right in (("direct", "w" * 12), ("rlm", "r" * 12))
        for row in arm(method, right, prompt_tokens=100)
    ]
    (plain,), (alone,) = (
        verdicts(handmade(rows, {"analysis": {"unit": unit}})) for unit in ("context", "question")
    )
    assert (plain.decision, plain.main.contexts) == ("undecided", 1)
    assert (
        "Under 4 contexts there is no interval and no verdict; analysis.unit=question" in plain.text
    )
    assert (alone.decision, alone.main.contexts) == ("better", 12)
    assert alone.main.p == pytest.approx(2 / 2**12)
    assert "12 questions each for itself; p < 0.001" in alone.text
    assert "It is about these contexts alone" in alone.text


def test_what_it_would_take_is_told_in_the_runs_own_units() -> None:
    rows = [
        row | {"context_id": "the corpus"}
        for method, right in (("direct", "wwwwwrrr"), ("rlm", "rrwwwrrr"))
        for row in arm(method, right)
    ]
    (verdict,) = verdicts(handmade(rows, {"analysis": {"unit": "question"}}))
    assert verdict.decision == "undecided"
    assert verdict.main.contexts_needed > 8
    needed = f"{float(f'{verdict.main.contexts_needed:.2g}'):,.0f}"
    assert f"to show it takes about {needed} questions (some " in verdict.text
    few = [row for row in rows if row["sample_id"] in ("s0", "s1")]
    (verdict,) = verdicts(handmade(few, {"analysis": {"unit": "question"}}))
    assert "Under 4 questions there is no interval and no verdict." in verdict.text
