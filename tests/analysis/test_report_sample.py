"""A sample's page: its question, each answer with its turns and calls, and the context."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.browsing import browser, report_page, too_pale
from helpers.commands import report
from helpers.encrypted_rows import CANARY, plain_row, write_rows
from helpers.fake_results import write_run
from rlm_eval.analysis.load import calls_of, combine, load_run
from rlm_eval.analysis.report.samples import write_contexts, write_samples
from rlm_eval.analysis.report.trajectory import MAX_CHARS
from rlm_eval.commands.report import contexts
from rlm_eval.errors import ConfigError
from rlm_eval.tasks.generated.needle import Needle

__all__ = ["browser"]  # a fixture
NEEDLE = {"_target_": "rlm_eval.tasks.generated.needle.Needle", "variant": "single_1"}
NEEDLE |= {"lengths": [1024], "n": 1, "seed": 3}
TEXT = next(Needle(variant="single_1", lengths=[1024], n=1, seed=3).build())[0]
KEY = "simulated-1024-0-0-rlm-0"
CODE = "replies = llm_query_batched(prompts)\nprint(replies)"
CONTEXT = "main > details:not(.answer):nth-of-type(2)"
PROMPT = "Which city is it? " + "A long passage. " * 200 + "endofprompt"


def events() -> Iterator[dict[str, Any]]:
    """A turn with words around its code, 14 sub-calls, a long output and two child RLMs."""
    began = {"depth": 1, "parent_call_id": "t1"}
    yield {"type": "start", "depth": 0, "sandbox_level": "landlock", "settings": {"sub_tokens": 64}}
    reply = f"I ask each piece.\n```python\n{CODE}\n```\nThen I count."
    yield {"type": "turn", "depth": 0, "iteration": 1, "call_id": "t1", "reply": reply}
    spent = {"prompt_tokens": 812, "completion_tokens": 2}
    for i in range(14):
        more = {"reply": f"city {i}"} if i != 1 else {"error": "context_overflow: too long"}
        more |= {"cached_response": True} if i in (2, 3) else {}
        call = {"role": "sub", "call_id": f"s{i}", "prompt": f"{i}. {PROMPT}", **spent, **more}
        yield {"type": "call", **call, **began}
    yield {"type": "turn", "iteration": 1, "call_id": "c1", "reply": "Child's words", **began}
    yield {"type": "answer", "outcome": "answered", "question": "Where?", "text": "Oslo", **began}
    yield {"type": "answer", "outcome": "budget_exceeded", "error": "no money", **began}
    output = "\n".join(f"line {i}" for i in range(100))
    block = {"type": "block", "depth": 0, "iteration": 1, "code": CODE, "output": output}
    yield {**block, "output_chars": len(output), "seconds": 0.5}
    yield {"type": "answer", "outcome": "answered", "text": "7"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = {"task": NEEDLE, "method": {"rlm": {"max_depth": 2}, "direct": {}}}
    shape = {"contexts": 2, "questions": 1, "lengths": (1024,), "methods": ("direct", "rlm")}
    write_run(folder, config, failures=0.0, **shape)
    table = pd.read_parquet(folder / "results.parquet")
    table["context_id"] = table["context_id"].replace("c1024-0", TEXT.id)
    table.to_parquet(folder / "results.parquet")
    lines = "".join(json.dumps(event) + "\n" for event in events())
    (folder / "trajectories" / f"{KEY}.jsonl").write_text(lines)
    assert report([str(folder)]) == 0
    return folder


def open_answer(page: Any) -> Any:
    """The RLM's answer, opened by its address."""
    page.evaluate("(hash) => { location.hash = hash; }", f"#/sample/s1024-0-0?key={KEY}")
    page.locator(".answer[open] .node-turn").first.wait_for()
    return page.locator(".answer[open]")


@pytest.fixture
def page(browser: Any, run: Path) -> Iterator[Any]:
    with report_page(browser, run) as opened:
        open_answer(opened)
        yield opened


@pytest.mark.slow
def test_question_and_gold_come_first_then_the_answer_that_was_asked_for(page: Any) -> None:
    parts = page.inner_text("main").split("Answers")
    words = ("How many lines", "gold", "Context")
    assert [parts[0].index(w) for w in words] == sorted(parts[0].index(w) for w in words)
    assert parts[1].index("rlm") < parts[1].index("direct")
    summary = page.inner_text(".answer[open] > summary")
    assert "right" in summary or "wrong" in summary
    assert "score" in summary
    direct = page.locator(".answer:not([open]) > summary").inner_text()
    assert direct.splitlines()[-1] in ("7", "4")  # its answer, before it is opened


@pytest.mark.slow
def test_settings_are_a_click_away(page: Any) -> None:
    settings = page.locator(".answer[open] details", has_text="Method settings")
    assert settings.get_attribute("open") is None
    settings.locator("summary").click()
    settings.locator("pre").first.wait_for()  # filled in when it opens
    text = settings.inner_text()
    assert "max_depth: 2" in text
    assert "sandbox level landlock" in text
    assert "sub_tokens" not in page.inner_text(".tree")


@pytest.mark.slow
def test_code_is_shown_once_and_a_long_output_in_full_on_a_click(page: Any) -> None:
    tree = page.locator(".tree")
    text = tree.inner_text()
    assert text.count("llm_query_batched") == 1
    assert "```" not in text
    words = ("I ask each piece.", "llm_query_batched", "line 0", "sub-calls", "Then I count.")
    assert [text.index(w) for w in words] == sorted(text.index(w) for w in words)
    assert "line 99" not in text
    tree.get_by_role("button", name="all 789 characters").click()
    assert "line 99" in tree.inner_text()


@pytest.mark.slow
def test_sub_calls_show_excerpts_and_their_whole_texts_on_a_click(page: Any) -> None:
    block = page.locator(".node-block")
    assert "14 sub-calls · 2 child RLMs · 2 from memory · 2 failed" in block.inner_text()
    calls = block.locator("details.node-call")
    assert calls.count() == 10
    block.get_by_role("button", name="6 more").click()
    assert calls.count() == 14
    first = calls.first
    excerpt = first.locator(".excerpt").first.inner_text()
    assert excerpt.startswith("0. Which city is it?")
    assert len(excerpt) == 201
    assert "→ city 0" in first.inner_text()
    assert "812 → 2 tokens" in first.inner_text()
    assert "→ context_overflow: too long" in calls.nth(1).inner_text()
    assert "from memory" in calls.nth(2).inner_text()
    first.locator("summary").click()
    first.get_by_role("button", name="characters").click()
    assert "endofprompt" in first.inner_text()
    assert not first.locator(".excerpt").first.is_visible()


@pytest.mark.slow
def test_child_rlms_are_nested_and_fold(page: Any) -> None:
    page.locator(".node-block").get_by_role("button", name="6 more").click()
    first, second = page.locator(".node-block details.node-child").all()
    assert "Where?" in first.inner_text()
    assert "→ Oslo" in first.inner_text()
    assert "Child's words" not in first.inner_text()
    assert "→ no money" in second.inner_text()
    first.locator("summary").first.click()
    first.get_by_text("Child's words").first.wait_for()  # it is filled in when it has opened


@pytest.mark.slow
def test_the_context_is_loaded_on_a_click(page: Any) -> None:
    loaded = "[...document.scripts].map((s) => s.src.split('/').pop())"
    assert f"{TEXT.id}.js" not in page.evaluate(loaded)
    context = page.locator(CONTEXT)
    context.locator("summary").click()
    context.locator("pre").wait_for()
    assert context.locator("pre").text_content() == TEXT.text
    assert f"{TEXT.id}.js" in page.evaluate(loaded)
    page.evaluate("location.hash = '#/sample/s1024-1-0'")
    page.locator("dd", has_text="simulated-1024-1").wait_for()
    page.locator(CONTEXT).locator("summary").click()
    page.get_by_text("the task makes other samples today").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_of_it_can_be_read(browser: Any, run: Path, width: int, scheme: str) -> None:
    with report_page(browser, run, width=width, scheme=scheme) as page:
        open_answer(page)
        while page.locator("details:not([open])").count():
            page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            page.wait_for_timeout(50)
        while page.locator("main button").count():
            page.locator("main button").first.click()
        page.locator(f"{CONTEXT} pre").wait_for()
        assert "endofprompt" in page.inner_text(".node-call")
        assert too_pale(page) == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_one_file_has_the_context_too(browser: Any, run: Path, tmp_path: Path) -> None:
    assert report([str(run), "--one-file", "--out", str(tmp_path)]) == 0
    with report_page(browser, tmp_path) as page:
        open_answer(page)
        context = page.locator(CONTEXT)
        context.locator("summary").click()
        context.locator("pre").wait_for()
        assert context.locator("pre").text_content() == TEXT.text


def data_of(path: Path) -> Any:
    """What a data script hands to the page."""
    script = path.read_text()
    return json.loads(script[script.index(",") + 1 : script.rindex(")")])


def test_a_long_answer_is_cut_as_other_texts_are(tmp_path: Path) -> None:
    shape = {"contexts": 3, "questions": 1, "lengths": (1024,), "methods": ("direct",)}
    table = write_run(tmp_path / "run", **shape) / "results.parquet"
    answers = ["x" * MAX_CHARS, "y" * (MAX_CHARS + 1234), None]
    pd.read_parquet(table).assign(answer=answers).to_parquet(table)
    run = load_run(tmp_path / "run")
    results = combine([run])
    write_samples([run], results, calls_of([run], results), tmp_path)
    rows = data_of(tmp_path / "samples.js")["rows"]
    shown = [row[rows["columns"].index("answer")] for row in rows["data"]]
    more = "\n… 1,234 more characters in results.parquet"
    assert shown == [answers[0], "y" * MAX_CHARS + more, None]


def lost(run: Path, data: Path, given: dict[str, str], room: int = 100) -> dict[str, str]:
    write_contexts([load_run(run)], data, lambda *_: iter(given.items()), room)
    return data_of(data / "lost.js")


def test_a_report_takes_no_more_of_the_contexts_than_it_has_room_for(
    run: Path, tmp_path: Path
) -> None:
    both = {TEXT.id: "x" * 60, "c1024-1": "y" * 60}
    assert lost(run, tmp_path, both, room=120) == {}
    assert {path.stem for path in (tmp_path / "c").iterdir()} == set(both)
    (why,) = lost(run, tmp_path / "less", both).items()
    assert why == ("c1024-1", "this report is full of contexts; rlm-eval export has them all")
    assert [path.stem for path in (tmp_path / "less/c").iterdir()] == [TEXT.id]
    lost(run, tmp_path / "long", {TEXT.id: "x" * 1_000_007}, room=2_000_000)
    text = (tmp_path / "long/c" / f"{TEXT.id}.js").read_text()
    assert "7 more characters: rlm-eval export has them" in text
    assert len(text) < 1_000_200


def with_task(folder: Path, task: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({"task": task}))
    return folder


def test_sealed_contexts_stay_sealed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [plain_row(i) for i in range(2)])
    target = "rlm_eval.tasks.datasets.browsecomp_plus"
    task = {"_target_": f"{target}.BrowseCompPlus", "path": path, "canary": CANARY}
    task |= {"documents": 2, "pool": 20, "lengths": [9000], "n": 2}
    folder = with_task(tmp_path / "run", task)
    with pytest.raises(ConfigError, match=r"reaches out of its folder: task\.path"):
        list(contexts([], folder, {"any"}))
    with pytest.raises(ConfigError, match="sealed"):
        list(contexts([target], folder, {"any"}))


def test_the_hub_is_asked_for_contexts_by_permission_alone(tmp_path: Path) -> None:
    task = {"_target_": "rlm_eval.tasks.datasets.docqa.SQuAD", "hub": "rajpurkar/squad"}
    folder = with_task(tmp_path / "run", {**task, "revision": "0" * 40, "lengths": [150], "n": 2})
    with pytest.raises(ConfigError, match=r"If you trust it, type: rlm-eval report .*docqa"):
        list(contexts([], folder, {"any"}))


def test_a_run_that_says_no_task_has_no_contexts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task"):
        list(contexts([], with_task(tmp_path / "run", {}), {"any"}))
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        list(contexts([], tmp_path, {"any"}))
