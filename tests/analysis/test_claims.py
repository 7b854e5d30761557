"""Published claims beside results: how they are found, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers.fake_results import handmade, write_run
from rlm_eval.analysis.load import load_run
from rlm_eval.analysis.report.claims import (
    Claim,
    Setting,
    claims_table,
    known_claims,
)
from rlm_eval.analysis.report.page import write_report
from rlm_eval.analysis.report.views import CLAIMS, _named
from rlm_eval.analysis.stats import NORMAL, wilson
from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree

CONFIG = {
    "method": {
        "direct": {"_target_": "rlm_eval.methods.direct.Direct"},
        "rlm": {"_target_": "rlm_eval.methods.rlm.Rlm", "max_depth": 1},
        "deep": {"_target_": "rlm_eval.methods.rlm.Rlm", "max_depth": 2},
    }
}
SETTING = Setting("codeqa", "longbench_v2", 0, r"gpt-5(-\d{4}.*)?", (0.62, 0.24), (50, 50), 12.0)
CLAIM = Claim(
    "a paper",
    "An RLM beats the model alone",
    {"_target_": "Rlm", "max_depth": 1},
    {"_target_": "Direct"},
    (SETTING,),
    no_more=False,
    command="python -m rlm_eval experiment=paper/gpt5",
)


def results(rlm: list[bool], direct: list[bool], **more: object) -> pd.DataFrame:
    """Answers of both arms to the same questions, each on a context of its own."""
    rows = [
        {"method": name, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": right, **more}
        for name, answers in (("rlm", rlm), ("direct", direct))
        for i, right in enumerate(answers)
    ]
    return handmade(rows, CONFIG)


def state(rlm: list[bool], direct: list[bool], claim: Claim = CLAIM, **more: object) -> str:
    (row,) = claims_table(results(rlm, direct, **more), [claim]).to_dict("records")[:1]
    return str(row["state"])


@pytest.mark.parametrize(("right", "n"), [(0, 20), (7, 20), (48, 80), (20, 20)])
def test_wilsons_interval_is_scipys(right: int, n: int) -> None:
    known = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n, NORMAL) == pytest.approx((known.low, known.high), abs=1e-6)


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """Statistics in Medicine 17:873, table II: 56 of 70 and 48 of 80, method 10."""
    setting = Setting("", "", 0, "", (56 / 70, 48 / 80), (70, 80), nan)
    assert setting.published == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_claim_is_held_against_what_was_measured() -> None:
    here = {"task": "longbench_v2", "model": "openai/gpt-5"}
    many = [i % 5 > 0 for i in range(40)]
    few = [i % 5 > 2 for i in range(40)]
    none = [False] * 40
    assert state(many, few, **here) == "compatible"
    assert state(few, many, **here) == "contradicted"
    assert state(many[:8], few[:8], **here) == "undecided"
    # Better, but surely by less than was published: only where sizes are comparable.
    a_little = [i % 7 == 0 for i in range(80)]
    assert state(a_little, [False] * 80, **here) == "contradicted"
    assert state(a_little, [False] * 80, task="needle", model="tiny") == "compatible"
    assert state(none, none, **here) == "contradicted", "no difference, and surely"


def test_only_the_very_setting_is_the_same() -> None:
    right, wrong = [True] * 8, [False] * 8

    def setting(**about: object) -> str:
        table = claims_table(results(right, wrong, **about), [CLAIM])
        return str(table["setting"].tolist()[0]) if len(table) else ""

    here = {"task": "longbench_v2", "model": "openai/gpt-5"}
    assert setting(**here) == "the same"
    assert setting(**here | {"model": "openai/gpt-5-2025-08-07"}) == "the same"
    assert setting(**here | {"model": "openai/gpt-5-mini"}) == "another"
    assert setting(**here | {"task": "oolong"}) == "another"
    assert claims_table(results(right, wrong, scripted=True, **here), [CLAIM])["arm"].isna().all()
    claim = replace(CLAIM, settings=(replace(SETTING, knobs={"dataset": "trec_coarse"}),))
    for dataset, is_it in (("trec_coarse", "the same"), ("spam", "another")):
        about = here | {"knobs": f'{{"dataset": "{dataset}", "n": 5}}'}
        assert claims_table(results(right, wrong, **about), [claim])["setting"].iloc[0] == is_it


@pytest.mark.parametrize(("group", "kind"), [("code", "code"), ("law", "")])
def test_a_claim_about_one_kind_of_question_leads_to_that_kind(group: str, kind: str) -> None:
    here = {"task": "longbench_v2", "model": "gpt-5", "question_group": "code"}
    claim = replace(CLAIM, settings=(replace(SETTING, group=group),))
    table = claims_table(results([True] * 8, [False] * 8, **here), [claim])
    assert table["question_group"].tolist()[0] == kind
    view = _named(replace(CLAIMS, frame=table[:1]), {}, {}, set())
    assert [place.get("group", "") for place in view.filters] == [kind]


def test_lengths_that_a_claim_takes_together_are_one() -> None:
    rows = [
        {"method": m, "sample_id": f"s{i}", "context_id": f"c{i}", "correct": m == "rlm"}
        | {"task": "longbench_v2", "model": "gpt-5", "target_tokens": 1000 * (1 + i % 3)}
        for i in range(12)
        for m in ("rlm", "direct")
    ]
    table = claims_table(handmade(rows, CONFIG), [CLAIM])
    assert table["contexts"].tolist() == [12]


def test_what_a_source_does_not_show_itself_is_no_claim_of_it() -> None:
    for claim in known_claims():
        if not claim.no_more:
            assert all(s.scores[0] > s.scores[1] for s in claim.settings), claim


def test_where_a_sources_own_figures_disagree_nothing_is_claimed() -> None:
    less = replace(SETTING, name="oolong", task="oolong", scores=(0.36, 0.44))
    claim = replace(CLAIM, excepted=(less,))
    few, many = [False] * 40, [True] * 40
    there = {"task": "oolong", "model": "gpt-5"}
    assert state(few, many, claim, **there) == "not measured"
    assert state(few, many, CLAIM, **there) == "contradicted", "by its direction, elsewhere"


def test_no_more_is_a_claim_of_its_own() -> None:
    claim = Claim("", "", CLAIM.arm, CLAIM.against, (), no_more=True, command="")
    many, few = [i % 5 > 0 for i in range(40)], [i % 5 > 2 for i in range(40)]
    assert state(few, many, claim) == "compatible"
    assert state(many, few, claim) == "contradicted"
    assert state(many[:6], few[:6], claim) == "undecided"


def test_what_was_measured_elsewhere_leaves_the_setting_open() -> None:
    table = claims_table(results([True] * 5, [False] * 5), [CLAIM])
    assert table["setting"].tolist()[0] == "another"
    assert table["state"].tolist()[1] == "not measured"
    assert table["usd"].tolist()[1] == 12.0
    assert table["command"].tolist()[1].endswith("experiment=paper/gpt5 task=codeqa")
    alone = claims_table(pd.DataFrame(), [CLAIM])
    assert alone["state"].tolist() == ["not measured"]


def test_an_arm_is_known_by_all_of_its_settings() -> None:
    deeper = Claim("", "", {"_target_": "Rlm", "max_depth": 3}, CLAIM.against, (), True, "")
    table = claims_table(results([True] * 5, [False] * 5), [deeper])
    assert table["state"].tolist() == ["not measured"]


def test_every_published_claim_can_be_measured() -> None:
    """Its command composes, and gives both of its arms in the claim's setting."""
    claims = known_claims()
    assert len(claims) > 10
    for claim in claims:
        for setting in claim.settings or (None,):
            words = claim.command.split()[3:]
            words += [f"task={setting.task}", *setting.words.split()] if setting else []
            tree = check_config(compose_tree(words)).tree
            for settings in (claim.arm, claim.against):
                assert any(fits(arm, settings) for arm in tree["method"].values()), (claim, words)
            if setting:
                assert all(0 <= score <= 1 for score in setting.scores)
                lengths = tree["task"]["lengths"]
                assert not setting.target_tokens or setting.target_tokens in lengths


def fits(arm: dict[str, object], settings: dict[str, object]) -> bool:
    def value(key: str) -> object:
        node: object = arm
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return str(node).rpartition(".")[2] if key == "_target_" else node

    return all(value(key) == wanted for key, wanted in settings.items())


def test_the_command_says_what_is_open_and_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["claims", "--csv", str(tmp_path / "claims.csv")]) == 0
    out = capsys.readouterr().out
    assert "claims of arXiv 2512.24601 v3; up to $" in out
    assert "python -m rlm_eval experiment=paper/gpt5 task=codeqa" in out
    table = pd.read_csv(tmp_path / "claims.csv")
    assert set(table["state"]) == {"not measured"}
    assert isnan(table["difference"].iloc[0])
    write_run(tmp_path / "run", {"demonstration": True}, contexts=4, questions=1)
    assert run_command(["claims", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("A demonstration, not evidence.\n")


def test_the_report_has_the_table(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", CONFIG, contexts=4, questions=1))
    page = write_report([run], lambda run_dir, wanted: iter(()), tmp_path / "page")
    main = (page.parent / "report_data" / "main.js").read_text()
    assert "What others have published" in main
    assert "An RLM beats the model alone" in main
