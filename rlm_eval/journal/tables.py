"""The two tables of a run, derived from its journal: results.parquet and calls.parquet.

What is written goes through memory some rows at a time: a run may have a hundred thousand calls.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_eval.journal.journal import attempt_id, replacing, whole
from rlm_eval.records import PENDING, SCORED, Call, Span, storable, union

if TYPE_CHECKING:
    import pandas as pd

#: The columns of results.parquet (one row per sample × arm × repeat): type and meaning.
RESULTS: Mapping[str, tuple[str, str]] = {
    "run_id": ("string", "the run that asked"),
    "result_key": ("string", "hash of sample, arm, prompt, models, repeat; key into calls.parquet"),
    "task": ("string", "task name"),
    "question_group": ("string", "kind of question within the task"),
    "knobs": ("string", "JSON: what the sample was made with (depth, hops, seed, …)"),
    "method": ("string", "name of the arm"),
    "prompt": ("string", "name of its prompt"),
    "protocol": ("string", "how the arm spoke with the model"),
    "model": ("string", "model of the root calls; '' for a method that asks none"),
    "sub_model": ("string", "model of the sub-calls; '' likewise"),
    "scripted": ("bool", "True: a scripted model took part; not evidence about any language model"),
    "sample_id": ("string", "hash of the sample's content"),
    "context_id": ("string", "hash of the long input; samples share it"),
    "repeat": ("int64", "0, 1, … for repeated answers to one sample"),
    "target_tokens": ("int64", "length asked for, in tokens of the task's tokenizer"),
    "length_tokens": ("int64", "length of the context, same tokens"),
    "truncated_tokens": ("int64", "tokens of the context the arm left out"),
    "outcome": (
        "string",
        "answered, forced (both scored), no_answer (thoughts_only, refusal, tool_call and "
        "content_filter where the last reply was that), budget_exceeded, context_overflow, "
        "invalid_answer, or provider_error and sandbox_error, which are pending",
    ),
    "score": ("float64", "score in [0, 1] by score_rule; null unless scored"),
    "score_rule": ("string", "the rule: a benchmark's own, or one that begins with strict"),
    "constant_score": ("float64", "what the best constant answer would score on this sample"),
    "skill": (
        "float64",
        "(score − constant_score) / (1 − constant_score); null unless scored, or if the constant "
        "is unknown or always right; a group's is that of its means",
    ),
    "correct": ("boolean", "the score is 1; null unless scored"),
    "answer": ("string", "final answer; null unless scored"),
    "gold": ("string", "JSON list of reference answers"),
    "question": ("string", "the question"),
    "iterations": ("int64", "turns of the root model"),
    "calls": ("int64", "requests and cache hits, retries counted once"),
    "subcalls": ("int64", "calls begun from REPL code, cache hits included"),
    "depth_reached": ("int64", "deepest call"),
    "last_subcall_used": ("boolean", "ended by its protocol after a sub-call; null: no sub-call"),
    "code_errors": ("int64", "code blocks that raised"),
    "evidence_recall": (
        "float64",
        "share of the evidence that was shown to a model; empty where the task knows of none or "
        "the method does not choose what is read",
    ),
    "prompt_tokens": ("int64", "sum over calls"),
    "cached_tokens": ("int64", "of these, taken from the server's prompt cache"),
    "reused_tokens": ("int64", "of these, such as a prompt of the same arm began with before"),
    "completion_tokens": ("int64", "sum over calls"),
    "thought_chars": (
        "int64",
        "characters of replies that were thoughts or else no answer; summed",
    ),
    "cost_usd": ("float64", "US dollars as billed; null = unpriced"),
    "list_usd": ("float64", "US dollars with nothing cached"),
    "own_usd": ("float64", "US dollars with just reused_tokens cached: modelled"),
    "judge_cost_usd": ("float64", "US dollars for the judge's calls, in no other; null = unpriced"),
    "wall_s": ("float64", "seconds from question to answer"),
    "lm_s": ("float64", "seconds waiting for models"),
    "sandbox_s": ("float64", "seconds in model-written code"),
    "sandbox_level": ("string", "isolation reached"),
    "error": ("string", "what went wrong"),
    "schema_version": ("int64", "version of this table"),
}
RESULT_COLUMNS = {name: kind for name, (kind, _) in RESULTS.items()}
#: What a forecast is made of, and the columns for it.
MEASURES = {
    "calls": "calls",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "usd": "cost_usd",
    "seconds": "wall_s",
}
_STORED = {"int": "int64", "float": "float64", "float | None": "float64", "bool": "bool"}
#: A call's fields in their order; what is no number is text.
CALL_COLUMNS = {field.name: _STORED.get(str(field.type), "string") for field in fields(Call)}
#: Rows that are in memory as records.
_ROWS = 2000
#: How a cell begins that a spreadsheet would compute, unless it is a number.
_FORMULA = re.compile(r"(?!\s*[+-]?[\d.,]+(?:[eE][+-]?\d+)?\s*\Z)\s*[=+\-@＝＋－＠]|[\t\n]")


def write_tables(events: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write the results and the calls of ``result`` and ``call`` events into ``folder``, each as
    parquet and as CSV. A result that was begun again counts by its last answer and that restart's
    calls, one whose calls are not all there does not; the calls are those of every restart, but for
    one that was killed while it was copied from another run."""
    folder.mkdir(parents=True, exist_ok=True)
    with _appended(folder / "calls") as add:
        write_results(events, folder / "results", add)


def write_results(
    events: Iterable[dict[str, Any]], path: Path, add: Callable[[pd.DataFrame], None] | None = None
) -> None:
    """Write the results alone, to ``path``.parquet and ``path``.csv; ``add`` gets the calls."""
    import pandas as pd

    frames: list[pd.DataFrame] = []
    rows: list[Mapping[str, Any]] = []
    sent: list[Mapping[str, Any]] = []
    ended: set[tuple[str, int]] = set()
    # By result, until it is finished: its calls by restart and attempt, and those that were sent.
    open_calls: dict[str, dict[int, dict[tuple[str, int], Call]]] = {}
    known: dict[str, set[tuple[str, int]]] = {}

    def send(key: str, calls: Mapping[tuple[str, int], Call]) -> None:
        before = known.setdefault(key, set())
        sent.extend(vars(call) for attempt, call in calls.items() if add and attempt not in before)
        before.update(calls)
        if add and len(sent) >= _ROWS:
            add(frame_of(sent, CALL_COLUMNS))
            sent.clear()

    for event in whole(events):
        key = event["key"] if event["type"] == "result" else event["result_key"]
        if (this := (key, event["restart"])) in ended:
            continue
        its = open_calls.setdefault(key, {}).setdefault(event["restart"], {})
        if event["type"] == "result":
            ended.add(this)
            rows.append(_row(event, [*its.values()]))
            send(key, its)  # those that were reused with it
            if event["answer"]["outcome"] not in PENDING:
                del open_calls[key], known[key]
            if len(rows) == _ROWS:
                frames.append(frame_of(rows, RESULT_COLUMNS))
                rows = []
            continue
        attempt = attempt_id(event)
        call = its.setdefault(attempt, _call_of(event))
        if "reused_from" not in event:
            send(key, {attempt: call})
    if add:
        add(frame_of(sent, CALL_COLUMNS))
    results = pd.concat([*frames, frame_of(rows, RESULT_COLUMNS)], ignore_index=True)
    frames.clear()
    order = ["target_tokens", "context_id", "method", "sample_id", "repeat", "result_key"]
    last = results[order].drop_duplicates("result_key", keep="last").sort_values(order).index
    further = sorted(set(results.columns) - RESULT_COLUMNS.keys())
    with _appended(path) as put:
        for start in range(0, max(1, len(last)), _ROWS):
            put(results.loc[last[start : start + _ROWS], [*RESULT_COLUMNS, *further]])


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """``rows`` with the ``columns`` as typed, and what else they have as numbers."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=None if rows else list(columns))
    return frame.astype({name: columns.get(name, "float64") for name in frame.columns})


@contextmanager
def _appended(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write ``path``.parquet and ``path``.csv by frames, put into place when the block ends."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    files = [path.with_name(f"{path.name}.{ending}") for ending in ("parquet", "csv")]
    with replacing(files[0]) as binary, replacing(files[1]) as text, ExitStack() as stack:
        writer: ParquetWriter | None = None

        def add(frame: pd.DataFrame) -> None:
            nonlocal writer
            table = pa.Table.from_pandas(frame, preserve_index=False)
            first = writer is None
            writer = writer or stack.enter_context(ParquetWriter(binary, table.schema))
            writer.write_table(table)
            _add_csv(frame, text, header=first)

        yield add


def write_csv(frame: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write ``path`` atomically, as a spreadsheet may open it."""
    with replacing(path) as temporary:
        _add_csv(frame, temporary, float_format=float_format)


def _add_csv(frame: pd.DataFrame, path: Path, **how: Any) -> None:
    """Text that a spreadsheet would take for a formula has an apostrophe before it, and a lone
    carriage return, which would begin a row, is a line break; parquet tables have it as it is."""
    shown = frame.rename(columns=_as_text)
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        shown[_as_text(name)] = frame[name].map(_as_text)
    shown.to_csv(path, mode="a", index=False, lineterminator="\n", encoding="utf-8", **how)


def _as_text(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) else text


def _call_of(event: Mapping[str, Any]) -> Call:
    """A call without its reply, the texts that many have in common kept once: a run has hundreds of
    thousands."""
    values = {"thought_chars": 0, **event, "error": storable(event["error"])}
    return Call(**{name: _kept_once(values.get(name)) for name in CALL_COLUMNS})


def _kept_once(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value


def _row(event: Mapping[str, Any], calls: Sequence[Call]) -> dict[str, Any]:
    """A row of results.parquet from a result and the calls that count for it. It has further
    columns for a reading beside its score, ``score_NAME``, and ``judge_verdicts`` and
    ``judge_dissents``. A judge's calls are no part of the method's: only what they cost is kept."""
    sample, answer = event["sample"], event["answer"]
    score = event["score"] if answer["outcome"] in SCORED else None
    own = [call for call in calls if call.role != "judge"]
    constant, value = event["constant_score"], score and score["value"]
    known = value is not None and constant is not None and constant < 1
    shown = answer["spans_read"]
    found = {
        **{**event, **sample, **answer},
        "result_key": event["key"],
        "sample_id": sample["id"],
        "knobs": json.dumps(sample["knobs"], sort_keys=True),
        "score": value,
        "score_rule": sample["scorer"],
        "skill": (value - constant) / (1 - constant) if known else None,
        "correct": score and value == 1.0,
        "answer": answer["text"] and storable(answer["text"]),
        "gold": storable(json.dumps(sample["gold"], ensure_ascii=False)),
        "question": storable(sample["question"]),
        "error": storable(answer["error"]),
        "calls": len({call.call_id for call in own}),
        "subcalls": len({call.call_id for call in own if call.from_repl}),
        "depth_reached": max((call.depth for call in own), default=0),
        # None where the task knows of no evidence or the method does not choose what is read.
        "evidence_recall": None if shown is None else recall(sample["evidence"], shown),
        **{name: _cost(own, name) for name in ("cost_usd", "list_usd", "own_usd")},
        "judge_cost_usd": _cost([call for call in calls if call.role == "judge"], "cost_usd"),
        "lm_s": fsum([call.latency_s for call in own]),  # the same in every Python
    }
    counted = ("prompt_tokens", "cached_tokens", "reused_tokens", "completion_tokens")
    for name in (*counted, "thought_chars"):
        found[name] = sum(getattr(call, name) for call in own)
    row = {name: found[name] for name in RESULT_COLUMNS}
    row |= {f"score_{name}": other for name, other in score["readings"].items()} if score else {}
    if score and score.get("verdicts"):
        row |= {f"judge_{name}": score[name] for name in ("verdicts", "dissents")}
    return row


def _cost(calls: Iterable[Call], name: str) -> float | None:
    """US dollars; one unpriced call leaves the sum unknown."""
    prices = [getattr(call, name) for call in calls]
    return None if None in prices else fsum(prices)


def recall(evidence: Sequence[Span], shown: Iterable[Span]) -> float | None:
    """The share of ``evidence`` stretches that lie completely in the union of those ``shown``; None
    where the task knows of no evidence. The measure of a retriever."""
    if not evidence:
        return None
    seen = union(shown)
    found = sum(any(a <= start and end <= b for a, b in seen) for start, end in evidence)
    return found / len(evidence)
