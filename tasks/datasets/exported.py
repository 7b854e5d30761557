"""exported: samples written by ``rlm-eval export``, read back as they were.

One row a question, its context in the row; ids, golds, rules and knobs are those of the task the
samples come from, so a method scores the same on both (but RAG, which searches by the whole
question here, and there by what of it is no instruction). Samples that a model graded come back
without their judge: they score by exact match.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Json, Strict

from rlm_eval.errors import ConfigError
from rlm_eval.records import Content, Context, Sample, documents_of

from ..scoring.rules import RULES
from ..task import UNJUDGED, Pair
from .dataset import AnyText, DataSet, Row, Text, many, shape

#: Of a sample's fields, those a row holds as they are.
FIELDS = (
    *("id", "task", "context_id", "question", "scorer", "question_group"),
    *("target_tokens", "length_tokens", "max_answer_tokens"),
)

Size = Annotated[int, Field(ge=0, lt=1 << 40)]


def _scalar(value: object) -> object:
    if isinstance(value, str | int | float | None):
        return value
    raise ValueError("a text, a number, true, false or null")


def _whole(row: Row) -> Row:
    """``row``. Raises ValueError where its columns contradict each other or the context is not the
    one the sample was made with, or its rule can't read its golds."""
    if not row["documents"] and len(row["context"]) != 1:
        raise ValueError("one text in context, or documents=true")
    if _context(row).id != row["context_id"]:
        raise ValueError(f"the context of context_id: that of sample {row['id']} has been changed")
    size = sum(map(len, row["context"]))
    if any(not start <= end <= size for start, end in row["evidence"]):
        raise ValueError(f"evidence as [start, end) within the {size} characters of context")
    try:
        for answer in ("", "1", *row["gold"][:1]):
            RULES[row["scorer"]](from_row(row)[1], answer)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"a gold that {row['scorer']} can score by") from error
    return row


def _context(row: Row) -> Context:
    content: Content = tuple(row["context"]) if row["documents"] else row["context"][0]
    if row["names"] is not None:
        content = dict(zip(row["names"], row["context"], strict=False))
    return Context.of(content)


def to_row(context: Context, sample: Sample) -> dict[str, Any]:
    """A sample as a row. ``context`` is a list of texts, ``documents`` whether they are documents
    (else it is one text), ``names`` what these are called (None: nothing), ``evidence`` a list of
    [start, end), ``knobs`` JSON."""
    content = context.content
    return {key: getattr(sample, key) for key in FIELDS} | {
        "context": list(documents_of(content)),
        "documents": not isinstance(content, str),
        "names": list(content) if isinstance(content, Mapping) else None,
        "gold": list(sample.gold),
        "knobs": json.dumps(dict(sample.knobs), sort_keys=True, ensure_ascii=False),
        "evidence": [list(span) for span in sample.evidence],
    }


def from_row(row: Row) -> Pair:
    """The inverse of :func:`to_row`."""
    return _context(row), Sample(
        **{key: row[key] for key in FIELDS},
        gold=tuple(row["gold"]),
        knobs=row["knobs"],
        evidence=tuple(row["evidence"]),
    )


@dataclass(kw_only=True, eq=False)
class Exported(DataSet):
    n: int | None = None
    lengths: Sequence[int] | None = None

    schema = shape(
        _whole,
        **dict.fromkeys(("id", "task", "context_id", "question_group"), Text),
        **dict.fromkeys(FIELDS[-3:], Size),
        question=AnyText,
        scorer=Literal[tuple(RULES)],
        context=many(AnyText),
        documents=bool,
        names=many(AnyText) | None,
        gold=many(AnyText),
        knobs=Json[dict[str, Annotated[Any, AfterValidator(_scalar)]]],
        evidence=many(Annotated[tuple[Size, Size], Strict(False)]),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        first = next(self.rows())
        self.name = str(first["task"])
        self.notes = (UNJUDGED,) if first["scorer"] == "judge" else ()

    def build(self) -> Iterator[Pair]:
        """The first ``n`` samples of each length, or all; of ``lengths``, or all."""
        taken, known, last = Counter[int](), set[str](), Context("", "")
        for row in self.rows():
            target = row["target_tokens"]
            if row["id"] in known:
                raise ConfigError(f"{self.path} has sample {row['id']} twice", key="path")
            known.add(row["id"])
            if (not self.lengths or target in self.lengths) and taken[target] != self.n:
                taken[target] += 1
                context, sample = from_row(row)
                last = last if context.id == last.id else context
                yield last, sample
        if not taken:
            raise ConfigError("exported: no sample of task.path has one of task.lengths")
