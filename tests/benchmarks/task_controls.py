"""``python tests/benchmarks/tasks.py controls``: scores that need no model, or no input.

The best constant answer and ``code_oracle`` of every task. On lines that must be judged by meaning
also labels drawn by coin, and two classifiers of words and word pairs, fitted on one half of the
project's items and asked about windows made of the other half; of these none may come more than 10
points above the best constant on aggregation. Then what models answer without the input, from
finished runs with an arm called ``no_context``.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from bag_of_words import Linear, counts, logistic_regression, naive_bayes, vocabulary_of
from task_rows import generated, row, table

from rlm_eval.analysis.load import Run
from rlm_eval.errors import ConfigError
from rlm_eval.records import Context, Sample
from rlm_eval.tasks.export import make_task

#: Windows of 4096 tokens hold some 120 lines, of which most of a half's items need not repeat.
WINDOW_TOKENS, OTHER_TOKENS = 4096, 8192
SPLITS = 3
#: How much more than the best constant a solver without understanding may score on aggregation.
ALLOWED = 0.10
Item = tuple[str, str, str]
Labels = dict[str, str]


@dataclass(frozen=True)
class Questions:
    """A task with the samples that its overrides give."""

    task: Any
    pairs: list[tuple[Context, Sample]]

    @classmethod
    def of(cls, overrides: Sequence[str], n: int) -> Questions:
        windows = {"task=aggregation", "task=pairs"} & set(overrides)
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

    def by_labels(self, labels: Labels) -> float:
        """The mean score of counting lines by these labels of their texts."""
        return self.by(lambda question, context: self.task.solve(question, context, labels.get))


def every_task(n: int, musique: Path | None, trec: Path | None) -> tuple[list[str], bool]:
    named = generated() | {
        "aggregation, questions": ["task=aggregation", "task.domain=questions"],
        "aggregation, structured": ["task=aggregation", "task.structured=true"],
        "pairs, structured": ["task=pairs", "task.structured=true"],
    }
    if trec is not None:
        named["aggregation, TREC"] = ["task=aggregation", f"task.items={trec}"]
        named["pairs, TREC"] = ["task=pairs", f"task.items={trec}"]
    if musique is not None:
        named["musique"] = ["task=musique", f"task.path={musique}"]
    lines = table(["task", "tokens", "n", "contexts", "best constant", "code_oracle"])
    held = True
    for name, overrides in named.items():
        asked = Questions.of(overrides, n)
        contexts = len({context.id for context, _ in asked.pairs})
        tokens = asked.pairs[0][1].target_tokens
        constant, oracle = asked.constant(), asked.by(asked.task.code_oracle)
        if name in ("aggregation", "aggregation, questions"):
            held = held and oracle <= constant + ALLOWED
        counted = [f"{tokens:,}", str(len(asked.pairs)), str(contexts)]
        lines.append(row([name, *counted, f"{constant:.2f}", f"{oracle:.2f}"]))
        print(lines[-1], file=sys.stderr)
    return lines, held


def halves(items: Sequence[Item]) -> Iterator[tuple[list[Item], list[Item]]]:
    """(fitted on, asked about): halves that keep contrast sets together, each way round."""
    groups = sorted({group for _, group, _ in items})
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(groups))
        mine = {groups[i] for i in order[: len(groups) // 2]}
        one = [item for item in items if item[1] in mine]
        two = [item for item in items if item[1] not in mine]
        yield from ((one, two), (two, one))


def by_coin(seed: int, asked: Sequence[Item]) -> Labels:
    names = sorted({label for label, _, _ in asked})
    drawn = np.random.default_rng(seed).integers(len(names), size=len(asked))
    return {text: names[i] for (_, _, text), i in zip(asked, drawn, strict=True)}


def by_words(
    fit: Callable[[Any, Any, int], Linear], known: Sequence[Item], asked: Sequence[Item]
) -> Labels:
    """The labels of ``asked`` by a classifier fitted on ``known``."""
    names = sorted({label for label, _, _ in known})
    texts = [text for _, _, text in known]
    vocabulary = vocabulary_of(texts)
    labels = np.array([names.index(label) for label, _, _ in known])
    model = fit(counts(texts, vocabulary), labels, len(names))
    said = model.predict(counts([text for _, _, text in asked], vocabulary))
    return {text: names[i] for (_, _, text), i in zip(asked, said, strict=True)}


def read_items(domain: str) -> list[Item]:
    text = files("rlm_eval.tasks").joinpath("items", f"{domain}.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return [(label, group, words) for label, group, words in rows]


def one_split(task: str, n: int, seed: int, known: list[Item], about: list[Item]) -> list[float]:
    """Scores on windows of ``about``, in the columns' order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.tsv"
        rows = ["\t".join(item) for item in [("label", "group", "text"), *about]]
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
    heads = ["task", "n", "best constant", "code_oracle", "labels by coin"]
    lines = table([*heads, "naive Bayes", "logistic regression"])
    held = True
    for name, task, domain in (
        ("aggregation", "aggregation", "reviews"),
        ("aggregation, questions", "aggregation", "questions"),
        ("pairs", "pairs", "questions"),
    ):
        splits = enumerate(halves(read_items(domain)))
        scores = np.mean([one_split(task, n, seed, *split) for seed, split in splits], axis=0)
        if task == "aggregation":
            held = held and bool(scores.max() <= scores[0] + ALLOWED)
        lines.append(row([name, str(2 * SPLITS * n), *(f"{score:.2f}" for score in scores)]))
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
    parts["Best constant answer and code_oracle"] = every
    alone, also = words_alone(n)
    parts["Words alone, fitted on the other half of the items"] = [
        *alone,
        "",
        f"{2 * SPLITS} halves that keep contrast sets together, {WINDOW_TOKENS:,} tokens, {n}"
        " questions on each; naive Bayes (+1) and logistic regression (C = 1) see words and pairs"
        " of words.",
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
    limit = f"at most {ALLOWED:.2f} above the best constant on aggregation judged by meaning"
    verdict = "holds" if held and also else "does NOT hold"
    return [*lines, "", f"The limit ({limit}) {verdict}."], held and also
