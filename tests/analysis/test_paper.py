"""The paper's figures and tables come from published runs by one command."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_results import write_run
from rlm_eval.analysis.summary import write_summary

pytestmark = pytest.mark.slow
MAKE = Path(__file__).parents[2] / "paper" / "make.py"
SMALL = {"contexts": 4, "questions": 1, "lengths": (1000,), "methods": ("direct", "rlm")}


def test_a_run_and_a_folder_of_runs_have_figures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, together, out = tmp_path / "alone", tmp_path / "together", tmp_path / "paper"
    write_run(alone, {}, run_id="alone", **SMALL)
    for task in ("needle", "multihop"):
        folder = write_run(together / task, {"seed": task}, run_id=task, **SMALL)
        table = pd.read_parquet(folder / "results.parquet")
        table.assign(task=task).to_parquet(folder / "results.parquet")
    runpy.run_path(str(MAKE))["main"]([alone, together], out)
    assert capsys.readouterr().out == "alone: 1 run\ntogether: 2 runs\n"
    names = {path.name for path in (out / "figures").iterdir()}
    assert {f"alone_score_vs_length.{s}" for s in ("pdf", "png", "csv")} <= names
    assert "together_paired_forest.pdf" in names
    text = (out / "tables/together_method_by_task.tex").read_text("utf-8")
    assert text.startswith("% together: code abc123\n")
    assert r"multihop 1,000 (n 4) & needle 1,000 (n 4) \\" in text
    assert (out / "tables/alone_costs.tex").is_file()


PAPER = MAKE.parent
#: What the text of the results may say in digits by hand: lengths, sizes of models, intervals, the
#: depth of an RLM, a temperature, the names of hypotheses.
BY_HAND = re.compile(
    r"\bH\d\b|[Dd]epth~\d|temperature~0\.7|\b\d+(?:\.\d+)?(?:[KMB]|~?tokens)\b|95\\?,?~?\\%"
)


def expanded(text: str) -> str:
    """A LaTeX text with its own short forms of ``\\val`` written out."""
    for name, prefix in re.findall(r"\\newcommand\{\\(\w)\}\[1\]\{\\val\{(\S+?)#1\}\}", text):
        text = re.sub(rf"\\{name}\{{([^}}]*)\}}", rf"\\val{{{prefix}\1}}", text)
    return text


def unprinted(text: str) -> list[str]:
    """Numbers in a LaTeX text that no command prints."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    text = re.sub(
        r"\\(?:val|input|includegraphics|label|ref|cite)(?:\[[^]]*\])?\{[^}]*\}", "", text
    )
    return re.findall(r"\d[\d.,]*", BY_HAND.sub("", text))


def test_the_numbers_of_the_paper_are_those_of_the_runs() -> None:
    make = runpy.run_path(str(MAKE))
    assert (PAPER / "numbers.tex").read_text("utf-8") == make["macros"](make["EVIDENCE"])
    results = expanded((PAPER / "results.tex").read_text("utf-8"))
    text = (PAPER / "paper.tex").read_text("utf-8") + results
    known = {name for name, _ in make["numbers"](make["EVIDENCE"])}
    assert set(re.findall(r"\\val\{([^}#]+)\}", text)) <= known
    results = re.sub(r"\\newcommand.*", "", results)
    assert unprinted(results) == []


def test_a_number_written_by_hand_is_found() -> None:
    assert unprinted(r"At 16K tokens \val{a/rlm/16/score} % 3") == []
    assert unprinted(r"It scores 72\,\%, not \val{a/rlm/16/score}, with 1.5B.") == ["72"]


def test_a_number_is_found_by_run_arm_length_and_measure(tmp_path: Path) -> None:
    make = runpy.run_path(str(MAKE))
    write_run(tmp_path / "one", {}, run_id="one", **SMALL)
    write_summary(tmp_path / "one")
    named = dict(make["numbers"](tmp_path))
    results = pd.read_parquet(tmp_path / "one" / "results.parquet")
    rlm = results[results["method"] == "rlm"]
    assert named["one/rlm/1000/score"] == f"{100 * rlm['score'].mean():.0f}"
    assert named["one/rlm/1000/n"] == "4"
    assert named["one/rlm-direct/1000/difference"][0] in "+-"
    line = r"\expandafter\def\csname val:one/rlm/1000/n\endcsname{4}"
    assert line in make["macros"](tmp_path).splitlines()


def test_readmes_results_are_what_the_runs_say() -> None:
    """Its two tables as they are made, and the figures of its text."""
    make = runpy.run_path(str(MAKE))
    known = dict(make["numbers"](make["EVIDENCE"]))
    text = (PAPER.parent / "README.md").read_text("utf-8")
    result = text.partition("## First results")[2].partition("\n## ")[0]
    for table in make["first_results"](known):
        assert table in result
    joined = " ".join(result.split())
    needle = "needle-985bb97aff/rlm"
    scores = [int(v) for k, v in known.items() if re.fullmatch(rf"{needle}/\d+/score", k)]
    assert f"it finds {min(scores)} to {max(scores)} %" in joined
    windows = ("aggregation-229bdfa857/rlm-direct/1650", "aggregation-2c6059de52/rlm-direct/3300")
    for at in (f"{needle}-rag_bm25/0", *windows):
        points = "{} points, {} to {}".format(*(known[f"{at}/{k}"] for k in make["POINTS"]))
        assert points.replace("-", "−") in joined, at
    for arm in ("direct", "rag_bm25", "summarize_map_reduce", "codeact"):
        both = (known[f"aggregation/rlm-{arm}/0/{k}"] for k in make["POINTS"])
        assert re.search(
            r"{} against [\w ]+ \({} to {}\)".format(*map(re.escape, both)),
            joined.replace("−", "-"),
        )
    shares = (known[f"aggregation-0fcf822001/{arm}/1650/score"] for arm in ("rlm", "direct"))
    assert "score {} % by the RLM and {} % by one prompt".format(*shares) in joined
    unread = (known[f"aggregation-b1c7b396ee/cheat_count/{n}/score"] for n in (1650, 3300))
    assert "lines counted unread have {} and {} %".format(*unread) in joined
    assert f'"{known["aggregation/rlm/0/decision"]}"' in joined
