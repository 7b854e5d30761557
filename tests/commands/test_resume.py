"""``resume RUN`` goes on with that run, or says why it does not."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import rlm_eval.conf
from rlm_eval.commands.cli import run_command
from rlm_eval.config.compose import resuming
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


def test_a_run_goes_on_from_within_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what lies beside it."""
    run_dir = begun(tmp_path)
    assert run_command([*SMALL, "task.n=3", f"results_dir={tmp_path}"]) == 0
    monkeypatch.chdir(run_dir)
    capsys.readouterr()
    assert run_command(["resume", "."]) == 0
    assert "1 results reused from other runs" in capsys.readouterr().err
    assert len(past_of(run_dir).done) == 2


def test_a_changed_shard_begins_anew_where_shards_are_looked_for(tmp_path: Path) -> None:
    assert run_command([*SMALL, f"results_dir={tmp_path}", "shards=2"]) == 0
    (shards,) = tmp_path.glob("*.shards")
    old = shards.rename(tmp_path / "old.shards")
    other_sources(old / "1-of-2")
    assert run_command(["resume", str(old / "1-of-2"), "--changed"]) == 0
    assert [path.name for path in shards.iterdir()] == ["1-of-2"]
    assert sorted(path.name for path in old.iterdir()) == ["1-of-2", "2-of-2"]


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
    allowed = "allow_targets=[rlm_eval.methods.direct]"
    assert run_command(["resume", str(first), allowed]) == 2
    assert "configuration, prompts or data" in capsys.readouterr().err
    assert run_command(arguments) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert len(past_of(first).done) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "no config.yaml"), ("", "it holds no mapping"), ("a: [", "can't be read")],
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


def tampered(run_dir: Path, changes: Mapping[str, Any]) -> Path:
    """The run's folder as somebody else might have made it, with a permission of its own."""
    path = run_dir / "config.yaml"
    tree = {**yaml.safe_load(path.read_text()), "allow_targets": ["os", "rlm_eval", "subprocess"]}
    for key, value in changes.items():
        *above, last = key.split(".")
        node = tree
        for part in above:
            node = node[part]
        node[last] = value
    path.write_text(yaml.safe_dump(tree))
    return run_dir


FOREIGN = {"_target_": "rlm_eval.methods.foreign.command.ForeignCommand"}
WRITER = "rlm_eval.journal.journal"


@pytest.mark.parametrize(
    ("changes", "setting", "module"),
    [
        ({"model._target_": "os.mkdir"}, "model._target_=os.mkdir", "os"),
        ({"task": {"_target_": "os.mkdir", "path": "ran"}}, "task._target_=os.mkdir", "os"),
        (
            {"task": {"_target_": f"{WRITER}.write_atomically", "path": "ran", "text": "x"}},
            f"task._target_={WRITER}.write_atomically",
            WRITER,
        ),
        (
            {"method.direct": {**FOREIGN, "command": ["touch", "ran"], "isolation": "none"}},
            "method.direct.command=['touch', 'ran']; method.direct.isolation=none",
            "rlm_eval.methods.foreign.command",
        ),
        ({"sandbox.level": "none"}, "sandbox.level=none", "rlm_eval.repl.session"),
    ],
)
def test_code_that_a_folder_brings_along_is_allowed_on_the_command_line_alone(
    changes: Mapping[str, Any],
    setting: str,
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = tampered(begun(tmp_path), changes)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run_command(["resume", str(run_dir)]) == 2
    error = capsys.readouterr().err
    assert setting in error
    assert f"rlm-eval resume {run_dir} 'allow_targets=[{module}]'" in error
    assert not (tmp_path / "ran").exists()
    assert len(past_of(run_dir).done) == 1
    if "task" in changes:
        assert run_command(["replay", "--rescore", str(run_dir)]) == 2
        assert f"'allow_targets=[{module}]'" in capsys.readouterr().err
    if "_target_" in setting:  # it would be built, and is no task and no model
        return
    run_command(["resume", str(run_dir), f"allow_targets=[{module}]"])
    assert "reaches out of its folder" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.1/v1", False),
        ("http://[::1]:9", False),
        ("http://localhost:1@elsewhere.test/v1", True),
        ("http://localhost@elsewhere.test", True),
        ("http://127.0.0.1.elsewhere.test", True),
        (" https://elsewhere.test", True),
        ("huggingface/https://elsewhere.test/x", True),
    ],
)
def test_a_server_is_on_this_machine_or_elsewhere(
    address: str, elsewhere: bool, tmp_path: Path
) -> None:
    model = {"_target_": "rlm_eval.models.litellm_client.LitellmModel", "api_base": address}
    assert ("allow_targets" in resuming({"model": model}, tmp_path)) == elsewhere
    assert shlex.split(resuming({"model": model}, Path("my runs/x")))[4] == "my runs/x"


@pytest.mark.parametrize(
    ("settings", "reaches"),
    [
        ({"api_key_env": "MINE"}, True),
        ({"api_key_env": None}, False),
        ({"gguf": "private"}, True),
        ({"gguf": "nowhere"}, False),
        ({"readable": ["private"]}, True),
        ({"name": "private"}, False),
    ],
)
def test_keys_and_files_without_a_slash_are_allowed_there_too(
    settings: Mapping[str, Any], reaches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private").touch()
    model = {"_target_": "rlm_eval.models.local.model.LocalModel", **settings}
    assert ("allow_targets" in resuming({"model": model}, tmp_path)) == reaches


def test_files_and_servers_that_a_folder_names_are_allowed_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "private.txt").write_text("private " * 4000)
    monkeypatch.setenv("MINE_ALONE", "x" * 9)
    arguments = [*SMALL, f"task.haystack_file={tmp_path}/private.txt", "task.variant=single_2"]
    arguments += ["judge_model=litellm", "judge_model.name=openai/x"]
    arguments += ["judge_model.api_base=http://elsewhere.test/v1"]
    arguments += ["+judge_model.params.user=${oc.env:MINE_ALONE}"]
    assert run_command([*arguments, f"results_dir='{tmp_path / 'my runs'}'"]) == 0
    (run_dir,) = (tmp_path / "my runs").iterdir()
    capsys.readouterr()
    assert run_command(["resume", str(run_dir)]) == 2
    error = capsys.readouterr().err
    for setting in ("haystack_file=", "api_base=http://elsewhere", "user=${oc.env:MINE_ALONE}"):
        assert setting in error
    typed = shlex.split(error.partition("type: rlm-eval ")[2])
    assert run_command(typed) == 0
    assert "this run is finished" in capsys.readouterr().err
