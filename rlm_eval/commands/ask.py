"""``rlm-eval ask FILE… "QUESTION"``: one question about your own files, looked on at turn by turn.

An RLM answers, or the arms that ``method=`` names. It is recorded as any run, and has no score.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_eval.commands.cli import composed
from rlm_eval.config.check import check_config
from rlm_eval.config.spelling import Arguments
from rlm_eval.errors import ConfigError
from rlm_eval.journal.journal import write_atomically
from rlm_eval.journal.past import read_trajectory
from rlm_eval.records import content_hash, plain
from rlm_eval.runs.assemble import Parts, assemble
from rlm_eval.runs.progress import Watched
from rlm_eval.runs.run import Host, carry_out_parts, redactor_of
from rlm_eval.tasks.datasets.dataset import shorten
from rlm_eval.tasks.documents import read_file, read_folder

_SETTING = re.compile(r"[+~]{0,2}[\w.@/-]+=")


@dataclass(frozen=True)
class Answer:
    """What ``method`` said, recorded in the run ``folder``. Where ``text`` is None, ``outcome`` and
    ``error`` say why. ``cost_usd`` is None without a price; ``trajectory`` are an agent's turns,
    code, output and sub-calls (methods/agent/trace.py)."""

    method: str
    folder: Path
    trajectory: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    outcome: str = "not asked"
    error: str = ""
    tokens: int = 0
    cost_usd: float | None = None

    def __str__(self) -> str:
        return self.text if self.text is not None else f"no answer ({self.outcome}) {self.error}"


def read_documents(paths: Sequence[str | Path]) -> str | dict[str, str]:
    """The text of one file, or texts by name, of a folder all of its own but for what is left out,
    which is named on standard error; ``-`` is standard input. Raises ConfigError where one can't be
    read as text."""
    texts: dict[str, str] = {}
    for path in map(Path, paths):
        if str(path) == "-":
            try:
                texts["-"] = sys.stdin.buffer.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ConfigError(f"standard input is not in UTF-8 ({error.reason})") from error
        elif path.is_dir():
            inside, skipped = read_folder(path, leave_out=path)
            texts |= {f"{path}/{name}": text for name, text in inside.items()}
            if skipped:
                left_out = shorten(", ".join(f"{path}/{name}" for name in skipped), 300)
                print(plain(f"left out, since binary or a link out: {left_out}"), file=sys.stderr)
        else:
            texts[str(path)] = read_file(path)
    return texts.popitem()[1] if len(texts) == 1 else texts


def asked(content: str | Mapping[str, str], question: str, overrides: Sequence[str]) -> Parts:
    """The run that asks ``question`` about ``content``; both are kept beside it, in a file of the
    results folder. Raises ConfigError before anything is written."""
    texts = [content] if isinstance(content, str) else [*content.values()]
    if not question.strip() or not "".join(texts).strip():
        raise ConfigError("ask takes files (-: standard input) with text in them, then a question")
    if taken := [o for o in overrides if o.startswith("task=")]:
        raise ConfigError(f"{taken[0]}: ask has a task of its own, these files: leave it out")
    chosen = any(o.startswith(("method=", "experiment=")) for o in overrides)
    # One question that somebody watches is asked until its cap is spent, whatever the bound.
    preset = ["task=asked", "stop_on_forecast=false", *([] if chosen else ["method=[rlm]"])]
    tree = composed([*preset, *overrides])
    kept = {"question": question, "content": content}
    path = Path(tree["results_dir"]) / ".asked" / f"{content_hash(kept)}.json"
    tree["task"]["path"] = str(path)
    parts = assemble(check_config(tree))
    parts.task.kept = kept
    if not tree["dry_run"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, redactor_of(parts.config)(json.dumps(kept, ensure_ascii=False)))
    return parts


def answered(parts: Parts, host: Host) -> tuple[int, list[Answer]]:
    """The exit code of the run, and what each arm said (when it was asked last)."""
    code = carry_out_parts(parts, host=host)
    table = parts.folder / "results.parquet"
    if parts.config["dry_run"] or not table.is_file():
        return code, []
    from rlm_eval.analysis.load import load_run

    rows = load_run(parts.folder).results.sort_values("repeat", kind="stable")
    found = {}
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        events = read_trajectory(parts.folder, row["result_key"])
        said = [row[name] for name in ("answer", "outcome", "error", "tokens", "cost_usd")]
        found[row["method"]] = Answer(row["method"], parts.folder, tuple(events), *said)
    return code, [*found.values()]


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output, everything else on standard error. The exit code is a run's."""
    parser = Arguments(
        "ask",
        "Have an RLM answer a question about files (-: standard input). The answer "
        "goes to standard output, what happens meanwhile to standard error. 'method=[rlm,direct]' "
        "asks both; model=, budget.run.usd= and all other settings are as for a run.",
        usage='rlm-eval ask FILE... "QUESTION" [key=value ...]',
    )
    parser.add_argument("words", nargs="*", metavar="FILE... QUESTION")
    settings = [a for a in arguments if _SETTING.match(a) and not os.path.exists(a)]
    rest = [a for a in arguments if a not in settings]
    *files, question = parser.parse_args(rest).words or [""]
    if files and os.path.exists(question):
        raise ConfigError(f"{question} is a file: the last word must be the question")
    parts = asked(read_documents(files), question, settings)
    print(plain(f"asking {parts.root.info.name} about {', '.join(files)}"), file=sys.stderr)
    code, answers = answered(parts, Host(Watched, prints=False))
    if answers:
        run = shlex.quote(str(parts.folder))
        print(f"recorded: rlm-eval report {run}", file=sys.stderr, flush=True)
    for answer in answers:
        if answer.text is not None:
            print(plain(f"{answer.method}:\n{answer}" if len(answers) > 1 else str(answer)))
        else:
            print(plain(f"{answer.method}: {answer}"), file=sys.stderr)
    return code
