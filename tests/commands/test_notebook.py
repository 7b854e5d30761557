"""``rlm_eval.run`` and ``rlm_eval.ask``, as in a notebook; README's examples as they stand."""

from __future__ import annotations

import _thread
import io
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import rlm_eval
from helpers.some_records import some_call
from rlm_eval.commands.cli import run_command
from rlm_eval.commands.notebook import overrides_of
from rlm_eval.config.compose import compose_tree
from rlm_eval.runs.progress import Progress

README = Path(__file__).parents[2] / "README.md"
SMALL = {"task": "needle", "task.lengths": [500], "task.n": 2, "model": "scripted"}
Printed = pytest.CaptureFixture[str]


slow = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def small(place: Path) -> rlm_eval.Run:
    """Made in another thread, as some notebooks and servers do."""
    made: list[rlm_eval.Run] = []
    settings = {**SMALL, "method": ["direct", "rlm"], "results_dir": place}
    thread = threading.Thread(target=lambda: made.append(rlm_eval.run(**settings)))
    thread.start()
    thread.join()
    return made[0]


@slow
def test_a_run_has_its_tables_figures_and_report(small: rlm_eval.Run, place: Path) -> None:
    assert small.folder.parent == place
    assert small.results.groupby("method").size().to_dict() == {"direct": 2, "rlm": 2}
    assert small.calls.prompt_tokens.sum() == small.results.prompt_tokens.sum()
    assert list(small.verdicts.against) == ["direct"]
    assert small.verdicts.text[0] in repr(small)
    plot = small.figure("score_and_cost")
    assert plot._repr_png_().startswith(b"\x89PNG")
    assert set(plot.data.arm) == {"direct", "rlm", "best_constant"}
    assert len(plot.figure.axes) == 2
    with pytest.raises(
        rlm_eval.ConfigError, match=r"there is no figure 'score': choose .*score_vs_cost"
    ):
        small.figure("score")
    page = small.report()
    assert page.name == "report.html"
    assert [*(page.parent / "report_data" / "c").iterdir()], "the contexts are in it"


@slow
def test_a_run_whose_cap_left_no_result_has_nothing_to_show(place: Path) -> None:
    settings = {**SMALL, "method": ["direct"], "results_dir": place / "capped"}
    run = rlm_eval.run(**settings, **{"budget.run.tokens": 1})
    assert (len(run.results), run.figures, [*run.verdicts.text]) == (0, {}, [])
    assert repr(run) == f"Run({str(run.folder)!r})"


@slow
def test_the_same_call_again_continues_and_leaves_signals_alone(
    small: rlm_eval.Run, place: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = (small.folder / "journal.jsonl").read_bytes()
    settings = {**SMALL, "method": ["direct", "rlm"], "results_dir": str(place)}
    assert rlm_eval.run(**settings).folder == small.folder
    out, err = capsys.readouterr()
    assert out == ""
    assert "this run is finished" in err
    assert (small.folder / "journal.jsonl").read_bytes() == journal
    set_by_us = []
    monkeypatch.setattr(signal, "signal", lambda *given: set_by_us.append(given))
    more = rlm_eval.run(**{**settings, "task.n": 3, "method": ["direct"]})
    assert len(more.results) == 3
    assert not set_by_us, "Ctrl-C stays Python's"
    assert "3/3 results" not in capsys.readouterr().out


@slow
def test_what_is_in_flight_ends_after_an_interrupt(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # A notebook's kernel has Python's own handler; a worker of pytest-xdist ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    slowly = {**SMALL, "task.n": 6, "model.latency_s": 0.2, "method": ["direct"]}
    slowly |= {"concurrency": 2, "results_dir": tmp_path}

    def interrupt() -> None:
        while not any('"result"' in p.read_text() for p in tmp_path.glob("*/journal.jsonl")):
            time.sleep(0.02)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        rlm_eval.run(**slowly)
    rest = rlm_eval.run(**slowly)
    assert len(rest.results) == len(rest.calls) == 6, "nothing is lost, and nothing asked twice"


@slow
def test_an_answer_has_its_trajectory(place: Path, tmp_path: Path, capsys: Printed) -> None:
    text, question = "The code for arnsby is: 8412.\nNothing else.", "What is the code for arnsby?"
    answer = rlm_eval.ask(text, question, model="scripted", results_dir=place)
    assert (str(answer), answer.outcome, answer.cost_usd) == ("8412", "answered", 0.0)
    kinds = [event["type"] for event in answer.trajectory]
    assert kinds == ["start", "turn", "call", "block", "turn", "block", "answer"]
    calls = pd.read_parquet(answer.folder / "calls.parquet")
    assert answer.tokens == (calls.prompt_tokens + calls.completion_tokens).sum() > 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "rlm: reply" in err
    (tmp_path / "a.txt").write_text(text)
    documents = {"a": text, "b": "Nothing at all."}
    for about in (tmp_path / "a.txt", [str(tmp_path / "a.txt")], documents):
        settings: dict[str, Any] = {"model": "scripted", "results_dir": place}
        assert rlm_eval.ask(about, question, method="direct", **settings).text == "8412"
    spent = rlm_eval.ask(documents, question, **settings, **{"budget.run.calls": 1})
    assert (spent.text, spent.outcome) == (None, "not asked")


MISTAKES: list[dict[str, Any]] = [
    {"task": "nonsense"},
    {"task.lenghts": [1]},
    {"method": []},
    {"model": None},
    {"model": "litellm", "model.name": "openai/gpt-5"},
]


@pytest.mark.parametrize("settings", MISTAKES, ids=str)
def test_what_is_wrong_is_said_as_on_the_command_line(
    settings: dict[str, Any], capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(rlm_eval.ConfigError) as refused:
        rlm_eval.run(**settings)
    assert run_command(overrides_of(settings)) == 2
    assert capsys.readouterr().err == f"rlm_eval: {refused.value}\n"


def test_what_is_asked_about_must_be_clear(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for about, method, told in (
        (str(tmp_path / "a.txt"), "rlm", "a str is the text itself: for what is there write Path"),
        (str(tmp_path), "rlm", "a str is the text itself: for what is there write Path"),
        ("text", ["rlm", "direct"], "one method answers"),
        (" ", "rlm", "with text in them"),
        ("text", "nonsense", "there is no method 'nonsense'"),
    ):
        with pytest.raises(rlm_eval.ConfigError, match=told):
            rlm_eval.ask(about, "Why?", method=method)  # type: ignore[arg-type]
    with pytest.raises(rlm_eval.ConfigError, match="can't be read: No such file"):
        rlm_eval.ask([tmp_path / "none.txt"], "Why?")


@pytest.mark.parametrize(
    "text", ["it's", "a\\", "x\\'y", 'q"uote', "a\nb", "1,2 {d} [e]", "null", "ü"]
)
def test_texts_reach_the_configuration_as_they_are(text: str) -> None:
    overrides = overrides_of(
        {"results_dir": text, "allow_targets": [text], "stop_on_forecast": False}
    )
    tree = compose_tree(overrides)
    assert (tree["results_dir"], tree["allow_targets"]) == (text, [text])
    assert tree["stop_on_forecast"] is False


def test_settings_of_other_types_are_refused() -> None:
    with pytest.raises(rlm_eval.ConfigError, match=r"seed=<object .*> is no text, number or list"):
        overrides_of({"seed": object()})


def test_a_notebook_without_widgets_sees_plain_lines(capsys: Printed) -> None:
    console = Console(file=io.StringIO(), force_jupyter=True)
    with Progress({"k": "direct"}, 1, console) as progress:
        progress.called(some_call("a", result_key="k"))
    assert "1 calls" in capsys.readouterr().err


@slow
def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, as one notebook; by the scripted model, about a file that is there."""
    monkeypatch.chdir(tmp_path)
    Path("contract.txt").write_text("Either side may end it at the year's end.")
    rlm_eval.run(**SMALL, method=["direct"])
    blocks = re.findall(
        r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    examples = [block for block in blocks if re.search(r"^import rlm_eval$", block, re.MULTILINE)]
    assert examples
    names: dict[str, Any] = {}
    for example in examples:
        exec(re.sub(r'model="[\w.-]+"', 'model="scripted"', example), names)
    assert len(names["results"])
