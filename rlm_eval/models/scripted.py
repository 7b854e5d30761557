"""``model=scripted``: a deterministic stand-in for tests and smoke runs. Never evidence.

It sees only its messages. Its rules are simple on purpose: look facts up, pick an option, as the
root of an RLM ask one sub-call and hand its reply back, and as any other agent that ends by
``submit`` use each tool once. Every output says ``scripted``.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_eval.errors import at_least
from rlm_eval.models.protocol import NO_OPTIONS, Message, ModelInfo, Options, Price, Reply, Usage

Script = Callable[[Sequence[Message]], str]

_FACT = re.compile(r"for ([\w-]+) is: ([\w-]+)")
_OPTIONS = re.compile(r"(\bcorrect: )?\b(\w+) or (\w+)\b")
_QUESTION = re.compile(r"Question: (.+)", re.DOTALL)


@dataclass
class ScriptedModel:
    """A model that follows ``script(messages) -> reply``; ``latency_s`` seconds pass per call.

    Tokens are counted as one per four characters, so that sizes behave; nothing is billed. It calls
    no tools.
    """

    name: str = "scripted"
    latency_s: float = 0.0
    context_window: int = 131_072
    script: Script | None = None

    @property
    def info(self) -> ModelInfo:
        price = Price(0.0, 0.0, 0.0, as_of="scripted: nothing is billed")
        return ModelInfo(self.name, "scripted", self.context_window, price, simulated=True)

    def check(self) -> None:
        at_least(0, latency_s=self.latency_s)
        at_least(1, context_window=self.context_window)

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(m["content"]) // 4 + 4 for m in messages)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        options: Options = NO_OPTIONS,
    ) -> Reply:
        if self.latency_s:
            time.sleep(self.latency_s)
        text = (self.script or default_script)(messages)
        full = len(text) // 4 + 1
        text = text[: max_tokens * 4]
        usage = Usage(self.count_tokens(messages), min(full, max_tokens))
        return Reply(text, usage, "length" if full > max_tokens else "stop")


def default_script(messages: Sequence[Message]) -> str:
    """The shipped script: a turn of an RLM when the prompt tells of its variable, of another agent
    when it tells of ``submit``, else a plain answer."""
    system = messages[0]["content"] if messages else ""
    if "`context`" in system:
        return _rlm_turn(system, messages[-1]["content"])
    if "submit(" in system:
        return _agent_turn(system, messages)
    return _plain_answer("\n".join(m["content"] for m in messages))


def _rlm_turn(system: str, last: str) -> str:
    """First turn: look, and ask one sub-call if there are any; second: finish with what came."""
    question = _QUESTION.search(last)
    if question is None and "FINAL_VAR" in system:
        return "FINAL_VAR(found)"
    if question is None:
        ending = "Final = found"
        if "submit(" in system:
            ending = "submit(found)"
        elif 'answer["content"]' in system:
            ending = 'answer["content"] = found\nanswer["ready"] = True'
        return f"```repl\n{ending}\n```"
    asked = question[1].strip()
    lines = [
        f"question = {asked!r}",
        "words = set(question.lower().split())",
        "texts = context.values() if isinstance(context, dict) else context",
        "lines = context.splitlines() if isinstance(context, str) else list(texts)",
        "best = max(lines, key=lambda line: len(words & set(line.lower().split())))",
    ]
    if "llm_query" in system:
        call = "llm_query_batched([prompt])[0]" if "llm_query_batched" in system else None
        lines.append('prompt = best[:2000] + "\\n\\n" + question')
        lines.append(f"found = {call or 'llm_query(prompt)'}")
    else:
        lines.append("found = best[:200]")
    lines.append("print(found)")
    return "```repl\n" + "\n".join(lines) + "\n```"


def _agent_turn(system: str, messages: Sequence[Message]) -> str:
    """First turn: use the tools there are; second: submit what the chat so far gives."""
    texts = [m["content"] for m in messages]
    seen = "\n".join(texts)
    asked = [text.rpartition("Question: ")[2] for text in texts if "Question: " in text]
    question = asked[-1].strip() if asked else ""
    answer = _plain_answer(f"{seen}\n{question}")
    lines = [f"submit({answer!r})"]
    if "Question: " in texts[-1]:
        lines = [f"print({answer!r})"]
        if "search(" in system:
            lines.append(f"print(search({question!r}, 3))")
        if "llm_query(" in system:
            lines.append(f"print(llm_query({seen[-600:]!r}))")
    return "```python\n" + "\n".join(lines) + "\n```"


def _plain_answer(text: str) -> str:
    """A fact whose key the text's last lines name, else one of two options, else a number."""
    question = text[-600:]
    for key, value in _FACT.findall(text):
        if key in question:
            return str(value)
    options = _OPTIONS.findall(question)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()[0]
    return options[-1][0] + options[-1][1 + digest % 2] if options else str(digest % 10)
