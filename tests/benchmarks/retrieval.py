"""What the retrievers find, and what their indices take: no language model is asked.

    python tests/benchmarks/retrieval.py [--lengths 4096 16384] [--n 20]

Each arm as configured in conf/method, with embed_model=minilm. Recall is the share of the samples'
evidence that is in the shown passages; seconds are medians of building one index (chunks, words,
vectors) and of all the rest of a question, on this machine. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from task_rows import row, table

from rlm_eval.config.check import check_config
from rlm_eval.config.compose import compose_tree
from rlm_eval.journal.tables import recall
from rlm_eval.ledger import Ledger
from rlm_eval.methods.method import Method
from rlm_eval.models.client import ModelClient
from rlm_eval.models.protocol import user
from rlm_eval.records import Context, Problem, Sample
from rlm_eval.runs.assemble import assemble

TASKS = ("needle", "multihop", "multihop task.variant=semantic")
ARMS = "method=[rag_bm25,rag_dense,rag_hybrid]"


@dataclass(frozen=True)
class Found:
    """One sample under one arm."""

    recall: float
    chunks: int
    index_s: float
    question_s: float


def found(
    method: Method, client: ModelClient, pairs: Sequence[tuple[Context, Sample]]
) -> list[Found]:
    out: list[Found] = []
    for context, sample in pairs:
        lm = client.lm(sample.id, memory_scope="benchmark")
        begun = time.perf_counter()
        answer = method.answer(Problem(sample.id, sample.question, context), lm, Ledger())
        index, took = answer.trajectory[0], time.perf_counter() - begun
        share = recall(sample.evidence, answer.spans_read or ())
        assert share is not None, f"{sample.task} does not say where its evidence stands"
        out.append(Found(share, index["chunks"], index["seconds"], took - index["seconds"]))
    return out


def rows(lengths: Sequence[int], n: int) -> Iterator[Sequence[str]]:
    for task in TASKS:
        for length in lengths:
            config = [f"task={task.split()[0]}", *task.split()[1:]]
            sizes = [f"task.lengths=[{length}]", f"task.n={n}"]
            chosen = ["model=scripted", "embed_model=minilm", ARMS, *config, *sizes]
            parts = assemble(check_config(compose_tree(chosen)))
            client = ModelClient(parts.models, lambda call, reply: None, embedder=parts.embedder)
            for model in parts.served:
                model.open()
            client.lm("warm", memory_scope="").complete([user("x")], ledger=Ledger(), max_tokens=1)
            pairs = list(parts.task.build())
            for arm in parts.arms:
                each = found(arm.method, client, pairs)
                index_s = median(f.index_s for f in each)
                yield (
                    task.replace("task.", ""),
                    f"{length:,}",
                    arm.name,
                    f"{fmean(f.recall for f in each):.0%}",
                    f"{median(f.chunks for f in each):.0f}",
                    f"{index_s:.2f}",
                    f"{median(f.question_s for f in each) * 1000:.0f}",
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--n", type=int, default=20)
    arguments = parser.parse_args()
    head = ("task", "tokens", "arm", "evidence recall", "chunks", "index s", "question ms")
    print("\n".join(table(head)))
    for cells in rows(arguments.lengths, arguments.n):
        print(row(cells), flush=True)


if __name__ == "__main__":
    main()
