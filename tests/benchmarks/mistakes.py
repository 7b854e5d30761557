"""Seventy and more mistakes on the command line, and the one line that each gets.

    python tests/benchmarks/mistakes.py > results/published/benchmarks/mistakes.md

The first half was thought up before anybody looked at the code. Those with a server meet one on
loopback, which the run asks once before it spends anything.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.fake_provider import FakeProvider
from rlm_eval.commands.cli import COMMANDS, run_command

#: What is typed, and what the line must say at least.
BEFORE = {
    "--task needle": "task=needle",
    "--task=needle": "task=needle",
    "-n 5": "task.n=5",
    "--dry-run": "dry_run=true",
    "n=5": "did you mean task.n?",
    "lengths=[4000]": "did you mean task.lengths?",
    "dry_run": "dry_run=true",
    "task = needle": "write task=needle",
    "task= needle": "write task=needle",
    "needle": "task=needle",
    "method=rlm,direct": "'method=[rlm,direct]'",
    "method=[rlm, direct]": "'method=[rlm,direct]'",
    "experiment=hosted experiment=ladder": "would replace experiment=hosted",
    "'method=[rlm,rlm]'": "'+method@method.rlm_2=rlm'",
    "task=needel": "did you mean needle?",
    "'method=[rml]'": "did you mean rlm?",
    "model=gpt5": "did you mean gpt-5?",
    "model=openai/gpt-4o": "model=litellm model.name=openai/gpt-4o",
    "model=gpt-4o": "model=litellm model.name=PROVIDER/gpt-4o",
    "taks=needle": "did you mean task?",
    "methods=[rlm]": "did you mean method?",
    "task.length=[4000]": "did you mean task.lengths?",
    "task.lengths=4000": "task.lengths=[4000]",
    "task.lengths=[4k]": "valid integer",
    "task.n=five": "valid integer",
    "task.n=0": "at least 1",
    "temperature=hot": "valid number",
    "budget.run.usd=-5": "greater than 0",
    "budget.usd=5": "budget.run.usd",
    "seed=abc": "valid integer",
    "sandbox=docker": "there is no sandbox",
    "method.rlm.max_dept=1": "did you mean method.rlm.max_depth?",
    "'method=[rlm]' method.direct.overflow=refuse": "no method.direct, only rlm",
    "task=": "choose aggregation",
    "task=needle,pairs": "-m makes a run of each",
    "seed=1,2": "'seed=[1,2]' is a list, and -m makes a run of each",
    "report": "required: RUN",
    "report results/runs/nope": "does not exist",
    "repport results/runs/x": "did you mean report?",
    "resume results/runs/nope": "is no run",
    "run task=needle": "a run needs none",
    "model=vllm": "give model.name=VALUE (--cfg",
    "model=vllm model.name=x model.api_base=localhost:8000/v1": "like http://localhost:8000/v1",
}
AFTER = {
    "'method=[rlm,hosted/rlm]'": "'+method@method.rlm_2=hosted/rlm'",
    "+method@method.rlm=codeact": "'+method@method.rlm_2=codeact'",
    "experiment=ladder +method@method.rlm_d0=codeact": "there is an arm rlm_d0 already",
    "+method@rlm_d0=rlm": "'+method@method.rlm_d0=rlm'",
    "~method": "no such choice to leave out",
    "'method=[]'": "no method is left",
    "experiment=hostd": "did you mean hosted?",
    "experiment=evidence/aggregaton": "did you mean evidence/aggregation?",
    "sub_model=gpt5": "did you mean gpt-5?",
    "judge_model=litellm": "judge_model.name is missing",
    "'method=[rag_dense]' model=scripted": "embed_model=minilm",
    "'+method@method.d0=rlm' method.d0.max_dept=0": "did you mean method.d0.max_depth?",
    "model=gpt-5 'model.params={reasoning_effort: low}'": "plus, +model.params=VALUE",
    "model=gpt-5 model.params.reasoning_effort=low": "plus, +model.params.reasoning_effort=VALUE",
    "model=gpt-5 sub_model.timeout_s=9": "plus, +sub_model.timeout_s=VALUE",
    "budget=5": "budget.run.usd=5",
    "budget.run=5": "budget.run.usd=5",
    "budget.run.dollars=5": "budget.run.tokens, budget.run.usd",
    "budget.run.usd=5USD": "valid number",
    "model.api_key=sk-0123456789abcdef0123": "put it in an environment variable",
    "--api-key sk-0123456789abcdef0123": "put it in an environment variable",
    "+model.params.temperature=0": "use the run's temperature",
    "model=gpt-5 model.price.input=-1": "must be US dollars per million tokens",
    "'task.lengths=[4000,8000'": "a bracket is missing",
    "task.lengths=[]": "must be a list such as",
    "task.n=2,": "ends with a comma",
    "temperature=None": "temperature=null",
    "dry_run=maybe": "valid boolean",
    "concurrency=0": "greater than or equal to 1",
    "allow_targets=my_tasks": "allow_targets=[my_tasks]",
    "task._target_=my_tasks.Guests": "allow_targets=[my_tasks]",
    "task._target_=nope.Guests 'allow_targets=[nope]'": "No module named 'nope'",
    "method.rlm.prompt=nope": "choose compact",
    "method.rlm.prompt=mine.yaml": "copy it from",
    "method.rlm.protocol=final": "'submit', 'final_variable'",
    "task=needle task.variant=singl_1": "choose one of single_1",
    "task=exported task.path=nope.jsonl": "is no file",
    "model.gguf=/nope.gguf": "there is no file /nope.gguf",
    "compare results/runs/x": "required: RUN_B",
    "merge results/runs/x --out both": "two runs or more",
    "report --onefile results/runs/x": "did you mean --one-file?",
    "list modle": "did you mean model?",
}
SMALL = "task=needle task.lengths=[300] task.n=1 method=[direct]"
#: With a server: what else is typed, how it meets the first request, and what the line must say.
SERVED = {
    "model=gpt-5": ("ok", "set the environment variable OPENAI_API_KEY"),
    "model=vllm model.name=real model.api_base=SERVER/v1 model.api_key_env=KEY": (
        "401",
        "Set KEY, or model.api_key_env",
    ),
    "model=vllm model.name=reel model.api_base=SERVER/v1": ("404", "set model.name=real"),
    "model=vllm model.name=real model.api_base=SERVER": ("404", "answers at SERVER/v1"),
    "model=vllm model.name=real model.api_base=SERVER/v1": ("ok", "set model.context_window=4096"),
    "model=openai_compatible model.name=x model.api_base=SERVER/v1": (
        "own_temperature",
        "set model.own_temperature=true",
    ),
    "model=litellm model.name=opnai/gpt-4o": ("ok", "as openai/gpt-5-mini"),
    "model=vllm model.name=real model.api_base=http://127.0.0.1:9/v1 retry.attempts=1": (
        "ok",
        "Start it, or set model.api_base",
    ),
}


@dataclass(frozen=True)
class Mistake:
    typed: str
    told: str
    contact: str = ""


def mistakes() -> list[Mistake]:
    own = [Mistake(typed, told) for typed, told in (BEFORE | AFTER).items()]
    return own + [Mistake(typed, told, contact) for typed, (contact, told) in SERVED.items()]


def line_of(mistake: Mistake, folder: Path) -> str:
    """What is said of it in ``folder``. Raises AssertionError for more than a line, and where
    anything is run."""
    (folder / "mine.yaml").write_text("turns: []\n")
    models = [{"id": "real", "max_model_len": 4096}]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), FakeProvider(contact=mistake.contact, models=models) as server:
        address = server.api_base.removesuffix("/v1")
        words = shlex.split(mistake.typed.replace("SERVER", address))
        if mistake.contact:
            words += SMALL.split()
        elif words[0] not in COMMANDS:
            words.insert(0, "dry_run=true")  # should it be no mistake
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(words)
        assert not server.received
    said = [line for line in err.getvalue().splitlines() if not line.startswith("forecast: ")]
    assert (code, len(said), out.getvalue()) == (2, 1, ""), (code, said, out.getvalue())
    conf = Path(sys.modules["rlm_eval.conf"].__file__ or "").parent
    return said[0].replace(address, "SERVER").replace(str(conf), "conf")


def table() -> Iterator[str]:
    yield "# Mistakes"
    yield ""
    yield "`python tests/benchmarks/mistakes.py`: what is typed after `rlm-eval`, and the line it"
    yield f"gets; exit code 2, nothing is started. The first {len(BEFORE)} were thought up before"
    yield "anybody looked at the code. SERVER is one on loopback; with it, and for gpt-5, a small"
    yield "task is added. Under zsh an unquoted `method=[a,b]` never gets here: quote it, as in"
    yield "`'method=[a,b]'`."
    yield ""
    yield "| | typed | line |"
    yield "|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for number, mistake in enumerate(mistakes(), 1):
            yield row(number, mistake, line_of(mistake, Path(folder)))


def row(number: int, mistake: Mistake, line: str) -> str:
    return f"| {number} | `{mistake.typed}` | {line.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    os.environ.pop("OPENAI_API_KEY", None)
    os.environ["KEY"] = "wrong-key-0123456789"
    print("\n".join(table()))
