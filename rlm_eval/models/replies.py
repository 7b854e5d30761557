"""What stands in a reply: what the model thought, what it said, and code between fences."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Fence languages that are run, without a version. The paper's is ``repl``; models write the others
#: by habit.
RUNNABLE = frozenset({"repl", "python", "py", "ipython", "tool_code", ""})

_NAME = r"(?:think(?:ing)?|thoughts?|reasoning)"
_HEADER = r"[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
#: What begins a thought, in the forms of models and of the chat templates that they learnt.
_OPENS = (
    rf"<(?:[\w-]+:)?{_NAME}(?:\s[^<>]*)?(?<!/)>",
    r"(?-i:\[THINK\])|◁think▷|<\|inner_prefix\|>|<unused94>(?:thought)?",
    rf"<\|(?:(?:begin|start)_(?:of_)?)?{_NAME}\|>",
    # gpt-oss (harmony), and what is left of it where special tokens are dropped
    rf"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)(?:{_HEADER})?",
    r"\A\s*(?-i:analysis(?=[A-Z]))",
)
_CLOSES = (
    rf"<\s*/\s*(?:[\w-]+:)?{_NAME}\s*>",
    r"(?-i:\[/THINK\])|◁/think▷|<\|inner_suffix\|>|<unused95>",
    rf"<\|(?:/|end_(?:of_)?){_NAME}\|>",
    rf"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final{_HEADER}",
    r"assistantfinal",
)
THOUGHT = re.compile(f"({'|'.join(_OPENS)})|({'|'.join(_CLOSES)})", re.IGNORECASE)
#: What templates put around the text that follows a thought.
_AROUND = re.compile(
    r"<\|(?:(?:begin|start|end)_(?:of_)?(?:solution|response|text)|return|end)\|>", re.IGNORECASE
)
_INLINE = re.compile(r"(?<!`)`(?!`)[^`\n]+`(?!`)|([\"'])[^\s\"']+\1|“[^\s”]+”|‘[^\s’]+’")

#: The Python as which replies are parsed: later ones write a warning about a backslash in a model's
#: string to standard error, which only a filter of the whole process would keep back.
QUIET = (3, 11)
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_RUN = re.compile(r"`{3,}|~{3,}")
#: What may stand before a fence that has its line to itself: white space, a list's mark, a quote's.
_MARGIN = re.compile(rf"[\s{_INVISIBLE}]*(?:(?:[-*+]|\d{{1,9}}[.)])[ \t]+|>[ \t]?)*[ \t]*")
#: How many of the runs of backticks or tildes that follow a fence are looked at for its end, and
#: how much of the line on either side of one: so long a text in degenerate replies takes no time.
_MOST_RUNS, _MOST_BESIDE = 32, 200


class Fenced(NamedTuple):
    """A fenced part of a text, from ``start`` to ``end``, with its ``language`` ("" for none) and
    its code, without the margin of its fence. ``runs``: the language is one to be run;
    ``compiles``: and the code is Python."""

    start: int
    end: int
    language: str
    code: str
    runs: bool
    compiles: bool


def said(reply: str) -> tuple[str, bool]:
    """A reply without its thoughts, and whether they came to an end: one that is cut off within a
    thought says nothing yet, not even by what stands before it.

    A closing mark without an opening one ends a thought that the chat template began, so all before
    it is thought. Left alone are marks in quotes or backticks, and those in fenced parts that are
    Python or in which each is closed: there they are spoken of. Without any mark a reply is what it
    says.
    """
    if THOUGHT.search(reply) is None:
        return reply, True
    reply = with_line_ends(reply)
    quoted = bytearray(len(reply))
    for match in _INLINE.finditer(reply):
        quoted[slice(*match.span())] = b"q" * len(match[0])
    for part in fenced(reply):
        marks = [bool(mark[1]) for mark in THOUGHT.finditer(part.code)]
        if part.compiles or marks == [True, False] * (len(marks) // 2):
            quoted[part.start : part.end] = b"q" * (part.end - part.start)
    kept: list[str] = []
    depth = end = 0
    complete = None
    for mark in THOUGHT.finditer(reply):
        if quoted[mark.start()]:
            continue
        if mark[1]:
            if not depth:
                kept.append(reply[end : mark.start()])
                complete = False
            depth += 1
        else:
            if not depth:
                kept.clear()
            depth = max(0, depth - 1)
            complete, end = True, mark.end()
    if not complete:
        return ("", False) if complete is not None else (reply, True)
    return _AROUND.sub("", "".join(kept) + reply[end:]).strip(), True


def fenced(text: str) -> Iterator[Fenced]:
    """The fenced parts of a text, whose lines end with a line feed.

    By CommonMark's rule a fence closes with the same character, at least as long, on a line of its
    own. Of code, the first such line counts up to which it is Python: those before it are in its
    strings. Where none is, closing fences that stand behind code or before text are tried, then the
    text's end: a part may be cut off.
    """
    runs = _runs(text)
    at = 0
    for number, opening in enumerate(runs, 1):
        if opening.start < at or "`" in opening.after:
            continue
        alone = _MARGIN.fullmatch(opening.before) is not None
        info = opening.after.strip()
        word = re.match(r"\{?\.?([\w+-]*)", info)
        language = word[1].lower() if word else ""
        is_run = language.rstrip("0123456789.") in RUNNABLE
        if not alone and not (is_run and info.isidentifier()):
            continue  # a fence that is only spoken of
        margin = opening.before if alone else ""
        body = min(opening.end + len(opening.after) + 1, len(text))
        ends = _ends(text, opening, runs[number : number + _MOST_RUNS])
        if not is_run:
            ends = [min((pair for pair in ends if pair[0] < pair[1]), default=ends[0])]
        found = [(_at_margin(text[body:stop], margin), end) for stop, end in ends]
        python = next((pair for pair in found if is_run and _is_python(pair[0])), None)
        code, at = python or found[0]
        start = opening.start - len(margin)
        yield Fenced(start, at, language, code, is_run, python is not None)


class _Run(NamedTuple):
    """Backticks or tildes from ``start`` to ``end``, and what is ``before`` and ``after`` them on
    their line."""

    start: int
    end: int
    before: str
    after: str


def _runs(text: str) -> list[_Run]:
    found = []
    for match in _RUN.finditer(text):
        start, end = match.span()
        before = text[max(0, start - _MOST_BESIDE) : start].rpartition("\n")[2]
        after = text[end : end + _MOST_BESIDE + 1].partition("\n")[0]
        if len(after) <= _MOST_BESIDE:
            found.append(_Run(start, end, before, after))
    return found


def _ends(text: str, opening: _Run, runs: Sequence[_Run]) -> list[tuple[int, int]]:
    """Where the part may end, likely places first: the end of its code, and that of its fence. A
    run that opens the next part is left to that."""
    alone, loose = [], []
    fence = text[opening.start : opening.end]
    for run in runs:
        if not text.startswith(fence, run.start) or "`" in run.after:
            continue
        first, after = run.start - len(run.before), run.after.strip()
        at_start = not run.before.strip("> \t")
        if at_start and not after:
            alone.append((first, run.end))
        elif at_start and run.after[:1].isidentifier():
            loose.append((first, first))
        elif at_start or not after:
            loose.append((run.start, run.end))
    last = [(len(text), len(text))] if len(runs) < _MOST_RUNS or not (alone or loose) else []
    return [*alone, *loose, *last]


def _at_margin(code: str, margin: str) -> str:
    """Code without the margin that its fence has, or else the one that all its lines have."""
    margin = margin.strip(_INVISIBLE)
    width, lines = len(margin), code.strip("\n").split("\n")
    for number, line in enumerate(lines):
        own = "" if line.startswith(margin) else line[:width].lstrip()
        lines[number] = own + line[width:]
    code = "\n".join(lines)
    return textwrap.dedent(code) if code[:1] in (" ", "\t") else code


def _is_python(code: str) -> bool:
    try:
        ast.parse(code, feature_version=QUIET)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def with_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
