"""oolong_pairs: OOLONG-Pairs as published, twenty questions whose answers are pairs of users.

Source: RLM paper (arXiv 2512.24601), appendix D.1; ``mit-oasys/oolong-pairs`` has a file of twenty
questions with their pairs for each length 1024 … 1048576, which is in the file's name. Their
context is OOLONG's trec_coarse validation window of that length: of ``windows`` (oolong-synth) the
first one in which all users of the file's answers occur; none is refused. Questions and golds are
as published. Score: F1 over the set of unordered pairs; where both are empty, 1. The paper reports
the mean over the twenty questions at 32768.

A length is the published one, whatever the tokenizer, and the answer's tokens don't count towards
it: at 32768 it may be larger than the window. Golds grow with the square of the users: from 524288
on they take gigabytes. A gold is stored as the users of two roles, of which each of the one makes a
pair with each of the other; where the pairs have no such form, as two roles a user.

Known shortcuts: answering with every pair of users scores well where a condition is weak. The
questions behind the lines (TREC) are public. ``task=pairs`` asks the same twenty of other windows,
with controls for both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from rlm_eval.errors import ConfigError

from ..scoring.scorers import count_role_pairs
from .dataset import Fields, Fixed, Name, Row, Text, checked, many, shape
from .oolong import Oolong


def _ids(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\(\s*(\d{1,12})\s*,\s*(\d{1,12})\s*\)", text)
    if not found or int(found[1]) == int(found[2]):
        raise ValueError("a text '(id, id)' of two ids")
    a, b = int(found[1]), int(found[2])
    return min(a, b), max(a, b)


def as_roles(pairs: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Golds for the rule ``pairs_f1``: one first and one second role, else such two for each user
    that comes first in a pair."""
    partners: dict[int, set[int]] = defaultdict(set)
    wanted = set(pairs)
    for a, b in wanted:
        partners[a].add(b)
        partners[b].add(a)
    # Users of one role alone have no pair among themselves; those of both have one with everybody.
    both = {user for user, others in partners.items() if len(others) == len(partners) - 1}
    one = min(partners.keys() - both, default=None)
    first = set() if one is None else partners.keys() - partners[one]
    roles = (first | both, partners.keys() - first)
    if count_role_pairs(*roles) == len(wanted) and all(
        {a, b} & roles[0] and {a, b} & roles[1] for a, b in wanted
    ):
        return tuple(" ".join(map(str, sorted(role))) for role in roles)
    later = {a: sorted(b for b in partners[a] if b > a) for a in sorted(partners)}
    twos = ((str(a), " ".join(map(str, users))) for a, users in later.items() if users)
    return tuple(chain.from_iterable(twos))


@dataclass(kw_only=True, eq=False)
class OolongPairs(Fixed):
    windows: Oolong
    max_answer_tokens: int = 4096

    name, scorer = "oolong_pairs", "pairs_f1"
    answer_in_target = False
    schema = shape(
        id=Name, question=Text, answer=many(Annotated[Text, AfterValidator(_ids)]), type=Name
    )

    def __post_init__(self) -> None:
        key, name = ("file", self.file) if self.path is None else ("path", self.path)
        found = re.search(r"-(\d+)\.\w+$", Path(name or "").name)
        if not found:
            raise ConfigError("must end in its length, as oolong-pairs-32768.json does", key=key)
        self._length = int(found[1])
        super().__post_init__()
        windows = {f"windows_{key}": value for key, value in (self.windows.source or {}).items()}
        self.source = {**(self.source or {}), **windows}

    def size(self, row: Row) -> int:
        return self._length

    def item(self, row: Row) -> Fields:
        return {
            "content": self._window["context_window_text"],
            "question": row["question"],
            "gold": as_roles(row["answer"]),
            "group": row["type"],
            "knobs": {
                "query": row["id"],
                "gold_pairs": len(set(row["answer"])),
                "context_window_id": self._window["context_window_id"],
            },
        }

    @cached_property
    def _window(self) -> Row:
        rows = (checked(self.schema, raw, place) for place, raw in self._raw())  # of `where` or not
        users = {str(user) for row in rows for pair in row["answer"] for user in pair}
        for row in self.windows.rows():
            wanted = (row["dataset"], row["context_len"]) == ("trec_coarse", self._length)
            if wanted and users <= set(re.findall(r"User: (\d+)", row["context_window_text"])):
                return row
        raise ConfigError(
            f"have no trec_coarse window of length {self._length} with all users of the answers",
            key="windows",
        )
