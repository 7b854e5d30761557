"""What the start of a run needs and reads, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.journal.journal import FILE_NAME
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.runs.assemble import assemble
from rlm_eval.runs.forecast import pilot_command
from rlm_eval.runs.run import carry_out_parts

SMALL = ["model=scripted", "task=needle", "task.lengths=[500]", "task.n=2"]


def test_a_run_that_forecasts_nothing_starts_without_pandas(tmp_path: Path) -> None:
    """Up to the first call of a model, which here ends the process."""
    code = f"""
import sys
from rlm_eval.models import scripted
def script(messages):
    print([m for m in ("pandas", "scipy", "datasets", "matplotlib") if m in sys.modules])
    sys.stdout.flush()
    import os; os._exit(0)
scripted.default_script = script
from rlm_eval.commands.cli import run_command
run_command({[*SMALL, "method=[direct]", "concurrency=1", f"results_dir={tmp_path}"]!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stderr


def test_arms_with_equal_sandboxes_share_one() -> None:
    second = ["+method@method.rlm_d0=rlm", "method.rlm_d0.max_depth=0"]
    third = ["+method@method.other=rlm"]
    tree = compose_tree([*SMALL, "method=[rlm,codeact]", *second, *third])
    sandbox = tree["method"]["other"]["sandbox"]
    tree["method"]["other"]["sandbox"] = sandbox | {"limits": {"block_seconds": 7.0}}
    config = check_config(tree)
    sandboxes = {arm.name: arm.method.sandbox for arm in assemble(config).arms}  # type: ignore[attr-defined]
    assert sandboxes["rlm"] is sandboxes["codeact"] is sandboxes["rlm_d0"]
    assert sandboxes["other"] is not sandboxes["rlm"]


def test_a_dry_run_starts_no_process_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    arguments = [*SMALL, "method=[rlm,codeact,direct]", f"results_dir={tmp_path}", "dry_run=true"]
    assert run_command(arguments) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "a: [", "- 1"])
def test_a_neighbour_with_a_broken_configuration_is_passed_over(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text(text)
    arguments = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "dry_run=true"]
    assert run_command(arguments) == 0
    assert "2 results to make" in capsys.readouterr().out


def test_each_journal_is_read_once_at_the_start_and_once_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [*SMALL, "method=[direct]", f"results_dir={tmp_path}"]
    assert run_command(first) == 0
    reads: Counter[str] = Counter()
    opened = Path.open

    def counting(self: Path, *arguments: object, **named: object) -> object:
        if self.name == FILE_NAME and arguments[:1] in ((), ("rb",), ("r",)):
            reads[self.parent.name] += 1
        return opened(self, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    assert run_command([*first, "seed=1"]) == 0
    assert [reads[path.name] for path in tmp_path.iterdir()] == [1, 1]


def test_the_runs_seconds_begin_when_its_models_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waited = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + waited[0])

    class Slow(ScriptedModel):
        def open(self) -> None:
            waited[0] = 1000.0

    words = [*SMALL, "method=[direct]", f"results_dir={tmp_path}", "budget.run.seconds=600"]
    parts = assemble(check_config(compose_tree(words)))
    assert carry_out_parts(replace(parts, models={"root": Slow()})) == 0


def test_a_missing_file_of_the_users_own_is_no_run_that_was_moved(tmp_path: Path) -> None:
    class Mine:
        def build(self) -> list[str]:
            return [(tmp_path / "mine.csv").read_text()]

    parts = assemble(check_config(compose_tree([*SMALL, "method=[direct]"])))
    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        carry_out_parts(replace(parts, task=Mine()), tmp_path / "run")


@pytest.mark.parametrize("words", [[], ["-m", "seed=1,2"], ["--basetemp=here"], ["ask", "Why?"]])
def test_words_that_are_no_runs_make_no_pilot(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["rlm_eval", *words])
    assert pilot_command() == "a run of the same settings with task.n=2 stop_on_forecast=false"
