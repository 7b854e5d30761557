"""Figures, tables and numbers of published runs, for a paper: ``python paper/make.py [FOLDER…]``.

Without folders it makes all that ``paper.tex`` needs, and the PDF where ``latexmk`` is installed
(Debian: ``apt install latexmk texlive-latex-recommended texlive-latex-extra``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import sqrt
from pathlib import Path

import pandas as pd

from rlm_eval.analysis import figures, tables
from rlm_eval.analysis.aggregate import summarize
from rlm_eval.analysis.arms import by_method
from rlm_eval.analysis.compare import compare_runs
from rlm_eval.analysis.load import Run, calls_of, combine, find_runs, load_run
from rlm_eval.analysis.paired import paired_table
from rlm_eval.analysis.report.views import printed, views
from rlm_eval.analysis.verdicts import verdicts
from rlm_eval.journal.past import read_trajectory

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "results" / "published"
EVIDENCE = PUBLISHED / "evidence"
#: Aggregation at its two lengths: the default methods' run and CodeAct's, on the same questions.
SHORTER = ("aggregation-229bdfa857", "aggregation-78d29471a9")
LONGER = ("aggregation-2c6059de52", "aggregation-8d02992c44")
#: Its twin whose lines carry their label.
LABELLED = "aggregation-df9ad5d6df"
#: Runs that are also judged together, all lengths as one, by what numbers call that.
POOLED = {"aggregation": SHORTER + LONGER}
#: README's first table: a row's title, length and runs, of which the last is judged together with
#: the others; a column's title, the arm that it shows.
TASKS = (
    ("a needle in 16K tokens, 12 texts", 16384, "needle-985bb97aff", "needle-125725255d"),
    ("a needle in 1M tokens, 12 texts", 1048576, "needle-985bb97aff"),
    ("aggregation by meaning, 1.5K tokens, 12 texts × 5 questions", 1650, *SHORTER),
    ("the same in 3.1K tokens, 12 texts × 5 questions", 3300, *LONGER),
    ("counting labels that lines show, 1.6K tokens, 12 texts × 5 questions", 1800, LABELLED),
    ("a chain of facts linked by words, 1.9K tokens, 20 texts", 2048, "multihop-69200df893"),
    ("a chain told in other words, 2.2K tokens, 20 texts", 2304, "multihop-8d443d0828"),
)
COLUMNS = {
    "RLM": ("rlm",),
    "one prompt": ("direct",),
    "RAG": ("rag_bm25",),
    "summaries": ("summarize_map_reduce", "compaction"),
    "CodeAct": ("codeact_bm25", "codeact_tools", "codeact"),
}
#: Its second one: a row's title, run and arm.
VARIANTS = (
    ("the RLM: sub-calls, depth 1", SHORTER[0], "rlm"),
    (
        "depth 0: without sub-calls and what the prompt says of them",
        "aggregation-04291288b9",
        "rlm_d0",
    ),
    ("without the text's two ends in its prompt", "aggregation-f05617cd3d", "rlm_no_preview"),
    ("with another prompt, for capable models", "aggregation-a77e619c4b", "rlm_orchestrator"),
    ("that prompt with sub-RLMs, depth 2", "aggregation-564f34cb38", "rlm_d2"),
    ("control: a program by one who knows the task", "aggregation-684a1409d4", "line_by_line"),
    ("control: lines counted without reading them", "aggregation-b1c7b396ee", "cheat_count"),
    ("control: the best constant answer", "aggregation-b1c7b396ee", "best_constant"),
)
#: Runs that a run of one arm is compared with beside those of several: an RLM of the same prompt.
BESIDE = {"aggregation-564f34cb38": ("aggregation-a77e619c4b",)}
TURNED = str.maketrans("+-", "-+")
SCORE, POINTS = ("mean_score", "score_low", "score_high"), ("difference", "low", "high")


def main(folders: Sequence[Path], out: Path = HERE) -> None:
    """Every figure (PDF, PNG and its data) and table (LaTeX, booktabs) that a report over each
    folder has. A folder is a run, or holds runs that are shown together."""
    (out / "tables").mkdir(parents=True, exist_ok=True)
    for folder in folders:
        runs = runs_in(folder)
        results = by_method(combine(runs))
        calls = calls_of(runs, results)
        summary, pairs = summarize(results), paired_table(results)
        for name, _, plot in figures.draw_all(results, calls, summary, pairs):
            figures.drawing.save(plot, out / "figures" / f"{folder.name}_{name}", pdf=True)
        shown = views(results, calls, summary, pairs)
        made = {view.id: tables.to_latex(*printed(view)) for view in shown}
        made["short"] = tables.to_latex(short(summary), [False, True, True, True])
        made["method_by_task"] = tables.to_latex(tables.method_by_task(summary))
        revisions = ", ".join(sorted({str(run.environment["code_revision"]) for run in runs}))
        for name, text in made.items():
            path = out / "tables" / f"{folder.name}_{name}.tex"
            path.write_text(f"% {folder.name}: code {revisions}\n{text}", encoding="utf-8")
        print(f"{folder.name}: {len(runs)} run{'s' * (len(runs) > 1)}")


def short(summary: pd.DataFrame) -> pd.DataFrame:
    """A row per arm of a run with one length: what the text compares."""
    interval = "{mean_score:.0f} ({score_low:.0f}–{score_high:.0f})"
    rows = [
        {
            "method": row["arm"],
            "score %": interval.format(**{k: 100 * v for k, v in row.items() if k in SCORE}),
            "exactly right": f"{row['accuracy'] * row['asked']:.0f}",
            "tokens": f"{row['prompt_tokens'] + row['completion_tokens']:,.0f}",
        }
        for row in summary.to_dict("records")
    ]
    return pd.DataFrame(rows).replace("nan", "")


def runs_in(folder: Path) -> list[Run]:
    alone = (folder / "results.parquet").is_file()
    return [load_run(path) for path in find_runs(folder if alone else folder / "*")]


def numbers(folder: Path) -> Iterator[tuple[str, str]]:
    """What the text may say of the runs in ``folder``, by name: of an arm, and of an RLM's verdict,
    as RUN/ARM/LENGTH/MEASURE, of two arms as RUN/ARM-AGAINST/LENGTH/MEASURE; so of those in its
    folder ``later``, made at a later revision; of runs in its folder ``again``, which were made a
    second time, as again/RUN/ARM/LENGTH/MEASURE. Scores and differences are in percent and points,
    tokens per question. A run of one arm is judged with those that asked the same questions."""
    found = (*folder.glob("*/results.parquet"), *folder.glob("later/*/results.parquet"))
    paths = [path.parent for path in sorted(found)]
    runs = {path.name: load_run(path) for path in paths}
    for at, run in runs.items():
        results = by_method(combine([run]))
        yield from of_kinds(at, results)
        yield from of_arms(at, results, run.calls[run.calls["role"] == "sub"])
        yield from of_repeats(at, results, runs.values())
        yield from of_children(at, run, results)
        yield from of_notes(at, results, run.calls[run.calls["role"] == "summarize"])
        others = [runs[name] for name in BESIDE.get(at, ()) if name in runs]
        beside = by_method(combine([*compared_with(run, runs.values()), *others, run]))
        beside = beside[beside["sample_id"].isin(run.results["sample_id"])]
        yield from of_pairs(at, beside)
        yield from of_verdicts(at, beside, run.margin)
    for at, names in POOLED.items():
        if runs.keys() >= set(names):
            together = [runs[name] for name in names]
            found = of_verdicts(at, by_method(combine(together)), together[0].margin)
            yield from ((name, value) for name, value in found if "/0/" in name)
    for path in sorted(folder.glob("again/*/results.parquet")):
        yield from of_a_repeat(path.parent.name, runs[path.parent.name], load_run(path.parent))


def of_verdicts(at: str, results: pd.DataFrame, margin: float) -> Iterator[tuple[str, str]]:
    """Decisions, and of all lengths together, which no other table has, every comparison."""
    for verdict in verdicts(results, margin):
        length = verdict.main.target_tokens
        yield f"{at}/{verdict.main.arm}/{length}/decision", verdict.decision
        for pair in verdict.against_all if not length else ():
            name = f"{at}/{pair.arm}-{pair.against}/0"
            yield from ((f"{name}/{k}", f"{100 * getattr(pair, k):+.1f}") for k in POINTS)
            yield f"{name}/p", f"{pair.p_holm:.2g}"
            yield f"{name}/cost", f"{pair.cost_ratio:.1f}"


def of_kinds(at: str, results: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for row in tables.by_kind(results).to_dict("records"):
        name = f"{at}/{row['arm']}/{row['target_tokens']}/{row['question_group']}"
        yield from ((f"{name}/{k}", f"{row[k]:.0f}") for k in ("asked", "right"))
        shares = {"score": "mean_score", "constant": "constant_score"}
        yield from ((f"{name}/{k}", f"{100 * row[v]:.0f}") for k, v in shares.items())


def of_arms(at: str, results: pd.DataFrame, subcalls: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Beside what a summary has: how many of a question's sub-calls were ``remembered`` (the same
    prompt had been asked before), and its tokens had they been sent (``unremembered``), each as
    long as the others are on average."""
    for row in summarize(results).to_dict("records"):
        name = f"{at}/{row['arm']}/{row['target_tokens']}"
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        yield f"{name}/right", f"{row['accuracy'] * row['asked']:.0f}"
        shares = {"score": "mean_score", "low": "score_low", "high": "score_high"}
        yield from ((f"{name}/{k}", f"{100 * row[v]:.0f}") for k, v in shares.items())
        yield from ((f"{name}/{k}", f"{row[k]:.0f}") for k in ("n", "n_contexts"))
        yield f"{name}/tokens", f"{tokens:,.0f}"
        same_length = results["target_tokens"] == row["target_tokens"]
        own = results[same_length & (results["arm"] == row["arm"])]
        asked = subcalls[subcalls["result_key"].isin(own["result_key"])]
        remembered = asked["cached_response"].sum()
        yield f"{name}/subcalls", f"{len(asked) / row['asked']:.1f}"
        yield f"{name}/remembered", f"{remembered / row['asked']:.1f}"
        if remembered:
            sent = asked[["prompt_tokens", "completion_tokens"]].sum().sum() / row["asked"]
            saved = sent * remembered / (len(asked) - remembered)
            yield f"{name}/unremembered", f"{tokens + saved:,.0f}"
        yield f"{name}/forced", f"{(own['outcome'] == 'forced').sum()}"
        yield f"{name}/median", f"{own['tokens'].median():,.0f}"
        yield f"{name}/length", f"{own['length_tokens'].mean():,.0f}"


def of_children(at: str, run: Run, results: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of RLMs that may ask sub-RLMs, in how many questions one did."""
    deeper = results["arm_config"].map(lambda told: json.loads(told).get("max_depth", 0) > 1)
    for (arm, length), own in results[deeper].groupby(["arm", "target_tokens"]):
        events = (read_trajectory(run.path, key) for key in own["result_key"])
        asked = [any(e["type"] == "turn" and e.get("depth") for e in each) for each in events]
        yield f"{at}/{arm}/{length}/children", f"{sum(asked)}"


def of_notes(at: str, results: pd.DataFrame, calls: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """A summary's notes, and how many of them were cut at their limit."""
    notes = calls.merge(results[["result_key", "arm", "target_tokens"]])
    for (arm, length), own in notes.groupby(["arm", "target_tokens"]):
        yield f"{at}/{arm}/{length}/notes", f"{len(own)}"
        yield f"{at}/{arm}/{length}/cut", f"{(own['finish_reason'] == 'length').sum()}"


def of_repeats(at: str, results: pd.DataFrame, runs: Iterable[Run]) -> Iterator[tuple[str, str]]:
    """Where questions were asked several times: how far one answer's score is from its question's
    mean (``spread``), the share of chance in the variance of one answer, the least and the most
    that all questions scored in one repeat, and what they scored ``once``, in those of the
    ``runs`` that asked them among others."""
    asked = set(results["sample_id"])
    for row in tables.repeat_variance(results).to_dict("records"):
        name = f"{at}/{row['arm']}/{row['target_tokens']}"
        own = results[results["asked"] & (results["arm"] == row["arm"])]
        means = own.groupby("repeat")["points"].mean()
        shown = {"spread": sqrt(row["between_repeats"]), "chance": row["repeat_share"]}
        others = [run.results for run in runs if asked < {*run.results["sample_id"]}]
        once = [
            rows[rows["sample_id"].isin(asked) & (rows["method"] == row["arm"])] for rows in others
        ]
        shown |= {"least": means.min(), "most": means.max()}
        shown |= {"once": pd.concat(once)["points"].mean()} if once else {}
        yield from ((f"{name}/{k}", f"{100 * v:.0f}") for k, v in shown.items())
        yield f"{name}/repeats", f"{row['repeats']}"


def of_pairs(at: str, results: pd.DataFrame) -> Iterator[tuple[str, str]]:
    sent = results.groupby(["target_tokens", "arm"])["tokens"].mean()
    for row in paired_table(results).to_dict("records"):
        length = row["target_tokens"]
        name = f"{at}/{row['arm']}-{row['against']}/{length}"
        yield from ((f"{name}/{k}", f"{100 * row[k]:+.1f}") for k in POINTS)
        yield f"{name}/p", f"{row['p_holm']:.2g}"
        yield f"{name}/cost", f"{row['cost_ratio']:.1f}"
        if against := sent[length, row["against"]]:
            yield f"{name}/sent", f"{sent[length, row['arm']] / against:.1f}"


def of_a_repeat(at: str, first: Run, second: Run) -> Iterator[tuple[str, str]]:
    for row in compare_runs(first, second).table.to_dict("records"):
        name = f"again/{at}/{row['method']}/{row['target_tokens']}"
        yield f"{name}/same", f"{row['same_answers']:.0f}"
        yield f"{name}/score", f"{100 * row['score_b']:.0f}"
        yield from ((f"{name}/{k}", f"{100 * row[k]:+.1f}") for k in POINTS)


def compared_with(run: Run, runs: Iterable[Run]) -> list[Run]:
    """For a run of one arm, those of several that asked the same questions."""
    if run.results["method"].nunique() > 1:
        return []
    asked = set(run.results["sample_id"])
    several = [other for other in runs if other.results["method"].nunique() > 1]
    return [other for other in several if asked <= set(other.results["sample_id"])]


def link(title: str, run: str) -> str:
    folder = next(EVIDENCE.rglob(f"{run}/results.parquet")).parent
    return f"[{title}]({folder.relative_to(HERE.parent).as_posix()})"


def first_results(known: Mapping[str, str]) -> tuple[str, str]:
    """README's tables, from :func:`numbers`: methods on tasks, and variants of the RLM on one."""
    tasks = [["score, %; tokens per question", *COLUMNS, "verdict on the RLM"]]
    for title, length, *runs in TASKS:
        row = [link(title, runs[0])]
        for arms in COLUMNS.values():
            cell = ""
            for run, arm in product(runs, arms):
                at = f"{run}/{arm}/{length}"
                if f"{at}/n" in known:
                    score, tokens = known[f"{at}/score"], known[f"{at}/tokens"]
                    cell = f"{score}; {tokens}" if tokens != "0" else "too long"
                    cell = cell if run == runs[0] else link(cell, run)
            row.append(cell)
        tasks.append([*row, known[f"{runs[-1]}/rlm/{length}/decision"]])
    titles = ("", "score, % (95 %)", "gain on the RLM, points (95 %)", "exactly right", "tokens")
    variants = [[*titles]]
    for title, run, arm in VARIANTS:
        names = ("score", "low", "high", "right", "tokens")
        score, low, high, *counts = (known[f"{run}/{arm}/1650/{name}"] for name in names)
        row = [link(title, run), f"{score} ({low}–{high})", gain(known, run, arm), *counts]
        variants.append([cell.replace("nan", "") for cell in row])
    return markdown(tasks), markdown(variants)


def gain(known: Mapping[str, str], run: str, arm: str) -> str:
    """An arm's points against the RLM, empty where they were not compared."""
    own, theirs = f"{run}/{arm}-rlm/1650/", f"{run}/rlm-{arm}/1650/"
    points = [known.get(own + k, "") for k in POINTS]
    if theirs + "low" in known:  # a difference is the RLM's where one side is no RLM
        points = [known[theirs + k].translate(TURNED) for k in ("difference", "high", "low")]
    return "{} ({} to {})".format(*points).replace("-", "−") if any(points) else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def macros(folder: Path) -> str:
    lines = ["% made by python paper/make.py"]
    for name, value in numbers(folder):
        minus = value.replace("-", "$-$") if name.rsplit("/", 1)[1] != "decision" else value
        lines.append(rf"\expandafter\def\csname val:{name}\endcsname{{{minus}}}")
    return "\n".join(lines) + "\n"


def paper() -> None:
    """All that paper.tex reads, and the PDF."""
    if any(EVIDENCE.glob("*/results.parquet")):
        main([p.parent for p in sorted(EVIDENCE.glob("*/results.parquet"))])
    (HERE / "numbers.tex").write_text(macros(EVIDENCE), encoding="utf-8")
    print(*first_results(dict(numbers(EVIDENCE))), sep="\n\n")
    if shutil.which("latexmk"):
        subprocess.run(
            ["latexmk", "-pdf", "-interaction=nonstopmode", "-quiet", "paper.tex"],
            cwd=HERE,
            check=True,
        )
    else:
        print("latexmk is not installed: no PDF", file=sys.stderr)


if __name__ == "__main__":
    given = [Path(folder) for folder in sys.argv[1:]]
    main(given) if given else paper()
