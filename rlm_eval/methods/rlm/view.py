"""What a root model is shown: metadata of the context, what its code printed, nudges.

The context itself is never shown; of it, only its two ends.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rlm_eval.methods.prompts import Prompt
from rlm_eval.methods.rlm.structure import structure_of
from rlm_eval.models.protocol import Message, user
from rlm_eval.repl.capture import cut
from rlm_eval.repl.results import BlockResult
from rlm_eval.repl.texts import Loadable


@dataclass(frozen=True)
class Enabled:
    """What an RLM at one depth may do: all that its prompt speaks of and its REPL offers.

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
class Task:
    """What one RLM works on: ``content`` is a str, documents in order, or texts by name."""

    question: str
    content: Loadable
    max_answer_tokens: int

    @cached_property
    def text(self) -> str:
        """The content as one string, documents under their number or name."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, Mapping):
            return "\n\n".join(f"{name}:\n{text}" for name, text in self.content.items())
        return "\n\n".join(f"Document {i}:\n{text}" for i, text in enumerate(self.content, 1))

    @property
    def metadata(self) -> dict[str, Any]:
        """Type, size and structure; sizes in characters. ``items`` is None for a str."""
        content, kind = self.content, "str"
        texts: Sequence[str] = (content,) if isinstance(content, str) else ()
        if isinstance(content, Mapping):
            kind, texts = "dict of str", tuple(content.values())
        elif not isinstance(content, str):
            kind, texts = "list of str", content
        return {
            "kind": kind,
            "items": None if kind == "str" else len(texts),
            "lengths": [len(text) for text in texts],
            "lines": self.text.count("\n") + 1,
            "chars": len(self.text),
            "structure": structure_of(self.text),
        }


@dataclass(frozen=True)
class View:
    """Fills a prompt file's templates for one RLM. Sizes are characters."""

    prompt: Prompt
    enabled: Enabled
    output_chars: int
    preview_head: int
    preview_tail: int

    def previews(self, task: Task) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where the two shown ends of the task's text begin and end."""
        size = len(task.text)
        head = min(size, self.preview_head)
        return (0, head), (max(head, size - self.preview_tail), size)

    def opening(self, task: Task) -> list[Message]:
        """The chat before the first turn."""
        head, tail = (task.text[start:end] for start, end in self.previews(task))
        return self.prompt.messages(
            **asdict(self.enabled),
            **task.metadata,
            question=task.question,
            head=head,
            tail=tail,
        )

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
