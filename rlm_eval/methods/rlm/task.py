"""What one RLM works on, and what its root model is told of it before the first turn.

The context itself is never shown; of it, only its metadata and its two ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from rlm_eval.methods.agent.view import Enabled
from rlm_eval.methods.prompts import Prompt
from rlm_eval.methods.rlm.structure import structure_of
from rlm_eval.models.protocol import Message
from rlm_eval.records import Content, Span, documents_of, text_of

#: Of a dict's names, how many are shown, and how many characters of one.
_NAMES_SHOWN, _NAME_CHARS = 20, 80


@dataclass(frozen=True)
class Task:
    """What one RLM works on: ``content`` is a str, documents in order, or documents by name."""

    question: str
    content: Content
    max_answer_tokens: int

    @cached_property
    def text(self) -> str:
        """The content as one string, documents under their number or name."""
        return text_of(self.content)

    @property
    def metadata(self) -> dict[str, Any]:
        """Type, size and structure; sizes in characters. ``items`` is None for a str, ``names``
        (the first of a dict's) for all else but a dict.

        A dict is measured by what it holds. A list is measured as its numbered text: so it stood
        in the prompts when they were tuned.
        """
        content, texts = self.content, documents_of(self.content)
        named = isinstance(content, Mapping)
        kind = "str" if isinstance(content, str) else "dict of str" if named else "list of str"
        measured = "\n".join(texts) if named else self.text
        return {
            "kind": kind,
            "items": None if kind == "str" else len(texts),
            "names": _first_names(content) if isinstance(content, Mapping) else None,
            "lengths": [len(text) for text in texts],
            "lines": measured.count("\n") + 1,
            "chars": sum(map(len, texts)) if named else len(measured),
            "structure": structure_of(measured),
        }

    def previews(self, head: int, tail: int) -> tuple[Span, Span]:
        """The two ends of the text that are shown, of at most so many characters."""
        size = len(self.text)
        head = min(size, head)
        return (0, head), (max(head, size - tail), size)

    def opening(self, prompt: Prompt, enabled: Enabled, head: int, tail: int) -> list[Message]:
        """The chat before the first turn."""
        first, last = (self.text[start:end] for start, end in self.previews(head, tail))
        return prompt.messages(
            **asdict(enabled), **self.metadata, question=self.question, head=first, tail=last
        )


def _first_names(names: Iterable[str]) -> list[str]:
    """Some names as Python writes strings, long ones cut."""
    first = islice(names, _NAMES_SHOWN)
    return [repr(n if len(n) <= _NAME_CHARS else n[: _NAME_CHARS - 1] + "…") for n in first]
