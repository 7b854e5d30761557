"""The house keeps its shape: who may import whom, and what the entry never loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rlm_eval
from rlm_eval.records import Problem

PACKAGE = Path(rlm_eval.__file__).parent
TASKS = PACKAGE.parent / "tasks"
#: Each room and the rooms of rlm_eval it may import from (itself always).
MAY_IMPORT = {
    "records": set(),
    "errors": {"records"},
    "tokens": {"errors"},
    "ledger": {"errors"},
    "models": {"records", "errors", "tokens", "ledger"},
    "repl": {"records", "errors"},
    "journal": {"records", "errors", "ledger"},
    "config": {"records", "errors", "journal"},
    "methods": {"records", "errors", "tokens", "ledger", "models", "repl"},
    "tasks": {"records", "errors", "tokens"},
    "analysis": {"records", "errors", "journal"},
    "runs": {
        *("records", "errors", "tokens", "ledger", "models", "journal", "config", "methods"),
        "analysis",
    },
    "commands": {
        *("records", "errors", "ledger", "models", "journal", "config", "methods"),
        *("analysis", "runs", "tasks"),
    },
    "__main__": {"commands"},
    "__init__": {"errors", "analysis", "commands"},
}
#: The files of runs/ that read the analysis: past runs for a forecast, and the summary at the end.
READ_ANALYSIS = {"experience.py", "plan.py", "run.py"}
#: The most files and folders in a folder, and the most lines of a file.
MOST_ENTRIES, MOST_LINES = 14, 400
#: Each package of methods/ and the others there that it may import from. Single modules may be
#: imported by all, but for methods.
METHODS_MAY_IMPORT = {
    "agent": set(),
    "foreign": {"agent"},
    "rag": set(),
    "summarize": set(),
}
#: In a built package these two lie inside it.
OUTSIDE = {"conf", "tasks"}


def imported(file: Path) -> set[str]:
    """What a file imports, in any of its functions, by its whole name. Relative imports, which
    only tasks may have, stay in tasks."""
    names, depth = set[str](), len(file.relative_to(TASKS).parts) if TASKS in file.parents else 0
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"{file} has a relative import"
            names |= {f"{node.module}.{a.name}" for a in node.names if not node.level}
    return names


def rooms_imported(file: Path, within: str = "rlm_eval") -> set[str]:
    """The rooms of ``within``, one level down, that a file imports."""
    inside = [name for name in imported(file) if name.startswith(f"{within}.")]
    return {name.removeprefix(f"{within}.").split(".")[0] for name in inside}


def files_of(room: str) -> list[Path]:
    if room == "tasks":
        return sorted(TASKS.rglob("*.py"))
    module = PACKAGE / f"{room}.py"
    return [module] if module.exists() else sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_dependencies_point_one_way(room: str) -> None:
    assert files_of(room), room
    for file in files_of(room):
        extra = rooms_imported(file) - MAY_IMPORT[room] - {room}
        assert not extra, f"{file} imports {extra}"


def test_methods_that_are_packages_keep_apart() -> None:
    found = {file.parent.name for file in (PACKAGE / "methods").glob("*/__init__.py")}
    assert found == set(METHODS_MAY_IMPORT)
    for package, allowed in METHODS_MAY_IMPORT.items():
        barred = {*METHODS_MAY_IMPORT, "rlm", "codeact"} - allowed - {package}
        for file in files_of(f"methods/{package}"):
            extra = rooms_imported(file, "rlm_eval.methods") & barred
            assert not extra, f"{file} imports {extra}"


def test_a_method_is_given_no_gold_and_does_not_know_what_has_it() -> None:
    given = {"sample_id", "question", "context", "max_answer_tokens", "query", "watch"}
    assert {field.name for field in fields(Problem)} == given
    for file in files_of("methods"):
        assert "rlm_eval.records.Sample" not in imported(file), file


def test_every_room_has_its_place_and_they_form_no_circle() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or [*p.glob("*.py")]}
    assert rooms - OUTSIDE == MAY_IMPORT.keys() - OUTSIDE
    TopologicalSorter(MAY_IMPORT).prepare()


def test_nothing_but_commands_imports_tasks_statically() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "tasks" not in rooms_imported(file) or file.parent.name == "commands", file


def test_only_one_file_imports_litellm() -> None:
    users = [
        file.name
        for file in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "litellm" for name in imported(file))
    ]
    assert users == ["litellm_client.py"]


def test_what_some_builds_of_python_lack_is_not_used() -> None:
    """Conda's and older ones of uv: cpython's configure found no such call in their old headers."""
    for file in PACKAGE.rglob("*.py"):
        assert not re.search(r"os\.(pidfd|memfd)", file.read_text("utf-8")), file


def test_the_entry_loads_nothing_heavy() -> None:
    code = (
        "import sys, rlm_eval, rlm_eval.commands.ask, rlm_eval.__main__; rlm_eval.ConfigError;"
        "print([m for m in ('pandas','litellm','datasets','matplotlib','scipy','hydra','torch')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_of_a_run_only_forecast_and_summary_read_the_analysis() -> None:
    readers = {f.name for f in files_of("runs") if "analysis" in rooms_imported(f)}
    assert readers <= READ_ANALYSIS


def test_no_folder_is_crowded_and_no_file_is_long() -> None:
    for top in (PACKAGE, TASKS):
        for folder in (top, *(p for p in top.rglob("*") if p.is_dir())):
            inside = [p for p in folder.iterdir() if p.name not in {"__pycache__", *OUTSIDE}]
            if folder.name != "__pycache__":
                assert len(inside) <= MOST_ENTRIES, folder
        for file in top.rglob("*"):
            if file.suffix in {".py", ".js", ".css"}:
                assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file
                assert file.stem not in {"utils", "helpers", "misc", "common"}, file
