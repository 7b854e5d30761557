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
from itertools import accumulate

from rlm_eval.methods.agent.loop import UnclearFinalError
from rlm_eval.models.replies import QUIET
from rlm_eval.repl.capture import ADDRESS

_STATEMENT = re.compile(r"^ {0,3}(FINAL|FINAL_VAR) ?\(", re.MULTILINE)
_MENTION = re.compile(r"(?<!\w)FINAL(?:_VAR)? ?\(")
_CLOSING = re.compile(r"\)[ \t\r]*$", re.MULTILINE)
#: How a string in triple quotes or an f-string begins: what it holds is no plain text.
_OPEN_STRING = re.compile(r"""[rRbBuU]{0,2}("{3}|'{3})|[rR]?[fF][rR]?["']""")
#: What Python's parsers raise for text that is no code.
_NO_CODE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def read_final(
    prose: Sequence[str], read: Callable[[str], str | None], *, failed: bool
) -> str | None:
    """The final answer in the stretches of a reply between its code blocks; None without any. The
    code has run: ``read`` gives the variables set beside the statement, and where the code
    ``failed`` nothing is taken.

    Raises UnclearFinalError for one that is malformed, quoted, only mentioned, or not the only one.
    """
    found: list[tuple[str, str, bool]] = []
    for stretch in prose:
        at = 0
        while match := _STATEMENT.search(stretch, at):
            before = stretch[: match.start()]
            left = re.sub("„[^„“”]*[“”]|“[^“”]*”", "", before)  # „so“ ends with what begins “so”
            if before.count('"') % 2 == 1 or "„" in left or "“" in left:
                raise UnclearFinalError("it is inside quotation marks")
            value, is_quoted, at = _argument(stretch, match.end())
            found.append((match[1], value, is_quoted))
    if not found:
        if any(_MENTION.search(stretch) for stretch in prose):
            raise UnclearFinalError("it counts only at the start of a line, outside code")
        return None
    word, value, is_quoted = found[0]
    if any((word, value) != other[:2] for other in found):
        raise UnclearFinalError("the reply has several that differ; give one")
    if failed:
        raise UnclearFinalError("the code in the same reply did not run through")
    if word == "FINAL_VAR":
        if not value.isidentifier():
            raise UnclearFinalError(f"FINAL_VAR takes the name of one variable, not {value[:80]!r}")
        text = read(value)
        if text is None or not text.strip():
            raise UnclearFinalError(f"the variable {value} is not set, None, or empty")
        if ADDRESS.search(text):
            raise UnclearFinalError(f"the variable {value} is {text[:200]}: make a list or a text")
        return text
    if not value.strip():
        raise UnclearFinalError("it is empty")
    if not is_quoted and value.count('"') % 2:
        raise UnclearFinalError("a quotation mark is not closed; quote all of the answer")
    for name in [] if is_quoted else _names(value):
        if read(name) is not None:
            raise UnclearFinalError(
                f"{name} is a variable: FINAL_VAR takes a variable's name for its value, "
                "and FINAL takes text, in quotes where it could be mistaken for code"
            )
    return value


def _argument(stretch: str, start: int) -> tuple[str, bool, int]:
    """The argument that begins at ``start``, whether it is a string in quotes, and where it ends:
    at the first closing parenthesis that ends a line and matches the statement's, leaving out
    those of a quoted answer."""
    for closing in _CLOSING.finditer(stretch, start):
        argument = stretch[start : closing.start()].strip()
        literal = _literal(argument)
        if literal is not None:
            return literal, True, closing.end()
        if _OPEN_STRING.match(argument):
            continue  # a longer argument may close it
        depths = [0, *accumulate(1 if c == "(" else -1 for c in re.findall("[()]", argument))]
        if min(depths) == depths[-1] == 0:
            return argument, False, closing.end()
    raise UnclearFinalError(
        "its closing parenthesis must match, end a line, and have no code block before it; quote "
        "an answer that has parentheses of its own"
    )


def _literal(argument: str) -> str | None:
    """The value of an argument that is one string in quotes, which may run over several lines."""
    try:
        value = ast.literal_eval(ast.parse(argument, mode="eval", feature_version=QUIET))
    except _NO_CODE:
        inner = argument[1:-1]
        quoted = len(argument) > 1 and argument[0] == '"' == argument[-1] and '"' not in inner
        return inner if quoted and "\n" in inner and "\\" not in inner else None
    return value if isinstance(value, str) else None


def _names(argument: str) -> list[str]:
    """The names that the text would read as a Python expression; none when it isn't one."""
    try:
        nodes = ast.walk(ast.parse(argument, mode="eval", feature_version=QUIET))
    except _NO_CODE:
        return []
    return sorted([node.id for node in nodes if isinstance(node, ast.Name)])
