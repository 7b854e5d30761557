"""What flows through the harness: plain frozen records. Imports nothing of ours.

    Task --(Sample, Context)--> runner --(Problem)--> method --(Answer)--> Task.score --> Result
                                              \\--> model client --> Call, Call …

A method receives a :class:`Problem`, which has no gold answer in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

SCHEMA_VERSION = 3
T = TypeVar("T", int, float)

Scalar = str | int | float | bool | None
Content = str | tuple[str, ...] | Mapping[str, str]
#: A stretch of a context: [start, end) in characters of its documents put end to end.
Span = tuple[int, int]

#: The rule of a question without a gold answer: it has no score.
NO_GOLD = "no gold"
Watch = Callable[[Mapping[str, Any]], None]

#: Whose model is asked in a call. ``root``: a turn of an RLM, or another method's answering call;
#: ``sub``: a call begun by REPL code, and a child RLM's turns where ``child_model`` says so.
Role = Literal["root", "sub", "summarize", "embed", "judge"]

#: How a question ended. Only the first two are scored; see :data:`SCORED` and :data:`PENDING`.
Outcome = Literal[
    "answered",
    "forced",
    "no_answer",
    "thoughts_only",
    "refusal",
    "tool_call",
    "content_filter",
    "budget_exceeded",
    "context_overflow",
    "provider_error",
    "sandbox_error",
    "invalid_answer",
]
SCORED: frozenset[str] = frozenset({"answered", "forced"})
#: Neither right nor wrong: asked again on resume.
PENDING: frozenset[str] = frozenset({"provider_error", "sandbox_error"})

_BEGAN = time.time() - time.monotonic()


def now() -> float:
    """Unix time, in seconds, by the clock as this process began: it never goes back, nor jumps."""
    return _BEGAN + time.monotonic()


def plain(text: str) -> str:
    """``text`` without characters that a terminal would obey, but for tabs and ends of lines."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "�", text.replace("\r\n", "\n"))


def storable(text: str) -> str:
    """``text`` as every request, table and page can hold it: half of a surrogate pair, which JSON
    and Python allow, is U+FFFD."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def content_hash(value: Any) -> str:
    """16 hex digits of the SHA-256 of ``value`` as canonical JSON: the same on every machine."""
    blob = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(blob.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def union(spans: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """The stretches in order, those that overlap or touch joined."""
    out: list[tuple[T, T]] = []
    for start, end in sorted((start, end) for start, end in spans):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((start, end))
    return out


@dataclass(frozen=True)
class Context:
    """A long input, stored once and shared by the questions asked about it: one string, a tuple of
    documents in order, or documents by name (a folder of files, say), in order too."""

    id: str
    content: Content

    @classmethod
    def of(cls, content: Content) -> Context:
        """A context whose id is its content's hash; named documents are copied, unchangeable."""
        if not isinstance(content, Mapping):
            return cls(id=content_hash(content), content=content)
        return cls(id=content_hash(list(content.items())), content=MappingProxyType(dict(content)))

    @property
    def text(self) -> str:
        """The input as one string (see :func:`text_of`)."""
        return text_of(self.content)


def text_of(content: Content) -> str:
    """An input as one string; documents are numbered as RULER's qa does, or named."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return "\n\n".join(f"{name}:\n{text}" for name, text in content.items())
    return "\n\n".join(f"Document {i}:\n{text}" for i, text in enumerate(content, 1))


def documents_of(content: Content) -> tuple[str, ...]:
    """The documents of an input, in order; one string is one document."""
    if isinstance(content, str):
        return (content,)
    return tuple(content.values()) if isinstance(content, Mapping) else content


@dataclass(frozen=True)
class Sample:
    """One question about one context, with its gold answer and the knobs it was made with.

    ``gold`` holds the reference strings that ``scorer`` (a rule's name) reads. ``target_tokens`` is
    the length asked for, ``length_tokens`` the context's, both by the task's tokenizer. An answer
    must have read the stretches of ``evidence``, where the task knows them.
    """

    id: str
    task: str
    context_id: str
    question: str
    gold: tuple[str, ...]
    scorer: str
    question_group: str
    target_tokens: int
    length_tokens: int
    max_answer_tokens: int = 64
    knobs: Mapping[str, Scalar] = field(default_factory=dict)
    evidence: tuple[Span, ...] = ()

    @classmethod
    def of(cls, *, evidence: tuple[Span, ...] = (), **fields: Any) -> Sample:
        """A sample whose id is the hash of all but its evidence, which follows from the rest."""
        return cls(id=content_hash(fields), evidence=evidence, **fields)


@dataclass(frozen=True)
class Problem:
    """What a method is given: the question and the input, nothing that tells the answer."""

    sample_id: str
    question: str
    context: Context
    max_answer_tokens: int = 64
    #: What to search for: the question without its instruction; empty where that is all of it.
    query: str = ""
    #: Is told of each event of an agent's trajectory at once, where somebody looks on.
    watch: Watch | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Score:
    """One answer judged, in [0, 1], by the rule that the sample names; ``parsed`` is what that took
    for the answer. ``readings`` are what other rules say, each a column of its own name. Where a
    model judged, it is what most of its ``verdicts`` say, and ``dissents`` of them don't."""

    value: float
    parsed: str
    readings: Mapping[str, float] = field(default_factory=dict)
    verdicts: int = 0
    dissents: int = 0

    @property
    def correct(self) -> bool:
        return self.value == 1.0


@dataclass(frozen=True)
class Answer:
    """What a method hands back. ``text`` is None unless ``outcome`` is scored. ``spans_read`` are
    the stretches of the context that reached a prompt, where the method chose them."""

    text: str | None
    outcome: Outcome
    iterations: int = 0
    code_errors: int = 0
    truncated_tokens: int = 0
    spans_read: tuple[Span, ...] | None = None
    last_subcall_used: bool | None = None
    sandbox_s: float = 0.0
    sandbox_level: str = ""
    protocol: str = ""
    error: str = ""
    trajectory: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Call:
    """One request sent to a model, or one answer taken from memory (``cached_response``).

    Retries share ``call_id`` and count ``attempt`` up from 1. ``restart`` counts how often the
    result was begun. Times are seconds, cost US dollars (None when the model has no price), tokens
    the provider's own unless ``usage_estimated``. Of the prompt's tokens ``cached_tokens`` were
    read from the provider's cache and ``written_tokens`` written into it. Of the recorded reply,
    neither the method nor a scorer saw ``thought_chars``.

    What a provider's cache holds depends on who asked before, so beside the bill (``cost_usd``)
    are the list price with nothing cached, ``list_usd``, and a modelled one, ``own_usd``: just
    those ``reused_tokens`` cached with which the prompt begins like an earlier one of the same arm.
    """

    call_id: str
    parent_call_id: str | None
    result_key: str
    restart: int
    role: Role
    depth: int
    model: str
    endpoint: str
    prompt_sha256: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    latency_s: float
    attempt: int
    cached_response: bool
    from_repl: bool
    finish_reason: str
    usage_estimated: bool
    started_at: float
    error: str = ""
    thought_chars: int = 0
    written_tokens: int = 0
    reused_tokens: int = 0
    list_usd: float | None = None
    own_usd: float | None = None


@dataclass(frozen=True)
class Result:
    """One row of results.parquet: a sample answered by an arm once. Costs and call counts are not
    here: they are sums over the calls with the same ``key``."""

    key: str
    restart: int
    run_id: str
    sample: Sample
    method: str
    prompt: str
    model: str
    sub_model: str
    scripted: bool
    repeat: int
    answer: Answer
    score: Score | None
    constant_score: float | None
    wall_s: float
    code_revision: str = ""
    schema_version: int = SCHEMA_VERSION
