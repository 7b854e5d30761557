"""OOLONG's scoring rules (Bertsch et al. 2025), of its synthetic and of its real split, and the
strict rule of the questions that we generate in its manner."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import replace
from datetime import datetime
from typing import Literal

from rlm_eval.records import Sample, Score

from .matching import MANY, MARK, final_part, numbers_in, without_thousands
from .scorers import DATE, MONTH, labels_of, named

Kind = Literal["label", "number", "comparison", "user", "date", "month"]
KINDS: tuple[Kind, ...] = ("label", "number", "comparison", "user", "date", "month")
PHRASES = ("more common", "less common", "same frequency")
#: The most tokens that an answer without a mark has.
SHORT = 64
#: Other words for them.
SAME_AS = (
    (r"(?:\bnot|n't|n’t|\bhalf)(?: \w+){0,2} as (?:common|frequent|often) as", "less common than"),
    (r"\b(?:times|twice) as (?:common|frequent|often) as", "more common than"),
    (r"equally (?:common|frequent|often)|as (?:common|frequent|often) as", "same frequency"),
    (r"\b(more|less) (?:frequent|often)", r"\1 common"),
)
#: What comes before a label that another one is compared with.
THAN = r"\b(?:compared (?:to|with)|than|against|unlike|versus|vs)\b"
#: Where it is the later of two times that a phrase is said of.
_LINES = r"(?:(?:in|among) (?:the )?(?:lines )?(?:dated )?)?(?:on or )?after"
LATER = re.compile(
    rf"(?:more|less) common {_LINES}\b"
    rf"|^\W*(?:answer\W+)?{_LINES} (?:it\b|that\b|this\b|{DATE})",
    re.I,
)


def parse(answer: str) -> str:
    """The part of an answer that counts (synthetic split): without a colon the complete answer if
    it is under 20 characters, else its last word; otherwise what follows the last colon, without
    ``*``, ``[`` and ``]``, or the first of PHRASES in it if that is no shorter than that."""
    if ":" not in answer:
        return answer if len(answer) < 20 else "".join(answer.split()[-1:])
    part = re.sub(r"[*\[\]]", "", answer.rsplit(":", 1)[1].strip())
    return part if len(part) < 20 else next((p for p in PHRASES if p in part), part)


def moment(text: str) -> datetime | None:
    """The point in time that a text names, by ``dateutil``; None where it names none, or only a
    part of one, which dateutil would complete from the day that it is asked on."""
    from dateutil import parser  # type: ignore[import-untyped]

    try:
        found = {
            parser.parse(text, default=default, tzinfos=lambda _, offset: offset)
            for default in (datetime(2000, 1, 1), datetime(2004, 2, 2))
        }
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None
    return found.pop() if len(found) == 1 else None


def _graded(given: int | str, gold: int | str) -> float:
    """``0.75 ** |error|``; 0 for what is no whole number."""
    try:
        return float(0.75 ** abs(int(given) - int(gold)))
    except (ValueError, OverflowError):
        return 0.0


def _official(parsed: str, gold: str, kind: Kind) -> float:
    if parsed == gold or (parsed in PHRASES and parsed in gold):
        return 1.0
    if kind == "number":
        return _graded(parsed, gold)
    date = moment(parsed) if kind == "date" else None
    return float(date is not None and date == moment(gold))


def _strict(sample: Sample, answer: str, kind: Kind) -> float:
    """The one value of the kind that is asked for which the final part of the answer names, as
    short as such an answer is, however much room it had: in the paragraph of its mark, else in all
    of it; in brackets where there is none outside."""
    short = replace(sample, max_answer_tokens=min(sample.max_answer_tokens, SHORT))
    part = re.sub(r"\\[()]", " ", final_part(short, answer))
    marked = [part.partition("\n\n")[0]] if 0 < len(MARK.findall(answer)) < MANY else []
    named_so = {sample.gold[0].lower()}  # a label may be unlike what is read as one
    gold: Set[object] = named_so if kind == "label" else _said(sample, sample.gold[0], kind)
    for text in (*marked, part):
        for read in (re.sub(r"\([^()]*\)", " ", text), text):
            if said := _said(sample, read, kind):
                return _worth(said, gold, kind)
    return 0.0


def _said(sample: Sample, text: str, kind: Kind) -> set[object]:
    """The values of the kind that is asked for which a text names."""
    gold, found = sample.gold[0], set[object]()
    if kind == "user":
        numbers = re.findall(r"\w+", without_thousands(text))
        found |= {n for n in numbers if n.isdigit() and len(n) == len(gold)}
    elif kind == "number":
        told = {*numbers_in(sample.question), float(sample.knobs.get("n_lines") or 0)}
        said = set(numbers_in(re.sub(DATE, " ", text, flags=re.I)))
        found |= said - told or said
    elif kind == "comparison":
        found |= {_relation(sample, text)} - {""}
    elif kind == "label":
        labels = {label.lower() for label in labels_of(sample)} or {gold.lower()}
        found |= labels.intersection(named(text, labels | {f"not {label}" for label in labels}))
    else:
        form, first = (DATE, "") if kind == "date" else (rf"{MONTH},? \d{{4}}", "1 ")
        dates = [date[0] for date in re.finditer(form, text, re.I)] or [text]
        found |= {moment(first + date) for date in dates}
    return found - {None}


def _worth(said: Set[object], gold: Set[object], kind: Kind) -> float:
    if kind == "number" and len(said) == len(gold) == 1:
        return _graded(*(f"{value:.15g}" for (value,) in (said, gold)))
    return float(said == gold)


def _relation(sample: Sample, text: str) -> str:
    """The one of PHRASES that a text says, of the labels, or times, in the order of the question;
    '' where it says none or several."""
    text = text.lower()
    for other, phrase in SAME_AS:
        text = re.sub(other, phrase, text)
    question = sample.question.lower()
    places = {x: question.find(f"'{x}'") for x in map(str.lower, labels_of(sample))}
    asked = sorted((x for x in places if places[x] >= 0), key=places.__getitem__)
    told = named(text, asked)
    if asked:  # what it is compared with is not what the phrase is said of
        labels = "|".join(map(re.escape, asked))
        text = re.sub(rf"{THAN}(?:\W+\w+){{0,3}}?\W+(?:{labels})(?!\w)", " ", text)
    said = re.split(rf"({'|'.join(PHRASES)})", text)
    if len(set(said[1::2])) != 1:
        return ""
    before, found, after = re.split(r"[,;:.\n]", said[0])[-1], said[1], said[2]
    after = re.split(r"[,;.\n]", after)[0]
    of = named(before, asked)[-1:] or named(after, asked)[:1] or told[: len(set(told)) == 2]
    turned = {"more common": "less common", "less common": "more common"}
    turn = of == asked[1:2] != []
    turn ^= "lines dated before" in question and LATER.search(text) is not None
    return turned.get(found, found) if turn else found


def oolong(sample: Sample, answer: str, *, kind: Kind) -> Score:
    """The synthetic split's rule: exact match 1; a comparison phrase 1; a number
    ``0.75 ** |error|``; a date as dateutil reads it; else 0."""
    parsed = parse(answer)
    value = _official(parsed, sample.gold[0], kind)
    return Score(value, parsed, {"strict": _strict(sample, answer, kind)})


def strict(sample: Sample, answer: str, *, kind: Kind) -> Score:
    """The rule of our own questions: of the kind that is asked for, the answer must name one value,
    in whatever words and markup, in what follows its last ``Answer:`` (``Label:`` …) or in all of
    it, and be no longer than an answer is. Numbers are graded as OOLONG's."""
    official = {"official": _official(parse(answer), sample.gold[0], kind)}
    return Score(_strict(sample, answer, kind), final_part(sample, answer), official)


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
    it is one text, whatever it says. ``unboxed``: without a box the last line after its last colon
    counts; the last number in it, or its parts between commas and *and*, without case."""
    gold = _read_real(sample.gold[0])
    closed = answer[: answer.rfind("}") + 1]  # else each box that is open is read to the end
    box = re.search(r"\\boxed\{\\text\{([^}]*)\}\}", closed) or re.search(
        r"\\boxed\{+([^}]*)\}+", closed
    )
    value = _real_value(_read_real(box[1]) if box else answer, gold)
    text = box[1] if box else answer.strip().rpartition("\n")[2].rpartition(":")[2]
    text = text.casefold().strip(" .*[]\"'")
    other: Real = text
    if isinstance(gold, int):
        numbers = re.findall(r"-?\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text))
        other = int(numbers[-1][-18:]) if numbers else text
    elif isinstance(gold, list):
        other = [part.strip(" .") for part in re.split(r",|\band\b", text)]
        gold = [part.casefold() for part in gold]
    unboxed = max(value, _real_value(other, gold))
    return Score(value, box[1] if box else answer.strip(), {"unboxed": unboxed})
