"""What a run is recorded to have been made with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import rlm_eval


def test_an_installed_package_does_not_claim_the_revision_of_the_checkout_around_it(
    tmp_path: Path,
) -> None:
    """As in a virtual environment inside the user's own repository."""
    repository, packages = tmp_path / "mine", tmp_path / "mine" / "venv"
    source = Path(rlm_eval.__file__).parent
    shutil.copytree(source, packages / "rlm_eval", ignore=shutil.ignore_patterns("__pycache__"))
    (repository / ".gitignore").write_text("venv\n")
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "mine"]):
        subprocess.run([*git, *words], check=True)
    assert _recorded(packages, tmp_path / "installed") is None
    subprocess.run([*git, "add", "-f", "venv"], check=True)
    subprocess.run([*git, "commit", "-qm", "a checkout of it"], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    assert _recorded(packages, tmp_path / "checkout") == head


def _recorded(packages: Path, folder: Path) -> object:
    folder.mkdir()
    code = (
        "from pathlib import Path; from rlm_eval.journal.environment import write_environment;"
        f"write_environment(Path({str(folder)!r}), {{}}, str)"
    )
    environment = {**os.environ, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=packages, check=True)
    return json.loads((folder / "environment.json").read_text("utf-8"))["git"]
