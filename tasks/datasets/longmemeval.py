"""longmemeval: what a user told a chat assistant, asked for after many sessions.

Source: LongMemEval (Wu et al. 2025), 500 questions of six types on a user's chats, cleaned by its
authors: ``xiaowu0162/longmemeval-cleaned``, ``longmemeval_s_cleaned.json`` (some 115K tokens a
question) and ``longmemeval_m_cleaned.json`` (1.5M; 2.7 GB, read as a whole; as JSONL, with
``jq -c '.[]'``, it is read row by row). The context holds the sessions in the order of their dates,
each a document named by its number and date, its turns as ``user: …`` and ``assistant: …``. Of a
question with ``_abs`` in its id the answer was never told, and to say so is right.

Score: a judge model's yes or no (role ``judge``), as officially 1 where its reply holds "yes", by
the rules of the question's type (days, weeks and months may be off by one, old facts may stand
beside the new one, the user's wishes must be used rather than listed); exact match and F1 after
SQuAD's normalisation stand beside it. Officially the judge is gpt-4o-2024-08-06; the judge's prompt
and the question's wording are our own, so numbers are near the official ones, not the same.
``judge=null`` scores by exact match alone, as do the constants. Officially reported are the mean
over all rows and that over types: the group is the type.

Known shortcuts: the sessions with the answer were written for it, the others are public chats, so
word overlap finds many (``code_oracle`` takes the line of the session that share most with the
question). The source has its types one after another: fewer than all rows are a part of the types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlm_eval.records import Context, Sample, Score, documents_of

from ..scoring.scorers import by_verdict
from ..task import document_spans
from .dataset import AnyText, Fields, Fixed, Name, Row, Text, many, shape
from .padded import nearest

ASKED = "\nQuestion: "
TYPES = (
    *("single-session-user", "single-session-assistant", "single-session-preference"),
    *("temporal-reasoning", "knowledge-update", "multi-session"),
)
TURN = shape(role=Literal["user", "assistant"], content=AnyText)


def _dated(row: Row) -> Row:
    sizes = {len(row[f"haystack_{part}"]) for part in ("sessions", "dates", "session_ids")}
    if len(sizes) > 1:
        raise ValueError("as many haystack_dates and haystack_session_ids as haystack_sessions")
    return row


@dataclass(kw_only=True, eq=False)
class LongMemEval(Fixed):
    judge: str | None = "longmemeval"
    judge_tokens: int = 1024
    judge_repeats: int = 1
    max_answer_tokens: int = 512

    name = "longmemeval"
    schema = shape(
        _dated,
        question_id=Name,
        question_type=Literal[TYPES],
        question=Text,
        answer=Name,
        question_date=Text,
        haystack_sessions=many(many(TURN), 1),
        haystack_dates=many(Text),
        haystack_session_ids=many(Name),
        answer_session_ids=many(Name),
    )

    def __post_init__(self) -> None:
        self.scorer = "squad_em" if self.judge is None else "judge"
        super().__post_init__()

    def item(self, row: Row) -> Fields:
        columns = (row[f"haystack_{part}"] for part in ("dates", "session_ids", "sessions"))
        sessions = sorted(zip(*columns, strict=True), key=lambda session: session[0])
        told = {
            f"Session {number} ({date})": "\n\n".join(
                f"{turn['role']}: {turn['content'].strip()}" for turn in turns
            )
            for number, (date, _, turns) in enumerate(sessions, 1)
        }
        told_in = set(row["answer_session_ids"])
        places = [place for place, (_, name, _) in enumerate(sessions) if name in told_in]
        return {
            "content": told,
            "question": (
                "These are the sessions that you, an assistant, have had with a user. Answer the"
                f" user's question from them. Today is {row['question_date']}.{ASKED}"
                f"{row['question']}"
            ),
            "gold": (row["answer"],),
            "group": row["question_type"],
            "evidence": document_spans(tuple(told.values()), places),
            "knobs": {
                "question_id": row["question_id"],
                "abstention": "_abs" in row["question_id"],
                "n_sessions": len(sessions),
            },
        }

    def judge_values(self, sample: Sample, answer: str) -> Mapping[str, object]:
        kind = "abstention" if sample.knobs["abstention"] else sample.question_group
        return {**super().judge_values(sample, answer), "kind": kind}

    def judged(self, sample: Sample, answer: str, verdict: str) -> Score | None:
        """As officially: 1 where the reply holds "yes", here as a word. None for one that is empty,
        or says both without beginning with "yes"."""
        said = set(re.findall(r"\byes\b|\bno\b", verdict.lower()))
        begins = re.match(r"\W*yes\b", verdict.lower()) is not None
        if not verdict.strip() or (len(said) == 2 and not begins):
            return None
        return by_verdict(sample, answer, f"correct: {'yes' if 'yes' in said else 'no'}")

    def query(self, question: str) -> str:
        return question.partition(ASKED)[2]

    def code_oracle(self, question: str, context: Context) -> str | None:
        asked = self.query(question)
        lines = [*filter(None, nearest(asked, documents_of(context.content)).splitlines())]
        return nearest(asked, lines).partition(": ")[2] if lines else None
