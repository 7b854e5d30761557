"""Code blocks in a model's reply, and what they may take as imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Fence languages that are run. The paper's is ``repl``; models write the others by habit.
RUNNABLE = frozenset({"repl", "python", "py", "python3", "tool_code", ""})
#: What weak coders forget to import; prompts say so.
IMPORTS = "import json, math, re\nfrom collections import Counter"
_OPEN = re.compile(r"^\s{0,3}(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n`]*$")


@dataclass(frozen=True)
class Parsed:
    """``blocks`` to run, in order; ``unknown`` fence languages that were left out; ``prose``: the
    stretches of the reply before, between and after its fenced parts."""

    blocks: tuple[str, ...]
    unknown: tuple[str, ...]
    prose: tuple[str, ...]


def parse_reply(reply: str) -> Parsed:
    """Fenced blocks by CommonMark's rule: a fence closes with the same character, at least as
    long, so a shorter fence inside stays code. A block cut off by the token limit runs to the
    reply's end."""
    blocks: list[str] = []
    unknown: list[str] = []
    prose: list[list[str]] = [[]]
    fence, language, body = "", "", [""]
    for line in reply.replace("\r\n", "\n").split("\n"):
        if not fence:
            opened = _OPEN.match(line)
            if opened:
                fence, language, body = opened[1], opened[2].lower(), []
            else:
                prose[-1].append(line)
        elif _closes(line, fence):
            _sort(language, body, blocks, unknown)
            fence = ""
            prose.append([])
        else:
            body.append(line)
    if fence:
        _sort(language, body, blocks, unknown)
    return Parsed(tuple(blocks), tuple(unknown), tuple("\n".join(lines) for lines in prose))


def _closes(line: str, fence: str) -> bool:
    stripped = line.strip()
    return len(stripped) >= len(fence) and set(stripped) == {fence[0]}


def _sort(language: str, body: list[str], blocks: list[str], unknown: list[str]) -> None:
    code = "\n".join(body).strip("\n")
    if language not in RUNNABLE:
        unknown.append(language)
    elif code.strip():
        blocks.append(code)
