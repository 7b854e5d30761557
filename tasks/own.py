"""own: your documents, and your questions about them.

Source: ``path``, a folder or a file, and ``questions``, a JSONL or CSV file with a question a row;
or one such file as ``path``, whose rows bring their contexts. A row is about its ``file`` or
``context``, else about all of ``path``; several files are documents by name. Contexts are as they
are; the length is the power of two that holds the longest.

Score: by the rule that the column ``scorer`` or the setting names, else by what follows from the
answer: a number → ``number``; a letter, where all answers are A to J or a to j → ``choice``; a list
or a few words → ``contains``; more words → ``f1``. Of a list ``contains`` wants all (the score is
the share), other rules any. A sentence after the question asks for the form of reply that is read.

Known shortcuts: public documents may be known by heart, frequent answers guessed: compare with a
no_context arm and with the best constant.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator

from rlm_eval.errors import ConfigError, at_least
from rlm_eval.records import Context, content_hash

from .datasets.dataset import READERS, DataSet, Fields, Row, Text, shape, shorten, utf8
from .documents import read_file, read_folder
from .task import UNJUDGED, Pair

Scorer = Literal["exact", "contains", "f1", "number", "choice", "judge"]
#: What is said after a question, by the rule that reads the reply.
FORMS = {
    "number": "Reply with the number alone, in digits.",
    "choice": "Reply in the form 'The correct answer is (X)', where X is a letter.",
}
BRIEF = "Reply with the answer alone, in as few words as possible."
NUMBER = re.compile(
    r"-?(([1-9]\d{0,2}([ \xa0\u2009\u202f'’]\d{3})+|\d{1,3}(,\d{3})+|\d{1,2}(,\d{2})+,\d{3}|\d+)"
    r"(\.\d+)?|\.\d+)([eE][+-]?\d+)?"
)
#: Of these the first ten are read as letters of a choice where no rule is named: Y and N are words.
LETTERS = [*ascii_uppercase]
#: Up to so many words an answer is looked for as it stands; of a longer one the words count.
FEW_WORDS = 6
#: Under so many contexts no difference can be told from chance.
FEW_CONTEXTS = 6


def each(value: Any) -> list[Any]:
    """The values of a list that has some; what is none, as the only one."""
    return value if isinstance(value, list) and value else [value]


def written(answer: Any) -> str:
    """An answer as people write it: a number without an exponent."""
    text = str(answer).strip()
    return format(Decimal(text), "f") if isinstance(answer, float) else text


def letter(answer: Any) -> Any:
    """A letter as a choice has it, in upper case; other answers as they are."""
    return answer.upper() if isinstance(answer, str) and len(answer) == 1 else answer


def _answer(value: Any) -> Any:
    for one in each(value):
        number = type(one) in (int, float) and math.isfinite(one)
        if not number and not (isinstance(one, str) and utf8(one).strip()):
            raise ValueError("a non-empty text, a number, or a list of these")
    return value


def _texts(value: Any) -> Any:
    for text in each(value):
        if value is not None and not (isinstance(text, str) and utf8(text).strip()):
            raise ValueError("a non-empty text, or several")
    return value


def _context(value: Any) -> Any:
    _texts([*value, *value.values()] if isinstance(value, dict) else value)
    return value


@dataclass(kw_only=True, eq=False)
class Own(DataSet):
    questions: str | None = None
    name: str = "own"
    scorer: Scorer | Literal["auto"] = "auto"
    n: int | None = None
    max_answer_tokens: int = 128
    judge: str | None = "equivalence"
    judge_tokens: int = 1024
    judge_repeats: int = 1

    schema = shape(
        question=Text,
        answer=Annotated[Any, AfterValidator(_answer)],
        file=NotRequired[Annotated[Any, AfterValidator(_texts)]],
        context=NotRequired[Annotated[Any, AfterValidator(_context)]],
        id=NotRequired[Any],
        scorer=NotRequired[Scorer | None],
    )

    def __post_init__(self) -> None:
        """Raises ConfigError for whatever is wrong with rows or documents: all are read."""
        at_least(1, n=self.n)
        self._documents = Path(self.path) if self.path and self.questions else None
        if self._documents and not self._documents.exists():
            raise ConfigError(f"{self._documents} is no file and no folder", key="path")
        key, self.path = "questions" if self.questions else "path", self.questions or self.path
        self._rows_file = Path(self.path or "")
        if self._rows_file.suffix not in READERS:
            told = "must be a .jsonl or .csv file with the columns question, answer and maybe file"
            raise ConfigError(told, key="questions")
        below = self._documents or self._rows_file.parent
        self._below = below if below.is_dir() else below.parent
        self._opened: dict[str, Context] = {}
        self._skipped: list[str] = []
        try:
            super().__post_init__()
            self._pairs = self._read_all()
        except ConfigError as error:
            raise ConfigError(error.message, key={"path": key}.get(error.key, error.key)) from error
        ids = [sample.id for _, sample in self._pairs]
        self.source = {**(self.source or {}), "samples": content_hash(ids)}

    def build(self) -> Iterator[Pair]:
        yield from self._pairs

    def _read_all(self) -> list[Pair]:
        rows, tokens, first = list(self.placed_rows()), dict[str, int](), dict[str, str]()
        answers = [letter(row["answer"]) for _, row in rows]
        chosen = self.scorer == "auto" and all(one in LETTERS[:10] for one in answers)
        fixed = "choice" if chosen else self.scorer
        choices = [row["answer"] for _, row in rows if (row.get("scorer") or fixed) == "choice"]
        letters = {one for answer in choices for one in map(letter, each(answer)) if one in LETTERS}
        options = "".join(c for c in LETTERS if c <= max("D", *letters))
        asked: list[tuple[str, Context, Fields]] = []
        for place, row in rows:
            try:
                context, fields = self._context_of(row), self._fields(row, fixed, options)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error.message}", key="path") from error
            if context.id not in tokens:
                tokens[context.id] = self._tok.count(context.text)
            fields["length"] = length = tokens[context.id]
            fields["used"] = length + self._tok.count(fields["question"]) + self.max_answer_tokens
            asked.append((place, context, fields))
        target = 1 << (max(fields["used"] for *_, fields in asked) - 1).bit_length()
        pairs = []
        for place, context, fields in asked:
            _, sample = self.pair(context, target, **fields)
            (given,) = self.constants([sample])
            right, blank = (self.score(sample, said).correct for said in (given, ""))
            blank = blank and sample.scorer != "judge"
            if not right or blank or self._tok.count(sample.gold[0]) > self.max_answer_tokens:
                told = f"answer {', '.join(sample.gold)!r}: {sample.scorer} can't score it"
                if self._tok.count(given) > self.max_answer_tokens:
                    told += f" in {self.max_answer_tokens} tokens (task.max_answer_tokens)"
                raise ConfigError(f"{place}: {told}", key="path")
            if (before := first.setdefault(sample.id, place)) != place:
                raise ConfigError(f"{place}: asks what {before} asks", key="path")
            pairs.append((context, sample))
        pairs = pairs[: self.n]
        unread = {name for _, row in rows for name in row if name} - {*self.schema.__annotations__}
        self.notes = tuple(self._told(pairs, sorted(unread)))
        order = {context.id: i for i, (context, _) in reversed([*enumerate(pairs)])}
        return sorted(pairs, key=lambda pair: order[pair[0].id])

    def _told(self, pairs: list[Pair], unread: list[str]) -> Iterator[str]:
        """The task's notes. Raises ConfigError where a judge grades a part of the rows."""
        rules = Counter(sample.scorer for _, sample in pairs)
        if 0 < rules["judge"] < len(pairs):
            raise ConfigError("judge grades all rows or none: set task.scorer=judge", key="path")
        self.judge = self.judge if rules["judge"] else None
        contexts = len({context.id for context, _ in pairs})
        how = ", as the answers suggest (else set task.scorer)" if self.scorer == "auto" else ""
        scored = ", ".join(f"{rule} ({n})" for rule, n in rules.most_common())
        on = "1 context" if contexts == 1 else f"{contexts} contexts"
        yield f"{len(pairs)} questions on {on}, scored by {scored}{how}"
        if rules["judge"] and self.judge is None:
            yield UNJUDGED
        if contexts < FEW_CONTEXTS:
            yield (
                f"under {FEW_CONTEXTS} contexts no difference can be told from chance: give rows a "
                "file or context, or set analysis.unit=question for a verdict on these alone"
            )
        if self._skipped:
            yield f"left out, since binary or a link out: {shorten(', '.join(self._skipped), 300)}"
        if unread:
            yield f"columns not read: {shorten(', '.join(unread), 300)}"

    def _fields(self, row: Row, rule: str, options: str) -> Fields:
        """What :meth:`pair` takes of a row."""
        answer, rule = row["answer"], row.get("scorer") or rule
        golds = tuple(map(written, each(answer)))
        if rule == "auto" and NUMBER.fullmatch(golds[0]) and not isinstance(answer, list):
            rule = "number"
        elif rule == "auto":
            few = isinstance(answer, list) or len(golds[0].split()) <= FEW_WORDS
            rule = "contains" if few else "f1"
        elif rule == "choice":
            golds = tuple(map(letter, golds))
        known = {key: row[key] for key in ("id", "file") if row.get(key) is not None}
        knobs = {key: ", ".join(map(str, each(value))) for key, value in known.items()}
        return {
            "question": f"{row['question'].strip()}\n{FORMS.get(rule, BRIEF)}",
            "gold": golds,
            "scorer": rule,
            "group": rule,
            "knobs": knobs | ({"options": options} if rule == "choice" else {}),
        }

    def query(self, question: str) -> str:
        return question.rpartition("\n")[0]

    def _context_of(self, row: Row) -> Context:
        """What a row is about. Raises ConfigError for documents that can't be read."""
        given, names = row.get("context"), row.get("file")
        if given is not None and names is not None:
            raise ConfigError("has both file and context: leave one out")
        if given is not None:
            made = Context.of(tuple(given) if isinstance(given, list) else given)
            return self._opened.setdefault(made.id, made)
        if (key := json.dumps(names)) not in self._opened:
            read = {name: self._text(name) for name in each(names)}
            content: dict[str, str] = {}
            for name, text in read.items():
                texts = {"": text} if isinstance(text, str) else text
                content |= {f"{name}/{below}".rstrip("/"): text for below, text in texts.items()}
            self._opened[key] = Context.of(content if isinstance(names, list) else read[names])
        return self._opened[key]

    def _text(self, name: str | None) -> str | dict[str, str]:
        """The file of this name below ``path``, or all of it; the texts of a folder by name."""
        path = self._documents if name is None else self._below / name
        if path is None:
            raise ConfigError("has neither file nor context: add one, or set task.path")
        if name and ("\0" in name or not path.resolve().is_relative_to(self._below.resolve())):
            raise ConfigError(f"file {name!r} is not below {self._below}")
        if os.path.isdir(path):
            texts, skipped = read_folder(path, self._rows_file)
            self._skipped += skipped
            return texts
        if not (text := read_file(path)).strip():
            raise ConfigError(f"{path} is empty")
        return text
