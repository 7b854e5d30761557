"""Where the answer is in a reply that was given room to think.

The prompt asks for it between ``<answer>`` and ``</answer>`` at the end: a form that no task's own
answer form contains (several ask for a line ``Answer: …``) and that may hold several lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlm_eval.models.client import Completion

_OPEN, _CLOSE = "<answer>", "</answer>"


@dataclass(frozen=True)
class Said:
    """The answer a reply gives, None where it gives none, and what was ``taken`` for it."""

    text: str | None
    taken: Literal["whole reply", "tag", "last line", "nothing"]


def final_answer(reply: Completion) -> Said:
    """What is in the last ``<answer>`` tag; without a tag the reply's last line, never all of its
    thoughts, in which a scorer that looks for substrings would find much. A reply that was cut off
    before its answer was complete has none."""
    cut_off = reply.finish_reason == "length"
    _, tag, rest = reply.text.rpartition(_OPEN)
    inside, closed, _ = rest.partition(_CLOSE)
    if tag and (closed or not cut_off):
        return Said(inside.strip(), "tag")
    lines = reply.text.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Said(None, "nothing") if cut_off or not last else Said(last, "last line")
