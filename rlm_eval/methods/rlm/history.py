"""What the root model has been told so far, kept within its window.

Old outputs shrink first, then old turns go, oldest first; the REPL's state is untouched and the
task itself always stands at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.models.protocol import Message, assistant, user
from rlm_eval.repl.capture import cut

#: Characters of an old output that stay when it has to shrink.
_SHRUNK = 160
_GONE = "[Earlier turns were dropped. The variables they set are still there.]"


@dataclass(frozen=True)
class Turn:
    """A reply and what the REPL said to it."""

    reply: str
    observation: str


class History:
    """The chat of one RLM. User and assistant always alternate: some servers insist."""

    def __init__(self, opening: Sequence[Message]) -> None:
        self._opening = list(opening)
        self._turns: list[Turn] = []

    def add(self, reply: str, observation: str) -> None:
        self._turns.append(Turn(reply or "(empty reply)", observation))

    def messages(self, fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
        """The longest form of the chat that ``fits``; the shortest one if none does."""
        messages = self._rendered(0, 0)
        count = len(self._turns)
        for shrunk in range(1, count + 1):
            if fits(messages):
                return messages
            messages = self._rendered(shrunk, 0)
        for gone in range(1, count):
            if fits(messages):
                return messages
            messages = self._rendered(count, gone)
        return messages

    def _rendered(self, shrunk: int, gone: int) -> list[Message]:
        """The chat with the first ``shrunk`` observations cut and the first ``gone`` turns out."""
        out = list(self._opening)
        if gone:
            out[-1] = user(f"{out[-1]['content']}\n\n{_GONE}")
        for number, turn in enumerate(self._turns[gone:], gone):
            text = cut(turn.observation, _SHRUNK) if number < shrunk else turn.observation
            out += [assistant(turn.reply), user(text)]
        return out
