"""``resume RUN`` goes on with that run, or says why it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rlm_eval.conf
from rlm_eval.commands.cli import run_command
from rlm_eval.journal.journal import FILE_NAME
from rlm_eval.journal.past import past_of

SMALL = ["model=scripted", "task=needle", "task.lengths=[500]", "task.n=2", "method=[direct]"]


def begun(results_dir: Path) -> Path:
    """A run with one of its two results."""
    assert run_command([*SMALL, f"results_dir={results_dir}"]) == 0
    (run_dir,) = (path.parent for path in results_dir.glob(f"*/{FILE_NAME}"))
    journal = run_dir / FILE_NAME
    lines = journal.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if '"type": "result"' in line)
    journal.write_text("".join(lines[:last]))
    assert len(past_of(run_dir).done) == 1
    return run_dir


def other_sources(run_dir: Path) -> None:
    """As if the run had been made by another version of two files."""
    path = run_dir / "environment.json"
    record = json.loads(path.read_text())
    record["sources"] |= {"rlm_eval.methods.direct": "0" * 16, "rlm_eval.tasks.gone": "1" * 16}
    record["fingerprints"]["direct"] = "2" * 16
    path.write_text(json.dumps(record))


def test_a_renamed_run_goes_on_where_it_is(tmp_path: Path) -> None:
    renamed = begun(tmp_path / "a").rename(tmp_path / "mine")
    assert run_command(["resume", str(renamed)]) == 0
    assert len(past_of(renamed).done) == 2
    assert [p.name for p in tmp_path.iterdir() if (p / FILE_NAME).exists()] == ["mine"]


def test_changed_sources_stop_it_unless_a_new_run_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = begun(tmp_path)
    old = run_dir.rename(tmp_path / "old")
    other_sources(old)
    journal = (old / FILE_NAME).read_bytes()
    capsys.readouterr()
    assert run_command(["resume", str(old)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "rlm_eval.methods.direct, rlm_eval.tasks.gone" in error
    assert "--changed" in error
    assert not run_dir.exists()
    assert run_command(["resume", str(old), "--changed"]) == 0
    assert "1 results reused" in capsys.readouterr().err
    assert len(past_of(run_dir).done) == 2
    assert (old / FILE_NAME).read_bytes() == journal


def test_a_changed_configuration_or_prompt_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = tmp_path / "mine.yaml"
    plain = Path(rlm_eval.conf.__file__).parent / "prompt" / "direct" / "plain.yaml"
    prompt.write_text(plain.read_text())
    arguments = [*SMALL, f"method.direct.prompt={prompt}", f"results_dir={tmp_path / 'runs'}"]
    assert run_command(arguments) == 0
    (first,) = (tmp_path / "runs").iterdir()
    prompt.write_text(prompt.read_text().replace("?", "??") + "\n# another\n")
    capsys.readouterr()
    assert run_command(["resume", str(first)]) == 2
    assert "its configuration or a prompt" in capsys.readouterr().err
    assert run_command(arguments) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert len(past_of(first).done) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "no config.yaml"), ("", "no run's configuration"), ("a: [", "can't be read")],
)
def test_what_is_no_run_is_one_line(
    tmp_path: Path, text: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    assert run_command(["resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert len(error.splitlines()) == 1


def test_a_first_word_that_is_no_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["repot", "x"]) == 2
    assert "there is no command 'repot': did you mean report?" in capsys.readouterr().err


@pytest.mark.slow
def test_every_command_has_help_and_is_quick_to_give_it() -> None:
    for name in ("report", "compare", "replay", "resume", "merge", "export"):
        code = (
            "import sys; sys.argv = ['rlm-eval', sys.argv[1], '--help']\n"
            "from rlm_eval.__main__ import main\n"
            "try: main()\n"
            "finally: print([m for m in ('pandas', 'litellm', 'hydra') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=False
        )
        assert f"usage: rlm-eval {name}" in done.stdout, done.stderr
        assert done.stdout.splitlines()[-1] == "[]", name
