"""The seam between an agent's turns and its method: what ends a run."""

from __future__ import annotations

from typing import Protocol

from rlm_eval.methods.agent.code import Parsed
from rlm_eval.models.client import Completion
from rlm_eval.repl.session import BlockResult, ReplSession


class UnclearFinalError(ValueError):
    """A final answer that can't be told for certain. The message is for the model."""


class Ending(Protocol):
    """``setup`` code runs before the first turn; ``in_block`` looks after each block and
    ``in_reply`` after all blocks of a turn; either returns the answer once it is final."""

    @property
    def setup(self) -> str: ...

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None: ...

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        """``failed``: some of the reply's code did. Raises UnclearFinalError, which the model is
        told by the template ``unclear``."""
