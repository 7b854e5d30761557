"""The house keeps its shape: who may import whom, and what the entry never loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rlm_eval

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
    "redaction": set(),
    "journal": {"records", "errors", "redaction"},
    "evidence": {"records"},
    "tables": {"records", "journal", "evidence"},
    "past": {"records", "journal", "ledger"},
    "methods": {"records", "errors", "tokens", "ledger", "models", "repl"},
    "analysis": {"records", "errors", "journal"},
    "config": {"records", "errors"},
    "environment": set(),
    "breaker": {"records"},
    "judging": {"records", "errors", "ledger", "models", "methods"},
    "sealing": {"records"},
    "runner": {
        *("records", "errors", "ledger", "models", "methods", "journal"),
        *("breaker", "judging", "sealing"),
    },
    "tasks": {"records", "errors", "tokens"},
    "compose": {"errors", "config"},
    # -- a run, from its configuration to its folder
    "assemble": {
        *("records", "errors", "ledger", "models", "methods", "config", "environment"),
        *("judging", "sealing", "runner"),
    },
    "serving": {"records", "models", "journal", "config", "assemble"},
    "provenance": {
        *("records", "redaction", "atomic", "environment", "config", "assemble", "serving"),
    },
    "experience": {"records", "errors", "analysis"},  # past runs, read as the analysis reads them
    "forecast": {
        *("records", "errors", "tokens", "ledger", "models", "methods", "judging", "runner"),
        *("assemble", "experience"),
    },
    "plan": {
        *("ledger", "analysis", "past", "atomic", "config", "judging", "assemble", "experience"),
        *("forecast",),
    },
    "progress": {"records"},
    "interrupts": set(),
    "atomic": set(),
    "finish": {"journal", "analysis", "tables", "assemble", "provenance", "interrupts"},
    "run": {
        *("records", "errors", "ledger", "models", "journal", "past", "sealing", "config"),
        *("assemble", "forecast", "plan", "provenance", "serving", "runner", "interrupts"),
        *("progress", "finish"),
    },
    # -- commands
    "cli": {"errors", "config", "compose", "run"},
    "help": set(),
    "resume": {"errors", "compose", "cli"},
    "report": {"errors", "analysis"},
    "compare": {"errors", "analysis"},
    "fit": {"errors", "config"},
    "merge": {"records", "errors", "journal", "tables", "analysis", "fit", "compose"},
    "rescore": {
        *("records", "errors", "journal", "tables", "config", "judging", "sealing", "compose"),
    },
    "replay": {"errors", "journal", "tables", "analysis", "rescore"},
    "__main__": {"cli", "help"},
    "__init__": {"analysis"},
}
#: Each package of methods/ and the others there that it may import from. Single modules may be
#: imported by all, but for methods, which the router alone knows.
METHODS_MAY_IMPORT = {
    "agent": set(),
    "foreign": {"agent"},
    "rag": set(),
    "summarize": set(),
}
#: In a built package these two lie inside it.
OUTSIDE = {"conf", "tasks"}


def rooms_imported(file: Path, within: str = "rlm_eval") -> set[str]:
    """The rooms of ``within``, one level down, that a file imports, in any of its functions."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
            if node.module == within:
                names = [f"{within}.{a.name}" for a in node.names]
        inside = [n.removeprefix(f"{within}.") for n in names if n.startswith(f"{within}.")]
        out |= {name.split(".")[0] for name in inside}
    return out


def files_of(room: str) -> list[Path]:
    if room == "tasks":
        return sorted(TASKS.rglob("*.py"))
    module = PACKAGE / f"{room}.py"
    return [module] if module.exists() else sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_dependencies_point_one_way(room: str) -> None:
    assert files_of(room), room
    for file in files_of(room):
        if file.name == "export.py" and room == "tasks":
            continue  # a command of its own: it composes the configuration
        extra = rooms_imported(file) - MAY_IMPORT[room] - {room}
        assert not extra, f"{file} imports {extra}"


def test_methods_that_are_packages_keep_apart() -> None:
    found = {file.parent.name for file in (PACKAGE / "methods").glob("*/__init__.py")}
    assert found == set(METHODS_MAY_IMPORT)
    for package, allowed in METHODS_MAY_IMPORT.items():
        barred = {*METHODS_MAY_IMPORT, "router", "rlm", "codeact"} - allowed - {package}
        for file in files_of(f"methods/{package}"):
            extra = rooms_imported(file, "rlm_eval.methods") & barred
            assert not extra, f"{file} imports {extra}"


def test_every_room_has_its_place_and_they_form_no_circle() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or [*p.glob("*.py")]}
    assert rooms - OUTSIDE == MAY_IMPORT.keys() - OUTSIDE
    TopologicalSorter(MAY_IMPORT).prepare()


def test_nothing_in_the_package_imports_tasks_statically() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "tasks" not in rooms_imported(file), file


def test_only_one_file_imports_litellm() -> None:
    users = [
        file.name
        for file in PACKAGE.rglob("*.py")
        if any(
            isinstance(n, ast.Import) and any(a.name.split(".")[0] == "litellm" for a in n.names)
            for n in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        )
    ]
    assert users == ["litellm_client.py"]


def test_the_entry_loads_nothing_heavy() -> None:
    code = (
        "import sys, rlm_eval.cli, rlm_eval.__main__;"
        "print([m for m in ('pandas','litellm','datasets','matplotlib','scipy','hydra','torch')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_is_called_utils_and_most_are_short() -> None:
    files = [*PACKAGE.rglob("*.py"), *TASKS.rglob("*.py")]
    assert not [f for f in files if f.stem in {"utils", "helpers", "misc", "common"}]
    lengths = [len(f.read_text(encoding="utf-8").splitlines()) for f in files]
    assert max(lengths) <= 400
    assert sum(n > 300 for n in lengths) <= len(lengths) // 10
