"""The jobs of a preset on rows of its data sets' schemas that lie on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from helpers import dataset_rows as rows
from helpers.encrypted_rows import CANARY, plain_row, write_rows
from rlm_eval.config.compose import compose_tree

#: What stands in for the words of a long context: some four characters a token.
FILLER = "Something was said about it by the river. "
TOKENS_OF_FILLER = 9


def on_local_rows(job: Sequence[str], folder: Path, tokens: int | None = None) -> list[str]:
    """A job's overrides with one question on made-up rows of its task's schema. With ``tokens`` the
    contexts are about so long and the lengths stay what they are; else they are small."""
    task = compose_tree(job)["task"]
    kind = str(task["_target_"]).rpartition(".")[2]
    long = FILLER * (tokens // TOKENS_OF_FILLER) if tokens else ""
    more = [f"task.lengths=[{tokens or 4096}]", "task.n=1"]
    path = folder / "rows.jsonl"
    if kind == "LongBenchV2":
        row = rows.longbench_v2()
        path.write_text(json.dumps({**row, "context": row["context"] + long}))
    elif kind == "Oolong":
        size = (task["where"] or {}).get("context_len", 1024)
        row = rows.oolong() | {"context_len": size}
        path.write_text(
            json.dumps({**row, "context_window_text": row["context_window_text"] + long})
        )
    elif kind == "OolongReal":
        row = rows.oolong_real()
        path.write_text(
            json.dumps({**row, "context_window_text": row["context_window_text"] + long})
        )
    elif kind == "OolongPairs":
        path = folder / str(task["file"]).rpartition("/")[2].replace(".json", ".jsonl")
        path.write_text(json.dumps(rows.oolong_pairs()))
        rows.windows(folder)
        size = int(path.stem.rpartition("-")[2])
        lines = (folder / "windows.jsonl").read_text().splitlines()
        windows = [json.loads(line) | {"context_len": size} for line in lines]
        windows[1]["context_window_text"] += long
        (folder / "windows.jsonl").write_text("\n".join(map(json.dumps, windows)))
        more = [f"task.windows.path={folder}/windows.jsonl", f"task.lengths=[{size}]", "task.n=1"]
    elif kind == "BrowseCompPlus":
        write_rows(path, [plain_row(0, words=(tokens or 900) // 60)])
        more += [f"task.canary='{CANARY}'", "task.documents=6", "task.pool=20"]
    elif kind == "SQuAD":
        path.write_text("\n".join(json.dumps(rows.squad(i)) for i in range(199)))
    elif kind == "HotpotQA":
        path.write_text("\n".join(json.dumps(rows.hotpotqa(i)) for i in range(99)))
    else:  # a generated task needs no rows, but maybe RULER's essays
        (folder / "essays.txt").write_text("\n".join(f"{i} {rows.LONG * 3}\n" for i in range(400)))
        essays = [f"task.haystack_file={folder}/essays.txt"] if "haystack_file" in task else []
        return [*job, *more, *essays]
    return [*job, *more, f"task.path={path}"]
