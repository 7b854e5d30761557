"""Coding agents as methods: mini-swe-agent, OpenCode and Claude Code, run by ``host.py``, each with
its own prompts and tools, with the input in its prompt or offloaded into a file of its folder.

Whether that file, and not recursion, is what helps is the strongest doubt about RLMs (arXiv
2512.24601, third version, table 1). Their shell and their files are within the engine's
confinement; telemetry, updates and all other network are off.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.methods.foreign.packages import HOST, HostedEngine, PackagedEngine
from rlm_eval.methods.prompts import load_prompt
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Problem, Role


@dataclass(kw_only=True)
class CodingAgent(HostedEngine):
    """``context``: the input is in the ``prompt``, or in a ``file`` (documents: a folder of files).
    ``max_turns``: model calls of its own loop; those of sub-agents are not counted. ``beside``:
    files that are put into its folder, such as commands that search, or notes for agents."""

    prompt: str = "plain"
    context: Literal["prompt", "file"] = "file"
    max_turns: int = 50
    beside: list[str] = field(default_factory=list)

    by_wire: ClassVar[bool] = True
    #: Where it writes its answer; None where that is what it says last.
    answer_file: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loaded_prompt = load_prompt("agent", self.prompt)
        at_least(1, max_turns=self.max_turns)
        taken = {"context", "context.txt", self.answer_file}
        for path in self.beside:
            if not os.path.isfile(path):
                raise ConfigError(f"must be files: there is no {path}", key="beside")
            if (name := os.path.basename(path)) in taken:
                raise ConfigError(f"there is another {name}", key="beside")
            taken.add(name)

    def prompt_name(self) -> str:
        return f"{self.version()}, {self.context}"

    def prompt_source(self) -> str:
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.beside]
        return "\n".join([self.version(), self.loaded_prompt.source, *digests])

    def own_files(self) -> Sequence[str]:
        return [HOST, *map(os.path.abspath, self.beside)]

    def settings(self) -> Mapping[str, Any]:
        return {**super().settings(), "beside": [*map(os.path.abspath, self.beside)]}

    def most_turns(self) -> int:
        return self.max_turns + 1  # one for a last word: OpenCode asks for it, and insists on none

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        self._asked("", *(("-", 0, "") if self.context == "file" else ("", 0, "-")))
        super().check(models)

    def _asked(self, question: str, place: str, chars: int, context: str) -> str:
        """What it is told, with the ``context`` or the ``place`` where that is."""
        shown = {"question": question, "place": place, "chars": f"{chars:,}", "context": context}
        told = self.loaded_prompt.messages(**shown, answer_file=self.answer_file)
        if len(told) != 1:
            raise ConfigError("must have one turn: an agent is told one text", key="prompt")
        return told[0]["content"]

    def files(self, problem: Problem) -> Mapping[str, str]:
        content, text = problem.context.content, problem.context.text
        if self.context == "prompt":
            return {"TASK_FILE": self._asked(problem.question, "", 0, text)}
        place = "The file context.txt" if isinstance(content, str) else "The folder context"
        told = self._asked(problem.question, place, len(text), "")
        return {"TASK_FILE": told, "DOCUMENTS_FILE": json.dumps(content, default=dict)}


@dataclass(kw_only=True)
class MiniSweAgent(CodingAgent, PackagedEngine):
    """mini-swe-agent (mini-swe-agent.com, PyPI). ``config`` is the file of its own that has its
    prompts: ``mini`` calls a tool, ``mini_textbased`` writes its command between fences."""

    config: Literal["mini", "mini_textbased"] = "mini"

    name: ClassVar[str] = "mini_swe_agent"
    package: ClassVar[str] = "mini-swe-agent"
    answer_file: ClassVar[str | None] = "answer.txt"
    taken: ClassVar[frozenset[str]] = frozenset({"step_limit"})

    def most_calls(self) -> tuple[int, int] | None:
        return self.max_turns, 0


@dataclass(kw_only=True)
class InstalledAgent(CodingAgent):
    """An agent that is one program, found on PATH. ``program``: another place where it lies;
    ``arguments`` are further ones of its own, ``environment`` further variables."""

    turn_tokens: int = 4096
    program: str = ""
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    #: Its program and its package of npm.
    command: ClassVar[str]

    def found(self) -> str:
        path = shutil.which(self.program or self.command)
        if path is None:
            told = f"{self.program or self.command} is not on PATH: npm install -g {self.package}"
            raise ConfigError(told, key="program")
        return os.path.realpath(path)

    def version(self) -> str:
        return f"{self.name} {_version(self.found())}"

    def own_files(self) -> Sequence[str]:
        return [*super().own_files(), self.found()]

    def settings(self) -> Mapping[str, Any]:
        return {**super().settings(), "program": self.found()}


@dataclass(kw_only=True)
class OpenCode(InstalledAgent):
    """OpenCode (opencode.ai). Its sub-agents are a depth of their own."""

    name: ClassVar[str] = "opencode"
    package: ClassVar[str] = "opencode-ai"
    command: ClassVar[str] = "opencode"


@dataclass(kw_only=True)
class ClaudeCode(InstalledAgent):
    """Claude Code, speaking Anthropic's dialect to whatever model the run has. What it gives to its
    small model is the sub-model's, its sub-agents a depth of their own."""

    name: ClassVar[str] = "claude_code"
    package: ClassVar[str] = "@anthropic-ai/claude-code"
    command: ClassVar[str] = "claude"


@cache
def _version(program: str) -> str:
    """The first word of ``--version`` with a digit. Raises ConfigError where it doesn't run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{program} does not run: {error}", key="program") from None
    words = [word for word in done.stdout.split() if any(map(str.isdigit, word))]
    if done.returncode or not words:
        raise ConfigError(f"{program} --version says no version", key="program")
    return words[0]
