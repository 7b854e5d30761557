"""The static report: its files, and the page in a headless Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.browsing import browser, column, go, report_page
from helpers.commands import report as main
from helpers.fake_results import write_run
from rlm_eval.analysis.report.page import ASSETS

__all__ = ["browser"]  # a fixture
pytestmark = pytest.mark.slow
CONFIG = {"demonstration": True, "method": {"rlm": {"max_depth": 1}}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    shape = {"contexts": 6, "questions": 4, "lengths": (2048,)}
    write_run(folder, CONFIG, failures=0.2, pending=0.05, scripted=True, **shape)
    assert main([str(folder)]) == 0
    return folder


def data_of(path: Path) -> Any:
    """What a data script hands to the page."""
    text = path.read_text("ascii")
    return json.loads(text[text.index(",") + 1 : text.rindex(")")])


def test_every_answer_is_listed_and_its_tree_is_in_the_named_bundle(run: Path) -> None:
    data = run / "report_data"
    rows = data_of(data / "samples.js")["rows"]
    assert len(rows["data"]) == 6 * 4 * 4
    for row in rows["data"][::17]:
        record = dict(zip(rows["columns"], row, strict=True))
        bundle = data_of(data / "t" / f"{record['bundle']}.js")
        assert bundle[record["result_key"]][0]["title"] == "Turn 1"


def test_no_markup_of_a_model_stands_in_a_file(run: Path) -> None:
    for script in (run / "report_data").glob("**/*.js"):
        if script.name not in ASSETS:
            assert "<" not in script.read_text("ascii")


def test_the_page_asks_for_nothing_from_a_network(run: Path) -> None:
    for name in ("report.html", *(f"report_data/{asset}" for asset in ASSETS)):
        text = (run / name).read_text("utf-8")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_tables_are_files_too_and_label_scripted_rows(run: Path) -> None:
    for view in ("summary", "paired", "costs", "quantiles", "tokens", "outcomes"):
        for suffix in ("csv", "md", "tex"):
            assert "(scripted)" in (run / "report_data/tables" / f"{view}.{suffix}").read_text()


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two RLM arms, a control, evidence, and a judge that has its price."""
    methods = ("direct", "rag_bm25", "rlm", "rlm_d0", "no_context")
    skills = {"rlm_d0": 0.3, "no_context": 0.1}
    shape = {"contexts": 4, "questions": 2, "lengths": (1000,), "skills": skills}
    folder = tmp_path_factory.mktemp("runs") / "ladder"
    config = {"budget": {"sample": {"tokens": 20_000}}}
    write_run(folder, config, methods=methods, pending=0.0, priced=True, **shape)
    table = pd.read_parquet(folder / "results.parquet")
    table["judge_cost_usd"] = 0.25
    table["judge_verdicts"], table["judge_dissents"] = 3, (table["method"] == "rlm").astype(int)
    table["evidence_recall"] = table["method"].map({"rag_bm25": 0.5})
    table.to_parquet(folder / "results.parquet")
    assert main([str(folder)]) == 0
    return folder


def test_evidence_budget_and_judge_are_in_tables(ladder: Path) -> None:
    shown = {t["id"]: t for t in data_of(ladder / "report_data/main.js")["tables"]}
    labels = {id: [label for label, *_ in t["columns"]] for id, t in shown.items()}
    judged = {row[labels["costs"].index("judge USD/question")] for row in shown["costs"]["rows"]}
    assert judged == {0.25}
    flips = [row[labels["summary"].index("judge flips %")] for row in shown["summary"]["rows"]]
    assert sorted(filter(None, flips)) == [1.0]
    flipping = "The judge's flip rate on aggregation: 18.9 % (3 verdicts on each of 37 answers)."
    assert shown["summary"]["note"].endswith(flipping)  # 7 of the 37 are rlm's
    assert len(shown["budgets"]["rows"]) == 4  # no control
    assert {row[labels["budgets"].index("cap")] for row in shown["budgets"]["rows"]} == {20_000}
    recall = [row[labels["summary"].index("recall %")] for row in shown["summary"]["rows"]]
    assert list(filter(None, recall)) == [0.5]
    assert "exact %" not in labels["summary"]  # nobody's score is a judge's verdict here


def test_controls_are_marked_and_in_no_pair(ladder: Path) -> None:
    tables = ladder / "report_data/tables"
    assert "no_context (control)" in (tables / "summary.md").read_text()
    assert "best_constant (control, no model)" in (tables / "method_by_task.tex").read_text(
        "utf-8"
    ).replace("\\_", "_")
    assert "no_context" not in (tables / "paired.csv").read_text()


def test_each_arm_has_cells_whose_words_come_on_demand(browser: Any, ladder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"file://{ladder}/report.html")
    page.locator(".grid section").first.wait_for()
    assert page.locator(".grid section").count() == 2
    assert "rlm_d0" in page.locator(".grid h3").last.inner_text()
    assert "rlm scores" not in page.inner_text("main")
    page.locator(".grid section").first.locator("button").focus()
    page.keyboard.press("Enter")
    assert "rlm scores" in page.inner_text("p.verdict")
    page.locator("p.verdict a").click()
    page.wait_for_selector("[data-view=samples]")
    assert page.inner_text("main [role=status]").startswith("8 samples, 16 answers")
    page.close()


def test_controls_are_grey_and_a_button_leads_to_each_table(browser: Any, ladder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"file://{ladder}/report.html#/tables")
    page.wait_for_selector("[data-view=tables]")
    quiet = page.locator("#table-summary tr.quiet td:nth-child(3)").all_inner_texts()
    assert quiet == ["no_context (control)", "best_constant (control, no model)"]
    place = "document.querySelector('#table-costs').getBoundingClientRect().top"
    assert page.evaluate(place) > 900
    page.get_by_role("button", name="Cost per question").click()
    assert page.evaluate(place) < 900
    page.close()


def test_the_grid_has_a_row_for_each_model_whose_arms_are_called_by_their_method(
    tmp_path: Path,
) -> None:
    for i, model in enumerate(("gpt-5", "openrouter/qwen/qwen3-coder-480b-a35b-instruct")):
        shape = {"contexts": 4, "questions": 1, "methods": ("direct", "rlm")}
        write_run(tmp_path / str(i), {}, run_id=str(i), model=model, seed=i, **shape)
    assert main([str(tmp_path / "?"), "--out", str(tmp_path / "both")]) == 0
    shown = data_of(tmp_path / "both/report_data/main.js")
    rows = {tuple(v["row"]): v["against"] for v in shown["verdicts"]}
    assert list(rows) == [
        ("gpt-5", "rlm"),
        ("openrouter/qwen/qwen3-coder-480b-a35b-instruct", "rlm"),
    ]
    assert set(rows.values()) == {"direct"}
    assert len(shown["verdicts"]) == 2 * 3  # two lengths, and both together
    links = {v["filter"]["arm"] for v in shown["verdicts"]}
    assert len(links) == 2  # the list of samples has all arms apart
    assert shown["figures"][0]["id"] == "paired_forest"


def test_a_result_of_two_runs_brings_the_calls_of_one(tmp_path: Path) -> None:
    """A replication has the same keys and calls of its own."""
    shape = {"contexts": 4, "questions": 1, "lengths": (2048,), "methods": ("direct",)}
    for name in ("a", "b"):
        folder = write_run(tmp_path / name, CONFIG, **shape)
        calls = pd.read_parquet(folder / "calls.parquet")
        calls.assign(call_id=name + calls["call_id"]).to_parquet(folder / "calls.parquet")
        assert main([str(folder)]) == 0
    assert main([str(tmp_path / "?"), "--out", str(tmp_path / "both")]) == 0
    one, both = (
        pd.read_csv(tmp_path / name / "report_data/tables/tokens.csv") for name in ("a", "both")
    )
    assert one["calls"].tolist() == both["calls"].tolist() == [1.0]


def test_several_runs_need_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        small = {
            "contexts": 4,
            "questions": 1,
            "lengths": (1000,),
            "run_id": name,
            "methods": ("direct", "rlm"),
        }
        write_run(tmp_path / name, {"method": {"rlm": {"max_depth": ord(name)}}}, **small)
    pattern = str(tmp_path / "?")
    assert main([pattern]) == 2
    assert "--out" in capsys.readouterr().err
    assert main([pattern, "--out", str(tmp_path / "both")]) == 0
    main_data = data_of(tmp_path / "both/report_data/main.js")
    assert [r["name"] for r in main_data["runs"]] == ["a", "b"]
    arms = {v["filter"]["arm"] for v in main_data["verdicts"]}
    assert arms == {"rlm (max_depth=97)", "rlm (max_depth=98)"}


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two tasks whose arm and samples are called the same."""
    folder = tmp_path_factory.mktemp("tasks")
    shape = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("rlm",)}
    for depth, task in enumerate(("needle", "multihop")):
        node = {"method": {"rlm": {"max_depth": depth}}}
        table = write_run(folder / task, node, run_id=task, **shape) / "results.parquet"
        pd.read_parquet(table).assign(task=task).to_parquet(table)
    assert main([str(folder / "*"), "--out", str(folder / "both")]) == 0
    return folder / "both"


def test_an_answers_sample_and_settings_are_those_of_its_own_task(two_tasks: Path) -> None:
    data = data_of(two_tasks / "report_data/samples.js")
    rows = pd.DataFrame(data["rows"]["data"], columns=data["rows"]["columns"])
    samples = pd.DataFrame(data["samples"]["data"], columns=data["samples"]["columns"])
    assert data["arms"] == ["rlm", "rlm"], "one for each task"
    for task, own in rows.groupby(rows["sample"].map(samples["task"])):
        (setting,) = own["setting"].unique()
        assert f"max_depth: {int(task == 'multihop')}" in data["settings"][setting]
        assert own["result_key"].str.startswith(str(task)).all()
        assert samples["question"][own["sample"]].str.contains(str(task)).all()


@pytest.mark.parametrize("task", ["multihop", "needle"])
def test_a_samples_page_has_the_answers_of_its_own_task(
    browser: Any, two_tasks: Path, task: str
) -> None:
    with report_page(browser, two_tasks) as page:
        go(page, f"#/samples?task={task}")
        page.locator("tbody a").first.click()
        page.wait_for_selector("[data-view=sample]")
        assert f"{task}-1000-0-0" in page.inner_text(".asked")
        assert page.locator("main .answer").count() == 1


def test_questions_that_count_by_themselves_are_no_contexts_task_by_task(tmp_path: Path) -> None:
    shape = {"contexts": 4, "questions": 2, "lengths": (1000,), "methods": ("direct", "rlm")}
    for task, unit in (("needle", "context"), ("multihop", "question")):
        node = {"analysis": {"unit": unit}}
        table = write_run(tmp_path / task, node, run_id=task, **shape) / "results.parquet"
        pd.read_parquet(table).assign(task=task).to_parquet(table)
    assert main([str(tmp_path / "*"), "--out", str(tmp_path / "both")]) == 0
    found = data_of(tmp_path / "both/report_data/main.js")["verdicts"]
    assert {v["task"]: v["n"] for v in found} == {"needle": "8 in 4", "multihop": "8"}


@pytest.fixture
def page(browser: Any, run: Path) -> Iterator[Any]:
    with report_page(browser, run) as opened:
        yield opened


def test_it_loads_and_says_what_it_is(page: Any, tmp_path: Path) -> None:
    text = page.inner_text("main")
    assert "A demonstration, not evidence." in text
    assert "rlm (scripted)" in text
    assert "Is the RLM worth it?" in text
    scripts = page.evaluate("[...document.scripts].map(s => s.src.split('/').pop())")
    assert scripts == [*ASSETS[1:], "main.js"]  # samples and trajectories only by need
    shot = tmp_path / "report.png"
    page.screenshot(path=str(shot))
    assert shot.stat().st_size > 20_000


def test_tables_sort_both_ways_with_the_keyboard(page: Any) -> None:
    header = page.locator("#table-summary th button", has_text="score %")
    header.focus()
    page.keyboard.press("Enter")
    falling = [float(v) for v in column(page, "score %", "#table-summary")]
    assert falling == sorted(falling, reverse=True)
    page.keyboard.press("Enter")
    assert [float(v) for v in column(page, "score %", "#table-summary")] == falling[::-1]
    assert header.locator("..").get_attribute("aria-sort") == "ascending"


def test_a_number_leads_to_its_samples(page: Any) -> None:
    go(page, "#/tables")
    no_answer = page.locator("#table-outcomes tbody td:nth-child(6) a")
    wanted, place = max((int(n), i) for i, n in enumerate(no_answer.all_inner_texts()))
    assert wanted > 0
    no_answer.nth(place).click()
    page.wait_for_selector("[data-view=samples]")
    assert page.inner_text("main [role=status]").startswith(f"{wanted} answers: 0 right")
    assert set(column(page, "outcome")) <= {"no_answer"}


def test_failures_filter_and_answers_are_searched(page: Any) -> None:
    go(page, "#/samples")
    page.select_option("select[name=outcome]", "failed")
    failed = set(column(page, "outcome"))
    assert failed
    assert failed <= {"no_answer", "budget_exceeded", "context_overflow"}
    page.select_option("select[name=outcome]", "")
    page.select_option("select[name=arm]", "rlm")
    page.fill("#search", "2048-3-1 positive")
    questions = column(page, "question")
    assert len(questions) == 1
    assert "2048-3-1" in questions[0]
    page.wait_for_url("**text=2048-3-1**")  # a link to what is shown


def test_a_trajectory_opens_as_a_tree_and_its_markup_stays_text(page: Any) -> None:
    go(page, "#/samples?arm=rlm")
    page.locator("tbody a").first.click()
    page.wait_for_selector(".answer[open] .tree details.node-turn")
    text = page.inner_text(".answer[open]")
    assert "Turn 1" in text
    assert "<script>window.broken = 1</script>" in text
    call = page.locator(".answer[open] .node-block details.node-call > summary").first
    call.click()
    page.wait_for_selector(".answer[open] details.node-call[open] pre")
    assert "<b>7</b>" in page.inner_text(".answer[open] details.node-call[open]")
    assert page.evaluate("window.broken") is None
    assert page.locator("main script, main b script").count() == 0
    assert page.locator("dd b").count() == 0  # the question's own <b> is text too


def test_dark_and_light(page: Any) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) != dark


def test_a_lost_data_folder_is_said(browser: Any, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "report_data", tmp_path / "report_data")
    shutil.copy(run / "report.html", tmp_path)
    (tmp_path / "report_data/samples.js").unlink()
    page = browser.new_page()
    page.goto(f"file://{tmp_path}/report.html#/samples")
    page.wait_for_selector("main .error")
    assert "samples.js can't be read" in page.inner_text("main")
    page.close()
