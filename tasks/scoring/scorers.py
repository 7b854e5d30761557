"""Official scoring rules but OOLONG's, and what a judge's reply says. The source is named in each
docstring.

``Score.value`` follows the official rule, ``Score.lenient`` a stated looser one; ``correct`` means
``value == 1``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher

from rlm_eval.records import Sample, Score

#: About four characters of English a token: what an answer of n tokens may hold.
CHARS_PER_TOKEN = 4
MRCR_CHARS = 50_000


def scored(value: float, lenient: float, parsed: str) -> Score:
    """A score whose lenient value is ``lenient``, but never less than the official one."""
    return Score(value=value, lenient=max(value, lenient), correct=value == 1.0, parsed=parsed)


def labels_of(sample: Sample) -> list[str]:
    """The labels a sample was made with (knob ``labels``, separated by ``|``)."""
    return str(sample.knobs.get("labels") or "").split("|")


def names(text: str, word: str) -> bool:
    """Whether ``word`` occurs in ``text``, not as a part of another word."""
    return re.search(rf"\b{re.escape(word)}\b", text) is not None


# --- RULER ---------------------------------------------------------------------------------------


def ruler(sample: Sample, answer: str, *, any_of: bool = False) -> Score:
    """The share of the references found in the final answer, case folded (RULER,
    ``string_match_all``); with ``any_of`` 1 if any is (``string_match_part``).

    RULER generates at most ``max_answer_tokens``, so copying the haystack into the answer can't
    pay. Here methods may hand back longer text: the value is the recall in the answer's first
    ``4 × max_answer_tokens`` characters; the lenient score is the recall in all of it.
    """

    def recall(text: str) -> float:
        found = sum(reference.casefold() in text.casefold() for reference in sample.gold)
        return float(found > 0) if any_of else found / len(sample.gold)

    parsed = answer.strip()[: CHARS_PER_TOKEN * sample.max_answer_tokens]
    return scored(recall(parsed), recall(answer), parsed)


# --- SQuAD, HotpotQA, MuSiQue --------------------------------------------------------------------


def squad_normalise(text: str) -> str:
    """Lower case → no punctuation → no a, an, the → single spaces (SQuAD v1.1 evaluation)."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def squad_f1(answer: str, gold: str, *, hotpot: bool = False) -> float:
    """F1 over the multisets of normalised words; two empty answers agree (SQuAD). ``hotpot``: 0
    where one side is yes, no or noanswer and they differ (HotpotQA)."""
    given, reference = squad_normalise(answer), squad_normalise(gold)
    if hotpot and given != reference and {given, reference} & {"yes", "no", "noanswer"}:
        return 0.0
    words, wanted = given.split(), reference.split()
    if not words or not wanted:
        return float(words == wanted)
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


def last_line(answer: str) -> str:
    """What follows the last colon of an answer's last line."""
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    return lines[-1].rsplit(":", 1)[-1].strip(" *[]\"'") if lines else ""


def short_answer(sample: Sample, answer: str, *, hotpot: bool = False) -> Score:
    """Exact match after normalisation, the best over the references (answer and aliases: SQuAD
    v1.1, HotpotQA, MuSiQue).

    Lenient is the benchmarks' second number, F1, also the best over the references, of the
    complete answer or of what follows the last colon of its last line.
    """
    given = squad_normalise(answer)
    value = float(any(given == squad_normalise(reference) for reference in sample.gold))
    texts = (answer, last_line(answer))
    f1 = max(squad_f1(text, gold, hotpot=hotpot) for gold in sample.gold for text in texts)
    return Score(value=value, lenient=f1, correct=value == 1.0, parsed=answer.strip())


# --- Judges --------------------------------------------------------------------------------------


def read_verdict(reply: str) -> bool | None:
    """What a judge's reply says after ``correct:`` at the beginning of a line, or all by itself;
    None where it says nothing or both."""
    found = re.findall(r"^[*_\s]*correct[*_\s]*:[*_\s]*(yes|no)\b(?!\s+or\b)", reply, re.I | re.M)
    alone = re.fullmatch(r"\W*(yes|no)\W*", reply, re.I)
    words = {word.lower() for word in (found or ([alone[1]] if alone else []))}
    return words == {"yes"} if len(words) == 1 else None


def by_verdict(sample: Sample, answer: str, reply: str) -> Score | None:
    """1 where the judge says ``correct: yes``, 0 where it says no (BrowseComp-Plus). Lenient: or an
    exact match, which is kept beside it; None where no verdict can be read."""
    correct = read_verdict(reply)
    if correct is None:
        return None
    exact = short_answer(sample, answer).value
    found = re.search(r"^[*_\s]*answer[*_\s]*:[*_ \t]*(.+)", reply, re.I | re.M)
    return replace(scored(float(correct), exact, found[1].strip() if found else ""), exact=exact)


# --- Pairs, GraphWalks ---------------------------------------------------------------------------


def set_f1(given: int, gold: int, common: int) -> float:
    """F1 of two sets from their sizes; both empty → 1 (OOLONG-Pairs, GraphWalks)."""
    return 1.0 if given == gold == 0 else 2 * common / (given + gold)


def parse_pairs(answer: str) -> set[tuple[int, int]]:
    """Unordered pairs of user ids written as ``(123, 456)``, ``[123, 456]`` or ``123, 456``."""
    found = re.findall(r"(?<!\d)(\d{1,12})\s*[,;:&-]\s*(\d{1,12})(?!\d)", answer)
    pairs = ((int(a), int(b)) for a, b in found)
    return {(min(p), max(p)) for p in pairs if p[0] != p[1]}


def count_role_pairs(first: set[int], second: set[int]) -> int:
    """Unordered pairs with one user of either role: ordered ones, less those met both ways."""
    both = len(first & second)
    return len(first) * len(second) - both - both * (both - 1) // 2


def pairs(sample: Sample, answer: str) -> Score:
    """F1 of the answer's pairs against all unordered pairs of a user of the first role and another
    of the second, either way round (OOLONG-Pairs, RLM paper appendix D.1). There is no looser rule.
    The golds are the users of either role, separated by spaces; explicit pairs have several such
    twos, which have no pair in common."""
    roles = [set(map(int, users.split())) for users in sample.gold]
    twos = list(zip(roles[::2], roles[1::2], strict=True))
    given = parse_pairs(answer)
    hits = sum(any((a in x and b in y) or (b in x and a in y) for x, y in twos) for a, b in given)
    value = set_f1(len(given), sum(count_role_pairs(x, y) for x, y in twos), hits)
    return scored(value, value, f"{len(given)} pairs")


def graphwalks(sample: Sample, answer: str) -> Score:
    """Set F1 of the nodes in the last line, ``Final Answer: [a, b]``; both empty → 1; no such line
    is 0 (GraphWalks). Lenient: the last such list on any line."""
    gold = set(sample.gold)

    def nodes(text: str) -> set[str] | None:
        lists = re.findall(r"Final Answer:\s*\[([^\]]*)\]", text)
        if not lists:
            return None
        return {part.strip(" '\"") for part in lists[-1].split(",") if part.strip(" '\"")}

    def f1(given: set[str] | None) -> float:
        return 0.0 if given is None else set_f1(len(given), len(gold), len(given & gold))

    last = nodes("".join(answer.strip().splitlines()[-1:]))
    return scored(f1(last), f1(nodes(answer)), ", ".join(sorted(last or ())))


# --- Multiple choice, MRCR, BABILong -------------------------------------------------------------


def choice(sample: Sample, answer: str) -> Score:
    """The letter in ``The correct answer is (X)``, else the same without parentheses; no match is
    wrong (LongBench v2). Lenient: the last lone letter A–D of the answer."""
    text, gold = answer.replace("*", ""), sample.gold[0]
    found = re.search(r"The correct answer is \(([A-D])\)", text) or re.search(
        r"The correct answer is ([A-D])", text
    )
    parsed = found[1] if found else ""
    lone = re.findall(r"\b([A-D])\b", text)
    return scored(float(parsed == gold), float(lone[-1:] == [gold]), parsed)


def mrcr(sample: Sample, answer: str) -> Score:
    """0 unless the reply starts with the prefix, the second gold; else the SequenceMatcher ratio of
    reply and gold, the prefix removed from both (MRCR). Lenient: the reply may have text before the
    prefix. Only a reply's first ``MRCR_CHARS`` characters are compared: the matcher's time grows
    with the product of both, and a reply that long scores next to nothing."""
    gold, prefix = sample.gold

    def ratio(reply: str) -> float:
        return SequenceMatcher(None, reply[:MRCR_CHARS], gold.removeprefix(prefix)).ratio()

    before, found, reply = answer.partition(prefix)
    lenient = ratio(reply) if found else 0.0
    return scored(lenient if found and not before else 0.0, lenient, answer)


def babilong(sample: Sample, answer: str) -> Score:
    """The labels in the answer's first sentence, minus those in the question, must be exactly the
    target's (BABILong). Lenient: the target is somewhere in the answer."""
    text, question = answer.lower(), sample.question.partition("Question: ")[2].lower()
    target = {part.strip() for part in sample.gold[0].lower().split(",")}
    first = re.split(r"[.\n]", text.strip(), maxsplit=1)[0]
    labels = labels_of(sample)
    given = {label for label in labels if names(first, label) and not names(question, label)}
    everywhere = all(names(text, part) for part in target)
    return scored(float(given == target), float(everywhere), ",".join(sorted(given)))
