"""Any executable engine as a method, whatever it is written in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import split
from typing import ClassVar

from rlm_eval.errors import ConfigError
from rlm_eval.methods.foreign.engine import ForeignEngine, Given
from rlm_eval.models.protocol import ModelInfo
from rlm_eval.records import Role


@dataclass(kw_only=True)
class ForeignCommand(ForeignEngine):
    """Runs ``command`` (a program and its arguments, a list or as one types it; no shell) once per
    sample. What it writes to standard output is the answer; another exit code than 0 is a failure.

    Files named in ``command`` are part of a result's key by their content and may be read by a
    confined engine. What else the engine is made of belongs in ``readable``, and its version in
    ``release``, so that another release is another result.
    """

    command: list[str] | str = field(default_factory=list)
    release: str = ""

    name: ClassVar[str] = "foreign_command"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.parts = self.command if isinstance(self.command, list) else split(self.command)
        except ValueError as error:  # a quote that is not closed
            raise ConfigError(f"{error}: {self.command}", key="command") from None
        if not self.parts:
            told = "must be the engine's program and arguments, as in 'python my_engine.py'"
            raise ConfigError(told, key="command")

    def version(self) -> str:
        return self.release or Path(self.own_files()[-1]).name

    def prompt_source(self) -> str:
        digests = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in self.own_files()]
        return "\n".join([self.version(), *digests])

    def check(self, models: Mapping[Role, ModelInfo]) -> None:
        if shutil.which(self.parts[0]) is None:
            raise ConfigError(f"names no program: {self.parts[0]}", key="command")
        super().check(models)

    def argv(self) -> Sequence[str]:
        program, *arguments = self.parts
        found = shutil.which(program) or program
        files = (os.path.abspath(a) if os.path.isfile(a) else a for a in arguments)
        return [os.path.abspath(found), *files]  # since it works in a folder of its own

    def own_files(self) -> Sequence[str]:
        return [part for part in self.argv() if os.path.isfile(part)]

    def read(self, output: bytes, *, asked: bool) -> Given | None:
        return Given(output.decode("utf-8", "replace").strip())
