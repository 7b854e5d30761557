"""What an agent has been told so far, kept within its window.

Old outputs shrink first, then old turns go, oldest first. What went stands in the REPL as a list,
whose other variables are untouched; the task itself always stands at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.models.protocol import Message, assistant, user
from rlm_eval.repl.capture import cut
from rlm_eval.repl.session import ReplSession

#: The REPL variable that holds turns which are no longer whole in the chat.
EARLIER = "earlier_turns"
#: Characters of an old output that stay when it has to shrink.
_SHRUNK = 160


@dataclass(frozen=True)
class Turn:
    """A reply and what the REPL said to it."""

    reply: str
    observation: str

    @property
    def text(self) -> str:
        return f"{self.reply}\n\n{self.observation}"

    def shrunk(self, number: int) -> str:
        """The observation where it has to be short, of the turn that is ``number`` in the list."""
        if len(self.observation) <= _SHRUNK:
            return self.observation
        return f"{cut(self.observation, _SHRUNK)}\n[Whole: {EARLIER}[{number}]]"


class History:
    """The chat of one agent. User and assistant always alternate: some servers insist."""

    def __init__(self, opening: Sequence[Message]) -> None:
        self._opening = list(opening)
        self._turns: list[Turn] = []
        self._cut = self._kept = 0

    def add(self, reply: str, observation: str) -> None:
        self._turns.append(Turn(reply or "(empty reply)", observation))

    def messages(self, fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
        """The longest form of the chat that ``fits``; the shortest one if none does."""
        count = len(self._turns)
        forms = [*((n, 0) for n in range(count + 1)), *((count, n) for n in range(1, count))]
        for self._cut, gone in forms:
            messages = self._rendered(self._cut, gone)
            if fits(messages):
                break
        return messages

    def keep_in(self, session: ReplSession) -> None:
        """Append to the list :data:`EARLIER` in the REPL, as they were, the turns that the last
        chat does not have whole."""
        if self._cut <= self._kept:
            return
        if not self._kept:
            session.load(EARLIER, ())
        turns = [turn.text for turn in self._turns[self._kept : self._cut]]
        session.run(f"{EARLIER} += {turns!r}")
        self._kept = self._cut

    def _rendered(self, shrunk: int, gone: int) -> list[Message]:
        """The chat with the first ``shrunk`` observations cut and the first ``gone`` turns out."""
        out = list(self._opening)
        if gone:
            out[-1] = user(f"{out[-1]['content']}\n\n{_gone(gone)}")
        for number, turn in enumerate(self._turns[gone:], gone):
            text = turn.shrunk(number) if number < shrunk else turn.observation
            out += [assistant(turn.reply), user(text)]
        return out


def _gone(count: int) -> str:
    return (
        f"[The first {count} turns were dropped. They stand in the list {EARLIER}, and the "
        "variables they set are still there.]"
    )
