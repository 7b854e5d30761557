"""``FINAL(...)`` and ``FINAL_VAR(...)`` outside code (paper, appendix C), read strictly.

A statement begins a line (up to three spaces in), its closing parenthesis ends one, and there is no
code block between. ``FINAL_VAR`` takes a variable's name, bare or quoted. ``FINAL`` takes one
string literal, which is unquoted, or plain text, which is kept. Anywhere else the words are a
mention and end nothing. What is not certain is an :class:`UnclearFinalError`: the model is given
the reason and asked again, since a wrong string handed in would look like its own mistake.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from rlm_eval.methods.agent.loop import UnclearFinalError

_STATEMENT = re.compile(r"^ {0,3}(FINAL|FINAL_VAR) ?\(", re.MULTILINE)
_MENTION = re.compile(r"(?<!\w)FINAL(?:_VAR)? ?\(")
_CLOSING = re.compile(r"\)[ \t\r]*$", re.MULTILINE)
#: What Python's parsers raise for text that is no code.
_NO_CODE = (ValueError, SyntaxError, MemoryError, RecursionError)


@dataclass(frozen=True)
class Final:
    """``value`` is the answer (``text``) or names the REPL variable that holds it (``variable``).
    ``names`` are the names the text would read if it were code: it may be meant to be."""

    kind: Literal["text", "variable"]
    value: str
    names: frozenset[str] = frozenset()


def read_final(
    prose: Sequence[str], read: Callable[[str], str | None], *, failed: bool
) -> str | None:
    """The final answer in a reply's ``prose``; its code has run, so ``read`` gives the variables
    set beside it. Where that code ``failed`` nothing is taken: UnclearFinalError."""
    final = parse_final(prose)
    if final is None:
        return None
    if failed:
        raise UnclearFinalError("the code in the same reply did not run through")
    if final.kind == "variable":
        text = read(final.value)
        if text is None:
            raise UnclearFinalError(f"the variable {final.value} is not set, or None")
        return text
    for name in sorted(final.names):
        if read(name) is not None:
            raise UnclearFinalError(
                f"{name} is a variable: FINAL_VAR takes a variable's name for its value, "
                "and FINAL takes text, in quotes where it could be mistaken for code"
            )
    return final.value


def parse_final(prose: Sequence[str]) -> Final | None:
    """The final answer in the stretches of a reply between its code blocks; None without any.

    Raises UnclearFinalError for one that is malformed, quoted, only mentioned, or not the only one.
    """
    found: list[Final] = []
    for stretch in prose:
        at = 0
        while match := _STATEMENT.search(stretch, at):
            before = stretch[: match.start()]
            if before.count('"') % 2 == 1 or before.count("“") > before.count("”"):
                raise UnclearFinalError("it is inside quotation marks")
            final, at = _statement(match[1], stretch, match.end())
            found.append(final)
    if len(set(found)) > 1:
        raise UnclearFinalError("the reply has several that differ; give one")
    if found:
        return found[0]
    if any(_MENTION.search(stretch) for stretch in prose):
        raise UnclearFinalError("it counts only at the start of a line of its own, outside code")
    return None


def _statement(word: str, stretch: str, start: int) -> tuple[Final, int]:
    """The statement whose argument begins at ``start``, and its end: the first closing parenthesis
    that ends a line and has none open before it, but for those in a quoted answer."""
    for closing in _CLOSING.finditer(stretch, start):
        argument = stretch[start : closing.start()].strip()
        literal = _literal(argument)
        depths = [0, *accumulate(1 if c == "(" else -1 for c in re.findall("[()]", argument))]
        if literal is None and (min(depths) < 0 or depths[-1] > 0):
            continue
        value = argument if literal is None else literal
        if word == "FINAL_VAR":
            if not value.isidentifier():
                wanted = f"FINAL_VAR takes the name of one variable, not {argument[:80]!r}"
                raise UnclearFinalError(wanted)
            return Final("variable", value), closing.end()
        if literal is None and argument.count('"') % 2:
            raise UnclearFinalError("a quotation mark is not closed; quote all of the answer")
        if not value.strip():
            raise UnclearFinalError("it is empty")
        names = _names(argument) if literal is None else frozenset[str]()
        return Final("text", value, names), closing.end()
    raise UnclearFinalError(
        "its closing parenthesis must match, end a line, and have no code block before it; quote "
        "an answer that has parentheses of its own"
    )


def _literal(argument: str) -> str | None:
    """The value of an argument that is one string in quotes, which may run over several lines."""
    try:
        value = ast.literal_eval(argument)
    except _NO_CODE:
        inner = argument[1:-1]
        quoted = len(argument) > 1 and argument[0] == '"' == argument[-1] and '"' not in inner
        return inner if quoted and "\n" in inner and "\\" not in inner else None
    return value if isinstance(value, str) else None


def _names(argument: str) -> frozenset[str]:
    """The names that the text would read as a Python expression; none when it isn't one."""
    try:
        nodes = ast.walk(ast.parse(argument, mode="eval"))
    except _NO_CODE:
        return frozenset()
    return frozenset([node.id for node in nodes if isinstance(node, ast.Name)])
