"""``python tests/benchmarks/tasks.py controls``: scores that need no model, or no input.

The best constant answer, ``code_oracle`` and the cheats of every task (:class:`Cheat`), and how
many of its sentences or lines are left once repeats are dropped. On lines that must be judged by
meaning also labels drawn by coin, and two classifiers of words and word pairs, fitted on items of
one half of the parts that the project's items are composed of and asked about windows made of the
other half; of these none may come more than 10 points above the best constant on aggregation. Then
what models answer without the input, from finished runs with an arm called ``no_context``.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np
import pandas as pd
from bag_of_words import (
    Item,
    Linear,
    counts,
    items_of,
    logistic_regression,
    naive_bayes,
    vocabulary_of,
)
from task_rows import generated, row, table

from rlm_eval.analysis.load import Run
from rlm_eval.commands.export import make_task
from rlm_eval.errors import ConfigError
from rlm_eval.methods.controls import Cheat, How, pieces
from rlm_eval.records import Context, Sample

WINDOW_TOKENS, OTHER_TOKENS, LONG_TOKENS = 4096, 8192, 131_072
SPLITS = 3
#: What handing in the whole context may score at most, and how near to perfect a cheat is named.
HANDED_IN, NEAR = 0.05, 0.90
#: Where more of a context is left, dropping repeats is no cheat: it is ``code_oracle`` that scores.
MOSTLY_REPEATS = 0.5
#: How much more than the best constant a solver without understanding may score on aggregation.
ALLOWED = 0.10
Labels = dict[str, str]


@dataclass(frozen=True)
class Questions:
    """A task with the samples that its overrides give."""

    task: Any
    pairs: list[tuple[Context, Sample]]

    @classmethod
    def of(cls, overrides: Sequence[str], n: int) -> Questions:
        windows = {"task=aggregation", "task=pairs", "task=oolong_style"} & set(overrides)
        tokens = WINDOW_TOKENS if windows else OTHER_TOKENS
        _, task = make_task([*overrides, f"task.lengths=[{tokens}]", f"task.n={n}"])
        return cls(task, list(task.build()))

    def constant(self) -> float:
        """The mean score of the best constant answer."""
        return fmean(self.task.constant_scores([sample for _, sample in self.pairs]).values())

    def by(self, solve: Callable[[str, Context], str | None]) -> float:
        """The mean score of a solver; where it has no idea it scores 0."""
        said = [(sample, solve(sample.question, context)) for context, sample in self.pairs]
        return fmean(0.0 if a is None else self.task.score(s, a).value for s, a in said)

    def by_cheat(self, cheat: Cheat) -> float:
        """The mean score of a cheat."""
        cheat.bind(self.task.code_oracle, self.task.count_alone)
        assert cheat.script is not None
        return self.by(cheat.script)

    def left(self) -> float:
        """The share of a context's sentences or lines that no other before it repeats."""
        contexts = {context.id: context for context, _ in self.pairs}.values()
        known = [[known for _, known in pieces(context.text)] for context in contexts]
        return fmean(len(set(one)) / len(one) for one in known)

    def by_labels(self, labels: Labels) -> float:
        """The mean score of counting lines by these labels of their texts."""
        return self.by(lambda question, context: self.task.solve(question, context, labels.get))


def every_task(n: int, musique: Path | None, trec: Path | None) -> tuple[list[str], bool]:
    named = generated() | {
        "aggregation, questions": ["task=aggregation", "task.domain=questions"],
        "aggregation, structured": ["task=aggregation", "task.structured=true"],
        "aggregation, before_after": ["task=aggregation", "task.kinds=[before_after]"],
        "oolong_style": ["task=oolong_style"],
        "pairs, structured": ["task=pairs", "task.structured=true"],
    }
    if trec is not None:
        named["aggregation, TREC"] = ["task=aggregation", f"task.items={trec}"]
        named["pairs, TREC"] = ["task=pairs", f"task.items={trec}"]
    if musique is not None:
        named["musique"] = ["task=musique", f"task.path={musique}"]
    heads = ["task", "tokens", "n", "contexts", "best constant", "code_oracle"]
    hows = get_args(How)
    lines = table([*heads, *hows, "left", f"left at {LONG_TOKENS:,}"])
    held, near = True, []
    for name, overrides in named.items():
        asked = Questions.of(overrides, n)
        contexts = len({context.id for context, _ in asked.pairs})
        tokens = asked.pairs[0][1].target_tokens
        constant, oracle = asked.constant(), asked.by(asked.task.code_oracle)
        cheats = {how: asked.by_cheat(Cheat(how=how)) for how in hows}
        if name in ("aggregation", "aggregation, questions"):
            held = held and oracle <= constant + ALLOWED
        held = held and (name == "musique" or cheats["whole_context"] <= HANDED_IN)
        left = asked.left()
        near += [
            f"{how} on {name}"
            for how, score in cheats.items()
            if score >= NEAR and (how != "deduplicate" or left <= MOSTLY_REPEATS)
        ]
        counted = [f"{tokens:,}", str(len(asked.pairs)), str(contexts)]
        scores = [constant, oracle, *cheats.values(), left, long_left(overrides)]
        lines.append(row([name, *counted, *(f"{score:.2f}" for score in scores)]))
        print(lines[-1], file=sys.stderr)
    return [
        *lines,
        "",
        "Handing in the whole context; code_oracle on sentences and lines without repeats; what"
        " occurs once; handing in the question; counting lines, users and dates without reading."
        " Left: the share of sentences or lines that are no repeats; nan: no context so long.",
        "",
        f"Cheats within 10 points of perfect: {', '.join(near) or 'none'}.",
    ], held


def long_left(overrides: Sequence[str]) -> float:
    """What is left of a long context; nan where there is none of that length."""
    try:
        _, task = make_task([*overrides, f"task.lengths=[{LONG_TOKENS}]", "task.n=1"])
    except ConfigError:
        return math.nan
    return Questions(task, list(task.build())).left()


def halves(items: Sequence[Item], by_parts: bool) -> Iterator[tuple[list[Item], list[Item]]]:
    """(fitted on, asked about): halves of the groups of parts or of the items, each way round."""
    of = [item.group if by_parts else item.text for item in items]
    names = sorted(set(of))
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(names))
        mine = {names[i] for i in order[: len(names) // 2]}
        one = [item for item, name in zip(items, of, strict=True) if name in mine]
        two = [item for item, name in zip(items, of, strict=True) if name not in mine]
        yield from ((one, two), (two, one))


def by_coin(seed: int, asked: Sequence[Item]) -> Labels:
    names = sorted({item.label for item in asked})
    drawn = np.random.default_rng(seed).integers(len(names), size=len(asked))
    return {item.text: names[i] for item, i in zip(asked, drawn, strict=True)}


def by_words(
    fit: Callable[[Any, Any, int], Linear], known: Sequence[Item], asked: Sequence[Item]
) -> Labels:
    """The labels of ``asked`` by a classifier fitted on ``known``."""
    names = sorted({item.label for item in known})
    texts = [item.text for item in known]
    vocabulary = vocabulary_of(texts)
    labels = np.array([names.index(item.label) for item in known])
    model = fit(counts(texts, vocabulary), labels, len(names))
    said = model.predict(counts([item.text for item in asked], vocabulary))
    return {item.text: names[i] for item, i in zip(asked, said, strict=True)}


def one_split(task: str, n: int, seed: int, known: list[Item], about: list[Item]) -> list[float]:
    """Scores on windows of ``about``, in the columns' order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.tsv"
        rows = ["label\ttext", *(f"{item.label}\t{item.text}" for item in about)]
        path.write_text("\n".join(rows), encoding="utf-8")
        asked = Questions.of([f"task={task}", f"task.items={path}"], n)
    labelled = [by_coin(seed, about)]
    labelled += [by_words(fit, known, about) for fit in (naive_bayes, logistic_regression)]
    return [
        asked.constant(),
        asked.by(asked.task.code_oracle),
        *(asked.by_labels(labels) for labels in labelled),
    ]


def words_alone(n: int) -> tuple[list[str], bool]:
    heads = ["task", "half of the", "n", "best constant", "code_oracle", "labels by coin"]
    lines = table([*heads, "naive Bayes", "logistic regression"])
    held = True
    for name, task, domain in (
        ("aggregation", "aggregation", "reviews"),
        ("aggregation, questions", "aggregation", "questions"),
        ("pairs", "pairs", "questions"),
    ):
        for half in ("parts", "items"):
            splits = enumerate(halves(items_of(domain), half == "parts"))
            scores = np.mean([one_split(task, n, seed, *split) for seed, split in splits], axis=0)
            if task == "aggregation":
                held = held and bool(scores.max() <= scores[0] + ALLOWED)
            shown = [f"{score:.2f}" for score in scores]
            lines.append(row([name, half, str(2 * SPLITS * n), *shown]))
            print(lines[-1], file=sys.stderr)
    return lines, held


def no_context(runs: Sequence[Path]) -> list[str]:
    """What models answer without the input, by task and length. A failure of the arm's own scores
    0; pending rows don't count."""
    from rlm_eval.analysis.load import combine, load_run

    lines = table(["task", "tokens", "n", "best constant", "no_context", "model"])
    for run in map(load_run, runs):
        results = combine([run])
        results = results[(results.method == "no_context") & results.asked]
        if results.empty:
            raise ConfigError(f"no arm called no_context in {run.path}")
        for (tokens, model), cell in results.groupby(["target_tokens", "model"]):
            constant = cell.constant_score.mean()
            shown = ["–" if pd.isna(constant) else f"{constant:.2f}", f"{cell.points.mean():.2f}"]
            lines.append(row([_form(run), f"{tokens:,}", str(len(cell)), *shown, model]))
    return lines


def _form(run: Run) -> str:
    """A run's task and what tells it from others of that name."""
    node = run.config["task"]
    said = [str(node[key]) for key in ("variant", "domain") if node.get(key)]
    said += ["structured"] if node.get("structured") else []
    return ", ".join([str(run.results.task.iloc[0]), *said])


def controls(
    n: int, musique: Path | None, trec: Path | None, runs: Sequence[Path]
) -> tuple[list[str], bool]:
    """The report's lines, and whether nothing on aggregation comes too far above the constant."""
    parts: dict[str, list[str]] = defaultdict(list)
    every, held = every_task(n, musique, trec)
    parts["Best constant answer, code_oracle and cheats"] = every
    alone, also = words_alone(n)
    parts["Words alone, fitted on the other half"] = [
        *alone,
        "",
        f"{2 * SPLITS} halves, of the parts that items are composed of or of the composed items,"
        f" {WINDOW_TOKENS:,} tokens, {n} questions on each; naive Bayes (+1) and logistic"
        " regression (C = 1) see words and pairs of words.",
    ]
    if runs:
        names = ", ".join(run.name for run in runs)
        parts["no_context"] = [*no_context(runs), "", f"Runs: {names}."]
    given = "".join(f" --{k} {v.name}" for k, v in (("musique", musique), ("trec", trec)) if v)
    given += " --no-context RUN…" if runs else ""
    lines = [
        "# How far one gets without a model, or without the input",
        "",
        f"`python tests/benchmarks/tasks.py controls --n {n}{given}`: mean scores, seed 0."
        " The best constant is fitted on samples of other seeds; where the task reads a file, on"
        " the file's other contexts.",
    ]
    for title, part in parts.items():
        lines += ["", f"## {title}", "", *part]
    limit = (
        f"at most {ALLOWED:.2f} above the best constant on aggregation judged by meaning, and"
        f" {HANDED_IN:.2f} for handing in the whole context of a generated task"
    )
    verdict = "holds" if held and also else "does NOT hold"
    return [*lines, "", f"The limit ({limit}) {verdict}."], held and also
