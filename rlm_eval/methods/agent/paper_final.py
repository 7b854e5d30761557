"""``FINAL(...)`` and ``FINAL_VAR(...)`` outside code (paper, appendix C), read strictly.

A statement begins a line (up to three spaces in), its closing parenthesis ends one, and there is no
code block between. ``FINAL_VAR`` takes a variable's name, bare or quoted. ``FINAL`` takes one
string literal, which is unquoted, or plain text, which is kept. Anywhere else the words are a
mention and end nothing. What can be read in two ways is an :class:`UnclearFinalError`: the model
is given the reason and asked again, since a wrong string handed in would look like its own mistake.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rlm_eval.methods.agent.loop import UnclearFinalError

_STATEMENT = re.compile(r"^ {0,3}(FINAL|FINAL_VAR) ?\(", re.MULTILINE)
_MENTION = re.compile(r"(?<!\w)FINAL(?:_VAR)? ?\(")
_PARENTHESIS = re.compile(r"[()]")
#: Parentheses and complete quoted strings. A quote after a letter or digit is an apostrophe.
_TOKEN = re.compile(
    r"""[()]|(?<!\w)[rRbBfFuU]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL,
)
_REST_OF_LINE = re.compile(r"[ \t\r]*(?:\n|$)")
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
                raise UnclearFinalError("it stands inside quotation marks")
            at = _end(stretch, match.end())
            argument = stretch[match.end() : at].strip()
            found.append(_variable(argument) if match[1] == "FINAL_VAR" else _text(argument))
    if len(set(found)) > 1:
        raise UnclearFinalError("the reply has several that differ; give one")
    if found:
        return found[0]
    if any(_MENTION.search(stretch) for stretch in prose):
        raise UnclearFinalError("it counts only at the start of a line of its own, outside code")
    return None


def _end(stretch: str, start: int) -> int:
    """Where the argument that begins at ``start`` ends: the closing parenthesis by counting alone
    or by leaving quoted strings out, whichever ends a line; not two different places."""
    places = set()
    for rule in (_PARENTHESIS, _TOKEN):
        depth = 1
        for token in rule.finditer(stretch, start):
            depth += {"(": 1, ")": -1}.get(token[0], 0)
            if depth == 0:
                places.add(token.start())
                break
    ends = [place for place in places if _REST_OF_LINE.match(stretch, place + 1)]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UnclearFinalError("its parentheses can be read in two ways; quote the answer")
    if places:
        raise UnclearFinalError("more text follows its closing parenthesis on the same line")
    raise UnclearFinalError("its closing parenthesis is missing, or a code block stands before it")


def _variable(argument: str) -> Final:
    name = argument
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if not name.isidentifier():
        raise UnclearFinalError(f"FINAL_VAR takes the name of one variable, not {argument[:80]!r}")
    return Final("variable", name)


def _text(argument: str) -> Final:
    value, names = _literal(argument), frozenset[str]()
    if value is None:
        if argument.count('"') % 2:
            raise UnclearFinalError("a quotation mark is not closed; quote the whole answer")
        value, names = argument, _names(argument)
    if not value.strip():
        raise UnclearFinalError("it is empty")
    return Final("text", value, names)


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
    """What the text would read as a Python expression; nothing when it isn't one."""
    try:
        nodes = list(ast.walk(ast.parse(argument, mode="eval")))
    except _NO_CODE:
        return frozenset()
    if any(isinstance(node, ast.JoinedStr) for node in nodes):
        raise UnclearFinalError(
            "it holds an f-string, which is not run here; set a variable in code"
        )
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))
