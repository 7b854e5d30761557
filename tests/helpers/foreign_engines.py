"""Small foreign engines, and what tests of any need."""

from __future__ import annotations

import secrets
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.chat import Script, Table, problem, scripted
from rlm_eval.ledger import Budget
from rlm_eval.methods.foreign.command import ForeignCommand
from rlm_eval.methods.foreign.process import why_not_confined
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Content

confined_only = pytest.mark.skipif(bool(why_not_confined()), reason=why_not_confined())
both_ways = pytest.mark.parametrize(
    "isolation", [pytest.param("confined", marks=confined_only), "none"]
)

#: A client of the proxy in the standard library: ask(text, model) gives a reply's text.
CLIENT = """
import json, os, sys, urllib.request
def ask(text, model="root", **more):
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]
question = open(os.environ["QUESTION_FILE"]).read()
context = open(os.environ["CONTEXT_FILE"]).read()
"""


def python_engine(folder: Path, code: str, **settings: Any) -> ForeignCommand:
    file = folder / f"engine_{secrets.token_hex(4)}.py"
    file.write_text(CLIENT + textwrap.dedent(code))
    return ForeignCommand(command=[sys.executable, str(file)], **settings)


def shout(messages: Sequence[Message]) -> str:
    return messages[-1]["content"].upper()


def answer_of(
    method: Any, script: Script = shout, content: Content = "alpha\nbeta\n", **budget: Any
) -> tuple[Answer, Table]:
    table = Table(scripted(script))
    method.check({"root": table.client.model("root").info})
    got = method.answer(problem("How many?", content), table.lm(), table.ledger(Budget(**budget)))
    return got, table


def running(marker: str) -> list[int]:
    """The processes with ``marker`` on their command line, in whatever namespace."""
    out = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                out.append(int(path.parent.name))
        except OSError:
            continue
    return out


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()
