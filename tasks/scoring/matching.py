"""References found in an answer: RULER's rule, and the strict one of the tasks that we generate.

RULER looks for the references anywhere in a reply of bounded length. A method that hands back as
much text as it likes wins under that rule without understanding anything, so the strict rule also
asks for what does *not* belong to the answer: it must be no longer than an answer is, and each
further candidate, of the kind that is asked for, takes one right one away.
"""

# ruff: noqa: SIM905  (a word list reads better as text)
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from rlm_eval.records import Sample, Score

#: About four characters of English a token: what an answer of n tokens may hold.
CHARS_PER_TOKEN = 4
#: Characters that words around an answer may take: with the answer marked as such, and without.
MARKED, UNMARKED = 100, 400

#: Lines that are marked as an answer, from which on they are a list.
MANY = 6
MARK = re.compile(  # the answer's kind is one where one line follows; else it heads a list
    r"^[^\n:]{0,60}\b(?:answers?(?: is| are)?[ *_`]*:"
    r"|(?:label|user|date|month)s?(?: is| are)?[ *_`]*:(?=[^\n]*\w|[\s*_`]*[^\n]+\s*\Z))",
    re.I | re.M,
)
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
BETWEEN_ITEMS = re.compile(r"[,;\n|/&]|\b(?:and|or)\b|(?<=[.!?])\s")
#: Several words before a colon introduce what follows; one is an entry, or says what the line is.
INTRODUCED = re.compile(r"^([^\n:]*[^\W\d_][^-\w\n:]+[^\W\d_][^\n:]*):(?=\s)", re.M)
#: Words of answers in sentences; those of the question come on top.
WORDING = frozenset(
    """
    a according after all also an answer answers appear appears are as at based be because
    been boxed by can certainly code coded common count counted counting counts does each
    final first following for found frequent frequently from given has have hence here i in
    indeed is it its json last list lives mentioned most must my namely no not occur
    occurrence occurrences occurring occurs of often on one only over person plaintext result
    so sure text than that the their them then there therefore these they this three thus time
    times to top two value values was were which who whose with word words yes
    """.split()
)


def final_part(sample: Sample, answer: str, mark: re.Pattern[str] = MARK) -> str:
    """What an answer says after the last ``Answer:`` (or ``Label:`` …) that begins a line, else all
    of it; nothing where that is longer than such an answer is. Text with many such lines is no
    answer but a list of them."""
    room = CHARS_PER_TOKEN * sample.max_answer_tokens
    marks = [found.end() for found in mark.finditer(answer)]
    marked = 0 < len(marks) < MANY
    part = (answer[marks[-1] :] if marked else answer).strip("*_` \t\r\n")
    return part if len(part) <= room + (MARKED if marked else UNMARKED) else ""


@lru_cache(maxsize=1024)
def numbers_in(text: str) -> tuple[float, ...]:
    """The numbers in a text, in order, each in full or not at all: of 2.5km there is no 2. Commas
    between thousands don't part them."""
    form = r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w|\.\d)"
    return tuple(map(float, re.findall(form, without_thousands(text))))


def without_thousands(text: str) -> str:
    """A text without the commas that part thousands."""
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def recall(sample: Sample, answer: str) -> float:
    """RULER's number: the share of the references that the reply holds, in any case. Control
    characters count as line breaks."""
    reply = re.sub(r"[\x00-\x1f]", "\n", answer.strip()).strip().lower()
    return sum(reference.lower() in reply for reference in sample.gold) / len(sample.gold)


def ruler(sample: Sample, answer: str) -> Score:
    """RULER's ``string_match_all``. Its models write a bounded number of tokens, which here nobody
    has to, so the strict reading stands beside it."""
    return Score(recall(sample, answer), answer.strip(), {"strict": strict_share(sample, answer)})


def strict_match(sample: Sample, answer: str) -> Score:
    """The references named in the answer, less the other candidates that it names, over the number
    of references (see :func:`strict_share`). RULER's number stands beside it."""
    official = {"official": recall(sample, answer)}
    return Score(strict_share(sample, answer), final_part(sample, answer), official)


def strict_share(sample: Sample, answer: str) -> float:
    """(right − wrong) / references, at least 0, of an answer's final part.

    References with a fixed form (numbers of n digits, uuids, names of n capitals) take every other
    word of that form for a candidate. Among plain words and names a candidate is what stands where
    a list has its entries (see :func:`_other_entries`).
    """
    part = INTRODUCED.sub(r"\1;", without_thousands(final_part(sample, answer)))
    golds = "|".join(map(re.escape, sample.gold))
    # A heading of one word right before a reference is no entry.
    part = re.sub(rf"(?im)^\W*(?!(?:{golds})\b)[^\W\d_]+:\s+(?=\W*(?:{golds})\b)", "", part)
    capitals = all(map(str.isupper, sample.gold))
    wanted = {gold if capitals else gold.lower() for gold in sample.gold}
    wording = WORDING.union(map(str.lower, WORD.findall(sample.question)))
    said = WORD.findall(part)
    named = wanted & set(said if capitals else map(str.lower, said))
    if capitals or all(any(map(str.isdigit, gold)) for gold in wanted):
        forms = {_form(gold) for gold in wanted}
        others = {w if capitals else w.lower() for w in said if w.lower() not in wording} - wanted
        wrong = sum(_form(word) in forms for word in others)
    else:
        items = map(WORD.findall, BETWEEN_ITEMS.split(part))
        wrong = len(set(_other_entries(items, set(sample.gold), wording)))
    return max(0, len(named) - wrong) / len(wanted)


def _form(word: str) -> tuple[int, bool, bool]:
    return len(word), word.isdigit(), word.isupper()


def _other_entries(
    items: Iterable[Sequence[str]], wanted: set[str], wording: frozenset[str]
) -> Iterator[str]:
    """Words that are neither references nor wording and stand like a list's entries: in one run
    with a reference, or in an item without any wording, but for two or three words without a
    reference; where references are names, only words with a capital. Of further items with such
    words three are free, as introductions."""
    names = all(word[:1].isupper() for word in wanted)
    known, sentences = {word.lower() for word in wanted}, 0

    def candidate(word: str) -> bool:
        return word.lower() in known or (
            word.lower() not in wording and (word[0].isupper() or not names)
        )

    for item in items:
        words = [word for word in item if not word.isdigit()]
        held = any(word.lower() in known for word in words)
        bare = not any(word.lower() in wording - known for word in words)
        bare = bare and (held or len(words) not in (2, 3))
        sentences += not bare and not held and any(map(candidate, words))
        for listed, run in groupby(words, candidate):
            entries = {word.lower() for word in run}
            if listed and (bare or entries & known):
                yield from entries - known
    yield from (f"sentence {i}" for i in range(3, sentences))
