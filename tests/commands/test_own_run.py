"""The commands that README gives for one's own documents, from the files to a verdict."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from rlm_eval import load_results
from rlm_eval.commands.cli import run_command

#: As README says them, after the one that installs.
README = Path(__file__).parents[2] / "README.md"
COMMANDS = re.findall(
    r"^(python -m rlm_eval task=own .*)$", README.read_text("utf-8"), re.MULTILINE
)
#: A stand-in for the embedded model, and a sandbox that starts at once.
QUICK = ["model=scripted", "sandbox.level=none", "results_dir=runs"]
LEASES = 8


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each, in a folder with documents and questions on them."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    rows = []
    for i in range(LEASES):
        text = "The tenant keeps the garden. " * 40
        Path(f"docs/lease-{i}.md").write_text(f"# Lease {i}\nIt runs for {i + 12} months. {text}")
        asked = "For how many months does the lease run?"
        rows.append({"question": asked, "answer": i + 12, "file": f"lease-{i}.md"})
    Path("docs/letter.html").write_text("<p>Signed by <b>Ada Smith</b> and Ben Jones.</p>")
    rows.append({"question": "Who signed the letter?", "answer": ["Ada Smith", "Ben Jones"]})
    Path("questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [shlex.split(line)[3:] for line in COMMANDS]


def test_three_commands_from_install_to_a_verdict(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, go = commands
    assert run_command([*plan, *QUICK]) == 0
    told = capsys.readouterr().out
    scored = "9 questions on 9 contexts, scored by number (8), contains (1), as the answers suggest"
    assert scored in " ".join(told.split())
    assert "36 results to make (0 are there), 9 contexts" in told
    assert not Path("runs").exists()
    assert run_command([*go, *QUICK]) == 0
    shown = capsys.readouterr()
    assert scored in shown.err
    assert "9 questions in 9 contexts" in " ".join(shown.out.split()), "the verdict"
    run = shown.out.strip().splitlines()[-1]
    assert f"would go to: {run}" in told
    rows = load_results(run)
    assert rows.groupby("method").size().to_dict() == dict.fromkeys(rows.method, 9)
    assert set(rows.score_rule) == {"number", "contains"}
    assert rows.groupby("method").context_id.nunique().tolist() == [9] * 4


def test_a_changed_document_is_asked_again_in_a_run_of_its_own(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    go = [*commands[1], *QUICK, "method=[direct]"]
    assert run_command(go) == 0
    run = capsys.readouterr().out.strip().splitlines()[-1]
    allowed = "allow_targets=[rlm_eval.repl.session,rlm_eval.tasks.own]"
    assert run_command(["resume", run, allowed]) == 0
    assert "this run is finished" in capsys.readouterr().err
    lease = Path("docs/lease-0.md")
    lease.write_text(lease.read_text().replace("# Lease 0", "# Old lease"))
    assert run_command(["resume", run, allowed]) == 2
    assert "(configuration, prompts or data)" in capsys.readouterr().err
    Path("docs/[draft] plan.docx").write_bytes(b"\0")
    assert run_command([*go, "dry_run=true"]) == 0
    told = capsys.readouterr().out
    assert "link out: [draft] plan.docx" in " ".join(told.split())
    assert "2 results to make (7 are there, 7 of them in other runs)" in told, (
        "the folder's as well"
    )
    assert f"would go to: {run}\n" not in told


def test_what_a_pilot_answered_is_seen_beside_all_questions(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It knew no constant, for want of other questions, and its sub-model was another."""
    go = [*commands[1], *QUICK, "method=[direct]"]
    assert run_command([*go, "task.n=1", "sub_model=scripted", "sub_model.name=tiny"]) == 0
    frames = []
    for place in ("runs", "fresh"):
        capsys.readouterr()
        assert run_command([*go, f"results_dir={place}"]) == 0
        shown = capsys.readouterr()
        assert ("1 results reused" in shown.err) == (place == "runs")
        rows = load_results(shown.out.strip().splitlines()[-1]).set_index("sample_id").sort_index()
        frames.append(rows[["arm", "sub_model", "constant_score", "skill"]])
    pd.testing.assert_frame_equal(*frames)


def test_controls_work_as_for_other_tasks(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    go = [*commands[1], *QUICK, "method=[no_context,code_oracle,cheats]"]
    assert run_command(go) == 0
    rows = load_results(capsys.readouterr().out.strip().splitlines()[-1])
    assert (rows[rows.method == "cheat_whole_context"].score < 1).all()
    assert rows[rows.question_group == "number"].constant_score.notna().all()


def test_what_is_wrong_starts_nothing(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("questions.jsonl").open("a") as stream:
        stream.write('\n{"question": "Which?", "answer": 5, "file": "lease-99.md"}')
    assert run_command([*commands[1], *QUICK]) == 2
    told = capsys.readouterr()
    assert told.err == (
        "rlm_eval: task.questions questions.jsonl line 10: docs/lease-99.md can't be read: "
        "No such file or directory\n"
    )
    assert not told.out
    assert not Path("runs").exists()


def test_a_judge_is_forecast_and_its_prompt_is_looked_for(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = [*commands[0], *QUICK, "task.scorer=judge", "task.judge_repeats=3", "method=[direct]"]
    assert run_command(plan) == 0
    told = capsys.readouterr().out
    assert "9 questions on 9 contexts, scored by judge (9)" in told
    assert "(judge)" in told
    assert run_command([*plan, "task.judge=nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
