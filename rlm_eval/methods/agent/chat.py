"""An agent's chat: the code in its replies, and its turns, kept within its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.models.protocol import Message, assistant, user
from rlm_eval.models.replies import fenced, said, with_line_ends
from rlm_eval.repl.capture import cut
from rlm_eval.repl.session import ReplSession

#: The REPL variable that holds the turns which the chat no longer has in full.
EARLIER = "earlier_turns"
#: Characters of an old output that stay when it has to shrink.
_SHRUNK = 160


@dataclass(frozen=True)
class Parsed:
    """``blocks`` to run, in order; ``unknown`` fence languages that were left out; ``prose``: the
    stretches of the reply before, between and after its fenced parts."""

    blocks: tuple[str, ...]
    unknown: tuple[str, ...]
    prose: tuple[str, ...]


def parse_reply(reply: str) -> Parsed:
    """What a reply says, thoughts left out: its fenced parts (:func:`fenced`) and the rest."""
    text = with_line_ends(said(reply)[0])
    blocks: list[str] = []
    unknown: list[str] = []
    prose: list[str] = []
    at = 0
    parts = list(fenced(text))
    code = next((number for number, part in enumerate(parts) if part.compiles), 0)
    for number, part in enumerate(parts):
        prose.append(text[at : part.start])
        if number < code and not part.language:
            pass  # a plan, say, before the code
        elif not part.runs:
            unknown.append(part.language)
        elif part.code.strip():
            blocks.append(part.code)
        at = part.end
    return Parsed(tuple(blocks), tuple(unknown), (*prose, text[at:]))


class History:
    """The turns of one agent after its ``opening`` chat. Old outputs shrink first, then old turns
    go, oldest first; both stay in the REPL as a list. The newest output shrinks only where it has
    no room alone. User and assistant always alternate: some servers insist."""

    def __init__(self, opening: Sequence[Message]) -> None:
        self._opening = list(opening)
        self._turns: list[tuple[str, str]] = []
        self._cut = self._kept = 0
        #: What the note on dropped turns says of their variables, until these are lost.
        self._variables = ", and the variables they set are still there"

    def add(self, reply: str, observation: str) -> None:
        self._turns.append((reply or "(empty reply)", observation))

    def messages(self, fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
        """The fullest form of the chat that ``fits``; the shortest one if none does."""
        count = len(self._turns)
        forms = [(n, 0) for n in range(count - 1)]
        forms += [(n, gone) for n in (count - 1, count) for gone in range(count or 1)]
        for self._cut, gone in forms:  # outputs that are cut, turns that are gone
            out = list(self._opening)
            if gone:
                there = f"They stand in the list {EARLIER}{self._variables}"
                note = f"[The first {gone} turns were dropped. {there}.]"
                out[-1] = user(f"{out[-1]['content']}\n\n{note}")
            for number, (reply, shown) in enumerate(self._turns[gone:], gone):
                if number < self._cut and len(shown) > _SHRUNK:
                    shown = f"{cut(shown, _SHRUNK)}\n[Whole: {EARLIER}[{number}]]"
                out += [assistant(reply), user(shown)]
            if fits(out):
                break
        return out

    def keep_in(self, session: ReplSession, *, lost: bool) -> bool:
        """Put the turns that the last chat does not have in full into the list :data:`EARLIER` in
        the REPL, unless they are there; all of them where the variables were ``lost``. Whether they
        were lost meanwhile."""
        kept = 0 if lost else self._kept
        self._variables = "" if lost else self._variables
        if self._cut > kept:
            turns = [f"{reply}\n\n{shown}" for reply, shown in self._turns[kept : self._cut]]
            done = session.run(f"{EARLIER} {'+=' if kept else '='} {turns!r}")
            self._kept = self._cut
            return done.state == "lost"
        return False
