"""README's Python example with the embedded model, statement by statement, as Markdown:

python tests/benchmarks/session.py > results/published/own/notebook.md

The file, the question, the model and the lengths are others; what a notebook would show of the last
expression of a cell stands behind each statement.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[2]
INSTEAD = {
    '"contract.txt"': '"CONTRIBUTING.md"',
    '"Who may end the contract?"': '"Which command runs the tests that are not slow?"',
    '"gpt-5-mini"': '"local"',
    '{"task.n": 4}': '{"task.n": 4, "task.lengths": [1024], "results_dir": FOLDER}',
    'model="local")\nprint': 'model="local", results_dir=FOLDER)\nprint',
}


def main() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## From Python\n+```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    code = found[1]
    for there, here in INSTEAD.items():
        assert there in code, there
        code = code.replace(there, here)
    print("# README's Python example, run\n")
    print("`python tests/benchmarks/session.py`: the embedded model, a demonstration.")
    print("FOLDER is a temporary one.\n\n```")
    pd.set_option("display.width", 100, "display.max_colwidth", 60)
    with tempfile.TemporaryDirectory() as folder:
        names: dict[str, Any] = {"FOLDER": folder}
        shutil.copy(ROOT / "CONTRIBUTING.md", folder)
        with contextlib.chdir(folder):
            for statement in ast.parse(code).body:
                print(f">>> {ast.unparse(statement)}")
                said = io.StringIO()
                with contextlib.redirect_stdout(said):
                    if isinstance(statement, ast.Expr):
                        value = eval(ast.unparse(statement), names)
                        if value is not None:
                            print(value if isinstance(value, pd.DataFrame) else repr(value))
                    else:
                        exec(ast.unparse(statement), names)
                print(said.getvalue().replace(folder, "FOLDER"), end="")
    print("```")


if __name__ == "__main__":
    main()
