"""How an RLM's run ends: only through the structured channel the configuration names.

Text in a context, a print or a reply that merely looks like a final answer ends nothing.
"""

from __future__ import annotations

from typing import Literal

from rlm_eval.methods.agent.code import Parsed
from rlm_eval.methods.agent.ending import Ending, UnclearFinalError
from rlm_eval.methods.rlm.paper_final import parse_final
from rlm_eval.models.client import Completion
from rlm_eval.repl.session import BlockResult, ReplSession

FinishName = Literal["submit", "final_variable", "answer_dict", "paper"]


class Finish:
    """A protocol that takes nothing: what the others begin from."""

    setup: str = ""

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        return None

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        return None


class Submit(Finish):
    """The block calls ``submit(answer)``."""

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        return block.submitted


class FinalVariable(Finish):
    """The REPL variable ``Final`` is set (paper, Algorithm 1)."""

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        return session.read("Final")


class AnswerDict(Finish):
    """``answer["ready"]`` is true; ``answer["content"]`` is the answer (the reference
    implementation's present form)."""

    setup = 'answer = {"content": "", "ready": False}'

    def in_block(self, session: ReplSession, block: BlockResult) -> str | None:
        if session.read_item("answer", "ready") not in ("true", "True"):
            return None
        return session.read_item("answer", "content") or ""


class Paper(Finish):
    """``FINAL(text)`` or ``FINAL_VAR(name)`` in the reply, outside code (paper, appendix C).

    The reply's code runs first, so ``FINAL_VAR`` may name a variable set beside it; where that
    code failed nothing is taken. In code both are functions that end nothing and say so.
    """

    setup = (
        "def FINAL(*_):\n"
        "    print('FINAL and FINAL_VAR count only in your reply, outside code.')\n"
        "FINAL_VAR = FINAL"
    )

    def in_reply(
        self, session: ReplSession, reply: Completion, parsed: Parsed, *, failed: bool
    ) -> str | None:
        final = parse_final(parsed.prose)
        if final is None:
            return None
        if failed:
            raise UnclearFinalError("the code in the same reply did not run through")
        if final.kind == "variable":
            text = session.read(final.value)
            if text is None:
                raise UnclearFinalError(f"the variable {final.value} is not set, or None")
            return text
        for name in sorted(final.names):
            if session.read(name) is not None:
                raise UnclearFinalError(
                    f"{name} is a variable: FINAL_VAR takes a variable's name for its value, "
                    "and FINAL takes text, in quotes where it could be mistaken for code"
                )
        return final.value


def finish_for(name: FinishName) -> Ending:
    """The protocol called ``name``."""
    kinds: dict[FinishName, type[Finish]] = {
        "submit": Submit,
        "final_variable": FinalVariable,
        "answer_dict": AnswerDict,
        "paper": Paper,
    }
    return kinds[name]()
