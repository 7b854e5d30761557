"""What may be chosen, and the settings of a choice with their comments; modules of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from rlm_eval.commands.cli import run_command
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree, jobs_of
from rlm_eval.config.spelling import groups, options


def test_every_choice_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    wanted = [
        f"{group}={name}"
        for group in groups()
        if group not in ("prompt", "budget")
        for name in options(group)
    ]
    assert [line.split()[0] for line in lines] == wanted
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), "each says what it is"
    assert {"task=needle", "method=hosted/rlm", "experiment=evidence/length"} <= {*wanted}
    assert run_command(["list", "models"]) == 0
    one = capsys.readouterr().out.splitlines()
    assert one == [line for line in lines if line.startswith("model=")]


def test_cfg_prints_what_would_run_with_the_comments(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["model=gpt-5", "method=[hosted/rlm,direct]", "task=needle", "task.n=7"]
    texts = []
    for flags in (["--cfg"], ["--cfg", "job"], ["-c", "job"]):
        assert run_command([*chosen[:2], *flags, *chosen[2:]]) == 0
        texts.append(capsys.readouterr().out)
    assert len({*texts}) == 1
    tree, want = yaml.safe_load(texts[0]), compose_tree(chosen)
    assert (tree["model"], tree["task"]["n"]) == (want["model"], 7)
    assert list(tree["method"]) == ["rlm", "direct"]
    lines = texts[0].splitlines()
    for key, comment in {
        "  question_at: after": "    # before it, or on both sides.",
        "model:": "# It refuses every temperature but its own, so it is sent none.",
        "  context_window: 272000": "  # Tokens of prompt and answer together.",
        "    memory_mb: 4096": "    # address space of one worker, contexts included",
        "repeats: 1": "# How often each sample is asked of each method.",
    }.items():
        at = next(i for i, line in enumerate(lines) if line.strip() == key.strip())
        assert lines[at - 1].strip() == comment.strip(), lines[at - 2 : at + 1]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    for i, line in enumerate(lines[:-1]):
        if line.lstrip().startswith("#"):
            assert indents[i] == indents[i + 1], line


def test_cfg_of_a_preset_that_sweeps_prints_each_of_its_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    preset = "experiment=ablation/memoize"
    assert run_command([preset, "--cfg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.startswith((f"# {preset}", "memoize: "))]
    first, second = (f"# {' '.join(job)}" for job in jobs_of([preset]))
    assert shown == [first, "memoize: true", second, "memoize: false"]


def test_a_module_in_the_working_directory_is_found_once_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console script has its own folder on the path, and not this one."""
    (tmp_path / "my_own_methods.py").write_text(
        "from rlm_eval.methods.direct import Direct\n\n\nclass Mine(Direct):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    mine = ["method=[direct]", "method.direct._target_=my_own_methods.Mine"]
    check_config(compose_tree([*mine, "allow_targets=[my_own_methods]"]))
    assert sys.modules["my_own_methods"].__file__ == str(tmp_path / "my_own_methods.py")
