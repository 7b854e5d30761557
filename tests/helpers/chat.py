"""Small helpers for tests of methods: a model that plays a script, and the client to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm_eval.ledger import Budget, Ledger
from rlm_eval.models.client import LM, ModelClient
from rlm_eval.models.protocol import ChatModel, Message
from rlm_eval.models.scripted import ScriptedModel
from rlm_eval.records import Call, Content, Context, Problem

Script = Callable[[Sequence[Message]], str]


def turns(*replies: str, otherwise: str = "sub reply") -> Script:
    """A script that gives ``replies`` to the chat that holds a REPL, in order, and ``otherwise``
    to every other prompt."""
    left = list(replies)

    def script(messages: Sequence[Message]) -> str:
        if "`context`" not in messages[0]["content"]:
            return otherwise
        return left.pop(0) if left else "I have nothing more to say."

    return script


class Table:
    """A client whose calls are kept in ``calls``."""

    def __init__(self, *models: ChatModel) -> None:
        self.calls: list[Call] = []
        named = dict(zip(("root", "sub"), models, strict=False))
        self.client = ModelClient(named, lambda call, reply: self.calls.append(call))

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens of all calls."""
        return sum(c.prompt_tokens + c.completion_tokens for c in self.calls)

    def lm(self) -> LM:
        return self.client.lm("key", memory_scope="arm")

    def ledger(self, budget: Budget | None = None) -> Ledger:
        return Ledger().child(budget)


def scripted(script: Script, *, window: int = 100_000) -> ScriptedModel:
    return ScriptedModel(script=script, context_window=window)


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


def problem(question: str = "How many?", content: Content = "alpha\nbeta\n") -> Problem:
    return Problem("s", question, Context.of(content), max_answer_tokens=32)
