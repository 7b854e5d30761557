"""What every preset would take, from sizes alone: no data set is read, no model is asked.

PYTHONPATH=tests python tests/benchmarks/presets.py > results/published/benchmarks/presets.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

from helpers.presets import on_local_rows
from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree, jobs_of
from rlm_eval.config.spelling import options
from rlm_eval.records import Context, Sample
from rlm_eval.runs.assemble import Parts, assemble
from rlm_eval.runs.experience import Experience
from rlm_eval.runs.forecast import Expected, expected
from rlm_eval.runs.runner import Work

#: Questions that a data set has at all, where that is fewer than its lengths times ``task.n``.
ROWS = {"codeqa": 50, "longbench_v2": 503, "browsecomp_plus": 150, "oolong_pairs": 20}
#: OOLONG-real's test split, whose size is not known here: its table has one question.
UNKNOWN = ("oolong_real",)
QUESTION = "How many of the lines above are about a place, and which of them came first? " * 3
TEXT = """\
# What the presets would take

`PYTHONPATH=tests python tests/benchmarks/presets.py`: the dry run of each preset, every run of it,
on inputs of the lengths that it asks for (of a data set whose rows have lengths of their own, the
largest). From: what sizes tell, and of methods whose model decides what it takes one turn. To: the
same with replies of full length, and all that limits allow, a bound that no run comes near; no
limit: the paper's RLM, in which nothing limits sub-calls. Prices as in conf/model/, nothing cached.
A preset without a model of its own is reckoned with `model=gpt-5`. For OOLONG-real, of which the
number of questions is not known here, one question stands.

"""
HEAD = (
    *("preset", "runs", "arms", "questions", "answers", "calls, from", "to"),
    *("prompt tokens, from", "to", "USD, from", "to"),
)


def work_of(parts: Parts, tree: dict[str, Any], name: str) -> tuple[list[Work], int]:
    """One answer of each arm at each length, and how many questions a length has."""
    lengths: Sequence[int] = tree["task"]["lengths"]
    if name in ("oolong_pairs", "oolong") and tree["task"].get("where", {}) is not None:
        size = (tree["task"].get("where") or {}).get("context_len")
        lengths = [size] if size in lengths else lengths
    if name == "oolong_pairs":
        lengths = [int(tree["task"]["file"].rpartition("-")[2].partition(".")[0])]
    if name in ROWS:
        lengths = lengths[-1:]
    n = ROWS.get(name, 1 if name in UNKNOWN else tree["task"]["n"])
    work = []
    for length in lengths:
        sample = Sample.of(
            task=name,
            context_id="",
            question=QUESTION,
            gold=(),
            scorer="",
            question_group="",
            target_tokens=length,
            length_tokens=length,
            max_answer_tokens=int(getattr(parts.task, "max_answer_tokens", 64)),
        )
        work += [Work("", arm, sample, Context("", ""), 0, None) for arm in parts.arms]
    return work, n


def ends(row: Expected, name: str) -> tuple[float, float]:
    value = getattr(row, name)
    low = row.low.get(name, 0.0 if value is None else value)
    if row.source == "assumed":  # nothing limits it
        return low, inf
    return low, row.high.get(name, inf if value is None else value)


def shown(value: float, *, dollars: bool = False) -> str:
    if value in (inf, nan) or value != value:
        return "no limit"
    if dollars:
        return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def main() -> None:
    place = Path(tempfile.mkdtemp())
    print(f"{TEXT}| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    parts_of = ("paper/", "oolong/", "ruler/", "evidence/")
    for preset in options("experiment"):
        if preset.startswith(parts_of):
            continue
        totals = {f"{m}{end}": 0.0 for m in ("calls", "prompt_tokens", "usd") for end in (0, 1)}
        jobs, arms, questions, answers = jobs_of([f"experiment={preset}"]), set(), 0, 0
        for job in jobs:
            words, own = [*job, "dry_run=true"], compose_tree(job)
            if own["model"]["_target_"].endswith("LocalModel"):
                words += ["model=gpt-5"]
            if preset == "ruler":  # whose essays and questions are a package of their own
                words = on_local_rows(words, place)
            tree = compose_tree(words)
            parts = assemble(check_config(tree))
            name = chosen_task(job, parts)
            work, n = work_of(parts, own, name)
            times = n * tree["repeats"]
            rows = expected(parts, work, Experience(tree, [], {}))
            arms |= set(tree["method"])
            lengths = len(work) // len(parts.arms)
            questions += n * lengths
            answers += times * len(work)
            for row in rows:
                for measure in ("calls", "prompt_tokens", "usd"):
                    for end, value in enumerate(ends(row, measure)):
                        totals[f"{measure}{end}"] += value * times
        cells = [preset, len(jobs), len(arms), f"{questions:,}", f"{answers:,}"]
        for measure in ("calls", "prompt_tokens", "usd"):
            dollars = measure == "usd"
            cells += [shown(totals[f"{measure}{end}"], dollars=dollars) for end in (0, 1)]
        print(f"| {' | '.join(map(str, cells))} |")


def chosen_task(job: Sequence[str], parts: Parts) -> str:
    named = [word.partition("=")[2] for word in job if word.startswith("task=")]
    return named[0] if named else str(parts.task.name)


if __name__ == "__main__":
    main()
