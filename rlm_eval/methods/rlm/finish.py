"""How an RLM's run ends: only through the structured channel the configuration names.

Text in a context, a print or a reply that merely looks like a final answer ends nothing.
"""

from __future__ import annotations

from typing import Literal, Protocol

from rlm_eval.repl.session import BlockResult, ReplSession

FinishName = Literal["submit", "final_variable", "answer_dict"]


class Finish(Protocol):
    """One protocol. ``setup`` code runs before the first turn; ``answer`` looks after each block
    and returns the answer's text once it is final."""

    setup: str

    def answer(self, session: ReplSession, block: BlockResult) -> str | None: ...


class Submit:
    """The block calls ``submit(answer)``."""

    setup = ""

    def answer(self, session: ReplSession, block: BlockResult) -> str | None:
        return block.submitted


class FinalVariable:
    """The REPL variable ``Final`` is set (paper, Algorithm 1)."""

    setup = ""

    def answer(self, session: ReplSession, block: BlockResult) -> str | None:
        return session.read("Final")


class AnswerDict:
    """``answer["ready"]`` is true; ``answer["content"]`` is the answer (the reference
    implementation's present form)."""

    setup = 'answer = {"content": "", "ready": False}'

    def answer(self, session: ReplSession, block: BlockResult) -> str | None:
        if session.read_item("answer", "ready") not in ("true", "True"):
            return None
        return session.read_item("answer", "content") or ""


def finish_for(name: FinishName) -> Finish:
    """The protocol called ``name``."""
    kinds: dict[FinishName, type[Submit] | type[FinalVariable] | type[AnswerDict]] = {
        "submit": Submit,
        "final_variable": FinalVariable,
        "answer_dict": AnswerDict,
    }
    return kinds[name]()
