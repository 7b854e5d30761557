"""Engines that are Python packages: found, and run by a host script in the engine's process.

A host script prints one JSON object as all of its output: ``text``, ``forced`` and ``blocks``, or
``refused`` when the engine's constructor did not take its settings. Annotations are objects here,
as in ``engine``.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from rlm_eval.errors import ConfigError, InvalidAnswer
from rlm_eval.methods.foreign.engine import ForeignEngine, Said
from rlm_eval.methods.foreign.process import PYTHON
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role

_HERE = os.path.dirname(os.path.realpath(__file__))


@dataclass(kw_only=True)
class HostedEngine(ForeignEngine):
    """``kwargs``: further keyword arguments of the engine's constructor, passed on as they are."""

    kwargs: dict[str, Any] = field(default_factory=dict)

    #: The package as pip knows it, which is also the extra that installs it.
    package: ClassVar[str]
    #: The host script beside this file.
    script: ClassVar[str]
    #: Constructor arguments that the host gives itself.
    taken: ClassVar[frozenset[str]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if taken := sorted(self.taken & self.kwargs.keys()):
            raise ConfigError(
                f"method.{self.name}.kwargs.{taken[0]} can't be set: the harness gives it"
            )

    def settings(self) -> Mapping[str, Any]:
        """What the host script is told."""
        return {"kwargs": self.kwargs, "seconds": self.seconds}

    def version(self) -> str:
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            raise ConfigError(
                f'method.{self.name} needs {self.package}: pip install -e ".[{self.package}]"'
            ) from None

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        self.version()
        super().check(models)

    def argv(self) -> Sequence[str]:
        return [PYTHON, "-P", self._path(), json.dumps(self.settings())]

    def own_files(self) -> Sequence[str]:
        return [self._path()]

    def _path(self) -> str:
        return os.path.join(_HERE, self.script)

    def read(self, output: bytes, *, asked: bool) -> Said | None:
        try:
            data = json.loads(output)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict):
            return None
        if isinstance(data.get("refused"), str) and not asked:
            raise ConfigError(f"method.{self.name}: {self.version()}: {data['refused']}")
        if not isinstance(data.get("text"), str):
            raise InvalidAnswer(f"{self.version()} gave no text but {data.get('text')!r:.100}")
        return Said(data["text"], data.get("forced") is True, _blocks(data.get("blocks")))


def _blocks(given: Any) -> list[dict[str, str]]:
    """The blocks as far as they are well formed: the engine's process may say anything."""
    if not isinstance(given, list):
        return []
    keys = ("code", "output", "error")
    return [
        {key: str(item.get(key) or "") for key in keys} for item in given if isinstance(item, dict)
    ]
