"""OOLONG's scoring rules (Bertsch et al. 2025), of its synthetic and of its real split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from rlm_eval.records import Sample, Score

from .scorers import labels_of, last_line, scored

Kind = Literal["label", "number", "comparison", "user", "date"]
KINDS: tuple[Kind, ...] = ("label", "number", "comparison", "user", "date")
PHRASES = ("more common", "less common", "same frequency")


def parse(answer: str) -> str:
    """The part of an answer that counts (synthetic split): without a colon the complete answer if
    it is under 20 characters, else its last word; otherwise what follows the last colon, without
    ``*``, ``[`` and ``]``."""
    if ":" in answer:
        return re.sub(r"[*\[\]]", "", answer.rsplit(":", 1)[1]).strip()
    return answer.strip() if len(answer) < 20 else "".join(answer.split()[-1:])


def _parse_date(text: str) -> datetime | None:
    for form in ("%b %d, %Y", "%B %d, %Y", "%Y-%m-%d", "%b %d %Y", "%d %b %Y", "%d %B %Y"):
        try:
            return datetime.strptime(text.strip(), form)
        except ValueError:
            continue
    return None


def _graded(given: int, gold: int) -> float:
    return float(0.75 ** min(abs(given - gold), 1000))


def _numbers(text: str) -> list[str]:
    """The whole numbers in a text, without commas between thousands."""
    return re.findall(r"-?\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text))


def _value(parsed: str, gold: str, kind: Kind) -> float:
    if parsed == gold:
        return 1.0
    if kind == "comparison":
        named = [phrase for phrase in PHRASES if phrase in parsed]
        return float(len(named) == 1 and named[0] in gold)
    if kind == "number":
        try:
            return _graded(int(parsed), int(gold))
        except ValueError:
            return 0.0
    date = _parse_date(parsed) if kind == "date" else None
    return float(date is not None and date == _parse_date(gold))


def _lenient(answer: str, gold: str, kind: Kind, labels: Sequence[str]) -> float:
    text = answer.casefold()
    if kind in ("label", "comparison"):
        choices = PHRASES if kind == "comparison" else sorted(labels, key=len, reverse=True)
        places = {c: text.rfind(c.casefold()) for c in choices}
        last = max(places, key=lambda c: (places[c], len(c)))
        return float(bool(last) and places[last] >= 0 and last.casefold() in gold.casefold())
    if kind == "date":
        found = re.findall(r"[a-z]+ \d{1,2},? \d{4}|\d{4}-\d\d-\d\d|\d{1,2} [a-z]+ \d{4}", text)
    else:
        found = _numbers(text)
    return _value(found[-1], gold, kind) if found else 0.0


def oolong(sample: Sample, answer: str, *, kind: Kind) -> Score:
    """The synthetic split's rule: exact match 1; a comparison phrase contained 1; a number
    ``0.75 ** |error|``; a date by its meaning; else 0. Lenient: letter case and wrapping words
    don't count; the last number, date, comparison phrase or label named anywhere in the answer is
    taken."""
    parsed, gold = parse(answer), sample.gold[0]
    lenient = _lenient(answer, gold, kind, labels_of(sample))
    return scored(_value(parsed, gold, kind), lenient, parsed)


Real = int | str | list[str]


def _read_real(text: str) -> Real:
    """A whole number, else a list where there is a comma, else the text itself."""
    try:
        return int(text)
    except ValueError:
        return [part.strip() for part in text.split(",") if part.strip()] if "," in text else text


def _real_value(given: Real, gold: Real) -> float:
    """Numbers ``0.75 ** |error|``, texts by equality without case, lists by the share of the gold
    that was given; 0 where the two are not of one kind."""
    if isinstance(given, int) and isinstance(gold, int):
        return _graded(given, gold)
    if isinstance(given, str) and isinstance(gold, str):
        return float(given.strip().lower() == gold.strip().lower())
    if isinstance(given, list) and isinstance(gold, list):
        return len(set(given) & set(gold)) / len(gold) if gold else 0.0
    return 0.0


def oolong_real(sample: Sample, answer: str) -> Score:
    r"""The real split's rule: the answer is in ``\boxed{…}`` or ``\boxed{\text{…}}``; without a box
    it is one text, whatever it says. Lenient: without a box the last line after its last colon
    counts; the last number in it, or its parts between commas and *and*, without case."""
    gold = _read_real(sample.gold[0])
    box = re.search(r"\\boxed\{\\text\{([^}]*)\}\}", answer) or re.search(
        r"\\boxed\{+([^}]*)\}+", answer
    )
    value = _real_value(_read_real(box[1]) if box else answer, gold)
    text = (box[1] if box else last_line(answer)).casefold()
    lenient: Real = text.strip(" .")
    if isinstance(gold, int):
        numbers = _numbers(text)
        lenient = int(numbers[-1]) if numbers else text
    elif isinstance(gold, list):
        lenient = [part.strip(" .") for part in re.split(r",|\band\b", text)]
        gold = [part.casefold() for part in gold]
    return scored(value, _real_value(lenient, gold), box[1] if box else answer.strip())
