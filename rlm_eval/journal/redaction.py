"""What is kept out of everything that a run writes: keys, and texts that must not be in the clear.

Keys: a model may be shown one, or find one, and say it. What counts is the value, wherever the
text came from; what was encoded differently (base64, say) is not found.

Sealed texts: some benchmarks ask that their questions and documents are never in the clear on a
disk or a page (BrowseComp-Plus). Their task has a method ``seal``, and what is recorded of a sample
passes through it: question, gold, answer, replies, prompts, code, output and errors. Hashes,
numbers, outcomes and scores stay as they are, so every table and figure works. In a trajectory only
:data:`OPEN` keys keep their texts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from rlm_eval.records import Call, Result

MARK = "[key]"
#: Names of variables that hold a secret: OPENAI_API_KEY, HF_TOKEN, DB_PASSWORD, AWS_ACCESS_KEY_ID.
_SECRET_NAME = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?\d*(_|$)", re.IGNORECASE
)
_SHORTEST, _SURELY_RANDOM = 8, 16
#: Keys of a trajectory's events whose texts say what happened, not what was read or written.
OPEN = frozenset(
    {
        *("type", "role", "outcome", "finish_reason", "call_id", "parent_call_id"),
        *("method", "prompt_hash", "sandbox_level", "settings", "budget", "budget_left"),
    }
)

Seal = Callable[[str], str]


class Redactor:
    """Replaces each of ``secrets`` in a text by ``[key]``, as it is and as JSON writes it."""

    def __init__(self, secrets: Collection[str]) -> None:
        quoted = {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets}
        self._forms = sorted({*secrets, *quoted}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        return text


def secrets_of(environ: Mapping[str, str], variables: Collection[str] = ()) -> set[str]:
    """The secret values of an environment: those of ``variables``, and of names that tell of one.

    Left alone is what can't be told from ordinary words, which must stay readable in replies:
    values under 8 characters, under 16 without both letters and digits, with white space, or that
    name a file here.
    """
    named = {n: v for n, v in environ.items() if n in variables or _SECRET_NAME.search(n)}
    return {value for value in named.values() if _looks_secret(value)}


def _looks_secret(value: str) -> bool:
    if len(value) < _SHORTEST or any(c.isspace() for c in value) or os.path.exists(value):
        return False
    mixed = any(c.isalpha() for c in value) and any(c.isdigit() for c in value)
    return mixed or (len(value) >= _SURELY_RANDOM and not value.isdigit())


@runtime_checkable
class SealingTask(Protocol):
    """A task whose text may not be stored in the clear."""

    def seal(self, text: str) -> str: ...


def seal_of(task: object) -> Seal | None:
    """How a task's text is sealed; None where it may be stored as it is."""
    return task.seal if isinstance(task, SealingTask) else None


def sealed_call(call: Call, reply: str, seal: Seal) -> tuple[Call, str]:
    """A call and its reply as they may be written down. An error keeps its kind."""
    kind, colon, message = call.error.partition(": ")
    return replace(call, error=kind + colon + _sealed(message, seal)), _sealed(reply, seal)


def sealed_result(result: Result, seal: Seal) -> Result:
    """A result with its trajectory as they may be written down."""
    sample, answer, score = result.sample, result.answer, result.score
    return replace(
        result,
        sample=replace(
            sample,
            question=seal(sample.question),
            gold=tuple(seal(reference) for reference in sample.gold),
        ),
        answer=replace(
            answer,
            text=None if answer.text is None else _sealed(answer.text, seal),
            error=_sealed(answer.error, seal),
            trajectory=tuple(_sealed_event(event, seal) for event in answer.trajectory),
        ),
        score=None if score is None else replace(score, parsed=_sealed(score.parsed, seal)),
    )


def _sealed(text: str, seal: Seal) -> str:
    """What is empty says nothing, and stays empty."""
    return seal(text) if text else ""


def _sealed_event(event: Mapping[str, Any], seal: Seal) -> Mapping[str, Any]:
    return {k: v if k in OPEN else _sealed_value(v, seal) for k, v in event.items()}


def _sealed_value(value: Any, seal: Seal) -> Any:
    if isinstance(value, str):
        return _sealed(value, seal)
    if isinstance(value, Mapping):
        return _sealed_event(value, seal)
    if isinstance(value, list | tuple):
        return [_sealed_value(part, seal) for part in value]
    return value
