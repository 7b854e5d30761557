"""A scripted CodeAct agent, and what it is given to do."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.chat import Script, Table, problem, scripted
from rlm_eval.ledger import Budget
from rlm_eval.methods.codeact import CodeAct
from rlm_eval.models.protocol import Message
from rlm_eval.records import Answer, Problem
from rlm_eval.repl.session import Sandbox

LINES = tuple(f"Day {i}: the wind stood at {i * 7 % 32} knots.\n" for i in range(400))
TEXT = "".join(LINES)
FOUND = "Day 41: the mast cracked above the second ring.\n"


def block(code: str) -> str:
    return f"```python\n{code}\n```"


class Agent:
    """A script that plays ``replies`` as the agent, in order, then ``otherwise``; answers
    sub-calls with ``sub``; and keeps the agent's chats."""

    def __init__(self, *replies: str, otherwise: str = "nothing more", sub: str = "yes") -> None:
        self.chats: list[list[Message]] = []
        self._left = list(replies)
        self._otherwise, self._sub = otherwise, sub

    def __call__(self, messages: Sequence[Message]) -> str:
        if messages[0]["role"] != "system":
            return self._sub
        self.chats.append(list(messages))
        if "No turns are left" in messages[-1]["content"]:
            return "forced out"
        return self._left.pop(0) if self._left else self._otherwise

    def last(self, turn: int) -> str:
        """What the agent was shown last before a turn."""
        return self.chats[turn][-1]["content"]


def answer(
    sandbox: Sandbox,
    script: Script,
    asked: Problem | None = None,
    budget: Budget | None = None,
    window: int = 100_000,
    **settings: object,
) -> tuple[Answer, Table]:
    table = Table(scripted(script, window=window))
    method = CodeAct(sandbox=sandbox, **settings)  # type: ignore[arg-type]
    got = method.answer(asked or problem(content=TEXT), table.lm(), table.ledger(budget))
    return got, table
