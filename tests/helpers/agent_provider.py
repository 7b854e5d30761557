"""A provider that plays a coding agent's model: every call of a tool follows from what the last one
gave, so that an agent which lays no file out, or hands no output on, gets nowhere."""

from __future__ import annotations

import itertools
import json
import re
import threading
import zlib
from collections.abc import Mapping
from typing import Any

from helpers.fake_provider import Behaviour, FakeProvider, chat_reply

#: A question about a needle, and the needle.
ASKED = re.compile(r"What is the code for (\w+)\?")
FACT = re.compile(r"The code for (\w+) is (\w+)\.")
#: What agents call their shell and their sub-agents.
SHELLS, SUB_AGENTS = {"bash", "Bash"}, {"Agent", "task"}
#: Finds files with facts in them; what it says itself is none.
HUNT = 'grep -rlsE "code for k.{8} is v" "$HOME" /tmp /dev/shm | sort -u; echo searched'
#: Begins what a sub-agent is asked.
DELEGATED = "On behalf of another:"


class AgentProvider(FakeProvider):
    """Lists the folder, looks for the key in the file that the list named, and hands in the value
    that the search found, each by the shell tool it is offered; or answers at once from a prompt
    that holds the text. ``delegates``: has a sub-agent do all that. ``hunts``: looks first whether
    the text of its prompt lies in a file too, and then says where. Bills amounts that differ from
    request to request; ``bills`` has them."""

    def __init__(self, *, delegates: bool = False, hunts: bool = False) -> None:
        super().__init__()
        self.bills: list[tuple[int, int]] = []
        self._delegates, self._hunts = delegates, hunts
        self._numbers = itertools.count(1)
        self._taking = threading.Lock()

    def take(self, body: Mapping[str, Any]) -> Behaviour:
        super().take(body)
        with self._taking:
            number = next(self._numbers)
            bill = (20 + number % 11, 1 + number % 5)
            self.bills.append(bill)
        usage = {"prompt_tokens": bill[0], "completion_tokens": bill[1], "total_tokens": sum(bill)}
        text, calls = self._reply(body)
        reply = chat_reply(text, finish="tool_calls" if calls else "stop", usage=usage)
        if calls:
            reply["choices"][0]["message"]["tool_calls"] = calls
        return lambda handler: handler.send_json(200, reply)

    def _reply(self, body: Mapping[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
        """What the model says, and the tools that it calls."""
        tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools", [])}
        by_role: dict[str, list[str]] = {"user": [], "tool": [], "assistant": [], "system": []}
        for message in body["messages"]:
            by_role[message["role"]].append(_text(message))
        shown, outputs = "\n".join(by_role["user"]), by_role["tool"]
        asked, shell = ASKED.findall(shown), next(iter(SHELLS & tools.keys()), None)
        if not asked or shell is None:
            return "A title", []
        key, last = asked[0], outputs[-1] if outputs else ""
        if self._hunts and not outputs:
            return None, [_call(tools[shell], command=HUNT)]
        if self._hunts and (found := re.findall(r"^/\S+", outputs[0], re.MULTILINE)):
            return f"also in {found}", []
        if "DONE" in last:
            done = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
            return None, [_call(tools[shell], command=done)]
        facts = dict(FACT.findall(shown if self._hunts or not outputs else last))
        if key in facts and "answer.txt" in shown:
            done = f"printf %s {facts[key]} > answer.txt && echo DONE"
            return None, [_call(tools[shell], command=done)]
        if key in facts:
            return f"The code for {key} is {facts[key]}." if DELEGATED in shown else facts[key], []
        if files := re.findall(r"context\.txt|context\b", last):
            look = f"grep -rh 'The code for {key} is' {files[0]}"
            return "Now I look.", [_call(tools[shell], command=look)]
        if self._delegates and DELEGATED not in shown and (helper := SUB_AGENTS & tools.keys()):
            prompt = f"{DELEGATED} What is the code for {key}?"
            wanted = {"prompt": prompt, "subagent_type": "general"}
            if helper == {"Agent"}:
                wanted |= {"subagent_type": "general-purpose", "run_in_background": False}
            return "A sub-agent can see.", [_call(tools[helper.pop()], **wanted)]
        return "First I see what there is.", [_call(tools[shell], command="ls -1")]


def _call(tool: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    others = dict.fromkeys(tool["parameters"].get("required", []), "to see")
    named = {"name": tool["name"], "arguments": json.dumps({**others, **arguments})}
    number = zlib.crc32(named["arguments"].encode())
    return {"id": f"call_{number}", "type": "function", "function": named}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(part.get("text") or "" for part in parts)
