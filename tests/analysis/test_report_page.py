"""The report's page in a headless Chromium: numbers and where they lead, long texts, keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest

from helpers.browsing import browser, go, report_page, too_pale
from helpers.commands import report as main
from helpers.fake_results import write_run
from rlm_eval.analysis.text import shown

__all__ = ["browser"]  # a fixture
pytestmark = pytest.mark.slow
LONG = " ".join(f"word{i}" for i in range(400))
ARMS = ("direct", "rag_bm25", "summarize_map_reduce", "rlm", "rlm_a|b")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repeats, own failures, pending rows, evidence, long texts, and a method with a bar in its
    name."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    shape = {"contexts": 6, "questions": 3, "lengths": (1000, 2000), "repeats": 2}
    chances = {"failures": 0.2, "pending": 0.1, "skills": {ARMS[-1]: 0.4}}
    config = {"budget": {"sample": {"tokens": 700}}}
    write_run(folder, config, methods=ARMS, **shape, **chances)
    table = pd.read_parquet(folder / "results.parquet")
    known = (table["method"] == "rag_bm25") & (table["outcome"] != "context_overflow")
    table["evidence_recall"] = (table["repeat"] / 1.0).where(known)
    scored = table.index[table["outcome"] == "answered"][0]
    failed = table.index[table["outcome"] == "no_answer"][0]
    table.loc[scored, "answer"] = f"{LONG} endofanswer"
    here = table["sample_id"] == table.loc[scored, "sample_id"]
    table["gold"] = table["gold"].mask(here, json.dumps([LONG, "endofgold"]))
    table.loc[failed, "error"] = f"{LONG} endoferror"
    table.to_parquet(folder / "results.parquet")
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture
def page(browser: Any, run: Path) -> Iterator[Any]:
    with report_page(browser, run) as opened:
        yield opened


CELLS = """() => [...document.querySelectorAll("section tbody tr")].flatMap((tr) => {
  const section = tr.closest("section");
  const heads = [...section.querySelectorAll("th")].map((th) => th.textContent);
  return [...tr.children].map((td, i) => ({ table: section.id, row: tr.rowIndex, head: heads[i],
    text: td.textContent, href: td.querySelector("a")?.getAttribute("href") }));
})"""
COUNTS = {
    *("asked", "completed", "pending", "right", "over", "samples", "left out", "answered"),
    *("no answer", "budget exceeded", "context overflow", "provider error"),
    "shared samples",
}
NO_NUMBERS = {
    "task",
    "kind",
    "length",
    "samples",
    "role",
    "quantity",
    "test",
    "of",
    "matched",
    "cap on",
}


def test_every_number_leads_to_the_samples_it_counts(page: Any) -> None:
    go(page, "#/tables")
    cells = page.evaluate(CELLS)
    unlinked = {c["head"] for c in cells if not c["href"] and c["text"] not in ("–", "0")}
    assert unlinked <= NO_NUMBERS
    counts = [c for c in cells if c["href"] and c["head"] in COUNTS]
    linked = {c["table"].removeprefix("table-") for c in counts}
    assert linked >= {"summary", "kinds", "paired", "budgets"}
    assert linked >= {"costs", "outcomes", "repeats"}
    told = {}
    for cell in counts:
        if (href := cell["href"]) not in told:
            go(page, "#/runs")
            go(page, href)
            told[href] = page.inner_text("main [role=status]").split(" ")[0]
        assert told[href] == cell["text"], cell


def test_a_bar_in_a_name_is_part_of_it(page: Any) -> None:
    go(page, f"#/samples?arm={quote(ARMS[-1])}")
    assert page.inner_text("main [role=status]").startswith("72 answers")
    assert page.input_value("select[name=arm]") == ARMS[-1]


def test_a_new_order_is_shown_from_its_beginning(page: Any) -> None:
    go(page, "#/samples")
    status = page.locator("main span[role=status]")
    page.get_by_role("button", name="next").click()
    assert status.inner_text().startswith("101–200 of")
    page.locator("main th button", has_text="score %").click()
    assert status.inner_text().startswith("1–100 of")


@pytest.mark.parametrize("word", ["endofanswer", "endofgold", "endoferror"])
def test_long_texts_are_searched_and_shown_in_full(page: Any, word: str) -> None:
    go(page, "#/samples")
    page.fill("#search", f"word399 {word}")
    page.locator("main tbody tr:nth-child(20)").wait_for(state="detached")
    assert word not in page.inner_text("main tbody")  # cells are cut
    page.locator("tbody a").first.click()
    page.wait_for_selector("[data-view=sample]")
    page.get_by_text(word).first.wait_for()


def test_a_spot_on_the_page_is_no_view(page: Any, run: Path) -> None:
    go(page, "#/tables")
    page.keyboard.press("Tab")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    assert page.url.endswith("#/tables")
    page.goto(f"file://{run}/report.html#content")
    page.reload()
    page.wait_for_selector("[data-view=summary]")
    page.locator("#table-summary").wait_for()


def test_the_keyboard_follows_where_the_page_goes(page: Any) -> None:
    assert page.title() == "Summary · rlm_eval report"
    link = page.locator("nav a", has_text="Tables")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-view=tables]")
    assert page.title() == "Tables · rlm_eval report"
    assert page.evaluate("document.activeElement.id") == "content"
    button = page.get_by_role("button", name="How questions ended")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "table-outcomes"


def test_the_summary_fits_and_moves_on_a_phone(page: Any) -> None:
    def inside(what: str) -> int:
        return page.evaluate(f"document.querySelector('#table-summary .scroll').{what}")

    assert inside("scrollWidth") <= inside("clientWidth")
    few = page.locator("#table-summary th").all_inner_texts()
    assert {"skill %", "recall %", "sub-calls", "USD", "seconds"} <= {h.strip() for h in few}
    assert "accuracy %" not in few
    page.set_viewport_size({"width": 375, "height": 800})
    region = page.get_by_role("region", name="Score per method and length")
    region.focus()
    region.evaluate("(scroll) => { scroll.scrollLeft = 600; }")
    method = page.locator("#table-summary tbody td.stays").first
    left, wide = region.bounding_box()["x"], method.bounding_box()["width"]
    assert abs(method.bounding_box()["x"] - left) <= 2
    assert wide < 200
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_figure_is_wide_enough_to_read_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    go(page, "#/figures")
    figure = page.locator("figure").first
    figure.locator("img").wait_for()
    assert figure.locator("img").bounding_box()["width"] > 600
    assert figure.locator("a img").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_view_can_be_read(browser: Any, run: Path, width: int, scheme: str) -> None:
    with report_page(browser, run, width=width, scheme=scheme) as page:
        top = page.locator("button.cell").first.bounding_box()
        assert top["y"] + top["height"] <= page.viewport_size["height"], "not on the first screen"
        page.locator("button.cell").first.click()
        for view in ("", "#/tables", "#/figures", "#/samples", "#/sample", "#/runs"):
            if view == "#/sample":
                page.locator("main tbody a").first.click()
                page.wait_for_selector("[data-view=sample]")
            elif view:
                go(page, view)
            page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            if view == "#/sample":
                page.locator(".tree", has_text="Turn 1").first.wait_for()
            assert too_pale(page) == {}, view
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_the_page_alone_is_enough(browser: Any, run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--one-file", "--out", str(tmp_path / "made")]) == 0
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["report.html"]
    with report_page(browser, tmp_path / "made") as page:
        page.locator("button.cell").first.wait_for()
        for view in ("#/tables", "#/figures", "#/samples", "#/runs"):
            go(page, view)
            if view == "#/figures":
                page.locator("img").last.scroll_into_view_if_needed()
                page.wait_for_function("[...document.images].at(-1).naturalWidth > 100")
            if view == "#/samples":
                page.locator("main tbody a").first.click()
                page.locator(".tree", has_text="Turn 1").first.wait_for()
        go(page, "#/tables")
        with page.expect_download() as waiting:
            page.get_by_role("link", name="csv", exact=True).first.click()
        folder = run / "report_data/tables"
        assert waiting.value.suggested_filename == "summary.csv"
        assert Path(waiting.value.path()).read_bytes() == (folder / "summary.csv").read_bytes()


NUMBERS = (
    *((usd, "usd") for usd in (1234.5, 0.1, 0.012345, 0.0, 2.2e-7, None)),
    *((usd, "usd") for usd in (0.125, 0.375, 2.675, 1.015)),
    *((number, "count") for number in (0, 12.25, 412.5, 2125, 999.9, 2048, 1.5e6, 2e9, 2e12)),
    *((number, "number") for number in (0.0, 0.03125, 0.0004, -0.0004, -1.25, 12.34, 1234.5)),
    *((number, "share") for number in (0.12345, -0.005, 1.0, 0.0625, 0.1875, 0.0285, -0.0004)),
    *((number, "points") for number in (0.0, 0.0312, -0.5, 0.0625, -0.0625, 0.1875)),
    *((number, "seconds") for number in (0.0, 0.004, 61.5)),
    *((pair, "range") for pair in ([0.12, 0.9], [-0.29, 0.05], [None, None])),
    *((pair, "range") for pair in ([0.125, 0.375], [-0.005, 0.625], [-0.125, -0.015])),
    *((number, "int") for number in (12345, 0)),
)


def test_numbers_read_the_same_on_the_page_and_in_its_files(page: Any) -> None:
    found = page.evaluate("(all) => all.map(([v, kind]) => REPORT.show(v, kind))", NUMBERS)
    expected = [shown(v, kind) for v, kind in NUMBERS]
    assert found == expected
    assert found[0] == "$1,234.50"
