"""What an agent may do, and what it is shown after each turn: what its code printed, nudges."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlm_eval.methods.prompts import Prompt
from rlm_eval.models.protocol import Message, user
from rlm_eval.repl.capture import cut
from rlm_eval.repl.results import BlockResult


@dataclass(frozen=True)
class Enabled:
    """What an agent may do: all that its prompt speaks of and its REPL offers.

    ``max_iterations`` are turns; ``recursive``: its sub-calls may be RLMs themselves;
    ``sub_window`` and ``sub_tokens``: the sub-model's window and longest reply, in its tokens.
    """

    protocol: str
    max_iterations: int
    sub_calls: bool
    batch: bool
    recursive: bool
    sub_window: int
    sub_tokens: int


@dataclass(frozen=True)
class View:
    """Fills a prompt file's templates for one agent. Sizes are characters."""

    prompt: Prompt
    enabled: Enabled
    output_chars: int

    def observation(self, result: BlockResult, given: Container[str]) -> str:
        """A block's output, cut, with its full length; its error; the variables there are, less
        those ``given`` to every run."""
        output = result.stdout
        if result.value is not None:
            output += result.value
        if result.stderr:
            output += f"\n[stderr]\n{result.stderr}"
        output = output.strip()
        return self.text(
            "observation",
            output=cut(output, self.output_chars),
            output_chars=result.stdout_chars + result.stderr_chars,
            truncated=len(output) > self.output_chars or result.stdout_chars > len(result.stdout),
            error=result.error,
            interrupted=result.interrupted,
            state=result.state,
            variables=[v for v in result.variables if v.name not in given],
        )

    def asked(self, messages: Sequence[Message], key: str, **values: Any) -> list[Message]:
        """The chat with the template ``key`` added to its last message."""
        last = f"{messages[-1]['content']}\n\n{self.text(key, **values)}"
        return [*messages[:-1], user(last)]

    def text(self, key: str, **values: Any) -> str:
        """One of the prompt's other templates."""
        return self.prompt.text(key, **asdict(self.enabled), **values)
