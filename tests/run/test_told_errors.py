"""What a run says of what failed, and under which address its results are kept."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from helpers.commands import run_tree
from helpers.fake_provider import FakeProvider, saying
from helpers.some_records import some_call
from rlm_eval.analysis import summary
from rlm_eval.commands.cli import in_one_line
from rlm_eval.config.compose import compose_tree
from rlm_eval.errors import ConfigError
from rlm_eval.runs.progress import Progress

pytestmark = pytest.mark.slow
KEY = "sk-canary-0123456789abcdef"
FOUR = ("task=needle", "task.lengths=[300]", "task.variant=single_1", "task.n=4", "concurrency=1")
QUICK = ("retry.base_s=0.001", "retry.max_s=0.002", "model=litellm", "model.name=openai/fake")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "FIGURES", ())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(folder: Path, *overrides: str) -> int:
    return run_tree(compose_tree([*FOUR, *QUICK, f"results_dir={folder}", *overrides]))


def limited(number: int) -> object:
    return saying(429, {"error": {"message": f"slow down, request {number} of {KEY}"}})


def test_each_distinct_error_of_a_call_is_told_once_with_its_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider([limited(1), "ok", limited(2), limited(3), "500"]) as provider:
        assert run(tmp_path, "method=[direct]", f"model.api_base={provider.api_base}") == 0
    told = capsys.readouterr().err
    lines = told.splitlines()
    url = f"{provider.api_base}/chat/completions"
    first = f"rate_limit: openai/fake: 429 from {url}: slow down, request 1 of [key]"
    assert f"failed: {first}" in lines
    assert f"3 × {first}" in lines
    assert [line for line in lines if line.startswith("1 × server_error: openai/fake: 500 from")]
    assert told.count("slow down") == 2
    assert KEY not in told


def test_a_foreign_engines_last_words_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text("import sys\nprint('no key found', file=sys.stderr)\nsys.exit('try again')")
    arm = "method.foreign_command"
    with FakeProvider() as provider:
        code = run(
            tmp_path / "runs",
            *("method=[foreign_command]", f"{arm}.isolation=none"),
            *(f"{arm}.command=[{sys.executable},{engine}]", f"model.api_base={provider.api_base}"),
        )
    told = capsys.readouterr().err
    assert code == 0
    assert told.count("no key found | try again") == 2
    line = next(line for line in told.splitlines() if line.startswith("4 × "))
    assert line.startswith("4 × invalid_answer: foreign_command: ")
    assert line.endswith("ended with exit code 1: no key found | try again")


def test_results_of_another_server_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the configuration tells them apart: the environment does."""
    folders = set()
    for _ in range(2):
        with FakeProvider() as provider:
            monkeypatch.setenv("OPENAI_BASE_URL", provider.api_base)
            assert run(tmp_path, "method=[direct]") == 0
            assert provider.requests == 4
        (new,) = {path.parent for path in tmp_path.glob("*/journal.jsonl")} - folders
        folders.add(new)
        calls = pd.read_parquet(new / "calls.parquet")
        assert set(calls.endpoint) == {provider.api_base}
        environment = json.loads((new / "environment.json").read_text())
        assert environment["endpoints"]["root"] == provider.api_base


def test_a_bad_request_after_an_answer_is_that_questions_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(["ok", "400", "ok", "ok"]) as provider:
        assert run(tmp_path, "method=[direct]", f"model.api_base={provider.api_base}") == 3
        assert provider.requests == 4
    told = capsys.readouterr().err
    assert "stopped early" not in told
    assert "1 results are still pending: mend what failed, then run" in told


def test_what_a_server_says_moves_no_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_one_line(ConfigError("it says \x1b]0;x\x07\nso")) == "it says �]0;x� so"
    says = saying(500, {"error": {"message": "no \x1b[2Jway"}})
    with FakeProvider([says] * 99) as provider:
        words = ("method=[direct]", "repeats=2", "retry.attempts=1")
        assert run(tmp_path, *words, f"model.api_base={provider.api_base}") == 3
    told = capsys.readouterr().err
    (stopped,) = (line for line in told.splitlines() if line.startswith("stopped early: 8 results"))
    assert "no �[2Jway" in stopped
    assert "\x1b" not in told


def test_what_failed_is_asked_last_when_a_run_goes_on(tmp_path: Path) -> None:
    """Else one question that is refused each time would end each session before any answer."""
    with FakeProvider(["ok", "400", "401", "ok", "401"]) as provider:
        words = ("method=[direct]", f"model.api_base={provider.api_base}", "concurrency=1")
        assert [run(tmp_path, *words) for _ in range(3)] == [3, 3, 0]
        _, refused, failed, new, *again = [body["messages"] for body in provider.received]
    assert new not in (refused, failed)
    assert again == [refused, failed, refused], "what failed most often is the last"


def test_a_wrong_key_of_the_sub_model_stops_the_run_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider() as provider, FakeProvider(["401"] * 99) as other:
        code = run(
            tmp_path,
            *("method=[summarize_map_reduce]", f"model.api_base={provider.api_base}"),
            f"summarize_model.api_base={other.api_base}",
        )
    assert code == 3
    assert other.requests <= 2
    assert "stopped early: authentication, which every other request" in capsys.readouterr().err


def test_the_live_table_shows_what_failed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    hidden = {"redact": lambda text: text.replace("canary", "[key]")}
    with Progress({"r": "rlm"}, 1, console, **hidden) as p:
        for number in range(3):
            error = f"server_error: m: 500 from http://a/v1: [oops] {number} canary"
            p.called(some_call(result_key="r", error=error))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 × server_error: m: 500 from http://a/v1: [oops] 0 [key]" in shown
    assert "canary" not in shown
