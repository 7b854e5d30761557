"""Official scoring rules but RULER's and OOLONG's, those of a user's own questions, and what a
judge's reply says. The source is named in each docstring; ``Score.readings`` say beside it what
another reading would give."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache

import regex

from rlm_eval.records import Sample, Score
from rlm_eval.tokens import UNSPACED

from .matching import CHARS_PER_TOKEN, UNMARKED, final_part, numbers_in, recall, strict_share


def labels_of(sample: Sample) -> list[str]:
    """The labels a sample was made with (knob ``labels``, separated by ``|``), else those that its
    question lists."""
    listed = re.search(r"\bone of\b[^:.]*: ([^.\n]+)", sample.question)
    known = str(sample.knobs.get("labels") or "").split("|")
    return known if known != [""] else listed[1].split(", ") if listed else []


def named(text: str, words: Iterable[str]) -> list[str]:
    """Those of ``words`` that the text holds as whole words, in any case, in its order; of two that
    begin in one place the longer. In lower case."""
    choices = "|".join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))
    return re.findall(rf"(?<!\w)(?:{choices})(?!\w)", text.lower()) if choices else []


def f1(given: int, wanted: int, common: int) -> float:
    """F1 of two sets (or bags) by their sizes, bit for bit as the benchmarks work it out; two empty
    ones agree."""
    if not common:
        return float(given == wanted == 0)
    precision, share = common / given, common / wanted
    return 2 * precision * share / (precision + share)


# --- SQuAD, HotpotQA, MuSiQue --------------------------------------------------------------------


def squad_normalise(text: str) -> str:
    """Lower case → no punctuation → no a, an, the → single spaces (SQuAD v1.1 evaluation)."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def squad_f1(answer: str, gold: str, *, hotpot: bool = False) -> float:
    """F1 over the bags of normalised words; two empty answers agree (SQuAD 2.0, MuSiQue).
    ``hotpot``: 0 for these, and where one side is yes, no or noanswer and they differ."""
    given, reference = squad_normalise(answer), squad_normalise(gold)
    verdict = {given, reference} & {"yes", "no", "noanswer"}
    if hotpot and (not given or (given != reference and verdict)):
        return 0.0
    words, wanted = Counter(given.split()), Counter(reference.split())
    return f1(words.total(), wanted.total(), (words & wanted).total())


def squad(sample: Sample, answer: str, *, hotpot: bool = False) -> dict[str, float]:
    """Exact match after normalisation, and F1, each the best over the references."""
    given = squad_normalise(answer)
    return {
        "exact_match": float(any(given == squad_normalise(gold) for gold in sample.gold)),
        "f1": max(squad_f1(answer, gold, hotpot=hotpot) for gold in sample.gold),
    }


def short_answer(
    sample: Sample, answer: str, *, hotpot: bool = False, by: str = "exact_match"
) -> Score:
    """Exact match; the second number of the benchmarks, F1, stands beside it (SQuAD, HotpotQA,
    MuSiQue). ``by="f1"``: the other way round."""
    both = squad(sample, answer, hotpot=hotpot)
    return Score(both.pop(by), answer.strip(), both)


def string_match_part(sample: Sample, answer: str) -> Score:
    """1 where the reply holds one of the references (RULER's qa)."""
    value = max(recall(replace(sample, gold=(gold,)), answer) for gold in sample.gold)
    return Score(value, answer.strip(), squad(sample, answer))


def strict_answer(sample: Sample, answer: str) -> Score:
    """1 where the answer names the reference and no other candidate, for tasks of our own."""
    return Score(strict_share(sample, answer), answer.strip(), squad(sample, answer))


# --- A user's own questions ----------------------------------------------------------------------


#: A letter of a script that parts words, its vowel signs and accents with it, or a digit.
_LETTER = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}ー]]"
#: What marks an answer to a user's question; OOLONG's other marks are words of such answers.
ANSWER = re.compile(r"^[^\n:]{0,60}\banswers?(?: is| are)?[ *_`]*:", re.I | re.M)
#: Marks that printers set for those of a keyboard: apostrophes, and dashes before a number.
QUOTES = str.maketrans({**dict.fromkeys("’‘ʼ", "'"), **dict.fromkeys("‐‑", "-")})
DASH = re.compile(r"(?:(?<=\d)|(?<!\w))[−–](?=\d)")
#: Marks that are part of a number or a name (2.5, -5, 10-20, C++, Schedule A), and letters instead.
PART = regex.compile(
    r"(?<=\d)[.⁄-](?=\d)|(?<!\w)-(?=\d)|(?<=\w)[+#]+(?!\w)"
    r"|(?<=\w [\"'(*\[`]*)(?:A(?![\w+#]|[-.&/]\w)|a(?! ?\w|[+#]|[-.&/]\w))"
)
AS_LETTERS = str.maketrans(".-+#⁄aA", "ːˑˠˡᵗᵃᵃ")
MONEY = "€£¥₹"
#: A currency before its number, with what that counts: 10m, 500-600, 10 bn.
PRICE = re.compile(
    rf"([{MONEY}]) +(\d[\d.,]*(?:-\d[\d.,]*)?(?: ?(?:k|m|mn|bn|thousand|million|billion)\b|\w*))"
)
#: Thousands parted by spaces or apostrophes (1 200, 1'200), as in India (12,34,567), and by dots
#: that can be nothing else (1.234.567 and 1.234,56); and a comma before decimals (2,5 and 0,125).
THOUSANDS = re.compile(
    r"(?:(?<![\w.,])|(?<=[^\W\d_]\.))[1-9](?:\d{0,2}(?:[ \xa0\u2009\u202f']\d{3})+"
    r"|\d{0,2}(?:(?:\.\d{3}){2,}|(?:\.\d{3})+(?=,\d\d?(?!\d)))|\d?(?:,\d{2})+,\d{3})(?!\w)"
)
DECIMALS = re.compile(
    r"(?<![\w.,])(\d+,(?:\d\d?|(?!(?:19|20)\d\d(?!\d))\d{4,})|0,\d+)(?!\d|[,.]\d)"
)
#: What parts a list's entries, spaces or not: no comma of 1,200, no slash of 24/7 or km/h.
PARTING = re.compile(r"(?!(?<=\d),\d{3}(?!\d))[,;|]|(?<=[^\W\d]{2})/(?=[^\W\d]{2})")
#: Where a unit begins that stands at its number (15km, not 2nd).
UNIT = r"(?<=\d)(?=(?!(?:st|nd|rd|th)\b)[^\W\d_]+\b)"
#: What may part words as well: in lease-03.md, https://acme.com, Ben's, l'État and 10kg, not U.S.
FINER = re.compile(
    rf"{PARTING.pattern}|(?<=\w)(?<!\b[^\W\d])(?:[.:]|://)(?=[^\W\d]{{2}})"
    rf"|(?<=\w)'(?=s\b)|\b(?i:[cdjlmnst]|qu|un|(?:a|da|de|ne|que|su)ll)'(?=[^\W\d_])"
    rf"|{UNIT}(?=\w\w)|(?<=\d)/(?=[^\W\d])"
)


def _typed(text: str) -> str:
    return DASH.sub("-", unicodedata.normalize("NFC", text).translate(QUOTES))


def _spaced(text: str) -> str:
    """With spaces in place of printers' marks, and around other signs (€, °, ™)."""
    kinds = ((c, unicodedata.category(c)[0] if c > "\x7f" and c != "⁄" else "") for c in text)
    return "".join(" " if kind == "P" else f" {c} " if kind == "S" else c for c, kind in kinds)


@lru_cache(maxsize=4096)
def _words(text: str, parting: re.Pattern[str]) -> str:
    """A text by SQuAD's normalisation, but for marks that are part of a number or a name, or that
    part words. Any printer's mark or sign parts them: 20 °C is 20°C, “Sun” Ltd is Sun Ltd."""
    plain = _spaced(unicodedata.normalize("NFKC", _spaced(_typed(text))))  # № and ℃ are letters
    bare = " ".join(PRICE.sub(r"\2 \1 ", plain).split())
    marked = PART.sub(lambda mark: mark[0].translate(AS_LETTERS), bare)
    return squad_normalise(parting.sub(" ", marked))


def _held(part: str, golds: Iterable[str], parting: re.Pattern[str]) -> Iterator[bool]:
    """Whether each gold is held as whole words. Where yes or no is one, but not both, it must be
    what is said first of the two; so with true and false."""
    said, wanted = _words(part, parting), [_words(gold, parting) for gold in golds]
    for gold in wanted:
        twos = ("yes|no", "true|false")
        two = next((two for two in twos if {*two.split("|")} & {*wanted} == {gold}), "")
        # What a gold doesn't have counts nowhere: a currency, and A where it is an article.
        idle = ("" if gold.endswith("ᵃ") else "ᵃ") + ("" if {*gold} & {*MONEY} else MONEY)
        away = str.maketrans(dict.fromkeys(idle, " "))
        text, wish = (" ".join(one.translate(away).split()) for one in (said, gold))
        form = rf"(?<!{_LETTER})(?:{two or regex.escape(wish)})(?!{_LETTER})"
        found = regex.search(form, text, regex.V1)
        yield found is not None and found[0] == wish


def contains(sample: Sample, answer: str) -> Score:
    """The share of the references that the answer's final part holds as whole words, parted either
    way, after SQuAD's normalisation, which here leaves numbers whole; 0 for what is longer than an
    answer is."""
    part = final_part(sample, answer, ANSWER)
    ways = (_held(part, sample.gold, parting) for parting in (PARTING, FINER))
    held = sum(map(any, zip(*ways, strict=True)))
    return Score(held / len(sample.gold), part, squad(sample, answer))


def number(sample: Sample, answer: str) -> Score:
    """1 where the last number in the answer's final part is one of the references; numbers of the
    question, or in brackets, don't count where there are others. A unit may stand at a number."""
    part = final_part(sample, answer, ANSWER)
    told, outside = _numbers(sample.question), re.sub(r"\([^()]*\)", " ", part)
    said = _numbers(outside) or _numbers(part)
    last = [value for value in said if value not in told][-1:] or said[-1:]
    right = any(
        math.isclose(value, given, rel_tol=1e-9 if value % 1 else 0.0)
        for given in last
        for gold in sample.gold
        for value in _numbers(gold)
    )
    return Score(float(right), f"{last[0]:.15g}" if last else "", squad(sample, answer))


def _numbers(text: str) -> tuple[float, ...]:
    """The numbers in a text as people write it: −5, .5, 2,5 and 1 200, and where none stands alone
    15km, USD15 and No.15."""
    typed = THOUSANDS.sub(lambda found: re.sub(r"\D", "", found[0]), _typed(text))
    typed = DECIMALS.sub(lambda found: found[0].replace(",", "."), typed)
    typed = re.sub(r"(?<![\w.])\.(?=\d)", "0.", typed)
    return numbers_in(typed) or numbers_in(re.sub(rf"{UNIT}|(?<=[^\W\d_])\.?(?=\d)", " ", typed))


# --- Judges --------------------------------------------------------------------------------------

VERDICT = r"(?:\*\*correct:\*\*|\*\*correct\*\*:|correct:)\s*(yes|no)(?!\s*(?:or|/)\s*(?:yes|no)\b)"


def read_verdict(reply: str) -> bool | None:
    """What a judge's reply says after ``correct:``, wherever that stands (BrowseComp-Plus). Where
    it says both, the beginnings of lines count; None where these say both, or nothing is said."""
    for place in ("", r"^[\W\d]*"):
        found = {word.lower() for word in re.findall(place + VERDICT, reply, re.I | re.M)}
        if len(found) < 2:
            return found == {"yes"} if found else None
    return None


def by_verdict(sample: Sample, answer: str, reply: str) -> Score | None:
    """1 where the judge says ``correct: yes``, 0 where it says no (BrowseComp-Plus), exact match
    and F1 beside it; None where no verdict can be read."""
    correct = read_verdict(reply)
    if correct is None:
        return None
    found = re.search(
        r"^[*_\s]*(?:extracted_final_)?answer[*_\s]*:[*_ \t]*(.+)", reply, re.I | re.M
    )
    return Score(float(correct), found[1].strip() if found else "", squad(sample, answer))


# --- Pairs, GraphWalks ---------------------------------------------------------------------------

PAIR = re.compile(r"\(\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*\)")
BARE_PAIR = re.compile(r"(?<![\w/-])(\d{1,18})\s*[,/&]\s*(\d{1,18})(?![\w/-])")
NODES = re.compile(r"Final Answer:\s*\[(.*)\]")
MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
DAY = r"\d{1,2}(?:st|nd|rd|th)?"
DATE = rf"(?:{MONTH} {DAY}|{DAY}(?: of)? {MONTH}),? \d{{4}}|\d{{1,4}}([/.-])\d\d?\1\d{{1,4}}"
Pair = tuple[int, int]


def parse_pairs(answer: str, *, bare: bool = False) -> set[Pair]:
    """Unordered pairs written ``(123, 456)``, (5, 5) among them, outside of ``<think>``. With
    ``bare``, where there is none, also ``123, 456``, which in a date is no pair."""
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL)
    found = PAIR.findall(text)
    if bare and not found:
        found = BARE_PAIR.findall(re.sub(DATE, " ", text))
    return {(min(p), max(p)) for p in ((int(a), int(b)) for a, b in found)}


def count_role_pairs(first: set[int], second: set[int]) -> int:
    """Unordered pairs with one user of either role: ordered ones, less those met both ways."""
    both = len(first & second)
    return len(first) * len(second) - both - both * (both - 1) // 2


def pairs(sample: Sample, answer: str, *, strict: bool = False) -> Score:
    """F1 of the answer's pairs, written ``(a, b)``, against all unordered pairs of a user of one
    role and another of a second, either way round; both empty → 1 (OOLONG-Pairs by its authors'
    code). The golds are the users of either role, separated by spaces, or several such twos that
    have no pair in common. ``bare_pairs``: pairs without parentheses count where there are no
    others. ``strict``: text without a pair means none only where it is short, names no two
    users and is not the question."""
    roles = [set(map(int, users.split())) for users in sample.gold]
    twos = list(zip(roles[::2], roles[1::2], strict=True))
    wanted = sum(count_role_pairs(*two) for two in twos)
    partners: dict[int, list[set[int]]] = {}
    for x, y in twos:
        for user in x:
            partners.setdefault(user, []).append(y)

    def hit(a: int, b: int) -> bool:
        return a != b and any(b in users for users in partners.get(a, ()))

    def score(given: set[Pair]) -> float:
        users = set(re.findall(r"\d{5,}", said))
        if strict and not given and (not 0 < len(said) <= UNMARKED or len(users) > 1):
            return 0.0
        return f1(len(given), wanted, sum(hit(a, b) or hit(b, a) for a, b in given))

    said = answer.replace(sample.question, "").strip()
    given = parse_pairs(answer)
    bare = {"bare_pairs": score(parse_pairs(answer, bare=True))}
    return Score(score(given), f"{len(given)} pairs", bare)


def graphwalks(sample: Sample, answer: str) -> Score:
    """Set F1 of the nodes in the last line, ``Final Answer: [a, b]``; both empty → 1; no such line
    is 0 (GraphWalks, as lm-evaluation-harness reads it). ``anywhere``: the last such line."""

    def score(lines: list[str]) -> float:
        lists = [found[1] for line in lines if (found := NODES.search(line))]
        if not lists:
            return 0.0
        nodes = {part.strip().strip("'\"") for part in lists[-1].split(",") if part.strip()}
        return f1(len(nodes), len(set(sample.gold)), len(nodes & set(sample.gold)))

    lines = answer.rstrip("\n").split("\n")
    return Score(score(lines[-1:]), lines[-1], {"anywhere": score(lines)})


# --- Multiple choice, MRCR, BABILong -------------------------------------------------------------


def options_of(sample: Sample) -> str:
    """The letters of a multiple choice: A to D, unless the sample's knob says otherwise."""
    return str(sample.knobs.get("options", "ABCD"))


def choice(sample: Sample, answer: str) -> Score:
    """The letter in ``The correct answer is (X)``, else the same without parentheses; no match is
    wrong (LongBench v2); of several golds any. ``anywhere``: the last lone letter of the choice in
    the answer."""
    text, one = answer.replace("*", ""), f"([{options_of(sample)}])"
    found = re.search(rf"The correct answer is \({one}\)", text) or re.search(
        f"The correct answer is {one}", text
    )
    parsed = found[1] if found else ""
    last = re.findall(rf"\b{one}\b", text)[-1:]
    anywhere = any(letter in sample.gold for letter in last)
    return Score(float(parsed in sample.gold), parsed, {"anywhere": float(anywhere)})


#: Characters of the reply times characters of the gold that are compared: 10 to 30 seconds.
COMPARED = 5_000_000_000


def mrcr(sample: Sample, answer: str) -> Score:
    """0 unless the reply starts with the prefix, the second gold; else the SequenceMatcher ratio of
    reply and gold, the prefix removed from both (MRCR). ``anywhere``: text before the prefix is
    passed over. Of replies longer than ``COMPARED`` allows (1,000,000 characters, the gold of
    5000), whose official score can't reach 0.01, only the characters up to there are looked at."""
    gold, prefix = sample.gold
    wanted = gold.removeprefix(prefix)

    def ratio(reply: str) -> float:
        if not reply and not wanted:
            return 1.0
        matcher = SequenceMatcher(None, reply[: COMPARED // max(1, len(wanted))], wanted)
        matched = sum(block.size for block in matcher.get_matching_blocks())
        return 2.0 * matched / (len(reply) + len(wanted))

    place = answer.find(prefix)
    anywhere = ratio(answer[place + len(prefix) :]) if place >= 0 else 0.0
    return Score(anywhere if place == 0 else 0.0, answer, {"anywhere": anywhere})


ROOMS = "bathroom bedroom garden hallway kitchen office"
#: BABILong's fixed labels of each task.
LABELS: dict[str, str] = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4", "qa11", "qa12", "qa13"), ROOMS),
    "qa5": "bill fred jeff mary apple football milk",
    "qa7": "none one two three",
    "qa8": "apple football milk nothing",
    **dict.fromkeys(("qa6", "qa9", "qa17", "qa18"), "no yes"),
    "qa10": "maybe no yes",
    "qa14": "bedroom cinema kitchen office park school",
    "qa15": "cat mouse sheep wolf",
    "qa16": "gray green white yellow",
    "qa19": "e,e e,n e,s n,e n,n n,w s,e s,s s,w w,n w,s w,w",
    "qa20": "bedroom bored garden hungry kitchen thirsty tired",
}


def babilong(sample: Sample, answer: str) -> Score:
    """The labels of the task (its name is the sample's group) that the answer holds up to the first
    period, ``<context>`` or ``<example>``, less those of the question, must be exactly the target's
    (BABILong). Parts of words count, and so ``none`` holds ``one`` and is never right. ``strict``:
    whole words, in all of an answer that is no longer than its room."""
    target, question = sample.gold[0].lower(), sample.question.rpartition("Question: ")[2].lower()
    labels = LABELS[sample.question_group].split()
    first = re.split(r"\.|<context>|<example>", answer.lower(), maxsplit=1)[0]
    given = {label for label in labels if label in first and label not in question}
    wanted = sorted(target.split(",")) if len(target) > 3 else [target]
    short = len(answer) <= CHARS_PER_TOKEN * sample.max_answer_tokens + UNMARKED
    way = ",".join(re.findall(r"\b([nsew])(?:orth|outh|ast|est)?\b", answer.lower()))
    words = sorted(set(named(answer, labels)) - set(named(question, labels)))
    strict = way == target if sample.question_group == "qa19" else words == wanted
    right = given.issuperset(wanted) and len(given) == len(wanted)
    return Score(float(right), ",".join(sorted(given)), {"strict": float(short and strict)})
