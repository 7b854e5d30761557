"""Engines that ``host.py`` runs in a process of their own, and of these the RLM engines that are
Python packages: rlms and dspy.RLM."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from rlm_eval.errors import ConfigError, InvalidAnswer, at_least
from rlm_eval.methods.foreign.engine import ForeignEngine, Given
from rlm_eval.methods.foreign.process import PYTHON
from rlm_eval.methods.method import SUB_CALLS_A_TURN
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role

HOST = os.path.join(os.path.dirname(os.path.realpath(__file__)), "host.py")


@dataclass(kw_only=True)
class HostedEngine(ForeignEngine):
    """An engine that the host knows by its ``name``."""

    #: The package as pip knows it, which is also the extra that installs it.
    package: ClassVar[str]

    def version(self) -> str:
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            told = f'{self.package} is not installed: pip install -e ".[{self.package}]"'
            raise ConfigError(told) from None

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        self.version()
        super().check(models)

    def settings(self) -> Mapping[str, Any]:
        """What the host is told: the settings by their names."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def argv(self) -> Sequence[str]:
        return [PYTHON, "-P", HOST, self.name]

    def setup(self) -> Mapping[str, str]:
        return {"SETTINGS_FILE": json.dumps(self.settings())}

    def own_files(self) -> Sequence[str]:
        return [HOST]

    def read(self, output: bytes, *, asked: bool) -> Given | None:
        try:
            data = json.loads(output)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict):
            return None
        if isinstance(data.get("refused"), str) and not asked:
            raise ConfigError(f"not taken by {self.version()}: {data['refused']}", key="kwargs")
        if not isinstance(data.get("text"), str):
            raise InvalidAnswer(f"{self.version()} gave no text but {data.get('text')!r:.100}")
        # Blocks as far as they are well formed: it may say anything.
        given = data["blocks"] if isinstance(data.get("blocks"), list) else []
        keys = ("code", "output", "error")
        blocks = [{k: str(b.get(k) or "") for k in keys} for b in given if isinstance(b, dict)]
        return Given(data["text"], data.get("forced") is True, blocks)


@dataclass(kw_only=True)
class PackagedEngine(HostedEngine):
    """``kwargs``: further keyword arguments of the engine's constructor, passed on as they are."""

    kwargs: dict[str, Any] = field(default_factory=dict)

    #: Constructor arguments that the host gives itself.
    taken: ClassVar[frozenset[str]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if taken := sorted(self.taken & self.kwargs.keys()):
            raise ConfigError("can't be set: the harness gives it", key=f"kwargs.{taken[0]}")


@dataclass(kw_only=True)
class Rlms(PackagedEngine):
    """rlms, the RLM paper's reference implementation (github.com/alexzhang13/rlm), with its own
    prompts and its default environment, which runs model-written code inside the engine's process.

    ``instructions`` stand in place of its system prompt. ``max_depth`` as rlms counts: 1 has plain
    sub-calls, from 2 on ``rlm_query`` starts a child RLM.
    """

    instructions: str | None = None
    max_depth: int = 1
    max_iterations: int = 30

    assumed: ClassVar[bool] = True
    name: ClassVar[str] = "rlms"
    package: ClassVar[str] = "rlms"
    taken: ClassVar[frozenset[str]] = frozenset(
        {
            *("backend", "backend_kwargs", "other_backends", "other_backend_kwargs"),
            *("environment", "environment_kwargs", "depth", "max_depth", "max_iterations"),
            *("logger", "persistent", "custom_tools", "custom_sub_tools", "verbose"),
            "custom_system_prompt",
        }
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, max_depth=self.max_depth, max_iterations=self.max_iterations)

    def most_calls(self) -> tuple[int, int]:
        turns = self.max_iterations + 1  # the last for an answer, as rlms asks for it
        below = (turns * SUB_CALLS_A_TURN) ** self.max_depth
        return turns + below * (self.max_depth > 1), below  # its children ask the root's model


@dataclass(kw_only=True)
class DspyRlm(PackagedEngine):
    """``dspy.RLM("context, query -> answer")`` (dspy.ai) with dspy's own prompts and adapters.
    ``instructions`` stand before its own.

    Model-written code runs in a Python process beside the engine's, not in dspy's default, Pyodide
    under Deno, which is fetched at run time. dspy's caches and retries are off: the harness has
    both.
    """

    instructions: str | None = None
    max_iterations: int = 20
    max_llm_calls: int = 50

    name: ClassVar[str] = "dspy_rlm"
    package: ClassVar[str] = "dspy"
    taken: ClassVar[frozenset[str]] = frozenset(
        {"signature", "max_iters", "max_llm_calls", "sub_lm", "interpreter_factory", "tools"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, max_iterations=self.max_iterations, max_llm_calls=self.max_llm_calls)

    def most_calls(self) -> tuple[int, int]:
        # What its first adapter can't read it asks for anew, by another.
        return 2 * (self.max_iterations + 1), self.max_llm_calls
