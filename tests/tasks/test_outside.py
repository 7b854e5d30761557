"""Tasks and methods of a user's own, outside the package: the examples of README and CONTRIBUTING,
run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rlm_eval.methods.foreign.process import why_not_confined

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ["model=scripted", "results_dir=runs"]

TASK = """
from rlm_eval.records import Context
from rlm_eval.tasks.task import Generated


class Echo(Generated):
    name, scorer = "echo", "squad_em"

    def shortest(self):
        return 100

    def make(self, target, purpose, index):
        context = Context.of(f"word{index}")
        yield self.pair(context, target, question="Which word?", gold=(context.text,))

    def code_oracle(self, question: str, context: Context) -> str:
        return context.text
"""


def blocks(word: str) -> dict[str, str]:
    """The fenced blocks with ``word`` in them: those with a comment that names their file by that
    name, shell commands by ``$``."""
    text = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    found: dict[str, str] = {}
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        named = re.search(r"^# (\S+\.(?:py|yaml))$", body, re.MULTILINE)
        if word in body and (named or language == "bash"):
            found[named[1] if named else "$"] = body
    assert found, f"no example is called {word}"
    return found


def command(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs with this environment's ``python`` first, as if it were activated."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "rlm_eval", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": path},
    )


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def results_of(done: subprocess.CompletedProcess[str], folder: Path) -> pd.DataFrame:
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / done.stdout.strip().splitlines()[-1] / "results.parquet")


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    yaml = "_target_: mine.Echo\nlengths: [100]\nn: 2\n"
    write(tmp_path, {"mine.py": TASK, "conf_of_mine/task/echo.yaml": yaml})
    return tmp_path


ECHO = [*SMALL, "task=echo", "hydra.searchpath=[file://conf_of_mine]", "method=[direct]"]


def test_a_task_outside_the_package_runs_where_it_is_allowed(echo: Path) -> None:
    results = results_of(command([*ECHO, "allow_targets=[mine]"], echo), echo)
    assert results.task.tolist() == ["echo"] * 2
    assert results.gold.tolist() == ['["word0"]', '["word1"]']
    assert results.outcome.tolist() == ["answered"] * 2


def test_it_is_refused_in_one_line_where_it_is_not(echo: Path) -> None:
    done = command(ECHO, echo)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "task._target_=mine.Echo lies outside rlm_eval" in done.stderr
    assert "'allow_targets=[mine]'" in done.stderr
    assert not (echo / "runs").exists()


def test_the_task_in_readme_runs_as_it_stands(tmp_path: Path) -> None:
    files = blocks("arewell")
    shown = files.pop("$")
    lines = [line for text in files.values() for line in text.splitlines() if line.strip()]
    assert len(lines) <= 30
    write(tmp_path, files)
    arguments = shlex.split(shown.partition("-m rlm_eval")[2])
    done = command([*arguments, *SMALL, "method=[direct,rlm]"], tmp_path)
    results = results_of(done, tmp_path)
    assert set(results.outcome) <= {"answered", "forced"}
    assert results.score.notna().all()


def test_the_method_in_readme_runs_as_it_stands(tmp_path: Path) -> None:
    files = blocks("last_lines")
    arguments = shlex.split(files.pop("$").partition("-m rlm_eval")[2])
    assert sorted(files) == ["last_lines.py", "my_conf/method/last_lines.yaml"]
    write(tmp_path, files)
    short = ("task.lengths=[1024]", "task.n=2", "method=[last_lines]")
    done = command([*arguments, *SMALL, *short], tmp_path)
    results = results_of(done, tmp_path)
    assert results.method.tolist() == ["last_lines"] * 2
    assert results.iterations.tolist() == [1, 1]


def test_the_engine_in_readme_runs_as_it_stands(tmp_path: Path) -> None:
    """Confined where this machine can, and on one short question."""
    files = blocks("my_engine")
    arguments = shlex.split(files.pop("$").partition("-m rlm_eval")[2])
    lines = [line for line in files["my_engine.py"].splitlines() if line.strip()]
    assert len(lines) <= 12
    write(tmp_path, files)
    small = [*SMALL, "task.lengths=[1024]", "task.n=1"]
    small += ["method.foreign_command.isolation=none"] if why_not_confined() else []
    results = results_of(command([*arguments, *small], tmp_path), tmp_path)
    foreign = results[results.method == "foreign_command"].iloc[0]
    assert (foreign.outcome, foreign.calls, foreign.subcalls) == ("answered", 1, 0)
    assert foreign.answer
