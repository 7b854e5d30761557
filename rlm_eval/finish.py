"""The end of a run: its tables, figures and summary, and the exit code."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rlm_eval.assemble import Parts
from rlm_eval.interrupts import INTERRUPTED
from rlm_eval.journal import attempt_id, read_events
from rlm_eval.provenance import redactor_of


def finish(parts: Parts, run_dir: Path, owed: int, stopped: str) -> int:
    """Tables, figures and the summary on stdout; the exit code."""
    from rich.console import Console

    from rlm_eval.analysis.summary import print_summary, write_summary
    from rlm_eval.tables import export

    export(run_dir)
    summary = write_summary(run_dir, demonstration=parts.demonstration)
    print_summary(summary.table, summary.verdicts, Console(), demonstration=summary.demonstration)
    _print_tokens(run_dir, cached=parts.config["response_cache"] is not None)
    for line in cut_off(run_dir):
        print(line, file=sys.stderr)
    if stopped and stopped != INTERRUPTED:
        print(f"stopped early: {redactor_of(parts.config)(stopped)}", file=sys.stderr)
    if owed:
        print(f"{owed} results are still owed: run the same command again", file=sys.stderr)
    print(run_dir)
    if stopped == INTERRUPTED:
        return 130
    return 3 if owed else 0


def cut_off(run_dir: Path) -> list[str]:
    """A line for each model with replies that ended at their last token before any text: it thought
    all of them away, and was paid for it."""
    silent: dict[tuple[str, int], tuple[str, bool]] = {}
    for call in read_events(run_dir, types=("call",)):
        if call["role"] != "embed" and not call["error"] and not call["cached_response"]:
            cut = call["finish_reason"] == "length" and not call["reply"].strip()
            silent[attempt_id(call)] = call["model"], cut
    replies = Counter(model for model, _ in silent.values())
    empty = Counter(model for model, cut in silent.values() if cut)
    return [
        f"{count:,} of {replies[model]:,} replies of {model} were cut off with no text: raise the "
        "model's reasoning_tokens (or the method's tokens)"
        for model, count in empty.items()
    ]


def _print_tokens(run_dir: Path, *, cached: bool) -> None:
    """How much of what was sent the servers had read before; and with a response cache, how much
    was not sent."""
    import pandas as pd

    columns = ["prompt_tokens", "cached_tokens", "cached_response"]
    calls = pd.read_parquet(run_dir / "calls.parquet", columns=columns)
    if cached:
        hits = int(calls.cached_response.sum())
        print(f"{hits:,} of {len(calls):,} calls were answered without a model: tokens, costs and")
        print("times leave them out, so compare them with those of runs with this cache only")
    sent, known = int(calls.prompt_tokens.sum()), int(calls.cached_tokens.sum())
    if sent:
        print(f"prompt tokens: {sent:,} sent, {known / sent:.0%} of them from the prompt cache")
