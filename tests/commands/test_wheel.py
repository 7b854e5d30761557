"""What a user installs: the built wheel, in an environment of its own, away from this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["model=scripted", "task=aggregation", "task.lengths=[2000]", "task.n=1"]


def test_every_folder_with_code_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join((*prefix, *file.parent.relative_to(ROOT).parts))
        for top, prefix in (("rlm_eval", ()), ("tasks", ("rlm_eval",)), ("conf", ("rlm_eval",)))
        for file in (ROOT / top).rglob("*.py")
    }
    assert found == packages


@pytest.mark.slow
def test_a_built_wheel_runs_the_main_job(tmp_path: Path) -> None:
    """Its dependencies are those that this environment has installed."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = tmp_path / "source"
    for name in ("rlm_eval", "tasks", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("README.md", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    offline = ("--no-build-isolation", "--no-deps", "-q")
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "env")
    binaries = tmp_path / "env" / "bin"
    run(binaries / "pip", "install", "-q", "--no-deps", wheel)
    (packages,) = (tmp_path / "env" / "lib").glob("*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(binaries / "python", "-c", "import rlm_eval; print(rlm_eval.__file__)")
    assert where.startswith(str(packages))
    for command in ([binaries / "python", "-m", "rlm_eval"], [binaries / "rlm-eval"]):
        out = run(*command, *SMALL, f"results_dir={tmp_path / command[0].name}")
        run_dir = Path(out.splitlines()[-1])
        assert (run_dir / "results.parquet").is_file()
    assert "\ntask=needle " in run(binaries / "rlm-eval", "list", "task")
    assert run(binaries / "rlm-eval", "report", run_dir).strip().endswith("report.html")
